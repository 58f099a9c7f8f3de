//! Text to token ids and back, as Hugging Face's `tokenizers` library does it.
//!
//! A text is divided at added tokens ([`added`]), normalized ([`normalizer`]), cut into words
//! ([`pre_tokenizer`]), whose tokens a [`model`] knows, and gets its beginning and end
//! ([`template`]). Tokens become text again by a [`decoder`]. A file can hold anything: each part
//! is read with its limits, and its work is bounded by the length of the text.

mod added;
mod bytes;
mod charsmap;
mod deadline;
mod decoder;
mod gguf;
mod json;
mod merge;
mod model;
mod node;
mod normalizer;
mod oniguruma;
mod pattern;
mod pre_tokenizer;
mod ranked;
mod replace;
mod scored;
mod split;
mod template;
#[cfg(test)]
mod tests;
mod unigram;
mod vocabulary;
mod words;

use trilobite_format::Metadata;
use trilobite_format::model::{special_id, stray_ids};

use crate::error::{Error, Result};
use added::{AddedTokens, Part};
use deadline::Deadline;
use decoder::Decoder;
use model::Model;
use normalizer::Normalizer;
use pre_tokenizer::{Piece, PreTokenizer};
use template::Template;

/// The whole tokenizer.json, as `trilobite convert` stores it.
const HUGGING_FACE_KEY: &str = "tokenizer.huggingface.json";

/// Whether decoded text is cleaned up.
const CLEAN_UP_KEY: &str = "trilobite.clean_up_tokenization_spaces";

/// Ids above are taken for damage: nothing has so many tokens, and lists by id are made of them.
const MAX_ID: u32 = 1 << 24;

/// Special tokens that end a turn or a text, under the names that model families give them. A file
/// may name only one of them as its end although the model also uses another.
const END_TOKENS: [&str; 7] = [
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
];

/// A tokenizer with its special tokens.
pub struct Tokenizer {
    parts: Parts,
    assumption: Option<String>,
    clean_up: bool,
}

/// What a tokenizer consists of.
struct Parts {
    added: AddedTokens,
    normalizer: Normalizer,
    pre_tokenizer: PreTokenizer,
    model: Model,
    template: Template,
    decoder: Option<Decoder>,
}

