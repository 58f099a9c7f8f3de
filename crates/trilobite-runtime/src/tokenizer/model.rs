//! Tokenization models: from a word to its tokens.

use super::deadline::Deadline;
use super::ranked::Ranked;
use super::scored::Scored;
use super::unigram::Unigram;
use super::vocabulary::Vocabulary;
use super::words::{WordLevel, WordPiece};

/// A vocabulary with a method to split words into its tokens.
pub(super) enum TokenizationModel {
    /// Byte-pair encoding by a list of merges.
    Ranked(Ranked),
    /// Byte-pair encoding by scores.
    Scored(Scored),
    /// The most likely tokens.
    Unigram(Unigram),
    WordLevel(WordLevel),
    WordPiece(WordPiece),
}

impl TokenizationModel {
    fn vocabulary(&self) -> &Vocabulary {
        match self {
            Self::Ranked(model) => &model.vocabulary,
            Self::Scored(model) => &model.vocabulary,
            Self::Unigram(model) => &model.vocabulary,
            Self::WordLevel(model) => &model.vocabulary,
            Self::WordPiece(model) => &model.vocabulary,
        }
    }

    /// Adds the tokens of a word.
    pub(super) fn tokenize(
        &self,
        word: &str,
        deadline: &Deadline,
        ids: &mut Vec<u32>,
    ) -> Result<(), String> {
        match self {
            Self::Ranked(model) => model.tokenize(word, ids),
            Self::Scored(model) => model.tokenize(word, ids),
            Self::Unigram(model) => model.tokenize(word, deadline, ids),
            Self::WordLevel(model) => model.tokenize(word, ids),
            Self::WordPiece(model) => model.tokenize(word, deadline, ids),
        }
    }

    /// The id of a token by its exact text.
    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.vocabulary().id(token)
    }

    /// The text of a token.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.vocabulary().text(id).filter(|text| !text.is_empty())
    }

    /// Number of tokens. As in the reference, tokens with the same text count once, except in
    /// unigram models.
    pub(super) fn tokens(&self) -> u32 {
        match self {
            Self::Unigram(model) => model.vocabulary.len() as u32,
            _ => self.vocabulary().texts() as u32,
        }
    }

    /// The highest id.
    pub(super) fn max_id(&self) -> Option<u32> {
        self.vocabulary().len().checked_sub(1).map(|id| id as u32)
    }
}
