//! The vocabulary of a model as a trie.

use std::sync::Arc;

use toktrie::{ApproximateTokEnv, INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie};
use trilobite_runtime::Tokenizer;

use crate::error::{Error, Result};

/// Limits of toktrie: tokens of a vocabulary, bytes of a token.
const MOST_TOKENS: usize = 1 << 21;
const LONGEST_TOKEN: usize = 1024;

/// Builds the trie of `size` tokens. `ends` are the tokens that end a text.
///
/// A grammar matches special tokens by name only, never as text. Tokens that are empty or contain the
/// byte 0xFF, which UTF-8 does not use, are never allowed.
pub(crate) fn read(tokenizer: &Tokenizer, size: usize, ends: &[u32]) -> Result<TokEnv> {
    if !(1..=MOST_TOKENS).contains(&size) {
        return Err(Error::Vocabulary { size, most: MOST_TOKENS });
    }
    let ends: Vec<u32> = ends.iter().copied().filter(|&id| (id as usize) < size).collect();
    let word = |id: u32| -> Result<Vec<u8>> {
        let special = tokenizer.is_special(id) || ends.contains(&id);
        let mut bytes = tokenizer.bytes(id)?;
        if bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) || bytes.len() >= LONGEST_TOKEN {
            bytes.clear();
        } else if special {
            bytes.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
        }
        Ok(bytes)
    };
    let words: Vec<Vec<u8>> = (0..size as u32).map(word).collect::<Result<_>>()?;
    let first = ends.first().copied().unwrap_or(INVALID_TOKEN);
    let mut trie = TokTrie::from(&TokRxInfo::new(size as u32, first), &words);
    if !ends.is_empty() {
        trie = trie.with_eos_tokens(&ends);
    }
    Ok(Arc::new(ApproximateTokEnv::new(trie)))
}

/// The bytes of a token, or the name of a special token.
pub(crate) fn bytes(tokens: &TokEnv, id: u32) -> &[u8] {
    let bytes = tokens.tok_trie().token(id);
    bytes.strip_prefix(&[TokTrie::SPECIAL_TOKEN_MARKER]).unwrap_or(bytes)
}
