//! Values of a tokenizer.json with their keys, for error messages.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

/// The largest valid id. Tables are indexed by id, and no vocabulary is nearly as large.
pub(super) const MAX_ID: u32 = 1 << 24;

/// Maximum number of steps of a normalizer, a pre-tokenizer or a decoder. Published files have up
/// to ten.
const MAX_STEPS: usize = 64;

/// Maximum length of an error message in characters. It may quote a file.
const MAX_MESSAGE: usize = 300;

/// An error in a tokenizer.json, with its place.
#[derive(Debug)]
pub(super) struct Fault {
    key: String,
    what: String,
}

impl Fault {
    /// A fault of the value under `key`, or of the whole file if `key` is empty.
    pub(super) fn new(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { key: key.into(), what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = shortened(&self.what, MAX_MESSAGE);
        if self.key.is_empty() {
            return out.write_str(&what);
        }
        write!(out, "`{}` {what}", shortened(&self.key, MAX_MESSAGE))
    }
}

/// A value and the path of its keys.
#[derive(Clone)]
pub(super) struct Node<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    pub(super) fn new(key: &str, value: &'a Value) -> Self {
        Self { path: key.to_owned(), value }
    }

    /// A fault of this value. `what` follows the key in the message.
    pub(super) fn fault(&self, what: impl Into<String>) -> Fault {
        Fault::new(&self.path, what)
    }

    pub(super) fn expected(&self, what: &str) -> Fault {
        self.fault(format!("is {}, expected {what}", brief(self.value)))
    }

    /// The value under a key, or `None` if it is absent or `null`.
    pub(super) fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Self { path: format!("{}.{key}", self.path), value })
    }

    /// The value under a required key.
    pub(super) fn need(&self, key: &str) -> Result<Node<'a>, Fault> {
        if !self.value.is_object() {
            return Err(self.expected("an object"));
        }
        self.get(key).ok_or_else(|| Fault::new(format!("{}.{key}", self.path), "is missing"))
    }

    /// The elements of an array.
    pub(super) fn list(&self) -> Result<Vec<Node<'a>>, Fault> {
        let list = self.value.as_array().ok_or_else(|| self.expected("an array"))?;
        let node = |(at, value)| Self { path: format!("{}[{at}]", self.path), value };
        Ok(list.iter().enumerate().map(node).collect())
    }

    pub(super) fn string(&self) -> Result<&'a str, Fault> {
        self.value.as_str().ok_or_else(|| self.expected("a string"))
    }

    pub(super) fn character(&self) -> Result<char, Fault> {
        let mut characters = self.string()?.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => Ok(character),
            _ => Err(self.expected("one character")),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, Fault> {
        self.value.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    pub(super) fn id(&self) -> Result<u32, Fault> {
        let id = self.value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.filter(|&id| id <= MAX_ID)
            .ok_or_else(|| self.expected(&format!("an id from 0 to {}", MAX_ID)))
    }

    pub(super) fn count(&self) -> Result<usize, Fault> {
        let count = self.value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.expected("a whole number"))
    }

    /// A number from 0 to 1.
    pub(super) fn fraction(&self) -> Result<f64, Fault> {
        let number = self.value.as_f64().filter(|number| (0.0..=1.0).contains(number));
        number.ok_or_else(|| self.expected("a number from 0 to 1"))
    }

    /// The boolean under a key, or `default` if it is absent.
    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, Fault> {
        self.get(key).map_or(Ok(default), |node| node.boolean())
    }

    /// The string under `type`.
    pub(super) fn kind(&self) -> Result<&'a str, Fault> {
        self.need("type")?.string()
    }

    /// The fault of an unknown `type`.
    pub(super) fn unknown_kind(&self) -> Fault {
        let kind = self.value.get("type").map_or_else(|| "null".to_owned(), brief);
        Fault::new(format!("{}.type", self.path), format!("is {kind}, which is not known"))
    }

    /// The steps of a `Sequence`, with nested sequences flattened, or this value as the only step.
    pub(super) fn steps(&self, list: &str) -> Result<Vec<Node<'a>>, Fault> {
        let mut steps = Vec::new();
        let mut open = vec![self.clone()];
        while let Some(node) = open.pop() {
            if node.kind()? == "Sequence" {
                open.extend(node.need(list)?.list()?.into_iter().rev());
            } else {
                steps.push(node);
            }
            if steps.len() + open.len() > MAX_STEPS {
                return Err(self.fault(format!("has more than {MAX_STEPS} steps")));
            }
        }
        Ok(steps)
    }
}

/// A value as JSON, shortened if it is long.
fn brief(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        _ => shortened(&value.to_string(), 60).into_owned(),
    }
}

fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => text.into(),
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()).into(),
    }
}
