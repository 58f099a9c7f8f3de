//! Word-level and WordPiece vocabularies.

use super::deadline::Deadline;
use super::vocabulary::Vocabulary;

/// Maximum length of a token in a WordPiece vocabulary.
pub(super) const MAX_TOKEN: usize = 1 << 12;

/// A vocabulary in which each word is one token.
pub(super) struct WordLevel {
    pub(super) vocabulary: Vocabulary,
    pub(super) unknown: String,
}

/// A vocabulary that splits a word greedily: the longest prefix that is a token, then the longest
/// continuation after a marker, and so on.
pub(super) struct WordPiece {
    pub(super) vocabulary: Vocabulary,
    pub(super) unknown: String,
    pub(super) prefix: String,
    /// Words of more characters than this are unknown.
    pub(super) max_characters: usize,
    /// Length of the longest token in bytes.
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

    /// Appends the tokens of a word. Returns `false` if it does not consist of tokens.
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
