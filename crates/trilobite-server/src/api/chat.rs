//! `/v1/chat/completions`.

use serde::Serialize;
use serde_json::{Map, Value};
use trilobite_runtime::Message;
use utoipa::ToSchema;

use super::Usage;
use super::common::{Common, MAX_TOKENS, MAX_TOP};
use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::tools::{self, Callable, ToolCall};

/// A request to continue a conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatRequest {
    /// The conversation. A message can have additional fields for the model's template.
    #[schema(value_type = Vec<ChatMessage>, min_items = 1)]
    pub(crate) messages: Vec<Message>,
    /// Maximum tokens of an answer. Default: as many as the context holds.
    #[schema(maximum = 2147483647)]
    pub(crate) max_completion_tokens: Option<usize>,
    /// The older name of `max_completion_tokens`.
    #[schema(maximum = 2147483647)]
    pub(crate) max_tokens: Option<usize>,
    /// Reports the log-probability of each token.
    #[schema(default = false)]
    pub(crate) logprobs: Option<bool>,
    /// Number of likeliest tokens to report with each token.
    #[schema(minimum = 0, maximum = 20)]
    pub(crate) top_logprobs: Option<usize>,
    /// Variables of the model's chat template, such as `enable_thinking`.
    #[schema(value_type = Option<Object>)]
    pub(crate) chat_template_kwargs: Option<Map<String, Value>>,
    /// Functions that the answer may call.
    #[serde(skip)]
    pub(crate) callable: Option<Callable>,
    /// Maximum tokens of the reasoning before an answer, between `<think>` and `</think>`.
    #[schema(maximum = 2147483647)]
    pub(crate) max_reasoning_tokens: Option<usize>,
    /// Settings of sampling and of the response.
    #[serde(flatten)]
    pub(crate) common: Common,
}

/// A message.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of what `Message` holds")]
pub(crate) struct ChatMessage {
    /// The role of the sender.
    role: Role,
    /// The content.
    content: Content,
}

/// The role of a message.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of what `Message` holds")]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Instructions.
    System,
    /// The newer name of `system`.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A function that the model called.
    Tool,
}

/// The content of a message.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of what `Message` holds")]
#[serde(untagged)]
pub(crate) enum Content {
    /// A text.
    Text(String),
    /// Texts.
    Parts(Vec<ContentPart>),
}

/// A part of a content.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of what `Message` holds")]
pub(crate) struct ContentPart {
    /// The type. Images and audio are not supported.
    r#type: PartType,
    /// The text.
    text: String,
}

/// The type of a part of a content.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of what `Message` holds")]
#[serde(rename_all = "lowercase")]
pub(crate) enum PartType {
    /// A text.
    Text,
}

impl ChatRequest {
    /// Reads a request.
    pub(crate) fn read(mut fields: Fields) -> ApiResult<Self> {
        let request = Self {
            messages: messages(&mut fields)?,
            max_completion_tokens: fields.number("max_completion_tokens", 0..=MAX_TOKENS)?,
            max_tokens: fields.number("max_tokens", 0..=MAX_TOKENS)?,
            logprobs: fields.take("logprobs")?,
            top_logprobs: fields.number("top_logprobs", 0..=MAX_TOP)?,
            chat_template_kwargs: fields.take("chat_template_kwargs")?,
            callable: Callable::take(&mut fields)?,
            max_reasoning_tokens: fields.number("max_reasoning_tokens", 0..=MAX_TOKENS)?,
            common: Common::take(&mut fields)?,
        };
        fields.finish()?;
        if request.top_logprobs.is_some_and(|top| top > 0) && request.logprobs != Some(true) {
            let message = "top_logprobs are told only with logprobs, which is not true";
            return Err(ApiError::field("top_logprobs", message));
        }
        Ok(request)
    }

    /// Maximum tokens of an answer.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// Number of likeliest tokens to report; `None` reports no log-probabilities.
    pub(crate) fn top(&self) -> Option<usize> {
        self.logprobs.filter(|wanted| *wanted).map(|_| self.top_logprobs.unwrap_or(0))
    }
}

/// Takes the messages. Parts of a content are joined to one text.
fn messages(fields: &mut Fields) -> ApiResult<Vec<Message>> {
    let Some(list) = fields.take::<Vec<Map<String, Value>>>("messages")? else {
        return Err(ApiError::field("messages", "there are no messages"));
    };
    if list.is_empty() {
        return Err(ApiError::field("messages", "messages is empty"));
    }
    list.into_iter().enumerate().map(|(index, fields)| message(index, fields)).collect()
}

