//! Byte-pair encoding by a list of merges.

use std::collections::HashMap;

use hashbrown::DefaultHashBuilder;

use super::merge::{Symbol, merge, word_length};
use super::vocabulary::Vocabulary;

/// For two tokens, the rank of their merge (the lowest comes first) and the merged token.
type Merges = HashMap<(u32, u32), (u32, u32), DefaultHashBuilder>;

/// A vocabulary whose tokens are joined in the order of a list of merges.
pub(super) struct Ranked {
    pub(super) vocabulary: Vocabulary,
    merges: Merges,
    pub(super) settings: Settings,
    /// Tokens of single bytes, for characters without a token; empty without byte fallback.
    bytes: Vec<Option<u32>>,
}

/// Settings of a vocabulary with merges.
#[derive(Clone, Default)]
pub(super) struct Settings {
    /// If a whole word is a token, it is used even if the merges produce others.
    pub(super) ignore_merges: bool,
    /// Characters without a token are replaced by the tokens of their bytes.
    pub(super) byte_fallback: bool,
    /// The token for characters that have no other; without it they are dropped.
    pub(super) unknown: Option<String>,
    /// Consecutive unknown characters become one unknown token.
    pub(super) fuse_unknown: bool,
    /// The prefix of tokens that do not begin a word.
    pub(super) prefix: String,
    /// The suffix of tokens that end a word.
    pub(super) suffix: String,
}

/// An invalid merge: its number, and the text that is not a token.
pub(super) struct BadMerge {
    pub(super) rank: usize,
    pub(super) text: String,
}

impl Ranked {
    /// Builds the table. Both parts of every merge and their concatenation must be tokens.
    pub(super) fn new<'a>(
        vocabulary: Vocabulary,
        merges: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
        settings: Settings,
    ) -> Result<Self, BadMerge> {
        let mut table = Merges::with_capacity_and_hasher(merges.len(), Default::default());
        let mut joined = String::new();
        for (rank, (left, right)) in merges.enumerate() {
            let bad = |text: &str| BadMerge { rank, text: text.to_owned() };
            let id = |text: &str| vocabulary.id(text).ok_or_else(|| bad(text));
            joined.clear();
            joined.push_str(left);
            joined.push_str(right.get(settings.prefix.len()..).ok_or_else(|| bad(right))?);
            // If a merge is listed twice, the last entry counts, as in the reference.
            table.insert((id(left)?, id(right)?), (rank as u32, id(&joined)?));
        }
        let bytes = if settings.byte_fallback { vocabulary.bytes() } else { Vec::new() };
        Ok(Self { vocabulary, merges: table, settings, bytes })
    }

    /// Appends the tokens of a word.
    pub(super) fn tokenize(&self, word: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        if self.settings.ignore_merges
            && let Some(id) = self.vocabulary.id(word)
        {
            ids.push(id);
            return Ok(());
        }
        let mut symbols = self.characters(word)?;
        merge(&mut symbols, |left, right| self.merges.get(&(left.id, right.id)).copied());
        ids.extend(symbols.iter().map(|symbol| symbol.id));
        Ok(())
    }

    /// The tokens before merging: characters, bytes, or the unknown token.
    fn characters(&self, word: &str) -> Result<Vec<Symbol>, String> {
        let Settings { prefix, suffix, .. } = &self.settings;
        word_length(word)?;
        let mut symbols = Symbols(Vec::with_capacity(word.len()));
        // The length of the unknown characters whose token has not been added yet. The reference
        // adds it before the next character that is a token, after the bytes of others.
        let mut pending: Option<u32> = None;
        let mut longer = String::new();
        for (at, character) in word.char_indices() {
            let end = at + character.len_utf8();
            let mut text = word.get(at..end).unwrap_or_default();
            let length = text.len() as u32;
            let (before, behind) = (
                if at > 0 { prefix.as_str() } else { "" },
                if end == word.len() { suffix.as_str() } else { "" },
            );
            if !before.is_empty() || !behind.is_empty() {
                longer.clear();
                longer.extend([before, text, behind]);
                text = &longer;
            }
            let bytes = || -> Option<Vec<u32>> {
                text.bytes().map(|byte| *self.bytes.get(usize::from(byte))?).collect()
            };
            if let Some(id) = self.vocabulary.id(text) {
                if let Some(length) = pending.take() {
                    symbols.push(self.unknown()?, length);
                }
                symbols.push(id, length);
            } else if let Some(bytes) = bytes() {
                bytes.into_iter().for_each(|id| symbols.push(id, 1));
            } else if self.settings.unknown.is_some() {
                match pending {
                    Some(before) if self.settings.fuse_unknown => pending = Some(before + length),
                    Some(before) => {
                        symbols.push(self.unknown()?, before);
                        pending = Some(length);
                    }
                    None => pending = Some(length),
                }
            }
        }
        if let Some(length) = pending {
            symbols.push(self.unknown()?, length);
        }
        Ok(symbols.0)
    }

    /// The unknown token, or an error if the vocabulary lacks it.
    fn unknown(&self) -> Result<u32, String> {
        let token = self.settings.unknown.as_deref().unwrap_or_default();
        self.vocabulary.id(token).ok_or_else(|| {
            format!("a character is unknown, and the unknown token {token:?} is no token")
        })
    }
}

/// A list of adjacent symbols.
struct Symbols(Vec<Symbol>);

impl Symbols {
    fn push(&mut self, id: u32, length: u32) {
        let start = self.0.last().map_or(0, |last| last.end);
        self.0.push(Symbol { id, start, end: start + length });
    }
}
