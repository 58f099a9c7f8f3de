//! Tokenizer, chat template, special tokens and sampling defaults.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use trilobite_format::model::{END_OF_TURN, SAMPLING};
use trilobite_format::{Metadata, keys};

use super::added_tokens::{NUMBERED, SETTINGS};
use super::json::Object;
use super::vocabulary::{self, Vocabulary};
use super::{added_tokens, chat, sentencepiece};
use crate::Error;
use crate::source::{Checkpoint, Kind};

const TOKENIZER: &str = "tokenizer.json";

/// Adds all metadata that tokenizing and chatting need.
pub(crate) fn describe(
    checkpoint: &Checkpoint,
    config: Object<'_>,
    vocab: u64,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    // A missing file counts as empty.
    let json = |name: &str| checkpoint.object(name).map(Option::unwrap_or_default);
    let (generation, tokenizer_config, special) =
        (json("generation_config.json")?, settings(checkpoint)?, json("special_tokens_map.json")?);
    let generation = Object::new("generation_config.json", &generation);
    let tokenizer_config = Object::new(SETTINGS, &tokenizer_config);
    let special = Object::new("special_tokens_map.json", &special);

    let template = chat::template(checkpoint, &tokenizer_config, metadata, notes)?;
    let text_of = |key: &str| {
        chat::token(tokenizer_config.get(key)).or_else(|| chat::token(special.get(key)))
    };
    let (mut bos, mut eos) = (text_of("bos_token"), text_of("eos_token"));
    let vocabulary = match read(checkpoint, &tokenizer_config)? {
        Some(File { mut tokenizer, json, cleans_up, other_id }) => {
            notes.extend(other_id);
            let dropped = vocabulary::drop_beyond(&mut tokenizer, vocab);
            if dropped.is_empty() {
                metadata.insert(keys::TOKENIZER_JSON, json);
            } else {
                metadata.insert(keys::TOKENIZER_JSON, with_added_tokens(&json, &tokenizer)?);
                notes.push(format!(
                    "the embedding has no rows for the added tokens {}, which were left out",
                    dropped.join(", ")
                ));
            }
            if cleans_up {
                metadata.insert(keys::CLEAN_UP, true);
            }
            let vocabulary = vocabulary::read(Object::new(TOKENIZER, &tokenizer), vocab)?;
            // The post-processor's template decides: with a tokenizer.json transformers ignores
            // add_bos_token of tokenizer_config.json.
            let add_bos = vocabulary::template_adds(&tokenizer, text_of("bos_token").as_deref());
            match &vocabulary.ggml {
                Some(ggml) => {
                    ggml.describe(metadata);
                    metadata.insert(keys::add_token("bos"), add_bos);
                }
                None => notes.push(
                    "the tokenizer has no GGUF form: other programs cannot use it".to_owned(),
                ),
            }
            Some(vocabulary)
        }
        None => match sentencepiece::read(checkpoint, &tokenizer_config, Some(vocab))? {
            Some(pieces) => {
                pieces.describe(metadata);
                (bos, eos) = (bos.or(pieces.bos), eos.or(pieces.eos));
                Some(pieces.vocabulary)
            }
            None => {
                notes.push(
                    "neither tokenizer.json nor tokenizer.model: the file takes token ids only"
                        .to_owned(),
                );
                None
            }
        },
    };

    let id_of = |text: Option<&str>| vocabulary.as_ref()?.id(text?);
    // An id outside the vocabulary, such as -1 for none, has no effect: transformers only warns of
    // it.
    let mut ids = |object: &Object<'_>, key: &str| {
        let mut ids = Vec::new();
        for id in object.integers(key)? {
            match u64::try_from(id).ok().filter(|id| *id < vocab) {
                Some(id) => ids.push(id),
                None => notes.push(format!("{}: `{key}` is {id}, which is no token", object.file)),
            }
        }
        Ok::<_, Error>(ids)
    };
    let first = |ids: Vec<u64>, text: Option<&str>| ids.first().copied().or_else(|| id_of(text));

    let begins = ids(&config, "bos_token_id")?;
    let mut ends = ids(&config, "eos_token_id")?;
    ends.extend(ids(&generation, "eos_token_id")?);
    ends.extend(id_of(eos.as_deref()));
    // Llama 3's end of turn ends a text if the template writes it, even if it is not listed.
    if template.as_ref().is_some_and(|template| template.contains(END_OF_TURN)) {
        ends.extend(id_of(Some(END_OF_TURN)));
    }
    let mut unique: Vec<u32> = Vec::new();
    for id in ends {
        // Ids are below the vocabulary size, which fits u32.
        if !unique.contains(&(id as u32)) {
            unique.push(id as u32);
        }
    }

    let mut id = |name: &str, id: Option<u64>| {
        if let Some(id) = id {
            metadata.insert(keys::token_id(name), id as u32);
        }
    };
    id("bos", first(begins, bos.as_deref()));
    id("eos", unique.first().copied().map(u64::from));
    // Llama's configurations use -1 for none.
    let pad = config.get("pad_token_id").and_then(Value::as_u64).filter(|&id| id < vocab);
    let pad = pad.or_else(|| id_of(text_of("pad_token").as_deref()));
    id("padding", pad);

    if unique.is_empty() {
        notes.push("no end-of-text token is known: generation stops at its limit only".to_owned());
    } else {
        metadata.insert(keys::END_IDS, unique);
    }
    if let Some(bos) = bos {
        metadata.insert(keys::token_text("bos_token"), bos);
    }
    if let Some(eos) = eos {
        metadata.insert(keys::token_text("eos_token"), eos);
    }
    chat::special_tokens(&tokenizer_config, &special, metadata);
    if let Some(template) = template {
        metadata.insert(keys::CHAT_TEMPLATE, template);
    }
    generation_defaults(&generation, metadata, notes)
}

