//! Typed access to configuration files.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::Error;

/// An object in a JSON file. As in Python, a key whose value is `null` counts as absent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    pub(crate) file: &'a str,
    /// The path of the object in the file, with a trailing dot; empty for the root.
    pub(crate) path: &'a str,
    pub(crate) value: &'a Value,
}

impl<'a> Object<'a> {
    pub(crate) fn new(file: &'a str, value: &'a Value) -> Self {
        Object { file, path: "", value }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// Whether a key is present with the value `null`.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.value.get(key).is_some_and(Value::is_null)
    }

    /// All keys and their values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        let pairs = self.value.as_object().into_iter().flatten();
        pairs.map(|(key, value)| (key.as_str(), value))
    }

    /// A nested object. `path` is its key with a trailing dot.
    pub(crate) fn object(&self, path: &'a str) -> Result<Option<Object<'a>>, Error> {
        let key = path.trim_end_matches('.');
        match self.get(key) {
            None => Ok(None),
            Some(value) if value.is_object() => Ok(Some(Object { path, value, ..*self })),
            Some(_) => Err(self.bad(key, "an object")),
        }
    }

    pub(crate) fn str(&self, key: &str) -> Result<Option<&'a str>, Error> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A number that is finite as an f32.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, "a number", finite)
    }

    /// A number that is positive and finite as an f32.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, "a positive number", |value| finite(value).filter(|n| *n > 0.0))
    }

    /// An integer within a range. A float without fraction counts as an integer.
    pub(crate) fn integer(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let whole = |n: f64| (n.fract() == 0.0 && (0.0..1e15).contains(&n)).then_some(n as u64);
        match value.as_u64().or_else(|| value.as_f64().and_then(whole)) {
            Some(n) if range.contains(&n) => Ok(Some(n)),
            _ => {
                Err(self.bad(key, &format!("an integer from {} to {}", range.start(), range.end())))
            }
        }
    }

    /// A list of exactly `count` positive numbers. It is an error if the key is absent.
    pub(crate) fn positives(&self, key: &str, count: u64) -> Result<Vec<f32>, Error> {
        let number = |value| finite(value).filter(|n| *n > 0.0);
        let list = self.get(key).and_then(Value::as_array);
        match list.and_then(|list| list.iter().map(number).collect::<Option<Vec<f32>>>()) {
            Some(numbers) if numbers.len() as u64 == count => Ok(numbers),
            _ => Err(self.bad(key, &format!("a list of {count} positive numbers"))),
        }
    }

    /// The keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.value.as_object().into_iter().flat_map(|object| object.keys()).map(String::as_str)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys().next().is_none()
    }

    /// An integer or a list of integers, as a list.
    pub(crate) fn integers(&self, key: &str) -> Result<Vec<i64>, Error> {
        let list = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        list.iter()
            .map(Value::as_i64)
            .collect::<Option<_>>()
            .ok_or_else(|| self.bad(key, "a token id, or a list of them"))
    }

    /// The value of a required key. It is an error if the value is `None`.
    pub(crate) fn require<T>(&self, key: &str, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| self.bad(key, "a value"))
    }

    /// The error for an invalid value of a key.
    pub(crate) fn bad(&self, key: &str, expected: &str) -> Error {
        Error::Value {
            file: self.file.to_owned(),
            key: format!("{}{key}", self.path),
            expected: expected.to_owned(),
            found: self.get(key).map_or_else(|| "missing".to_owned(), brief),
        }
    }

    pub(crate) fn unsupported(&self, key: &str) -> Error {
        let value = self.get(key).map_or_else(|| "null".to_owned(), brief);
        Error::Unsupported {
            file: self.file.to_owned(),
            what: format!("`{}{key}`: {value}", self.path),
        }
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        take: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => take(value).map(Some).ok_or_else(|| self.bad(key, expected)),
        }
    }
}

fn finite(value: &Value) -> Option<f32> {
    value.as_f64().map(|n| n as f32).filter(|n| n.is_finite())
}

/// A value as JSON, shortened if it is long.
pub(crate) fn brief(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}
