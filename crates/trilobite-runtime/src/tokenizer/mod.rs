//! Tokenization: text to token ids and back, as in Hugging Face's `tokenizers` library.
//!
//! Encoding has five steps: split a text at added tokens ([`added`]), normalize it
//! ([`normalizer`]), cut it into words ([`pre_tokenizer`]), look up the tokens of each word
//! ([`model`]), and add the tokens around the text ([`template`]). A [`decoder`] turns tokens into
//! text. Files are not trusted: each part is checked against limits when it is read, and the work
//! is bounded by the length of the text.

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
mod parts;
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
use trilobite_format::keys::{CLEAN_UP, END_IDS, TOKENIZER, TOKENIZER_JSON};
use trilobite_format::model::{END_OF_TURN, special_id, stray_ids};

use crate::error::{Error, Result};
use parts::Parts;
use template::Template;

/// Special tokens that end a turn or a text in various model families. A file may name only one end
/// token although the model also uses another.
const END_TOKENS: [&str; 7] = [
    END_OF_TURN,
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

impl Tokenizer {
    /// Reads a tokenizer.json.
    ///
    /// # Errors
    /// The text is not a valid tokenizer.json.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        Self::read(json, "tokenizer.json".to_owned())
    }

    /// Reads the tokenizer of a GGUF file: its tokenizer.json, or one built from the
    /// `tokenizer.ggml` arrays.
    ///
    /// # Errors
    /// The file has no tokenizer, or its tokenizer is unsupported or contradicts itself.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let mut tokenizer = if let Some(json) = metadata.str(TOKENIZER_JSON)? {
            Self::read(json.as_bytes(), format!("metadata key {TOKENIZER_JSON}"))?
                .with_clean_up(metadata.bool(CLEAN_UP)?.unwrap_or(false))
        } else if metadata.get(TOKENIZER).is_none() {
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

    /// Sets whether decoding removes the spaces that tokenization puts before English punctuation
    /// and contractions.
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

    /// An assumption made because the file is incomplete or contradicts itself.
    pub fn assumption(&self) -> Option<&str> {
        self.assumption.as_deref()
    }

    /// The highest token id.
    pub fn max_id(&self) -> Option<u32> {
        self.parts.added.max_id().max(self.parts.model.max_id())
    }

    /// Encodes a text. With `special`, the tokenizer adds its usual tokens, such as a
    /// beginning-of-text token. With `parse_special`, names of special tokens in the text become
    /// these tokens; otherwise they are ordinary text.
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

    /// Decodes token ids, with or without special tokens. Unknown ids are ignored.
    ///
    /// # Errors
    /// The tokenizer cannot decode the ids.
    pub fn decode(&self, ids: &[u32], keep_special: bool) -> Result<String> {
        let text = self.decode_part(ids, keep_special)?;
        Ok(if self.clean_up { decoder::clean_up(&text) } else { text })
    }

    /// Decodes a part of the tokens of a text. It does no clean-up, which can span two parts.
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

    /// The bytes that a token represents within a text, often a part of a character. A special
    /// token has the bytes of its name.
    ///
    /// # Errors
    /// The tokenizer cannot decode the token.
    pub fn bytes(&self, id: u32) -> Result<Vec<u8>> {
        let Parts { decoder, .. } = &self.parts;
        let Some(text) = self.parts.text(id) else { return Ok(Vec::new()) };
        if let Some(bytes) = decoder.as_ref().and_then(|decoder| decoder.bytes(text)) {
            return Ok(bytes);
        }
        // A space at the beginning of a text may be dropped.
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

/// The ids that end a generation: those that the file names, and the special tokens of the
/// vocabulary that are known to end a turn.
///
/// # Errors
/// A metadata value has the wrong type.
pub fn end_ids(metadata: &Metadata, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
    let mut ids = metadata.u32s(END_IDS)?.unwrap_or_default();
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
