//! The JSON of requests and responses: OpenAI's, with extensions.

pub(crate) mod chat;
pub(crate) mod common;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod error;
pub(crate) mod fields;
pub(crate) mod form;
pub(crate) mod models;
pub(crate) mod tokens;
pub(crate) mod tools;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use utoipa::ToSchema;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A random number, for ids and seeds.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// An event of a stream.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of what `axum::response::sse` sends")]
pub(crate) struct StreamEvent {
    /// The JSON of a `ChatChunk` or a `Completion`; of an `ErrorBody`, which is the last; or `[DONE]`.
    data: String,
}

/// Tokens of a request and of its answers.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Usage {
    /// Tokens of the prompts.
    pub(crate) prompt_tokens: usize,
    /// Tokens of the answers, including end tokens.
    pub(crate) completion_tokens: usize,
    /// Sum of both.
    pub(crate) total_tokens: usize,
    /// More about the prompts.
    pub(crate) prompt_tokens_details: PromptDetails,
}

/// Tokens of prompts.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(crate) struct PromptDetails {
    /// Tokens whose keys and values were cached.
    pub(crate) cached_tokens: usize,
}

impl Usage {
    /// Counts a prompt and its cached tokens.
    pub(crate) fn add_prompt(&mut self, tokens: usize, cached: usize) {
        self.prompt_tokens += tokens;
        self.total_tokens += tokens;
        self.prompt_tokens_details.cached_tokens += cached;
    }

    /// Counts a token of an answer.
    pub(crate) fn add_token(&mut self) {
        self.completion_tokens += 1;
        self.total_tokens += 1;
    }
}

/// The `finish_reason` of an answer: `stop` at an end token or a stop string, `length` at the token
/// limit or the end of the context.
pub(crate) fn finish_reason(finish: &trilobite_runtime::Finish) -> &'static str {
    use trilobite_runtime::Finish;
    match finish {
        Finish::EndOfText | Finish::Stop(_) => "stop",
        Finish::Length | Finish::ContextFull | Finish::Interrupted => "length",
    }
}

/// The text of a token's bytes. Bytes that are not UTF-8 are escaped as OpenAI does.
pub(crate) fn token_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            bytes.iter().fold("bytes:".to_owned(), |text, byte| format!("{text}\\x{byte:02x}"))
        }
    }
}