fn message(index: usize, mut fields: Map<String, Value>) -> ApiResult<Message> {
    let at = format!("messages[{index}]");
    let role = match fields.get("role").and_then(Value::as_str) {
        // Its newer name.
        Some("developer") => "system",
        Some(role @ ("system" | "user" | "assistant" | "tool")) => role,
        Some(role) => {
            let message = format!(
                "{at}.role is {role:?}, expected system, developer, user, assistant or tool"
            );
            return Err(ApiError::field(format!("{at}.role"), message));
        }
        None => {
            let message = format!("{at}.role is missing or no string");
            return Err(ApiError::field(format!("{at}.role"), message));
        }
    };
    let role = Value::from(role);
    let text = match fields.get("content") {
        Some(Value::String(text)) => Value::from(text.as_str()),
        Some(Value::Array(parts)) => {
            let texts: ApiResult<Vec<&str>> = parts
                .iter()
                .enumerate()
                .map(|(part, value)| text_of_part(&format!("{at}.content[{part}]"), value))
                .collect();
            texts?.join("\n").into()
        }
        None | Some(Value::Null) if fields.contains_key("tool_calls") => Value::from(""),
        _ => {
            let message =
                format!("{at}.content is missing, or neither a string nor a list of parts");
            return Err(ApiError::field(format!("{at}.content"), message));
        }
    };
    fields.insert("role".to_owned(), role);
    fields.insert("content".to_owned(), text);
    tools::read_arguments(&mut fields);
    Ok(Message::from(fields))
}

fn text_of_part<'a>(at: &str, part: &'a Value) -> ApiResult<&'a str> {
    match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
        (Some("text"), Some(text)) => Ok(text),
        (Some("text") | None, _) => {
            Err(ApiError::field(at, format!("{at} is no object with a type and a text")))
        }
        (Some(kind), _) => {
            let message = format!("{at} is of type {kind:?}: this model reads text only");
            Err(ApiError::field(at, message).with_code("unsupported_content"))
        }
    }
}

/// Answers to a conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatCompletion {
    /// The answer's id.
    pub(crate) id: String,
    /// `chat.completion`.
    pub(crate) object: &'static str,
    /// Time of the answer in seconds since 1970.
    pub(crate) created: u64,
    /// The model's id.
    pub(crate) model: String,
    /// The answers.
    pub(crate) choices: Vec<ChatChoice>,
    /// The token counts.
    pub(crate) usage: Usage,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    /// Which answer it is.
    pub(crate) index: usize,
    /// The answer.
    pub(crate) message: AnswerMessage,
    /// Log-probabilities of its tokens.
    pub(crate) logprobs: Option<ChatLogprobs>,
    /// Why it ended.
    pub(crate) finish_reason: &'static str,
}

/// The message that answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnswerMessage {
    /// `assistant`.
    pub(crate) role: &'static str,
    /// The text; null if there are only calls.
    pub(crate) content: Option<String>,
    /// Always null.
    pub(crate) refusal: Option<String>,
    /// The reasoning before the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
    /// Calls of functions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall>,
}

/// Log-probabilities of an answer's tokens.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ChatLogprobs {
    /// The tokens, including the one that ended the answer.
    pub(crate) content: Vec<ChatLogprob>,
    /// Always null.
    pub(crate) refusal: Option<String>,
}

/// The log-probability of a token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatLogprob {
    /// The token and its log-probability.
    #[serde(flatten)]
    pub(crate) token: TopLogprob,
    /// The likeliest tokens in its place.
    pub(crate) top_logprobs: Vec<TopLogprob>,
}

/// A token and its log-probability.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopLogprob {
    /// The token's text.
    pub(crate) token: String,
    /// `ln` of its probability by the model's logits, before penalties and temperature.
    pub(crate) logprob: f64,
    /// The bytes of the text.
    pub(crate) bytes: Vec<u8>,
}

/// A part of a streamed answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChunk {
    /// The answer's id.
    pub(crate) id: String,
    /// `chat.completion.chunk`.
    pub(crate) object: &'static str,
    /// Start time of the answer in seconds since 1970.
    pub(crate) created: u64,
    /// The model's id.
    pub(crate) model: String,
    /// The choice that the part belongs to. It is empty in the last chunk, which has the usage.
    pub(crate) choices: Vec<ChunkChoice>,
    /// The token counts, in the last chunk, if requested.
    pub(crate) usage: Option<Usage>,
}

/// A part of a streamed choice.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChunkChoice {
    /// Which answer it is.
    pub(crate) index: usize,
    /// The new part.
    pub(crate) delta: Delta,
    /// Log-probabilities of its tokens.
    pub(crate) logprobs: Option<ChatLogprobs>,
    /// Why it ended, in its last part.
    pub(crate) finish_reason: Option<&'static str>,
}

impl Delta {
    /// Whether the part is empty.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { role, content, reasoning_content, tool_calls } = self;
        let texts = content.is_some() || reasoning_content.is_some();
        role.is_none() && !texts && tool_calls.is_empty()
    }
}

/// The new part of an answer.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Delta {
    /// `assistant`, in the first part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    /// The text that comes next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    /// The reasoning that comes next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
    /// Complete calls of functions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall>,
}
