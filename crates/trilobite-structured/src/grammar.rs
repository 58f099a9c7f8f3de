//! Kinds of constraints.

use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Whitespace between two tokens of JSON: at most a line break and an indentation of 15 levels by
/// two spaces, or of 7 by four. Without a bound, as in llguidance's default, a model that has begun
/// to repeat whitespace does so until the answer is cut off, and the JSON is incomplete.
pub(crate) const WHITESPACE: &str = r"[ \n\r\t]{1,32}";
/// Whitespace between two tokens of a call's arguments. Programs read them, so more than a space
/// only costs tokens.
pub(crate) const CALL_WHITESPACE: &str = " ";
/// The key of llguidance's options in a schema.
const OPTIONS: &str = "x-guidance";

/// A constraint on the text of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// A JSON object.
    Json,
    /// JSON valid against a schema.
    Schema(Value),
    /// A text that matches a regular expression as a whole.
    Regex(String),
    /// A text of a grammar in llguidance's dialect of Lark.
    Lark(String),
    /// Tool calls, made by [`Tools::grammar`](crate::Tools::grammar).
    Calls(String),
}

impl Grammar {
    /// The name in errors.
    fn kind(&self) -> &'static str {
        match self {
            Self::Json => "a JSON object",
            Self::Schema(_) => "the JSON schema",
            Self::Regex(_) => "the regular expression",
            Self::Lark(_) => "the grammar",
            Self::Calls(_) => "the schema of a function",
        }
    }

    /// Whether the text is JSON or contains JSON.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self, Self::Json | Self::Schema(_) | Self::Calls(_))
    }

    /// The grammar in llguidance's form.
    pub(crate) fn top_level(&self) -> Result<TopLevelGrammar> {
        Ok(match self {
            Self::Json => {
                TopLevelGrammar::from_json_schema(bounded(&json!({"type": "object"}), WHITESPACE)?)
            }
            Self::Schema(schema) => TopLevelGrammar::from_json_schema(bounded(schema, WHITESPACE)?),
            Self::Regex(expression) => TopLevelGrammar::from_regex(expression),
            Self::Lark(grammar) | Self::Calls(grammar) => {
                TopLevelGrammar::from_lark(grammar.clone())
            }
        })
    }

    /// Wraps an error message of llguidance.
    pub(crate) fn error(&self, fault: &str) -> Error {
        let line = one_line(fault);
        let is_own = matches!(self, Self::Lark(_));
        let fault = match &line[..] {
            "NoExtensionBias" => "no text matches it",
            // The place in a grammar that the user has not written.
            line if line.starts_with("at ") && !is_own => {
                line.split_once("): ").map_or(line, |(_, fault)| fault)
            }
            line => line,
        };
        let fault = match self {
            // Without the expression itself.
            Self::Regex(_) => fault.rsplit_once(" error: ").map_or(fault, |(_, fault)| fault),
            Self::Calls(_) => fault.trim_start_matches("failed to compile JSON schema: "),
            Self::Json | Self::Schema(_) | Self::Lark(_) => fault,
        };
        Error::Grammar { kind: self.kind(), fault: fault.to_owned() }
    }
}

/// A message of llguidance as one line, without excerpts of grammars and marks below them.
pub(crate) fn one_line(message: &str) -> String {
    // In place of the state of the parser.
    let message = message.trim_end().trim_end_matches("<non-verbose/>");
    let is_excerpt = |line: &str| {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
        rest.len() < line.len() && rest.starts_with(" |")
    };
    let is_mark = |line: &str| line.trim_matches(['^', ' ']).is_empty();
    let lines = message.lines().map(str::trim);
    lines.filter(|line| !is_excerpt(line) && !is_mark(line)).collect::<Vec<_>>().join(" ")
}

/// Bounds the whitespace of a schema's JSON to an expression, unless the schema sets llguidance's options itself.
pub(crate) fn bounded(schema: &Value, whitespace: &str) -> Result<Value> {
    let mut bounded = match schema {
        Value::Object(fields) => fields.clone(),
        // Equivalent to the empty schema.
        Value::Bool(true) => Map::new(),
        other => {
            let fault = format!("it is {other}, expected an object");
            return Err(Error::Grammar { kind: "the JSON schema", fault });
        }
    };
    bounded.entry(OPTIONS).or_insert_with(|| json!({"whitespace_pattern": whitespace}));
    Ok(bounded.into())
}
