//! The key-value section.

use std::collections::HashMap;

use crate::{Array, Error, Value};

/// Metadata entries in file order, with typed access.
///
/// The accessors return `Ok(None)` for a key that is absent and an error that names the key for a
/// value of another type. Integers are accepted in every width that holds the value, because
/// writers disagree about widths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry at the end, or replaces the value of an existing key in place.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        match self.index.get(&key).and_then(|&i| self.entries.get_mut(i)) {
            Some(entry) => entry.1 = value.into(),
            None => {
                self.index.insert(key.clone(), self.entries.len());
                self.entries.push((key, value.into()));
            }
        }
    }

    /// Removes an entry, where it is there.
    pub fn remove(&mut self, key: &str) {
        if let Some(at) = self.index.remove(key) {
            self.entries.remove(at);
            self.index.values_mut().filter(|i| **i > at).for_each(|i| *i -= 1);
        }
    }

    /// The entries in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).and_then(|&i| self.entries.get(i)).map(|(_, value)| value)
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.read(key, "a string", |value| match value {
            Value::String(v) => Some(v.as_str()),
            _ => None,
        })
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.read(key, "a bool", |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// A floating-point number; an f64 is rounded.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.read(key, "a float", |value| match value {
            Value::F32(v) => Some(*v),
            Value::F64(v) => Some(*v as f32),
            _ => None,
        })
    }

    /// An integer from 0 to 2^32 - 1, stored in any width.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.integer(key, "a u32")
    }

    /// An integer from 0 to 2^64 - 1, stored in any width.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.integer(key, "a u64")
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, Error> {
        self.read(key, "an array of strings", |value| match value {
            Value::Array(Array::String(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// An array of f32.
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>, Error> {
        self.read(key, "an array of f32", |value| match value {
            Value::Array(Array::F32(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// An array of booleans.
    pub fn bools(&self, key: &str) -> Result<Option<&[bool]>, Error> {
        self.read(key, "an array of bool", |value| match value {
            Value::Array(Array::Bool(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// An array of integers that fit u32, stored in any width.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>, Error> {
        self.integers(key, "an array of u32")
    }

    /// An array of integers that fit i32, stored in any width.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, Error> {
        self.integers(key, "an array of i32")
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        take(value).map(Some).ok_or_else(|| Error::MetadataType {
            key: key.to_owned(),
            expected,
            found: value.describe(),
        })
    }

    fn integer<T: TryFrom<i128>>(
        &self,
        key: &str,
        expected: &'static str,
    ) -> Result<Option<T>, Error> {
        let Some(wide) = self.read(key, expected, Value::as_integer)? else { return Ok(None) };
        narrow(key, expected, wide).map(Some)
    }

    fn integers<T: TryFrom<i128>>(
        &self,
        key: &str,
        expected: &'static str,
    ) -> Result<Option<Vec<T>>, Error> {
        let wide = self.read(key, expected, |value| match value {
            Value::Array(array) => array.integers(),
            _ => None,
        })?;
        wide.map(|v| v.into_iter().map(|n| narrow(key, expected, n)).collect()).transpose()
    }
}

fn narrow<T: TryFrom<i128>>(key: &str, expected: &'static str, wide: i128) -> Result<T, Error> {
    T::try_from(wide).map_err(|_| Error::MetadataRange {
        key: key.to_owned(),
        expected,
        found: wide.to_string(),
    })
}
