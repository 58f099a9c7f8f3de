//! The parts of a tokenizer, independent of its file format.

use super::added::{AddedTokens, Segment};
use super::deadline::Deadline;
use super::decoder::Decoder;
use super::model::TokenizationModel;
use super::normalizer::Normalizer;
use super::pre_tokenizer::{Piece, PreTokenizer};
use super::template::Template;

/// The parts of a tokenizer.
pub(super) struct Parts {
    pub(super) added: AddedTokens,
    pub(super) normalizer: Normalizer,
    pub(super) pre_tokenizer: PreTokenizer,
    pub(super) model: TokenizationModel,
    pub(super) template: Template,
    pub(super) decoder: Option<Decoder>,
}

impl Parts {
    /// Appends the ids of a text.
    pub(super) fn encode(
        &self,
        text: &str,
        parse_special: bool,
        ids: &mut Vec<u32>,
    ) -> std::result::Result<(), String> {
        let deadline = Deadline::for_text(text);
        self.added.find(text, false, parse_special, &mut |part| {
            let (stretch, at) = match part {
                Segment::Text(stretch, at) => (stretch, at),
                Segment::Token(id) => {
                    ids.push(id);
                    return Ok(());
                }
            };
            let (stretch, first_kept) = self.normalizer.apply(stretch, &deadline)?;
            let first = at == 0 && first_kept;
            self.added.find(&stretch, true, parse_special, &mut |part| match part {
                Segment::Token(id) => {
                    ids.push(id);
                    Ok(())
                }
                Segment::Text(text, at) => {
                    let piece = Piece { text, first: first && at == 0 };
                    let mut word = |word: &str| self.model.tokenize(word, &deadline, ids);
                    self.pre_tokenizer.cut(piece, &deadline, &mut word)
                }
            })
        })
    }

    /// The decoded text of a token.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.added.text(id).or_else(|| self.model.text(id))
    }
}
