//! The tokens that are read and decoded.

use trilobite_runtime::{Logits, Model, argmax};

/// The token with the largest logit.
pub(super) fn best(logits: Logits<'_>) -> u32 {
    argmax(logits.values()).map_or(0, |best| logits.id(best as usize))
}

/// Token ids spread over the vocabulary.
pub(super) fn prompt(model: &Model, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|i| (i * 7919 % model.config().vocab) as u32).collect()
}
