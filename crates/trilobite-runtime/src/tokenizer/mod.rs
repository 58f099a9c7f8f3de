//! Text to token ids and back, by the `tokenizers` crate.

mod gguf;
mod json;
mod merge;
mod model;
mod ranked;
mod scored;
mod split;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::{Mutex, PoisonError};

use tokenizers::decoders::DecoderWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::tokenizer::TokenizerImpl;
use trilobite_format::Metadata;
use trilobite_format::model::{special_id, stray_ids};

use crate::error::{Error, Result};
use model::Model;

/// The whole tokenizer.json, as `trilobite convert` stores it.
const HUGGING_FACE_KEY: &str = "tokenizer.huggingface.json";

/// A tokenizer of the crate around one of our models.
type Inner = TokenizerImpl<
    Model,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

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
    /// Behind a lock because whether special tokens in a text count is a setting of the tokenizer.
    inner: Mutex<Inner>,
    max_id: Option<u32>,
    assumption: Option<String>,
}

impl Tokenizer {
    /// A tokenizer from the text of a tokenizer.json.
    ///
    /// # Errors
    /// The text is no valid tokenizer.json.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let inner = serde_json::from_slice(json);
        Ok(Self::new(inner.map_err(|source| Error::Tokenizer(source.to_string()))?, None))
    }

    /// The tokenizer that a GGUF file carries: its tokenizer.json, or one built from the
    /// `tokenizer.ggml` arrays.
    ///
    /// # Errors
    /// There is none, or one of a kind that is not supported, or one that contradicts itself.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let mut tokenizer = if let Some(json) = metadata.str(HUGGING_FACE_KEY)? {
            Self::from_json(json.as_bytes())?
        } else if metadata.get("tokenizer.ggml.model").is_none() {
            return Err(Error::NoTokenizer);
        } else {
            let (inner, assumption) = gguf::read(metadata)?;
            Self::new(inner, assumption)
        };
        let stray = stray_ids(metadata).map(|(key, id)| {
            format!("{key} is {id}, which is no token: assuming that there is none")
        });
        let assumptions: Vec<String> = tokenizer.assumption.into_iter().chain(stray).collect();
        tokenizer.assumption = (!assumptions.is_empty()).then(|| assumptions.join("; "));
        Ok(tokenizer)
    }

    fn new(inner: Inner, assumption: Option<String>) -> Self {
        let added = inner.get_added_vocabulary().get_added_tokens_decoder().keys().copied();
        let max_id = added.max().max(inner.get_model().max_id());
        Self { inner: Mutex::new(inner), max_id, assumption }
    }

    /// What had to be assumed because the file does not say it.
    pub fn assumption(&self) -> Option<&str> {
        self.assumption.as_deref()
    }

    /// The highest token id.
    pub fn max_id(&self) -> Option<u32> {
        self.max_id
    }

    /// Token ids of a text. With `special` the tokenizer adds what it adds by itself, such as a
    /// beginning-of-text token; with `parse_special` the names of special tokens in the text stand
    /// for these tokens, otherwise they are text like any other.
    ///
    /// # Errors
    /// The tokenizer cannot encode the text.
    pub fn encode(&self, text: &str, special: bool, parse_special: bool) -> Result<Vec<u32>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.set_encode_special_tokens(!parse_special);
        Ok(inner.encode_fast(text, special).map_err(error)?.get_ids().to_vec())
    }

    /// The text of token ids, special tokens included or left out.
    ///
    /// # Errors
    /// The tokenizer cannot decode the ids.
    pub fn decode(&self, ids: &[u32], keep_special: bool) -> Result<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.decode(ids, !keep_special).map_err(error)
    }

    /// The id of a token by its exact text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).token_to_id(token)
    }

    /// The text of one token.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).id_to_token(id)
    }

    /// Whether an id is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
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

/// An error of the crate.
fn error(source: tokenizers::Error) -> Error {
    Error::Tokenizer(source.to_string())
}
