//! Byte-pair encoding by the scores of the tokens, as SentencePiece does it.

use std::cmp::Ordering;

use tokenizers::Token;

use super::merge::{Symbol, merge};
use super::vocabulary::Vocabulary;

/// A vocabulary in which of all neighbours whose texts together are a token, those with the highest
/// score are joined first. A list of merges cannot say the same: it would have to prefer one of
/// two ways to make a token, where here the leftmost wins.
pub(super) struct Scored {
    pub(super) vocabulary: Vocabulary,
    /// Priority by id: equal for equal scores, lower for higher ones; `NO_PIECE` for tokens that no
    /// text is made of.
    priorities: Vec<u32>,
    /// The tokens of single bytes, for what is no token.
    bytes: Vec<Option<u32>>,
    /// The token for a byte that has none.
    unknown: Option<u32>,
}

const NO_PIECE: u32 = u32::MAX;

impl Scored {
    /// `scores` by id, none of them NaN; `pieces`, also by id, tells tokens that text is made of
    /// from control tokens.
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

    /// A byte that there is no token for, not even the unknown one.
    pub(super) fn unspellable(&self) -> Option<u8> {
        let missing = self.bytes.iter().position(Option::is_none)?;
        if self.unknown.is_some() { None } else { u8::try_from(missing).ok() }
    }

    /// The token whose text this is, with its priority.
    fn piece(&self, text: &str) -> Option<(u32, u32)> {
        let id = self.vocabulary.id(text)?;
        let priority = *self.priorities.get(id as usize)?;
        (priority != NO_PIECE).then_some((priority, id))
    }

    /// The tokens of a text, with their places in it.
    pub(super) fn tokenize(&self, text: &str) -> Vec<Token> {
        // Neighbours are looked up by their text, so a character needs no token of its own.
        let ends = text.char_indices().map(|(start, c)| (start, start + c.len_utf8()));
        let mut symbols: Vec<Symbol> =
            ends.map(|(start, end)| Symbol { id: 0, start, end }).collect();
        merge(&mut symbols, |left, right| self.piece(text.get(left.start..right.end)?));
        let mut tokens = Vec::with_capacity(symbols.len());
        for Symbol { start, end, .. } in symbols {
            let piece = text.get(start..end).unwrap_or_default();
            if let Some((_, id)) = self.piece(piece) {
                tokens.push(Token::new(id, piece.to_owned(), (start, end)));
                continue;
            }
            for (at, byte) in (start..).zip(piece.bytes()) {
                let id = self.bytes.get(usize::from(byte)).copied().flatten().or(self.unknown);
                if let Some(id) = id {
                    let text = self.vocabulary.text(id).unwrap_or_default();
                    tokens.push(Token::new(id, text.to_owned(), (at, at + 1)));
                }
            }
        }
        tokens
    }
}
