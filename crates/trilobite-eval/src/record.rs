//! Records of data files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use minijinja::Value;

use crate::error::{Error, Result};

/// The fields of a record.
pub(crate) type Fields = BTreeMap<String, Value>;

/// A record of a data file.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The file.
    pub(crate) path: PathBuf,
    /// The first line of the record in the file, from 1.
    pub(crate) line: usize,
    /// The index of the record in the file.
    pub(crate) index: usize,
    /// Its fields.
    pub(crate) fields: Fields,
    /// The JSON text of the record, if it is on a line of its own. Numbers in `fields` have at most
    /// 64 bits.
    pub(crate) json: Option<Arc<str>>,
}

impl Record {
    /// An error about this record.
    pub(crate) fn error(&self, message: impl std::fmt::Display) -> Error {
        let message = message.to_string();
        Error::Record { path: self.path.clone(), line: self.line, message }
    }

    /// The value of a field that must be a string.
    pub(crate) fn text(&self, field: &str) -> Result<&str> {
        let value = self.fields.get(field);
        value
            .and_then(Value::as_str)
            .ok_or_else(|| self.error(format!("{field:?} is not a string")))
    }
}
