//! Vocabularies of words, and of words with their continuations.

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
    pub(super) fn tokenize(&self, word: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        let before = ids.len();
        if word.chars().nth(self.max_characters).is_some() || !self.pieces(word, ids) {
            ids.truncate(before);
            ids.push(unknown(&self.vocabulary, &self.unknown)?);
        }
        Ok(())
    }

    /// Adds the pieces of a word, if it consists of tokens.
    fn pieces(&self, word: &str, ids: &mut Vec<u32>) -> bool {
        let mut rest = word;
        let mut prefix = "";
        let mut piece = String::new();
        while !rest.is_empty() {
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8());
            let ends: Vec<usize> =
                ends.take_while(|end| prefix.len() + end <= self.longest).collect();
            let found = ends.into_iter().rev().find_map(|end| {
                let (text, behind) = rest.split_at(end);
                piece.clear();
                piece.push_str(prefix);
                piece.push_str(text);
                Some((self.vocabulary.id(&piece)?, behind))
            });
            let Some((id, behind)) = found else { return false };
            ids.push(id);
            rest = behind;
            prefix = &self.prefix;
        }
        true
    }
}

fn unknown(vocabulary: &Vocabulary, token: &str) -> Result<u32, String> {
    let id = vocabulary.id(token);
    id.ok_or_else(|| format!("a word is unknown, and the unknown token {token:?} is no token"))
}
