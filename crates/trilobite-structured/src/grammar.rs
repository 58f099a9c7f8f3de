//! What an answer can be required to be.

use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Whitespace within JSON: without a bound a model can go on with it for ever.
const WHITESPACE: &str = r"[ \n\r\t]{1,32}";
/// The key under which llguidance finds its options in a schema.
const OPTIONS: &str = "x-guidance";

/// What an answer is required to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// A JSON object.
    Json,
    /// JSON that a schema allows.
    Schema(Value),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// A text of a grammar in Lark's notation, as llguidance extends it.
    Lark(String),
    /// Calls of functions, by [`Tools::grammar`](crate::Tools::grammar).
    Calls(String),
}

impl Grammar {
    /// What it is called in errors.
    fn kind(&self) -> &'static str {
        match self {
            Self::Json => "a JSON object",
            Self::Schema(_) => "the JSON schema",
            Self::Regex(_) => "the regular expression",
            Self::Lark(_) => "the grammar",
            Self::Calls(_) => "the schema of a function",
        }
    }

    /// Whether its numbers are those of JSON.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self, Self::Json | Self::Schema(_) | Self::Calls(_))
    }

    /// As llguidance takes it.
    pub(crate) fn top_level(&self) -> Result<TopLevelGrammar> {
        Ok(match self {
            Self::Json => TopLevelGrammar::from_json_schema(bounded(&json!({"type": "object"}))?),
            Self::Schema(schema) => TopLevelGrammar::from_json_schema(bounded(schema)?),
            Self::Regex(expression) => TopLevelGrammar::from_regex(expression),
            Self::Lark(grammar) | Self::Calls(grammar) => {
                TopLevelGrammar::from_lark(grammar.clone())
            }
        })
    }

    /// An error of llguidance about this grammar.
    pub(crate) fn error(&self, fault: &str) -> Error {
        Error::Grammar { kind: self.kind(), fault: fault.trim_end().to_owned() }
    }
}

/// A schema with bounded whitespace between the parts of JSON, unless it says itself what is there.
pub(crate) fn bounded(schema: &Value) -> Result<Value> {
    let mut bounded = match schema {
        Value::Object(fields) => fields.clone(),
        // Everything, which is also the schema without fields.
        Value::Bool(true) => Map::new(),
        other => {
            let fault = format!("it is {other}, expected an object");
            return Err(Error::Grammar { kind: "the JSON schema", fault });
        }
    };
    bounded.entry(OPTIONS).or_insert_with(|| json!({"whitespace_pattern": WHITESPACE}));
    Ok(bounded.into())
}
