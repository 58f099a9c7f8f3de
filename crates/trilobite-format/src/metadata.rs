//! The metadata section: key-value pairs.

use std::collections::HashMap;

use crate::{Array, Error, Value};

/// Metadata entries in file order, with typed access.
///
/// An accessor returns `Ok(None)` for an absent key, and an error that names the key for a value of
/// another type. Integers are accepted in every width that holds the value, because writers
/// disagree about widths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// Creates an empty list of entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an entry, or replaces the value of an existing key in place.
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

    /// Removes the entry of a key, if there is one.
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

    /// The number of entries.
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

    /// The string of a key.
    pub fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.read(key, "a string", |value| match value {
            Value::String(v) => Some(v.as_str()),
            _ => None,
        })
    }

    /// The boolean of a key.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.read(key, "a bool", |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// The floating-point number of a key. An f64 is rounded.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.read(key, "a float", |value| match value {
            Value::F32(v) => Some(*v),
            Value::F64(v) => Some(*v as f32),
            _ => None,
        })
    }

    /// The integer of a key, from 0 to 2^32 - 1, stored in any width.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.integer(key, "a u32")
    }

    /// The integer of a key, from 0 to 2^64 - 1, stored in any width.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.integer(key, "a u64")
    }

    /// The array of strings of a key.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, Error> {
        self.read(key, "an array of strings", |value| match value {
            Value::Array(Array::String(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// The array of f32 of a key.
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>, Error> {
        self.read(key, "an array of f32", |value| match value {
            Value::Array(Array::F32(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// The array of booleans of a key.
    pub fn bools(&self, key: &str) -> Result<Option<&[bool]>, Error> {
        self.read(key, "an array of bool", |value| match value {
            Value::Array(Array::Bool(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// The array of u32 of a key, stored in any integer width.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>, Error> {
        self.integers(key, "an array of u32")
    }

    /// The array of i32 of a key, stored in any integer width.
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
