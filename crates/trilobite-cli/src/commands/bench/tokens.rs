//! The tokens that are read and decoded.

use trilobite_runtime::{Error, Logits, Model, argmax};

/// The token with the largest logit, which must be a finite number.
pub(super) fn best(logits: Logits<'_>) -> Result<u32, Error> {
    let best = argmax(logits.values()).ok_or(Error::NotFinite)?;
    Ok(logits.id(best as usize))
}

/// Token ids spread over the vocabulary.
pub(super) fn prompt(model: &Model, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|i| (i * 7919 % model.config().vocab) as u32).collect()
}
