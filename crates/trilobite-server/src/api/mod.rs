//! The shapes of requests and answers: OpenAI's, and what extends them.

pub(crate) mod chat;
pub(crate) mod common;
pub(crate) mod completions;
pub(crate) mod error;
pub(crate) mod fields;
pub(crate) mod models;
pub(crate) mod tokens;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use utoipa::ToSchema;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A random number of the system's.
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
    /// Tokens of the answers, those that ended them included.
    pub(crate) completion_tokens: usize,
    /// Both.
    pub(crate) total_tokens: usize,
    /// More about the prompts.
    pub(crate) prompt_tokens_details: PromptDetails,
}

/// Tokens of prompts.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(crate) struct PromptDetails {
    /// Those that were not read again because an earlier text begins with them.
    pub(crate) cached_tokens: usize,
}

impl Usage {
    /// Counts a prompt, of which some tokens were not read again.
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

/// Why an answer ended, in OpenAI's words: `stop` at the end of its text or at a stop text, `length`
/// where the tokens that were asked for or the context ended it.
pub(crate) fn finish_reason(finish: &trilobite_runtime::Finish) -> &'static str {
    use trilobite_runtime::Finish;
    match finish {
        Finish::EndOfText | Finish::Stop(_) => "stop",
        Finish::Length | Finish::ContextFull | Finish::Interrupted => "length",
    }
}

/// The text of a token's bytes; those that are no text by themselves are written out, as OpenAI does.
pub(crate) fn token_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            bytes.iter().fold("bytes:".to_owned(), |text, byte| format!("{text}\\x{byte:02x}"))
        }
    }
}
