//! Streams answers as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;

use crate::api::Usage;
use crate::api::error::ApiError;
use crate::engine::{Answer, Event, Token, TokenLogprobs};

/// Time between comments that keep a silent stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The events of several answers in the order of their arrival, each with the index of its answer.
pub(super) fn merge(answers: Vec<Answer>) -> impl Stream<Item = (usize, Event)> + Send {
    let events = answers.into_iter().enumerate().map(|(index, answer)| {
        let next = move |mut answer: Answer| async move {
            answer.next().await.map(|event| ((index, event), answer))
        };
        Box::pin(stream::unfold(answer, next))
    });
    stream::select_all(events)
}

/// Turns the events of answers into the chunks of a protocol.
pub(super) trait Chunks: Send + 'static {
    /// The JSON of a chunk.
    type Chunk: Serialize;

    /// The first chunks.
    fn begin(&mut self) -> Vec<Self::Chunk>;

    /// The chunks after the prefill of a prompt.
    fn prompt(&mut self, prompt: usize, logprobs: Vec<Option<TokenLogprobs>>) -> Vec<Self::Chunk>;

    /// The chunk of a token, unless it is empty.
    fn token(&mut self, prompt: usize, token: Token) -> Option<Self::Chunk>;

    /// The chunk of a choice that ends without a token.
    fn empty(&mut self, prompt: usize, choice: usize) -> Self::Chunk;

    /// The chunk with the token counts.
    fn usage(&mut self, usage: Usage) -> Self::Chunk;
}

/// Streams the answers to prompts, whose token counts are `prompts`.
pub(super) fn respond<C: Chunks>(
    answers: Vec<Answer>,
    prompts: Vec<usize>,
    mut chunks: C,
    includes_usage: bool,
) -> Response {
    let mut usage = Usage::default();
    let begin = events(chunks.begin());
    let all = merge(answers).map(Some).chain(stream::once(async { None }));
    // A failure is the last event: dropping the other answers cancels them.
    let until_failure = all.scan(false, |failed, event| {
        let ended = *failed;
        *failed = matches!(event, Some((_, Event::Failed(_))));
        std::future::ready((!ended).then_some(event))
    });
    let rest = until_failure.flat_map(move |event| {
        let new = match event {
            Some((prompt, Event::Prompt { cached, logprobs })) => {
                usage.add_prompt(prompts.get(prompt).copied().unwrap_or(0), cached);
                events(chunks.prompt(prompt, logprobs))
            }
            Some((prompt, Event::Token(token))) => {
                usage.add_token();
                events(chunks.token(prompt, token))
            }
            Some((prompt, Event::Empty { choice })) => events([chunks.empty(prompt, choice)]),
            Some((_, Event::Failed(failure))) => events([ApiError::from(failure).body()]),
            None => {
                let last = includes_usage.then(|| chunks.usage(usage));
                let done = sse::Event::default().data("[DONE]");
                events(last).into_iter().chain([Ok(done)]).collect()
            }
        };
        stream::iter(new)
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(stream::iter(begin).chain(rest)).keep_alive(keep_alive).into_response()
}

fn events<T: Serialize>(
    chunks: impl IntoIterator<Item = T>,
) -> Vec<Result<sse::Event, Infallible>> {
    let event = |chunk: T| {
        // Chunks hold strings, numbers and lists, which always serialize.
        let json = serde_json::to_string(&chunk).unwrap_or_default();
        Ok(sse::Event::default().data(json))
    };
    chunks.into_iter().map(event).collect()
}

/// The fields that all chunks of an answer share.
#[derive(Clone)]
pub(super) struct Envelope {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
}

impl Envelope {
    /// The fields of a new answer.
    pub(super) fn new(prefix: &str, model: &str) -> Self {
        let id = format!("{prefix}-{:016x}", crate::api::random());
        Self { id, created: crate::api::now(), model: model.to_owned() }
    }
}
