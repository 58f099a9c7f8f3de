//! Byte-pair encoding by token scores, as in SentencePiece.

use std::cmp::Ordering;

use super::merge::{Symbol, merge, word_length};
use super::vocabulary::Vocabulary;

/// A vocabulary with scores: of all neighbours whose concatenation is a token, those with the
/// highest score are joined first, and of equal ones the leftmost. A list of merges cannot express
/// this, since it ranks the different ways to form one token.
pub(super) struct Scored {
    pub(super) vocabulary: Vocabulary,
    /// The priority of each id: equal for equal scores, lower for higher scores, and `NO_PIECE` for
    /// tokens that are not part of texts.
    priorities: Vec<u32>,
    /// Tokens of single bytes, for text without a token.
    bytes: Vec<Option<u32>>,
    /// The token for a byte that has no token.
    unknown: Option<u32>,
}

const NO_PIECE: u32 = u32::MAX;

impl Scored {
    /// Creates the vocabulary. `scores` by id must not contain NaN. `pieces` by id tells tokens of
    /// text from control tokens.
    pub(super) fn new(
        vocabulary: Vocabulary,
        scores: &[f32],
        pieces: impl Iterator<Item = bool>,
        unknown: Option<u32>,
    ) -> Self {
        let descending = |a: &f32, b: &f32| b.partial_cmp(a).unwrap_or(Ordering::Equal);
        let mut distinct = scores.to_vec();
        distinct.sort_unstable_by(descending);
        distinct.dedup();
        let rank = |score: &f32| distinct.partition_point(|other| other > score) as u32;
        let priority = |(score, piece)| if piece { rank(score) } else { NO_PIECE };
        let priorities = scores.iter().zip(pieces).map(priority).collect();
        let bytes = vocabulary.bytes();
        Self { vocabulary, priorities, bytes, unknown }
    }

    /// A byte without a token, if there is no unknown token either.
    pub(super) fn unspellable(&self) -> Option<u8> {
        let missing = self.bytes.iter().position(Option::is_none)?;
        if self.unknown.is_some() { None } else { u8::try_from(missing).ok() }
    }

    /// The token with this text, and its priority.
    fn piece(&self, text: &str) -> Option<(u32, u32)> {
        let id = self.vocabulary.id(text)?;
        let priority = *self.priorities.get(id as usize)?;
        (priority != NO_PIECE).then_some((priority, id))
    }

    /// Appends the tokens of a text.
    pub(super) fn tokenize(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        word_length(text)?;
        // Pairs are looked up by their text, so a character needs no token of its own.
        let symbol = |(start, c): (usize, char)| {
            let (start, length) = (start as u32, c.len_utf8() as u32);
            Symbol { id: 0, start, end: start + length }
        };
        let mut symbols: Vec<Symbol> = text.char_indices().map(symbol).collect();
        let between = |start: u32, end: u32| text.get(start as usize..end as usize);
        merge(&mut symbols, |left, right| self.piece(between(left.start, right.end)?));
        let mut in_unknown = false;
        for Symbol { start, end, .. } in symbols {
            let piece = between(start, end).unwrap_or_default();
            match self.piece(piece) {
                Some((_, id)) => ids.push(id),
                // Without tokens for bytes, a stretch of unknown characters is one unknown token.
                None if self.bytes.iter().all(Option::is_none) => {
                    if !std::mem::replace(&mut in_unknown, true) {
                        ids.extend(self.unknown);
                    }
                    continue;
                }
                None => ids.extend(piece.bytes().filter_map(|byte| {
                    self.bytes.get(usize::from(byte)).copied().flatten().or(self.unknown)
                })),
            }
            in_unknown = false;
        }
        Ok(())
    }
}