impl Tokenizer {
    /// A tokenizer from the text of a tokenizer.json.
    ///
    /// # Errors
    /// The text is no valid tokenizer.json.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        Self::read(json, "tokenizer.json".to_owned())
    }

    /// The tokenizer that a GGUF file carries: its tokenizer.json, or one built from the
    /// `tokenizer.ggml` arrays.
    ///
    /// # Errors
    /// There is none, or one of a kind that is not supported, or one that contradicts itself.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let mut tokenizer = if let Some(json) = metadata.str(HUGGING_FACE_KEY)? {
            Self::read(json.as_bytes(), format!("metadata key {HUGGING_FACE_KEY}"))?
                .with_clean_up(metadata.bool(CLEAN_UP_KEY)?.unwrap_or(false))
        } else if metadata.get("tokenizer.ggml.model").is_none() {
            return Err(Error::NoTokenizer);
        } else {
            let (parts, assumption) = gguf::read(metadata)?;
            Self { parts, assumption, clean_up: false }
        };
        let stray = stray_ids(metadata).map(|(key, id)| {
            format!("{key} is {id}, which is no token: assuming that there is none")
        });
        let assumptions: Vec<String> = tokenizer.assumption.into_iter().chain(stray).collect();
        tokenizer.assumption = (!assumptions.is_empty()).then(|| assumptions.join("; "));
        Ok(tokenizer)
    }

    /// Whether decoded text is rid of the spaces that English words and punctuation have before
    /// them when each was a token.
    #[must_use]
    pub fn with_clean_up(self, clean_up: bool) -> Self {
        Self { clean_up, ..self }
    }

    fn read(json: &[u8], place: String) -> Result<Self> {
        match json::read(json) {
            Ok((parts, assumption)) => Ok(Self { parts, assumption, clean_up: false }),
            Err(fault) => Err(Error::TokenizerFile { place, fault: fault.to_string() }),
        }
    }

    /// What had to be assumed because the file does not say it, or contradicts itself.
    pub fn assumption(&self) -> Option<&str> {
        self.assumption.as_deref()
    }

    /// The highest token id.
    pub fn max_id(&self) -> Option<u32> {
        self.parts.added.max_id().max(self.parts.model.max_id())
    }

    /// Token ids of a text. With `special` the tokenizer adds what it adds by itself, such as a
    /// beginning-of-text token; with `parse_special` the names of special tokens in the text stand
    /// for these tokens, otherwise they are text like any other.
    ///
    /// # Errors
    /// The tokenizer cannot encode the text.
    pub fn encode(&self, text: &str, special: bool, parse_special: bool) -> Result<Vec<u32>> {
        let Template { before, after } = &self.parts.template;
        let mut ids = if special { before.clone() } else { Vec::new() };
        self.parts.encode(text, parse_special, &mut ids).map_err(Error::Tokenizer)?;
        if special {
            ids.extend(after);
        }
        Ok(ids)
    }

    /// The text of token ids, special tokens included or left out. Ids that are no token are
    /// nothing.
    ///
    /// # Errors
    /// The tokenizer cannot decode the ids.
    pub fn decode(&self, ids: &[u32], keep_special: bool) -> Result<String> {
        let text = self.decode_part(ids, keep_special)?;
        Ok(if self.clean_up { decoder::clean_up(&text) } else { text })
    }

    /// The text of a part of the tokens of a text: what is cleaned up can lie between two parts.
    pub(crate) fn decode_part(&self, ids: &[u32], keep_special: bool) -> Result<String> {
        let Parts { added, decoder, .. } = &self.parts;
        let texts = ids.iter().filter_map(|&id| self.parts.text(id));
        let kept = texts.filter(|text| keep_special || !added.is_special_text(text));
        let tokens: Vec<String> = kept.map(str::to_owned).collect();
        match decoder {
            Some(decoder) => decoder.decode(tokens).map_err(Error::Tokenizer),
            None => Ok(tokens.join(" ")),
        }
    }

    /// The bytes that a token stands for within a text: often a part of a character. Special tokens have
    /// those of their names.
    ///
    /// # Errors
    /// The tokenizer cannot decode the token.
    pub fn bytes(&self, id: u32) -> Result<Vec<u8>> {
        let Parts { decoder, .. } = &self.parts;
        let Some(text) = self.parts.text(id) else { return Ok(Vec::new()) };
        if let Some(bytes) = decoder.as_ref().and_then(|decoder| decoder.bytes(text)) {
            return Ok(bytes);
        }
        // The beginning of a text may lose a space.
        let (one, two) = (self.decode_part(&[id], true)?, self.decode_part(&[id, id], true)?);
        Ok(two.strip_prefix(&one).unwrap_or(&one).as_bytes().to_vec())
    }

    /// The id of a token by its exact text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.parts.added.id(token).or_else(|| self.parts.model.id(token))
    }

    /// The text of one token.
    pub fn token(&self, id: u32) -> Option<String> {
        self.parts.text(id).map(str::to_owned)
    }

    /// Whether an id is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.parts.added.is_special(id)
    }
}

impl Parts {
    fn encode(
        &self,
        text: &str,
        parse_special: bool,
        ids: &mut Vec<u32>,
    ) -> std::result::Result<(), String> {
        let deadline = Deadline::for_text(text);
        self.added.find(text, false, parse_special, &mut |part| {
            let (stretch, at) = match part {
                Part::Text(stretch, at) => (stretch, at),
                Part::Token(id) => {
                    ids.push(id);
                    return Ok(());
                }
            };
            let (stretch, first_kept) = self.normalizer.apply(stretch, &deadline)?;
            let first = at == 0 && first_kept;
            self.added.find(&stretch, true, parse_special, &mut |part| match part {
                Part::Token(id) => {
                    ids.push(id);
                    Ok(())
                }
                Part::Text(text, at) => {
                    let piece = Piece { text, first: first && at == 0 };
                    let mut word = |word: &str| self.model.tokenize(word, &deadline, ids);
                    self.pre_tokenizer.cut(piece, &deadline, &mut word)
                }
            })
        })
    }

    /// The text of a token as it is decoded.
    fn text(&self, id: u32) -> Option<&str> {
        self.added.text(id).or_else(|| self.model.text(id))
    }
}

/// The ids that end a generation: what the file names, and the special tokens of the vocabulary
/// that are known to end a turn.
///
/// # Errors
/// A metadata value of the wrong type.
pub fn end_ids(metadata: &Metadata, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
    let mut ids = metadata.u32s("trilobite.eos_token_ids")?.unwrap_or_default();
    for key in ["eos", "eot", "eom"] {
        ids.extend(special_id(metadata, key)?);
    }
    if let Some(tokenizer) = tokenizer {
        let known = END_TOKENS.iter().filter_map(|name| tokenizer.id(name));
        ids.extend(known.filter(|&id| tokenizer.is_special(id)));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}
