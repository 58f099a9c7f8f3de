//! Messages of a conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// A message as chat templates see it: a JSON object with `role`, `content` and optional fields of
/// the model family, such as `tool_calls`, `tool_call_id`, `name` or `reasoning_content`. The
/// content is a string or a list of parts such as `{"type": "text", "text": "..."}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Json>);

/// Names of the field with the reasoning of an answer. Templates read the first or the second.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

impl Message {
    /// Creates a message with a text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        let message = Self::default();
        message.with("role", role.into()).with("content", content.into())
    }

    /// Returns the message with a field added or replaced.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    /// The role, such as `system`, `user`, `assistant` or `tool`; empty if there is none.
    pub fn role(&self) -> &str {
        self.get("role").and_then(Json::as_str).unwrap_or_default()
    }

    /// The content if it is a string, otherwise an empty string.
    pub fn text(&self) -> &str {
        self.get("content").and_then(Json::as_str).unwrap_or_default()
    }

    /// The message as transformers passes it to a template: without null fields, and with the
    /// reasoning under each name that templates read.
    pub(super) fn normalized(&self) -> Map<String, Json> {
        let set = self.0.iter().filter(|(_, value)| !value.is_null());
        let set: Map<String, Json> =
            set.map(|(name, value)| (name.clone(), value.clone())).collect();
        let Some(reasoning) = REASONING.iter().find_map(|name| set.get(*name)).cloned() else {
            return set;
        };
        let mut message = Map::new();
        message.insert("thinking".to_owned(), reasoning.clone());
        message.extend(set);
        message.insert("reasoning_content".to_owned(), reasoning);
        message
    }
}

impl From<Map<String, Json>> for Message {
    fn from(fields: Map<String, Json>) -> Self {
        Self(fields)
    }
}
