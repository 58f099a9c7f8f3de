//! Byte-pair encoding by a list of merges.

use std::collections::HashMap;

use hashbrown::DefaultHashBuilder;
use tokenizers::Token;

use super::merge::{Symbol, merge};
use super::vocabulary::Vocabulary;

/// What joins two tokens: the rank of the merge, the lowest first, and the token that it makes.
type Merges = HashMap<(u32, u32), (u32, u32), DefaultHashBuilder>;

/// A vocabulary whose tokens are joined in the order of a list.
pub(super) struct Ranked {
    pub(super) vocabulary: Vocabulary,
    merges: Merges,
    pub(super) settings: Settings,
    /// The tokens of single bytes, for characters that are no token; empty without byte fallback.
    bytes: Vec<Option<u32>>,
}

/// Details in which such vocabularies differ.
#[derive(Clone, Copy, Default)]
pub(super) struct Settings {
    /// A word that is a token is that token, even if merges lead elsewhere.
    pub(super) ignore_merges: bool,
    /// Characters that are no token become their bytes' tokens.
    pub(super) byte_fallback: bool,
    /// The token for what can be expressed in no other way; without one it is dropped.
    pub(super) unknown: Option<u32>,
    /// Several unknown characters become one unknown token.
    pub(super) fuse_unknown: bool,
}

/// A merge that cannot be: its number, and the text that is no token.
pub(super) struct BadMerge {
    pub(super) rank: usize,
    pub(super) text: String,
}

impl Ranked {
    /// Both parts of every merge and their concatenation must be tokens.
    pub(super) fn new<'a>(
        vocabulary: Vocabulary,
        merges: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
        settings: Settings,
    ) -> Result<Self, BadMerge> {
        let mut table = Merges::with_capacity_and_hasher(merges.len(), Default::default());
        let mut joined = String::new();
        for (rank, (left, right)) in merges.enumerate() {
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let id = |text: &str| {
                vocabulary.id(text).ok_or_else(|| BadMerge { rank, text: text.to_owned() })
            };
            // A merge that comes twice counts where it comes last, as in the reference.
            table.insert((id(left)?, id(right)?), (rank as u32, id(&joined)?));
        }
        let bytes = if settings.byte_fallback { vocabulary.bytes() } else { Vec::new() };
        Ok(Self { vocabulary, merges: table, settings, bytes })
    }

    /// The tokens of a word, with their places in it.
    pub(super) fn tokenize(&self, word: &str) -> Vec<Token> {
        if self.settings.ignore_merges
            && let Some(id) = self.vocabulary.id(word)
        {
            return vec![Token::new(id, word.to_owned(), (0, word.len()))];
        }
        let mut symbols = self.characters(word);
        merge(&mut symbols, |left, right| self.merges.get(&(left.id, right.id)).copied());
        let token = |symbol: &Symbol| {
            let text = self.vocabulary.text(symbol.id).unwrap_or_default();
            Token::new(symbol.id, text.to_owned(), (symbol.start, symbol.end))
        };
        symbols.iter().map(token).collect()
    }

    /// The tokens that merging begins with: characters, or bytes, or the unknown token.
    fn characters(&self, word: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.len());
        let mut at = 0;
        // Whether the last symbol stands for unknown characters that more can be added to.
        let mut open = false;
        let mut buffer = [0; 4];
        for character in word.chars() {
            let text: &str = character.encode_utf8(&mut buffer);
            let mut push = |id: u32, length: usize| {
                symbols.push(Symbol { id, start: at, end: at + length });
                at += length;
            };
            let bytes = || -> Option<Vec<u32>> {
                text.bytes().map(|byte| *self.bytes.get(usize::from(byte))?).collect()
            };
            if let Some(id) = self.vocabulary.id(text) {
                push(id, text.len());
                open = false;
            } else if let Some(bytes) = bytes() {
                bytes.into_iter().for_each(|id| push(id, 1));
                open = false;
            } else if let Some(unknown) = self.settings.unknown {
                if open && self.settings.fuse_unknown {
                    at += text.len();
                    if let Some(last) = symbols.last_mut() {
                        last.end = at;
                    }
                } else {
                    push(unknown, text.len());
                }
                open = true;
            }
        }
        symbols
    }
}
