//! Typed access to the metadata keys of one architecture.

use std::fmt::Display;

use super::fault::Fault;
use crate::{Error, Metadata, Value};

/// The metadata keys that start with the name of the architecture.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) prefix: &'a str,
}

impl<'a> Keys<'a> {
    /// The full name of a key.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.metadata.get(&self.name(key))
    }

    pub(super) fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        self.metadata.u64(&self.name(key))
    }

    pub(super) fn require_size(&self, key: &str) -> Result<u64, Error> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    /// Reads a size. It may be a list with an entry for each of `layers` layers; the entries must
    /// be equal, because layers of different sizes are not supported.
    pub(super) fn layer_size(&self, key: &str, layers: u64) -> Result<Option<u64>, Error> {
        let Some(Value::Array(_)) = self.get(key) else { return self.size(key) };
        let list = self.metadata.u32s(&self.name(key))?.unwrap_or_default();
        if list.len() as u64 != layers {
            let expected = format!("an entry for each of {layers} layers");
            return Err(self.bad(key, expected, format!("a list of {}", list.len())));
        }
        let first = list.first().copied();
        match list.iter().enumerate().find(|(_, size)| Some(**size) != first) {
            None => Ok(first.map(u64::from)),
            Some((layer, other)) => {
                let found =
                    format!("{} in layer 0 and {other} in layer {layer}", first.unwrap_or(0));
                Err(self.bad(key, "the same for all layers", found))
            }
        }
    }

    pub(super) fn float(&self, key: &str) -> Result<Option<f32>, Error> {
        self.metadata.f32(&self.name(key))
    }

    pub(super) fn missing(&self, key: &str) -> Error {
        Error::MissingKey(self.name(key))
    }

    /// The error for a hyperparameter outside its range. The value in the file may be another one,
    /// from which the hyperparameter follows.
    pub(super) fn unfit(&self, Fault { key, expected, found }: Fault) -> Error {
        let stated = self.get(key).map(|value| match value {
            Value::F32(number) => number.to_string(),
            Value::F64(number) => number.to_string(),
            value => value.as_integer().map_or_else(|| value.describe(), |n| n.to_string()),
        });
        let found = match stated {
            Some(stated) if stated == found => found,
            Some(stated) => format!("{stated}, which means {found}"),
            None => format!("{found} where it is not stated"),
        };
        self.bad(key, expected, found)
    }

    pub(super) fn bad(&self, key: &str, expected: impl Into<String>, found: impl Display) -> Error {
        let (key, expected, found) = (self.name(key), expected.into(), found.to_string());
        Error::BadValue { key, expected, found }
    }
}
