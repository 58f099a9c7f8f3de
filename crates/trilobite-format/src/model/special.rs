//! Ids of special tokens, which files do not always mean.

use crate::{Array, Error, Metadata, Value, keys};

/// The id of a special token, under [`keys::token_id`]. One that is no token's, such as 4294967295 for none,
/// counts as absent, as in llama.cpp: see [`stray_ids`].
///
/// # Errors
/// The value is no integer.
pub fn special_id(metadata: &Metadata, name: &str) -> Result<Option<u32>, Error> {
    let key = keys::token_id(name);
    match metadata.get(&key) {
        Some(value) if value.as_integer().is_some_and(|id| !is_token(metadata, id)) => Ok(None),
        _ => metadata.u32(&key),
    }
}

/// Keys of special tokens whose ids are no tokens', with these ids.
pub fn stray_ids(metadata: &Metadata) -> impl Iterator<Item = (&str, i128)> {
    let special = |key: &str| keys::token_of_id(key).is_some();
    metadata.iter().filter(move |(key, _)| special(key)).filter_map(|(key, value)| {
        let id = value.as_integer().filter(|id| !is_token(metadata, *id))?;
        Some((key, id))
    })
}

/// Whether an id can be a token's. A file without a vocabulary leaves all open that a file can say.
fn is_token(metadata: &Metadata, id: i128) -> bool {
    let tokens = match metadata.get(keys::TOKENS) {
        Some(Value::Array(Array::String(tokens))) => tokens.len() as i128,
        _ => i128::from(u32::MAX),
    };
    (0..tokens).contains(&id)
}
