//! Chat templates, which turn a conversation into a prompt as transformers does.

mod message;
mod standard;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value as Json};
use trilobite_format::model::{special_id, template_instead};
use trilobite_format::{Metadata, keys};
use trilobite_jinja::Clock;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
pub use message::Message;
pub use standard::StandardTemplate;

/// Special tokens: the name of the template variable and the key of the id in GGUF files.
const TOKEN_IDS: [(&str, &str); 7] = [
    ("bos_token", "bos"),
    ("eos_token", "eos"),
    ("unk_token", "unknown"),
    ("sep_token", "seperator"),
    ("pad_token", "padding"),
    ("cls_token", "cls"),
    ("mask_token", "mask"),
];
/// Marks the end of a message to be continued.
const CONTINUE_MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The input of a chat template.
#[derive(Clone, Debug, Default)]
pub struct Conversation<'a> {
    /// The messages of the conversation.
    pub messages: &'a [Message],
    /// JSON schemas of the functions that the model may call.
    pub tools: Option<&'a [Json]>,
    /// Documents with `title` and `text` for the answer to draw on.
    pub documents: Option<&'a [Json]>,
    /// What follows the last message.
    pub ending: Ending,
    /// Other variables of the template, such as `enable_thinking`.
    pub variables: Map<String, Json>,
}

/// What follows the last message of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The beginning of an answer (`add_generation_prompt`).
    #[default]
    Answer,
    /// Nothing. The last message is complete.
    Closed,
    /// Nothing. The last message is left open for the model to continue (`continue_final_message`).
    Open,
}

/// A model's chat template.
pub struct ChatTemplate {
    source: String,
    /// A separate template for conversations with tools, if the model has one.
    with_tools: Option<String>,
    /// Special tokens by variable name.
    special: Map<String, Json>,
    replaced: bool,
    clock: Clock,
}

impl ChatTemplate {
    /// Creates a template with the special tokens of a model.
    ///
    /// # Errors
    /// A metadata value has the wrong type.
    pub fn new(
        source: impl Into<String>,
        metadata: &Metadata,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let (source, special) = (source.into(), special_tokens(metadata, tokenizer)?);
        Ok(Self { source, with_tools: None, special, replaced: false, clock: Clock::System })
    }

