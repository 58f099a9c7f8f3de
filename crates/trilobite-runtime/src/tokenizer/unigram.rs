//! Unigram tokenization: the most likely tokens of a text, as in SentencePiece.

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::deadline::Deadline;
use super::merge::word_length;
use super::vocabulary::Vocabulary;

/// The log-probability of an unknown character is that of the least likely token minus this.
const UNKNOWN_PENALTY: f64 = 10.0;

/// Maximum number of bytes of all tokens together. Published vocabularies have up to five million.
const MAX_BYTES: usize = 1 << 24;

/// A vocabulary of tokens with log-probabilities.
pub(super) struct Unigram {
    pub(super) vocabulary: Vocabulary,
    scores: Vec<f64>,
    lowest: f64,
    unknown: Option<u32>,
    /// Tokens of single bytes; empty without byte fallback.
    bytes: Vec<Option<u32>>,
    /// Finds every token at every position.
    automaton: AhoCorasick,
    /// The ids of the texts that the automaton finds.
    ids: Vec<u32>,
}

/// The last token of the best path to a position in a text.
#[derive(Clone, Copy)]
struct PathStep {
    score: f64,
    id: u32,
    start: u32,
}

impl PathStep {
    const NONE: Self = Self { score: 0.0, id: 0, start: u32::MAX };

    /// Whether another last token is better. Of equal ones the first is kept.
    fn is_worse_than(&self, score: f64) -> bool {
        self.start == u32::MAX || score > self.score
    }
}

impl Unigram {
    /// Creates the vocabulary. `is_piece` tells tokens of text from control tokens.
    pub(super) fn new(
        vocabulary: Vocabulary,
        scores: Vec<f64>,
        unknown: Option<u32>,
        byte_fallback: bool,
        is_piece: impl Fn(u32) -> bool,
    ) -> Result<Self, String> {
        let (mut texts, mut ids) = (Vec::new(), Vec::new());
        let pieces = vocabulary.iter().filter(|(text, id)| !text.is_empty() && is_piece(*id));
        for (text, id) in pieces {
            texts.push(text);
            ids.push(id);
        }
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        if bytes > MAX_BYTES {
            return Err(format!("has {bytes} bytes, expected at most {MAX_BYTES}"));
        }
        // Unlike the other kinds, this one is always built in time linear in the length of the
        // texts.
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(texts)
            .map_err(|error| error.to_string())?;
        let bytes = if byte_fallback { vocabulary.bytes() } else { Vec::new() };
        let lowest = scores.iter().copied().fold(f64::INFINITY, f64::min);
        Ok(Self { vocabulary, scores, lowest, unknown, bytes, automaton, ids })
    }

    /// Appends the tokens of a text. Consecutive unknown characters become one unknown token.
    pub(super) fn tokenize(
        &self,
        text: &str,
        deadline: &Deadline,
        ids: &mut Vec<u32>,
    ) -> Result<(), String> {
        let best = self.best(text, deadline)?;
        let mut stretches: Vec<(usize, usize, bool)> = Vec::new();
        let mut end = text.len();
        while let Some(&PathStep { id, start, .. }) = best.get(end).filter(|_| end > 0) {
            let start = start as usize;
            let is_unknown = self.unknown == Some(id);
            match stretches.last_mut() {
                Some((first, _, true)) if is_unknown => *first = start,
                _ => stretches.push((start, end, is_unknown)),
            }
            end = start;
        }
        for &(start, end, _) in stretches.iter().rev() {
            self.push(text.get(start..end).unwrap_or_default(), ids)?;
        }
        Ok(())
    }

    /// The best path to the end of every character.
    fn best(&self, text: &str, deadline: &Deadline) -> Result<Vec<PathStep>, String> {
        word_length(text)?;
        let mut best = vec![PathStep::NONE; text.len() + 1];
        let found = self.automaton.try_find_overlapping_iter(text);
        // Of the tokens that end at one position, the longest comes first.
        let mut found = found.map_err(|error| error.to_string())?.peekable();
        for (start, c) in text.char_indices() {
            deadline.check()?;
            let end = start + c.len_utf8();
            let mut last = PathStep::NONE;
            let mut known = false;
            while let Some(token) = found.next_if(|token| token.end() == end) {
                let id = self.ids.get(token.pattern().as_usize()).copied().unwrap_or_default();
                let own = self.scores.get(id as usize).copied().unwrap_or_default();
                let score = own + best[token.start()].score;
                if last.is_worse_than(score) {
                    last = PathStep { score, id, start: token.start() as u32 };
                }
                known |= token.start() == start;
            }
            let score = self.lowest - UNKNOWN_PENALTY + best[start].score;
            if !known && last.is_worse_than(score) {
                let id = self.unknown.ok_or_else(no_unknown)?;
                last = PathStep { score, id, start: start as u32 };
            }
            best[end] = last;
        }
        Ok(best)
    }

    /// Appends the token of a stretch, or its bytes, or the unknown token.
    fn push(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        if let Some(id) = self.vocabulary.id(text) {
            ids.push(id);
            return Ok(());
        }
        let bytes = text.bytes().map(|byte| self.bytes.get(usize::from(byte)).copied().flatten());
        match bytes.collect::<Option<Vec<u32>>>() {
            Some(bytes) => ids.extend(bytes),
            None => ids.push(self.unknown.ok_or_else(no_unknown)?),
        }
        Ok(())
    }
}

fn no_unknown() -> String {
    "a character is unknown, and there is no unknown token".to_owned()
}
