//! Tool calls and their syntax.

use serde_json::Value;

/// The tags around a call of [`CallFormat::Tagged`].
pub(crate) const OPEN: &str = "<tool_call>";
pub(crate) const CLOSE: &str = "</tool_call>";
/// The token before a call of Llama 3, if it is not a special token.
pub(crate) const PYTHON_TAG: &str = "<|python_tag|>";

/// A tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Name of the function.
    pub name: String,
    /// Arguments as the text of a JSON object.
    pub arguments: String,
}

/// The syntax of tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFormat {
    /// `<tool_call>{"name": ..., "arguments": ...}</tool_call>`: Qwen and Hermes.
    Tagged,
    /// An answer that is `{"name": ..., "parameters": ...}`: Llama 3.
    Parameters,
    /// An answer that is `{"name": ..., "arguments": ...}`: other models.
    Arguments,
}

impl CallFormat {
    /// Detects the format from the source of a chat template that supports tools.
    pub fn of_template(source: Option<&str>) -> Self {
        match source {
            Some(source) if source.contains(OPEN) => Self::Tagged,
            Some(source) if source.contains("\"parameters\"") || source.contains(PYTHON_TAG) => {
                Self::Parameters
            }
            _ => Self::Arguments,
        }
    }

    /// The text before and after the arguments of a call.
    pub(crate) fn around(self, name: &str) -> (String, String) {
        let name = Value::from(name);
        match self {
            Self::Tagged => {
                let before = format!("{OPEN}\n{{\"name\": {name}, \"arguments\": ");
                (before, format!("}}\n{CLOSE}"))
            }
            Self::Parameters => (format!("{{\"name\": {name}, \"parameters\": "), "}".to_owned()),
            Self::Arguments => (format!("{{\"name\": {name}, \"arguments\": "), "}".to_owned()),
        }
    }

    /// The text between calls, or `None` if an answer contains a single call.
    pub(crate) fn between(self) -> Option<&'static str> {
        match self {
            Self::Tagged => Some("\n"),
            Self::Parameters | Self::Arguments => None,
        }
    }
}
