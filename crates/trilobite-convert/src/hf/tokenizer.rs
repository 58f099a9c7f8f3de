//! Tokenizer, chat template, special tokens and generation defaults.

use serde_json::Value;
use trilobite_format::Metadata;

use super::chat;
use super::json::Object;
use super::vocabulary::{self, Vocabulary};
use crate::Error;
use crate::source::Checkpoint;

const TOKENIZER: &str = "tokenizer.json";

/// Adds everything that running the model as text needs.
pub(crate) fn describe(
    checkpoint: &Checkpoint,
    config: Object<'_>,
    vocab: u64,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let json = |name: &str| checkpoint.json(name).map(Option::unwrap_or_default);
    let (generation, tokenizer_config, special) = (
        json("generation_config.json")?,
        json("tokenizer_config.json")?,
        json("special_tokens_map.json")?,
    );
    let generation = Object::new("generation_config.json", &generation);
    let tokenizer_config = Object::new("tokenizer_config.json", &tokenizer_config);
    let special = Object::new("special_tokens_map.json", &special);

    let template = chat::template(checkpoint, &tokenizer_config, metadata)?;
    let text_of = |key: &str| {
        chat::token(tokenizer_config.get(key)).or_else(|| chat::token(special.get(key)))
    };
    let vocabulary = match (checkpoint.text(TOKENIZER)?, checkpoint.json(TOKENIZER)?) {
        (Some(text), Some(mut tokenizer)) => {
            let dropped = vocabulary::drop_beyond(&mut tokenizer, vocab);
            if dropped.is_empty() {
                metadata.insert("tokenizer.huggingface.json", text);
            } else {
                metadata.insert("tokenizer.huggingface.json", tokenizer.to_string());
                notes.push(format!(
                    "the embedding has no rows for the added tokens {}, which were left out",
                    dropped.join(", ")
                ));
            }
            let vocabulary = vocabulary::read(Object::new(TOKENIZER, &tokenizer), vocab)?;
            let add_bos = match tokenizer_config.bool("add_bos_token")? {
                Some(add) => add,
                None => vocabulary::template_adds(&tokenizer, text_of("bos_token").as_deref()),
            };
            match &vocabulary.ggml {
                Some(ggml) => {
                    ggml.describe(metadata);
                    metadata.insert("tokenizer.ggml.add_bos_token", add_bos);
                }
                None => notes.push(
                    "the tokenizer has no GGUF form: other programs cannot use it".to_owned(),
                ),
            }
            Some(vocabulary)
        }
        _ => {
            notes.push("no tokenizer.json (a tokenizer.model is not read): the file runs with --tokens only".to_owned());
            None
        }
    };

    let id_of = |text: Option<&str>| vocabulary.as_ref()?.id(text?);
    let ids = |object: &Object<'_>, key: &str| object.integers(key, vocab - 1);
    let (bos, eos) = (text_of("bos_token"), text_of("eos_token"));
    let first = |ids: Vec<u64>, text: Option<&str>| ids.first().copied().or_else(|| id_of(text));

    let mut ends = ids(&config, "eos_token_id")?;
    ends.extend(ids(&generation, "eos_token_id")?);
    ends.extend(id_of(eos.as_deref()));
    // Llama 3's end of turn ends a text where the template writes it, whether or not it is listed.
    if template.as_ref().is_some_and(|template| template.contains(END_OF_TURN)) {
        ends.extend(id_of(Some(END_OF_TURN)));
    }
    let mut unique: Vec<u32> = Vec::new();
    for id in ends {
        // Ids are below the size of the vocabulary, which fits.
        if !unique.contains(&(id as u32)) {
            unique.push(id as u32);
        }
    }

    let mut id = |key: &str, id: Option<u64>| {
        if let Some(id) = id {
            metadata.insert(format!("tokenizer.ggml.{key}"), id as u32);
        }
    };
    id("bos_token_id", first(ids(&config, "bos_token_id")?, bos.as_deref()));
    id("eos_token_id", unique.first().copied().map(u64::from));
    // Llama's configurations write -1 for none.
    let pad = config.get("pad_token_id").and_then(Value::as_u64).filter(|&id| id < vocab);
    let pad = pad.or_else(|| id_of(text_of("pad_token").as_deref()));
    id("padding_token_id", pad);

    if unique.is_empty() {
        notes.push("no end-of-text token is known: generation stops at its limit only".to_owned());
    } else {
        metadata.insert("trilobite.eos_token_ids", unique);
    }
    if let Some(bos) = bos {
        metadata.insert("trilobite.bos_token", bos);
    }
    if let Some(eos) = eos {
        metadata.insert("trilobite.eos_token", eos);
    }
    chat::special_tokens(&tokenizer_config, &special, metadata);
    if let Some(template) = template {
        metadata.insert("tokenizer.chat_template", template);
    }
    generation_defaults(&generation, metadata)
}

/// The token that ends a turn of Llama 3's vocabulary.
pub(crate) const END_OF_TURN: &str = "<|eot_id|>";

fn generation_defaults(generation: &Object<'_>, metadata: &mut Metadata) -> Result<(), Error> {
    if let Some(sample) = generation.bool("do_sample")? {
        metadata.insert("trilobite.generation.do_sample", sample);
    }
    for key in ["temperature", "top_p", "repetition_penalty"] {
        if let Some(number) = generation.number(key)? {
            metadata.insert(format!("trilobite.generation.{key}"), number);
        }
    }
    if let Some(k) = generation.integer("top_k", 0..=u32::MAX.into())? {
        metadata.insert("trilobite.generation.top_k", k as u32);
    }
    Ok(())
}

impl Vocabulary {
    fn id(&self, text: &str) -> Option<u64> {
        self.ids.get(text).copied()
    }
}
