//! `/tokenize` and `/detokenize`.

use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult};
use super::fields::Fields;

/// A text to tokenize.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenizeRequest {
    /// The model's id. Not needed where only one model is served.
    pub(crate) model: Option<String>,
    /// The text.
    pub(crate) prompt: String,
    /// Adds the tokenizer's own tokens, as `/v1/completions` does.
    #[schema(default = true)]
    pub(crate) add_special_tokens: Option<bool>,
}

/// The tokens of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenizeResponse {
    /// Their ids.
    pub(crate) tokens: Vec<u32>,
    /// Their number.
    pub(crate) count: usize,
    /// Maximum tokens of the model's context.
    pub(crate) max_model_len: usize,
}

/// Tokens to convert to text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DetokenizeRequest {
    /// The model's id. Not needed where only one model is served.
    pub(crate) model: Option<String>,
    /// Their ids.
    #[schema(value_type = Vec<TokenId>)]
    pub(crate) tokens: Vec<u32>,
}

/// The id of a token, in the vocabulary of the model.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of the ids that requests have")]
pub(crate) struct TokenId(u32);

/// The text of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DetokenizeResponse {
    /// The text, with the names of special tokens.
    pub(crate) prompt: String,
}

/// The special tokens and the chat template, with which a client can make prompts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenizerInfo {
    /// The token before a text.
    pub(crate) bos_token: Option<String>,
    /// The token after a text.
    pub(crate) eos_token: Option<String>,
    /// The model's chat template.
    pub(crate) chat_template: Option<String>,
}

impl TokenizeRequest {
    /// Reads a request.
    pub(crate) fn read(mut fields: Fields) -> ApiResult<Self> {
        let request = Self {
            model: fields.take("model")?,
            prompt: needed(fields.take("prompt")?, "prompt")?,
            add_special_tokens: fields.take("add_special_tokens")?,
        };
        fields.finish()?;
        Ok(request)
    }
}

impl DetokenizeRequest {
    /// Reads a request.
    pub(crate) fn read(mut fields: Fields) -> ApiResult<Self> {
        let request = Self {
            model: fields.take("model")?,
            tokens: needed(fields.take("tokens")?, "tokens")?,
        };
        fields.finish()?;
        Ok(request)
    }
}

fn needed<T>(value: Option<T>, name: &str) -> ApiResult<T> {
    value.ok_or_else(|| ApiError::field(name, format!("the field {name} is missing")))
}
