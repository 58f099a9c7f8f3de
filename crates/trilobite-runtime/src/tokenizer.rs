//! Text to token ids and back, by the `tokenizers` crate.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value as Json, json};
use trilobite_format::Metadata;

use crate::error::{Error, Result};

/// The whole tokenizer.json, as `trilobite convert` stores it.
const HUGGING_FACE_KEY: &str = "tokenizer.huggingface.json";

/// `token_type` of a control token such as end-of-text in `tokenizer.ggml.token_type`.
const CONTROL: i32 = 3;
/// `token_type` of a token that the user added.
const USER_DEFINED: i32 = 4;

/// How Llama 3 (and BitNet b1.58 2B4T) cuts text into words before byte-pair encoding.
const LLAMA3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

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
    inner: Mutex<tokenizers::Tokenizer>,
    max_id: Option<u32>,
    assumption: Option<String>,
}

impl Tokenizer {
    /// A tokenizer from the text of a tokenizer.json.
    ///
    /// # Errors
    /// The text is no valid tokenizer.json.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let inner = tokenizers::Tokenizer::from_bytes(json).map_err(error)?;
        let max_id = inner.get_vocab(true).into_values().max();
        Ok(Self { inner: Mutex::new(inner), max_id, assumption: None })
    }

    /// The tokenizer that a GGUF file carries: its tokenizer.json, or one built from the
    /// `tokenizer.ggml` arrays.
    ///
    /// # Errors
    /// There is none, or one of a kind that is not supported.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        if let Some(json) = metadata.str(HUGGING_FACE_KEY)? {
            return Self::from_json(json.as_bytes());
        }
        let Some(model) = metadata.str("tokenizer.ggml.model")? else {
            return Err(Error::NoTokenizer);
        };
        if model != "gpt2" {
            return Err(Error::BadValue {
                key: "tokenizer.ggml.model".into(),
                expected: "gpt2 (byte-level BPE), or a whole tokenizer.json in the file".into(),
                found: format!("{model:?}"),
            });
        }
        let assumption = match metadata.str("tokenizer.ggml.pre")? {
            Some("llama-bpe" | "llama3" | "llama-v3") => None,
            Some(other) => {
                return Err(Error::BadValue {
                    key: "tokenizer.ggml.pre".into(),
                    expected: "llama-bpe".into(),
                    found: format!("{other:?}"),
                });
            }
            None => Some("tokenizer.ggml.pre is missing: assuming llama-bpe".to_owned()),
        };
        let json = byte_level_bpe(metadata)?;
        Ok(Self { assumption, ..Self::from_json(json.to_string().as_bytes())? })
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
        ids.extend(metadata.u32(&format!("tokenizer.ggml.{key}_token_id"))?);
    }
    if let Some(tokenizer) = tokenizer {
        let known = END_TOKENS.iter().filter_map(|name| tokenizer.id(name));
        ids.extend(known.filter(|&id| tokenizer.is_special(id)));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// A tokenizer.json for the byte-level BPE that the `tokenizer.ggml` arrays describe.
fn byte_level_bpe(metadata: &Metadata) -> Result<Json> {
    let missing = |key: &str| Error::MissingKey(key.to_owned());
    let tokens = metadata
        .strings("tokenizer.ggml.tokens")?
        .ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
    let merges = metadata
        .strings("tokenizer.ggml.merges")?
        .ok_or_else(|| missing("tokenizer.ggml.merges"))?;
    let types = metadata.i32s("tokenizer.ggml.token_type")?.unwrap_or_default();
    let mut vocab = Map::new();
    let mut added = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        let kind = types.get(id).copied().unwrap_or(1);
        if kind == CONTROL || kind == USER_DEFINED {
            added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": kind == CONTROL,
            }));
        } else {
            vocab.insert(token.clone(), id.into());
        }
    }
    let bos = metadata.u32("tokenizer.ggml.bos_token_id")?;
    let bos =
        bos.filter(|_| !matches!(metadata.bool("tokenizer.ggml.add_bos_token"), Ok(Some(false))));
    let bos = bos.and_then(|id| Some((id, tokens.get(id as usize)?)));
    let post_processor = bos.map(|(id, token)| {
        json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": token, "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": token, "type_id": 0}},
                     {"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": HashMap::from([(token, json!({
                "id": token, "ids": [id], "tokens": [token],
            }))]),
        })
    });
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT},
             "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
             "use_regex": false},
        ]},
        "post_processor": post_processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                    "use_regex": true},
        "model": {"type": "BPE", "ignore_merges": true, "vocab": vocab, "merges": merges},
    }))
}

fn error(source: tokenizers::Error) -> Error {
    Error::Tokenizer(source.to_string())
}
