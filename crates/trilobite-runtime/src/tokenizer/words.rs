//! Vocabularies of words, and of words with their continuations.

use super::deadline::Deadline;
use super::vocabulary::Vocabulary;

/// Longest token of a vocabulary in which the longest beginning of a word is looked for.
pub(super) const MAX_TOKEN: usize = 1 << 12;

/// A word is one token.
pub(super) struct WordLevel {
    pub(super) vocabulary: Vocabulary,
    pub(super) unknown: String,
}

/// A word is its longest beginning that is a token, and what remains so on behind a prefix.
pub(super) struct WordPiece {
    pub(super) vocabulary: Vocabulary,
    pub(super) unknown: String,
    pub(super) prefix: String,
    /// Characters from which on a word is unknown.
    pub(super) max_characters: usize,
    /// Bytes of the longest token.
    pub(super) longest: usize,
}

impl WordLevel {
    pub(super) fn tokenize(&self, word: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        let id = self
            .vocabulary
            .id(word)
            .map_or_else(|| unknown(&self.vocabulary, &self.unknown), Ok)?;
        ids.push(id);
        Ok(())
    }
}

impl WordPiece {
    pub(super) fn tokenize(
        &self,
        word: &str,
        deadline: &Deadline,
        ids: &mut Vec<u32>,
    ) -> Result<(), String> {
        let before = ids.len();
        let too_long = word.chars().nth(self.max_characters).is_some();
        if too_long || !self.pieces(word, deadline, ids)? {
            ids.truncate(before);
            ids.push(unknown(&self.vocabulary, &self.unknown)?);
        }
        Ok(())
    }

    /// Adds the pieces of a word, if it consists of tokens.
    fn pieces(&self, word: &str, deadline: &Deadline, ids: &mut Vec<u32>) -> Result<bool, String> {
        let mut rest = word;
        let mut prefix = "";
        let mut piece = String::new();
        while !rest.is_empty() {
            piece.clear();
            piece.push_str(prefix);
            piece.extend(rest.chars().take(self.longest));
            let found = loop {
                deadline.check()?;
                if piece.len() <= prefix.len() {
                    return Ok(false);
                }
                if let Some(id) = self.vocabulary.id(&piece) {
                    break id;
                }
                piece.pop();
            };
            ids.push(found);
            rest = rest.get(piece.len() - prefix.len()..).unwrap_or_default();
            prefix = &self.prefix;
        }
        Ok(true)
    }
}

fn unknown(vocabulary: &Vocabulary, token: &str) -> Result<u32, String> {
    let id = vocabulary.id(token);
    id.ok_or_else(|| format!("a word is unknown, and the unknown token {token:?} is no token"))
}
