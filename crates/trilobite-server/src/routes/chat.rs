//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::body::Body;
use super::stream::{Chunks, Envelope, merge, respond};
use crate::api::chat::{
    AnswerMessage, ChatChoice, ChatChunk, ChatCompletion, ChatLogprob, ChatLogprobs, ChatRequest,
    ChunkChoice, Delta, TopLogprob,
};
use crate::api::error::{ApiResult, ErrorBody};
use crate::api::{StreamEvent, Usage, finish_reason, token_text};
use crate::app::App;
use crate::engine::{Answer, Event, Token, TokenLogprobs};
use crate::served::{Served, Wanted};

/// Continues a conversation.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answers; with `stream` as server-sent events", content(
            (ChatCompletion = "application/json"),
            (StreamEvent = "text/event-stream"),
        )),
        (status = "4XX", description = "The request is wrong, or too much", body = ErrorBody),
        (status = "5XX", description = "The server is at fault, or ends", body = ErrorBody),
    )
)]
pub(super) async fn chat_completions(
    State(app): State<Arc<App>>,
    Body(fields): Body,
) -> ApiResult<Response> {
    let request = ChatRequest::read(fields)?;
    app.model(request.common.model.as_deref())?;
    let state = Arc::clone(&app);
    let (request, wanted) = super::blocking(move || {
        let served = state.model(request.common.model.as_deref())?;
        let common = &request.common;
        let wanted = Wanted {
            prompt: served.chat_prompt(&request)?,
            samplers: common.samplers(served.model(), true, common.first_seed())?,
            max_tokens: request.limit(),
            stop: [common.stops(), served.chat_stop()].concat(),
            prompt_logprobs: None,
            logprobs: request.top(),
        };
        Ok((request, wanted))
    })
    .await?;
    let served = app.model(request.common.model.as_deref())?;
    let tokens = wanted.prompt.len();
    let answers = served.submit(vec![wanted], "messages")?;
    let envelope = Envelope::new("chatcmpl", served.name());
    let writer = Writer { app: Arc::clone(&app), envelope, request };
    if writer.request.common.streams() {
        let includes_usage = writer.request.common.includes_usage();
        return Ok(respond(answers, vec![tokens], writer, includes_usage));
    }
    Ok(Json(collect(answers, tokens, writer).await?).into_response())
}

/// Waits for all answers.
async fn collect(answers: Vec<Answer>, tokens: usize, writer: Writer) -> ApiResult<ChatCompletion> {
    let choice = |index| ChatChoice {
        index,
        message: AnswerMessage { role: "assistant", content: String::new(), refusal: None },
        logprobs: writer.request.top().map(|_| ChatLogprobs::default()),
        finish_reason: "length",
    };
    let mut choices: Vec<ChatChoice> = (0..writer.request.common.choices()).map(choice).collect();
    let mut usage = Usage::default();
    let mut events = merge(answers);
    while let Some((_, event)) = events.next().await {
        match event {
            Event::Prompt { cached, .. } => usage.add_prompt(tokens, cached),
            Event::Token(token) => {
                usage.add_token();
                let Some(choice) = choices.get_mut(token.choice) else { continue };
                let new = writer.logprobs(token.logprobs);
                if let (Some(logprobs), Some(new)) = (&mut choice.logprobs, new) {
                    logprobs.content.extend(new.content);
                }
                choice.message.content += &token.text;
                choice.finish_reason =
                    token.finish.as_ref().map_or(choice.finish_reason, finish_reason);
            }
            Event::Empty { .. } => {}
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
    let Envelope { id, created, model } = writer.envelope;
    let model = model.to_string();
    Ok(ChatCompletion { id, object: "chat.completion", created, model, choices, usage })
}

/// Tells an answer piece by piece.
struct Writer {
    app: Arc<App>,
    envelope: Envelope,
    request: ChatRequest,
}

impl Writer {
    fn logprobs(&self, known: Option<TokenLogprobs>) -> Option<ChatLogprobs> {
        let (known, served) = (known?, self.app.model(Some(&self.envelope.model)).ok()?);
        let token = |(id, logprob)| shown(served, id, logprob);
        let top_logprobs = known.top.into_iter().map(token).collect();
        let content = vec![ChatLogprob { token: token((known.id, known.logprob)), top_logprobs }];
        Some(ChatLogprobs { content, refusal: None })
    }

    fn chunk(&self, choice: Option<ChunkChoice>, usage: Option<Usage>) -> ChatChunk {
        let Envelope { id, created, model } = self.envelope.clone();
        let (model, choices) = (model.to_string(), choice.into_iter().collect());
        ChatChunk { id, object: "chat.completion.chunk", created, model, choices, usage }
    }
}

fn shown(served: &Served, id: u32, logprob: f64) -> TopLogprob {
    let bytes = served.token_bytes(id);
    TopLogprob { token: token_text(&bytes), logprob, bytes }
}

impl Chunks for Writer {
    type Chunk = ChatChunk;

    fn begin(&mut self) -> Vec<ChatChunk> {
        let delta = || Delta { role: Some("assistant"), content: Some(String::new()) };
        let first = |index| {
            let choice = ChunkChoice { index, delta: delta(), logprobs: None, finish_reason: None };
            self.chunk(Some(choice), None)
        };
        (0..self.request.common.choices()).map(first).collect()
    }

    fn prompt(&mut self, _: usize, _: Vec<Option<TokenLogprobs>>) -> Vec<ChatChunk> {
        Vec::new()
    }

    fn token(&mut self, _: usize, token: Token) -> Option<ChatChunk> {
        let logprobs = self.logprobs(token.logprobs);
        if token.text.is_empty() && logprobs.is_none() && token.finish.is_none() {
            return None;
        }
        let choice = ChunkChoice {
            index: token.choice,
            delta: Delta { role: None, content: Some(token.text) },
            logprobs,
            finish_reason: token.finish.as_ref().map(finish_reason),
        };
        Some(self.chunk(Some(choice), None))
    }

    fn empty(&mut self, _: usize, index: usize) -> ChatChunk {
        let finish_reason = Some("length");
        let delta = Delta::default();
        self.chunk(Some(ChunkChoice { index, delta, logprobs: None, finish_reason }), None)
    }

    fn usage(&mut self, usage: Usage) -> ChatChunk {
        self.chunk(None, Some(usage))
    }
}
