//! The pre-tokenization of byte-level tokenizers.

use trilobite_format::model::Words;

use super::pattern::Pattern;
use super::pre_tokenizer::{Behavior, PreTokenizerStep};

/// Cuts a text into words, and then replaces bytes by the characters that represent them.
pub(super) fn steps(words: &Words) -> Result<Vec<PreTokenizerStep>, String> {
    let mut steps = Vec::with_capacity(words.expressions.len() + 1);
    for &expression in words.expressions {
        let pattern = Pattern::expression(expression)?;
        steps.push(PreTokenizerStep::Split {
            pattern,
            behavior: Behavior::Isolated,
            invert: false,
        });
    }
    steps.push(PreTokenizerStep::ByteLevel { prefix: false, words: None });
    Ok(steps)
}
