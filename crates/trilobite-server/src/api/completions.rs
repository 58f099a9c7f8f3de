//! `/v1/completions`.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Usage;
use super::common::{Common, MAX_TOKENS, MAX_TOP};
use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::tokens::TokenId;

/// Tokens of an answer by default, as in OpenAI's protocol.
const DEFAULT_TOKENS: usize = 16;

/// A request to continue texts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionRequest {
    /// One text or several, each as a string or as token ids.
    pub(crate) prompt: Prompts,
    /// Maximum tokens of an answer. 0 generates nothing, for use with `echo`.
    #[schema(default = 16, maximum = 2147483647)]
    pub(crate) max_tokens: Option<usize>,
    /// Reports the log-probability of each token, and of this many likeliest ones.
    #[schema(minimum = 0, maximum = 20)]
    pub(crate) logprobs: Option<usize>,
    /// Repeats the prompt before the answer, with its log-probabilities.
    #[schema(default = false)]
    pub(crate) echo: Option<bool>,
    /// Adds the tokenizer's own tokens, such as a beginning-of-text token, to a prompt that is a string and
    /// does not begin with the token's name.
    #[schema(default = true)]
    pub(crate) add_special_tokens: Option<bool>,
    /// Settings of sampling and of the response.
    #[serde(flatten)]
    pub(crate) common: Common,
}

/// The texts of a request.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Prompts {
    /// A text.
    #[schema(title = "text")]
    Text(String),
    /// Texts.
    #[schema(title = "texts")]
    Texts(Vec<String>),
    /// The tokens of a text.
    #[schema(title = "tokens", value_type = Vec<TokenId>)]
    Tokens(Vec<u32>),
    /// The tokens of texts.
    #[schema(title = "lists of tokens", value_type = Vec<Vec<TokenId>>)]
    TokenLists(Vec<Vec<u32>>),
}

/// A text of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prompt {
    /// As text.
    Text(String),
    /// As tokens.
    Tokens(Vec<u32>),
}

impl CompletionRequest {
    /// Reads a request.
    pub(crate) fn read(mut fields: Fields) -> ApiResult<Self> {
        let prompt = fields.value("prompt");
        let prompt = prompt.ok_or_else(|| ApiError::field("prompt", "there is no prompt"))?;
        let request = Self {
            prompt: Prompts::read(prompt, "prompt")?,
            max_tokens: fields.number("max_tokens", 0..=MAX_TOKENS)?,
            logprobs: fields.number("logprobs", 0..=MAX_TOP)?,
            echo: fields.take("echo")?,
            add_special_tokens: fields.take("add_special_tokens")?,
            common: Common::take(&mut fields)?,
        };
        if fields.take::<usize>("best_of")?.is_some_and(|best| best != request.common.choices()) {
            let message = "best_of is not n, and choosing among answers is not supported";
            return Err(ApiError::field("best_of", message).with_code("unsupported_parameter"));
        }
        fields.finish()?;
        Ok(request)
    }

    /// Maximum number of tokens of an answer. The default is at most `most`, the server's own limit.
    pub(crate) fn limit(&self, most: Option<usize>) -> usize {
        let default = || most.map_or(DEFAULT_TOKENS, |most| most.min(DEFAULT_TOKENS));
        self.max_tokens.unwrap_or_else(default)
    }

    /// Whether the prompt comes before the answer.
    pub(crate) fn echoes(&self) -> bool {
        self.echo.unwrap_or(false)
    }

    /// Whether the tokenizer adds its own tokens to a text.
    pub(crate) fn adds_special_tokens(&self) -> bool {
        self.add_special_tokens.unwrap_or(true)
    }
}

impl Prompts {
    /// Reads the field `name`.
    pub(crate) fn read(value: Value, name: &str) -> ApiResult<Self> {
        let wrong = || {
            let message = format!(
                "{name} is neither a string, a list of strings, a list of token ids, nor a list of \
                 lists of token ids"
            );
            ApiError::field(name, message)
        };
        match value {
            Value::String(text) => Ok(Self::Text(text)),
            Value::Array(list) => {
                let first = list
                    .first()
                    .ok_or_else(|| ApiError::field(name, format!("{name} is empty")))?;
                let read = match first {
                    Value::String(_) => serde_json::from_value(list.into()).map(Self::Texts),
                    Value::Array(_) => serde_json::from_value(list.into()).map(Self::TokenLists),
                    _ => serde_json::from_value(list.into()).map(Self::Tokens),
                };
                read.map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }

    /// The prompts, one by one.
    pub(crate) fn each(&self) -> Vec<Prompt> {
        match self.clone() {
            Self::Text(text) => vec![Prompt::Text(text)],
            Self::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
            Self::Tokens(ids) => vec![Prompt::Tokens(ids)],
            Self::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
        }
    }
}

/// Answers to texts, or a part of a stream of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Completion {
    /// The answer's id.
    pub(crate) id: String,
    /// `text_completion`.
    pub(crate) object: &'static str,
    /// Time of the answer in seconds since 1970.
    pub(crate) created: u64,
    /// The model's id.
    pub(crate) model: String,
    /// The answers, `n` to each prompt. A chunk of a stream has the new part of one answer; the last chunk
    /// has none, but the usage.
    pub(crate) choices: Vec<CompletionChoice>,
    /// The token counts. A stream has them in its last chunk, if requested.
    pub(crate) usage: Option<Usage>,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionChoice {
    /// Which answer it is: those to the first prompt come first.
    pub(crate) index: usize,
    /// The text.
    pub(crate) text: String,
    /// Log-probabilities of its tokens.
    pub(crate) logprobs: Option<CompletionLogprobs>,
    /// Why it ended.
    pub(crate) finish_reason: Option<&'static str>,
}

/// Log-probabilities of tokens, in four lists of the same length.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CompletionLogprobs {
    /// The texts of the tokens, with `echo` including those of the prompt.
    pub(crate) tokens: Vec<String>,
    /// `ln` of their probabilities; null for the first of a prompt.
    pub(crate) token_logprobs: Vec<Option<f64>>,
    /// The likeliest tokens at each place and their log-probabilities, including the token itself.
    #[schema(value_type = Vec<Option<Object>>)]
    pub(crate) top_logprobs: Vec<Option<Map<String, Value>>>,
    /// Offsets of their texts, in characters.
    pub(crate) text_offset: Vec<usize>,
}
