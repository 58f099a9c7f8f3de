//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use trilobite_structured::{Answer as Reader, Piece};

use super::blocking::blocking;
use super::body::Body;
use super::stream::{Chunks, Envelope, merge, respond};
use crate::api::chat::{
    AnswerMessage, ChatChoice, ChatChunk, ChatCompletion, ChatLogprob, ChatLogprobs, ChatRequest,
    ChunkChoice, Delta, TopLogprob,
};
use crate::api::error::{ApiResult, ErrorBody};
use crate::api::tools::ToolCall;
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
    let served = Arc::clone(app.model(request.common.model.as_deref())?);
    let (served, request, wanted, reading) = blocking(move || {
        let common = &request.common;
        let prompt = served.chat_prompt(&request)?;
        let samplers = common.samplers(served.model(), true, common.first_seed())?;
        let (samplers, reading) = served.constrain_chat(samplers, &request, &prompt)?;
        let wanted = Wanted {
            prompt,
            samplers,
            max_tokens: request.limit(),
            stop: [common.stops(), served.chat_stop()].concat(),
            prompt_logprobs: None,
            logprobs: request.top(),
        };
        Ok((served, request, wanted, reading))
    })
    .await?;
    let tokens = wanted.prompt.len();
    let answers = served.submit(vec![wanted], "messages")?;
    let envelope = Envelope::new("chatcmpl", served.name());
    let progress = (0..request.common.choices())
        .map(|_| Progress { reader: reading.answer(), calls: 0 })
        .collect();
    let writer = ChatWriter { served, envelope, request, progress };
    if writer.request.common.streams() {
        let includes_usage = writer.request.common.includes_usage();
        return Ok(respond(answers, vec![tokens], writer, includes_usage));
    }
    Ok(Json(collect(answers, tokens, writer).await?).into_response())
}

/// Waits for all answers.
async fn collect(
    answers: Vec<Answer>,
    tokens: usize,
    mut writer: ChatWriter,
) -> ApiResult<ChatCompletion> {
    let choice = |index| ChatChoice {
        index,
        message: AnswerMessage {
            role: "assistant",
            content: Some(String::new()),
            refusal: None,
            reasoning_content: None,
            tool_calls: Vec::new(),
        },
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
                let new = writer.choice(token);
                if let (Some(logprobs), Some(new)) = (&mut choice.logprobs, new.logprobs) {
                    logprobs.content.extend(new.content);
                }
                choice.message.append(new.delta);
                choice.finish_reason = new.finish_reason.unwrap_or(choice.finish_reason);
            }
            Event::Empty { .. } => {}
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
    choices.iter_mut().for_each(|choice| choice.message.complete());
    let Envelope { id, created, model } = writer.envelope;
    Ok(ChatCompletion { id, object: "chat.completion", created, model, choices, usage })
}

impl AnswerMessage {
    fn append(&mut self, delta: Delta) {
        if let Some(text) = delta.content {
            *self.content.get_or_insert_default() += &text;
        }
        if let Some(text) = delta.reasoning_content {
            *self.reasoning_content.get_or_insert_default() += &text;
        }
        self.tool_calls.extend(delta.tool_calls);
    }

    /// Removes an empty text from a message with calls.
    fn complete(&mut self) {
        if !self.tool_calls.is_empty() {
            self.content = self.content.take().filter(|text| !text.is_empty());
        }
    }
}

/// Writes the chunks of answers.
struct ChatWriter {
    served: Arc<Served>,
    envelope: Envelope,
    request: ChatRequest,
    /// The state of each choice.
    progress: Vec<Progress>,
}

/// The state of a choice.
struct Progress {
    reader: Reader,
    /// Calls so far.
    calls: usize,
}

impl Progress {
    /// Parses more text. The `last` text ends the choice.
    fn push(&mut self, text: &str, last: bool) -> Delta {
        let mut pieces = self.reader.push(text);
        if last {
            pieces.extend(self.reader.finish());
        }
        let mut delta = Delta::default();
        for piece in pieces {
            match piece {
                Piece::Text(text) => *delta.content.get_or_insert_default() += &text,
                Piece::Reasoning(text) => {
                    *delta.reasoning_content.get_or_insert_default() += &text;
                }
                Piece::Call(call) => {
                    delta.tool_calls.push(ToolCall::new(self.calls, call));
                    self.calls += 1;
                }
            }
        }
        delta
    }
}

impl ChatWriter {
    /// The part of a choice that a token adds.
    fn choice(&mut self, token: Token) -> ChunkChoice {
        let logprobs = self.logprobs(token.logprobs);
        let mut finish_reason = token.finish.as_ref().map(finish_reason);
        let mut delta = Delta::default();
        if let Some(progress) = self.progress.get_mut(token.choice) {
            delta = progress.push(&token.text, finish_reason.is_some());
            if progress.calls > 0 && finish_reason == Some("stop") {
                finish_reason = Some("tool_calls");
            }
        }
        ChunkChoice { index: token.choice, delta, logprobs, finish_reason }
    }

    fn logprobs(&self, known: Option<TokenLogprobs>) -> Option<ChatLogprobs> {
        let known = known?;
        let token = |(id, logprob)| {
            let bytes = self.served.token_bytes(id);
            TopLogprob { token: token_text(&bytes), logprob, bytes }
        };
        let top_logprobs = known.top.into_iter().map(token).collect();
        let content = vec![ChatLogprob { token: token((known.id, known.logprob)), top_logprobs }];
        Some(ChatLogprobs { content, refusal: None })
    }

    fn chunk(&self, choice: Option<ChunkChoice>, usage: Option<Usage>) -> ChatChunk {
        let Envelope { id, created, model } = self.envelope.clone();
        let choices = choice.into_iter().collect();
        ChatChunk { id, object: "chat.completion.chunk", created, model, choices, usage }
    }
}

impl Chunks for ChatWriter {
    type Chunk = ChatChunk;

    fn begin(&mut self) -> Vec<ChatChunk> {
        let delta = || {
            let content = Some(String::new());
            Delta { role: Some("assistant"), content, ..Delta::default() }
        };
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
        let choice = self.choice(token);
        let is_new = !choice.delta.is_empty() || choice.logprobs.is_some();
        (is_new || choice.finish_reason.is_some()).then(|| self.chunk(Some(choice), None))
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
