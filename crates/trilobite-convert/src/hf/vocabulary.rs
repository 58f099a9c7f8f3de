//! The vocabulary of a tokenizer.json, and its form in GGUF files.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use serde_json::Value;
use trilobite_format::model::{TokenKind, Words};
use trilobite_format::{Array, Metadata, Value as Stored, keys};

use super::json::Object;
use crate::Error;

/// The tokens of a tokenizer.json.
pub(crate) struct Vocabulary {
    /// Token text to id.
    pub(crate) ids: HashMap<String, u64>,
    /// The arrays that llama.cpp reads; `None` for tokenizers that llama.cpp has no form for.
    pub(crate) ggml: Option<Ggml>,
}

/// A vocabulary in llama.cpp's form.
pub(crate) struct Ggml {
    pub(super) model: &'static str,
    pub(super) words: &'static Words,
    pub(super) tokens: Vec<String>,
    pub(super) kinds: Vec<TokenKind>,
    pub(super) merges: Vec<String>,
    pub(super) scores: Vec<f32>,
    /// Whether the tokenizer inserts a space before the text.
    pub(super) prefix: bool,
    /// SentencePiece's map of characters; empty if there is none.
    pub(super) charsmap: Vec<u8>,
    /// Whether spaces at both ends and repeated ones are removed; `None` if not stated.
    pub(super) extra_spaces: Option<bool>,
}

/// Reads a tokenizer.json. All ids must be below `vocab`.
pub(crate) fn read(tokenizer: Object<'_>, vocab: u64) -> Result<Vocabulary, Error> {
    let model = tokenizer.object("model.")?;
    let model = tokenizer.require("model", model)?;
    let check = |id: Option<u64>, text: &str, key: &str| match id {
        Some(id) if id < vocab => Ok(id),
        found => Err(Error::Value {
            file: tokenizer.file.to_owned(),
            key: format!("{key}: {text:?}"),
            expected: format!("an id below the vocab_size of config.json, {vocab}"),
            found: found.map_or_else(|| "no id".to_owned(), |id| id.to_string()),
        }),
    };

    let mut ids = HashMap::new();
    for (text, id) in model.get("vocab").and_then(Value::as_object).into_iter().flatten() {
        ids.insert(text.clone(), check(id.as_u64(), text, "model.vocab")?);
    }
    // Unigram tokenizers have a list of pairs instead.
    let pairs = model.get("vocab").and_then(Value::as_array);
    for (id, pair) in pairs.into_iter().flatten().enumerate() {
        if let Some(text) = pair.get(0).and_then(Value::as_str) {
            ids.insert(text.to_owned(), check(Some(id as u64), text, "model.vocab")?);
        }
    }
    let added = tokenizer.get("added_tokens").and_then(Value::as_array);
    let mut specials = Vec::new();
    for token in added.into_iter().flatten() {
        let Some(text) = token.get("content").and_then(Value::as_str) else {
            return Err(tokenizer.bad("added_tokens", "tokens, each with its content"));
        };
        // Tokenizers skip tokens without a text.
        if text.is_empty() {
            continue;
        }
        let id = check(token.get("id").and_then(Value::as_u64), text, "added_tokens")?;
        let special = token.get("special").and_then(Value::as_bool) == Some(true);
        specials.push((id, if special { TokenKind::Control } else { TokenKind::UserDefined }));
        ids.insert(text.to_owned(), id);
    }
    let ggml = match model.str("type")? {
        // Files of old versions have no type; only BPE has merges.
        Some("BPE") | None if model.get("merges").is_some() => {
            Some(ggml(&tokenizer, &model, &ids, &specials, vocab)?)
        }
        _ => None,
    };
    Ok(Vocabulary { ids, ggml })
}

/// Removes the added tokens beyond the last row of the embedding, and returns their texts. The
/// tokenizer of Gemma 3 has one for images, which the models without vision lack.
pub(crate) fn drop_beyond(tokenizer: &mut Value, vocab: u64) -> Vec<String> {
    let beyond = |token: &Value| token.get("id").and_then(Value::as_u64).filter(|&id| id >= vocab);
    let Some(added) = tokenizer.get_mut("added_tokens").and_then(Value::as_array_mut) else {
        return Vec::new();
    };
    let mut ids: Vec<u64> = added.iter().filter_map(beyond).collect();
    ids.sort_unstable();
    if !(vocab..).zip(&ids).all(|(next, id)| next == *id) {
        return Vec::new();
    }
    let (kept, dropped) = std::mem::take(added).into_iter().partition(|t| beyond(t).is_none());
    *added = kept;
    let name = |token: Value| token.get("content").unwrap_or(&Value::Null).to_string();
    Vec::into_iter(dropped).map(name).collect()
}