    /// The template of a model file, or `None` if it has none.
    ///
    /// # Errors
    /// A metadata value has the wrong type.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let Some(source) = metadata.str(keys::CHAT_TEMPLATE)? else { return Ok(None) };
        let right = template_instead(source);
        let with_tools = metadata.str(keys::TOOL_TEMPLATE)?.map(str::to_owned);
        let template = Self::new(right.unwrap_or(source), metadata, tokenizer)?;
        Ok(Some(Self { with_tools, replaced: right.is_some(), ..template }))
    }

    /// Templates in common formats, for models without one.
    pub fn standard() -> &'static [StandardTemplate] {
        &standard::TEMPLATES
    }

    /// The names of the standard templates, separated by commas.
    pub fn standard_names() -> String {
        standard::TEMPLATES.map(|known| known.name).join(", ")
    }

    /// Encodes the prompt of a conversation. A beginning-of-text token is added by the template or
    /// by the tokenizer, never by both.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn encode(&self, messages: &[Message], tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        self.encode_begun(messages, "", tokenizer)
    }

    /// Encodes the prompt of a conversation whose answer is begun with a text for the model to
    /// continue.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn encode_begun(
        &self,
        messages: &[Message],
        answer: &str,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>> {
        let conversation = Conversation { messages, ..Conversation::default() };
        self.tokens(&(self.render(&conversation)? + answer), tokenizer)
    }

    /// Encodes the prompt of a conversation with all its settings.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn encode_conversation(
        &self,
        conversation: &Conversation<'_>,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>> {
        self.tokens(&self.render(conversation)?, tokenizer)
    }

    fn tokens(&self, prompt: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let bos = self.special.get("bos_token").and_then(Json::as_str).unwrap_or_default();
        let begun = !bos.is_empty() && prompt.starts_with(bos);
        tokenizer.encode(prompt, !begun, true)
    }

    /// Whether the file's template is known to be wrong and was replaced by a correct one.
    pub fn replaced(&self) -> bool {
        self.replaced
    }

    /// Returns the template for conversations with tools, or `None` if it ignores tools.
    pub fn with_tools(&self) -> Option<&str> {
        let source = self.with_tools.as_ref().unwrap_or(&self.source);
        source.contains("tools").then_some(source)
    }

    /// Renders the prompt of a conversation. Special tokens appear by name, so the prompt must be
    /// tokenized with special tokens parsed and none added.
    ///
    /// # Errors
    /// The template is invalid, takes too much time or memory, or rejects the conversation.
    pub fn render(&self, conversation: &Conversation<'_>) -> Result<String> {
        let source = match (&self.with_tools, conversation.tools) {
            (Some(source), Some(_)) => source,
            _ => &self.source,
        };
        let mut messages: Vec<Json> =
            conversation.messages.iter().map(|message| message.normalized().into()).collect();
        let open = conversation.ending == Ending::Open;
        let last = match open {
            true if !source.contains("content") => return Err(last_message_left_out()),
            true => Some(mark_end(messages.last_mut())?),
            false => None,
        };
        let list = |list: Option<&[Json]>| list.map_or(Json::Null, |list| list.to_vec().into());
        let mut variables = self.special.clone();
        variables.extend(conversation.variables.clone());
        variables.extend([
            ("messages".to_owned(), messages.into()),
            ("tools".to_owned(), list(conversation.tools)),
            ("documents".to_owned(), list(conversation.documents)),
            ("add_generation_prompt".to_owned(), (conversation.ending == Ending::Answer).into()),
        ]);
        let prompt = trilobite_jinja::render(source, &variables, self.clock)
            .map_err(|error| Error::Template(error.to_string()))?;
        match last {
            Some(last) => cut_after(prompt, &last),
            None => Ok(prompt),
        }
    }
}

fn last_message_left_out() -> Error {
    Error::Template("it leaves out the last message, which the answer continues".to_owned())
}

/// Appends the mark to the text of the last message, and returns that text.
fn mark_end(message: Option<&mut Json>) -> Result<String> {
    let nothing = || Error::Template("the last message has no text to continue".to_owned());
    let mut content = message.and_then(|message| message.get_mut("content"));
    if let Some(Json::Array(parts)) = content {
        content = parts.iter_mut().rev().find_map(|part| part.get_mut("text"));
    }
    match content {
        Some(Json::String(text)) => {
            let before = text.clone();
            text.push_str(CONTINUE_MARK);
            Ok(before)
        }
        _ => Err(nothing()),
    }
}

/// Cuts a prompt at the mark. If the template trimmed the space of the mark, it would also have
/// trimmed the spaces before it, so these are removed.
fn cut_after(mut prompt: String, last: &str) -> Result<String> {
    let found = prompt.rfind(CONTINUE_MARK.trim_end()).filter(|_| prompt.contains(last.trim()));
    let at = found.ok_or_else(last_message_left_out)?;
    let whole = prompt[at..].starts_with(CONTINUE_MARK);
    prompt.truncate(at);
    if !whole {
        prompt.truncate(prompt.trim_end().len());
    }
    Ok(prompt)
}

/// The special tokens of a file, as template variables.
fn special_tokens(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Map<String, Json>> {
    let mut special = Map::new();
    for (key, _) in metadata.iter() {
        let Some(name) = key.strip_prefix(keys::SPECIAL_TOKENS) else { continue };
        let value = match metadata.str(key) {
            Ok(text) => Json::from(text),
            Err(_) => Json::from(metadata.strings(key)?),
        };
        special.insert(name.to_owned(), value);
    }
    for (name, short) in TOKEN_IDS {
        if special.contains_key(name) {
            continue;
        }
        let text = match metadata.str(&keys::token_text(name))? {
            Some(text) => Some(text.to_owned()),
            None => special_id(metadata, short)?.and_then(|id| tokenizer.token(id)),
        };
        special.extend(text.map(|text| (name.to_owned(), text.into())));
    }
    Ok(special)
}