/// A tokenizer.json completed with the tokens of the files beside it.
struct File {
    tokenizer: Value,
    /// The text of the file; unchanged if nothing was added.
    json: String,
    /// Whether decoding removes the spaces before punctuation.
    cleans_up: bool,
    /// A message about a token whose id differs from the stated one.
    other_id: Option<String>,
}

impl Checkpoint {
    /// The text of a checkpoint's tokenizer.json, completed with the tokens of the files beside it,
    /// and whether decoding removes the spaces before punctuation. `None` for a GGUF file.
    ///
    /// # Errors
    /// One of these files is malformed.
    pub fn tokenizer_json(&self) -> Result<Option<(String, bool)>, Error> {
        if self.kind == Kind::Gguf {
            return Ok(None);
        }
        let settings = settings(self)?;
        let file = read(self, &Object::new(SETTINGS, &settings))?;
        Ok(file.map(|file| (file.json, file.cleans_up)))
    }
}

fn settings(checkpoint: &Checkpoint) -> Result<Value, Error> {
    let mut settings = checkpoint.object(SETTINGS)?.unwrap_or_else(|| json!({}));
    if let Some(special) = checkpoint.object("special_tokens_map.json")? {
        added_tokens::overlay(&mut settings, &special);
    }
    Ok(settings)
}

fn read(checkpoint: &Checkpoint, settings: &Object<'_>) -> Result<Option<File>, Error> {
    let (Some(mut tokenizer), Some(text)) =
        (checkpoint.object(TOKENIZER)?, checkpoint.text(TOKENIZER)?)
    else {
        return Ok(None);
    };
    // Only old versions have this file.
    let numbered = checkpoint.object(NUMBERED)?.unwrap_or_default();
    let changes =
        added_tokens::complete(&mut tokenizer, settings, &Object::new(NUMBERED, &numbered))?;
    let json = if changes.any { with_added_tokens(text, &tokenizer)? } else { text.to_owned() };
    // transformers cleans up the decoded text of word-based tokenizers, not of byte-pair encodings.
    let pairs = tokenizer.pointer("/model/merges").is_some();
    let cleans_up = settings.bool("clean_up_tokenization_spaces")? == Some(true) && !pairs;
    Ok(Some(File { tokenizer, json, cleans_up, other_id: changes.other_id }))
}

/// The text of a tokenizer.json with the added tokens replaced by those of `tokenizer`. The rest is
/// copied verbatim, because the scores of a vocabulary are floats.
fn with_added_tokens(text: &str, tokenizer: &Value) -> Result<String, Error> {
    let error = |source| Error::Json { file: TOKENIZER.to_owned(), source };
    let mut parts: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).map_err(error)?;
    let added = tokenizer.get("added_tokens").unwrap_or(&Value::Null);
    parts.insert("added_tokens".to_owned(), to_raw_value(added).map_err(error)?);
    serde_json::to_string(&parts).map_err(error)
}

/// Adds the sampling defaults. An invalid one affects sampling only, so it is left out with a note,
/// also in the file, instead of failing the conversion.
fn generation_defaults(
    generation: &Object<'_>,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    if let Some(sample) = generation.bool("do_sample")? {
        metadata.insert(keys::DO_SAMPLE, sample);
    }
    let mut unusable = Vec::new();
    for (key, usable) in SAMPLING {
        let Some(number) = generation.number(key)? else { continue };
        let name = keys::generation(key);
        let whole = key != "top_k" || number.fract() == 0.0;
        match key {
            _ if !usable.contains(&number) || !whole => {
                unusable.push(format!("{}: `{key}` is {number} and was left out", generation.file));
            }
            // A number above the vocabulary size means all tokens.
            "top_k" => metadata.insert(name, number as u32),
            _ => metadata.insert(name, number),
        }
    }
    if !unusable.is_empty() {
        metadata.insert(keys::UNUSABLE, unusable.clone());
        notes.extend(unusable);
    }
    Ok(())
}

impl Vocabulary {
    fn id(&self, text: &str) -> Option<u64> {
        self.ids.get(text).copied()
    }
}