fn ggml(
    tokenizer: &Object<'_>,
    model: &Object<'_>,
    ids: &HashMap<String, u64>,
    specials: &[(u64, TokenKind)],
    vocab: u64,
) -> Result<Ggml, Error> {
    let bytes = model.bool("byte_fallback")? == Some(true);
    let mut tokens: Vec<String> = (0..vocab).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![TokenKind::Unused; tokens.len()];
    let mut set = |id: u64, text: Option<&String>, kind: TokenKind| {
        if let (Some(token), Some(ty)) = (tokens.get_mut(id as usize), kinds.get_mut(id as usize)) {
            if let Some(text) = text {
                token.clone_from(text);
            }
            *ty = kind;
        }
    };
    for (text, &id) in ids {
        let byte = bytes && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        set(id, Some(text), if byte { TokenKind::Byte } else { TokenKind::Normal });
    }
    for &(id, kind) in specials {
        set(id, None, kind);
    }
    if let Some(&id) = model.str("unk_token")?.and_then(|text| ids.get(text)) {
        set(id, None, TokenKind::Unknown);
    }

    let mut merges = Vec::new();
    let mut scores = vec![0.0; tokens.len()];
    for (rank, merge) in
        model.get("merges").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        // Old files have "a b", new ones ["a", "b"].
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            _ => merge.get(0).and_then(Value::as_str).zip(merge.get(1).and_then(Value::as_str)),
        };
        let Some((left, right)) = pair else {
            return Err(model.bad("merges", "a list of pairs of tokens"));
        };
        merges.push(format!("{left} {right}"));
        let merged = ids.get(&format!("{left}{right}"));
        if let Some(score) = merged.and_then(|&id| scores.get_mut(id as usize)) {
            // The first merge that produces a token determines its score.
            if *score == 0.0 {
                *score = -(rank as f32 + 1.0);
            }
        }
    }
    Ok(Ggml {
        model: if bytes { "llama" } else { "gpt2" },
        words: if bytes { Words::DEFAULT } else { words(tokenizer.value) },
        tokens,
        kinds,
        merges,
        scores: if bytes { scores } else { Vec::new() },
        prefix: adds_space(tokenizer.value),
        charsmap: Vec::new(),
        extra_spaces: None,
    })
}

impl Ggml {
    /// Adds the arrays to metadata. Byte-level BPE needs merges, SentencePiece needs scores.
    pub(crate) fn describe(&self, metadata: &mut Metadata) {
        metadata.insert(keys::TOKENIZER, self.model);
        metadata.insert(keys::WORDS, self.words.name());
        metadata.insert(keys::TOKENS, self.tokens.clone());
        let kinds: Vec<i32> = self.kinds.iter().map(|kind| kind.number()).collect();
        metadata.insert(keys::TOKEN_KINDS, kinds);
        if self.scores.is_empty() {
            metadata.insert(keys::MERGES, self.merges.clone());
        } else {
            metadata.insert(keys::SCORES, self.scores.clone());
            metadata.insert(keys::SPACE_PREFIX, self.prefix);
        }
        if !self.charsmap.is_empty() {
            metadata.insert(keys::CHARSMAP, Stored::Array(Array::U8(self.charsmap.clone())));
        }
        if let Some(extra_spaces) = self.extra_spaces {
            metadata.insert(keys::EXTRA_SPACES, extra_spaces);
        }
    }
}

/// The pre-tokenizer, if llama.cpp has it.
fn words(tokenizer: &Value) -> &'static Words {
    let steps = steps(tokenizer, "pre_tokenizer", "pretokenizers");
    let regex = |step: &&Value| step.get("pattern")?.get("Regex")?.as_str().map(str::to_owned);
    let says = |key: &str| steps.iter().any(|step| step.get(key) == Some(&Value::Bool(true)));
    match steps.iter().find_map(regex) {
        Some(expression) => Words::by(&expression).unwrap_or(Words::DEFAULT),
        None if says("individual_digits") => Words::DIGITS,
        // By default ByteLevel splits with GPT-2's expression.
        None if says("use_regex") => Words::GPT_2,
        None => Words::DEFAULT,
    }
}

/// Whether a tokenizer that writes spaces as U+2581 inserts one before every text.
fn adds_space(tokenizer: &Value) -> bool {
    let is = |step: &&Value, kind: &str| step.get("type").and_then(Value::as_str) == Some(kind);
    let normalizers = steps(tokenizer, "normalizer", "normalizers");
    let cuts = steps(tokenizer, "pre_tokenizer", "pretokenizers");
    normalizers.iter().any(|step| is(step, "Prepend"))
        || cuts.iter().filter(|step| is(step, "Metaspace")).any(|step| {
            step.get("prepend_scheme").and_then(Value::as_str) != Some("never")
                && step.get("add_prefix_space") != Some(&Value::Bool(false))
        })
}

/// Whether the template of the post-processor begins with the token `bos`.
pub(crate) fn template_adds(tokenizer: &Value, bos: Option<&str>) -> bool {
    steps(tokenizer, "post_processor", "processors").into_iter().any(|step| {
        let first = step.get("single").and_then(|single| single.get(0));
        let token = first.and_then(|first| first.get("SpecialToken")?.get("id")?.as_str());
        token.is_some() && token == bos
    })
}

/// The steps of a part of a tokenizer: the list of a `Sequence`, or the part itself. Empty if the
/// part is absent.
fn steps<'a>(tokenizer: &'a Value, part: &str, list: &str) -> Vec<&'a Value> {
    let Some(step) = tokenizer.get(part) else { return Vec::new() };
    match step.get(list).and_then(Value::as_array) {
        Some(steps) => steps.iter().collect(),
        None => vec![step],
    }
}
