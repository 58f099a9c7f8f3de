//! Ids of special tokens. Some files store ids outside the vocabulary.

use crate::{Array, Error, Metadata, Value, keys};

/// The id of a special token, stored under [`keys::token_id`]. As in llama.cpp, an id outside the
/// vocabulary, such as 4294967295, counts as absent: see [`stray_ids`].
///
/// # Errors
/// The value is not an integer.
pub fn special_id(metadata: &Metadata, name: &str) -> Result<Option<u32>, Error> {
    let key = keys::token_id(name);
    match metadata.get(&key) {
        Some(value) if value.as_integer().is_some_and(|id| !is_token(metadata, id)) => Ok(None),
        _ => metadata.u32(&key),
    }
}

/// The keys of special tokens whose ids are outside the vocabulary, with these ids.
pub fn stray_ids(metadata: &Metadata) -> impl Iterator<Item = (&str, i128)> {
    let special = |key: &str| keys::token_of_id(key).is_some();
    metadata.iter().filter(move |(key, _)| special(key)).filter_map(|(key, value)| {
        let id = value.as_integer().filter(|id| !is_token(metadata, *id))?;
        Some((key, id))
    })
}

/// Whether an id is in the vocabulary. Without a vocabulary every id below `u32::MAX` is accepted.
fn is_token(metadata: &Metadata, id: i128) -> bool {
    let tokens = match metadata.get(keys::TOKENS) {
        Some(Value::Array(Array::String(tokens))) => tokens.len() as i128,
        _ => i128::from(u32::MAX),
    };
    (0..tokens).contains(&id)
}
