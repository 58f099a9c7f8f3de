//! Answers while they are generated, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;

use crate::api::Usage;
use crate::api::error::ApiError;
use crate::engine::{Answer, Event, Token};

/// Time after which a stream shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The events of several answers as they come, each with the index of its answer.
pub(super) fn merge(answers: Vec<Answer>) -> impl Stream<Item = (usize, Event)> + Send {
    let events = answers.into_iter().enumerate().map(|(index, answer)| {
        let next = move |mut answer: Answer| async move {
            answer.next().await.map(|event| ((index, event), answer))
        };
        Box::pin(stream::unfold(answer, next))
    });
    stream::select_all(events)
}

/// How a protocol tells an answer piece by piece.
pub(super) trait Chunks: Send + 'static {
    /// The JSON of a piece.
    type Chunk: Serialize;

    /// What is told before anything has happened.
    fn begin(&mut self) -> Vec<Self::Chunk>;

    /// What is told when a prompt has been read.
    fn prompt(
        &mut self,
        prompt: usize,
        logprobs: Vec<Option<crate::engine::TokenLogprobs>>,
    ) -> Vec<Self::Chunk>;

    /// What is told of a token.
    fn token(&mut self, prompt: usize, token: Token) -> Option<Self::Chunk>;

    /// What is told when a choice ends without a token.
    fn empty(&mut self, prompt: usize, choice: usize) -> Self::Chunk;

    /// The tokens that were used.
    fn usage(&mut self, usage: Usage) -> Self::Chunk;
}

/// A response that tells the answers to prompts of so many tokens while they are generated.
pub(super) fn respond<C: Chunks>(
    answers: Vec<Answer>,
    prompts: Vec<usize>,
    mut chunks: C,
    includes_usage: bool,
) -> Response {
    let mut usage = Usage::default();
    let mut failed = false;
    let begin = events(chunks.begin());
    let happened = merge(answers).map(Some).chain(stream::once(async { None }));
    let told = happened.flat_map(move |happened| {
        let told = match happened {
            _ if failed => Vec::new(),
            Some((prompt, Event::Prompt { cached, logprobs })) => {
                usage.add_prompt(prompts.get(prompt).copied().unwrap_or(0), cached);
                events(chunks.prompt(prompt, logprobs))
            }
            Some((prompt, Event::Token(token))) => {
                usage.add_token();
                events(chunks.token(prompt, token))
            }
            Some((prompt, Event::Empty { choice })) => events([chunks.empty(prompt, choice)]),
            Some((_, Event::Failed(failure))) => {
                failed = true;
                events([ApiError::from(failure).body()])
            }
            None => {
                let last = includes_usage.then(|| chunks.usage(usage));
                let done = sse::Event::default().data("[DONE]");
                events(last).into_iter().chain([Ok(done)]).collect()
            }
        };
        stream::iter(told)
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(stream::iter(begin).chain(told)).keep_alive(keep_alive).into_response()
}

fn events<T: Serialize>(
    chunks: impl IntoIterator<Item = T>,
) -> Vec<Result<sse::Event, Infallible>> {
    let event = |chunk: T| {
        // Strings, numbers and lists of them: nothing that JSON could not hold.
        let json = serde_json::to_string(&chunk).unwrap_or_default();
        Ok(sse::Event::default().data(json))
    };
    chunks.into_iter().map(event).collect()
}

/// What all pieces of an answer have in common.
#[derive(Clone)]
pub(super) struct Envelope {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: Arc<str>,
}

impl Envelope {
    /// A new answer's.
    pub(super) fn new(prefix: &str, model: &str) -> Self {
        let id = format!("{prefix}-{:016x}", crate::api::random());
        Self { id, created: crate::api::now(), model: model.into() }
    }
}
