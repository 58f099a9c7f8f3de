//! Messages of a conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// A message as chat templates see it: a JSON object with `role`, `content` and whatever else a
/// model family knows, such as `tool_calls`, `tool_call_id`, `name` or `reasoning_content`. The
/// content is a text or a list of parts such as `{"type": "text", "text": "..."}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Json>);

/// Names under which the reasoning of an answer is passed; templates read the first, or the second.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

impl Message {
    /// A message with a text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        let message = Self::default();
        message.with("role", role.into()).with("content", content.into())
    }

    /// The message with one more field, or another value of a field.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// A field.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    /// `system`, `user`, `assistant` or `tool`; empty if there is none.
    pub fn role(&self) -> &str {
        self.get("role").and_then(Json::as_str).unwrap_or_default()
    }

    /// The content, where that is a text and no list of parts; else empty.
    pub fn text(&self) -> &str {
        self.get("content").and_then(Json::as_str).unwrap_or_default()
    }

    /// What transformers passes to a template: without fields that are null, and the reasoning
    /// under the names that templates know.
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
