//! A byte-level BPE tokenizer.json of any vocabulary size, in the style of Llama 3.
//!
//! It encodes and decodes every text exactly. The merges are not trained: beyond the 256 bytes, the
//! tokens are the lower-case strings of 2, 3, 4, ... letters, with and without a leading space.

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};
use trilobite_format::model::Words;

use crate::models::Shape;

/// tokenizer.json for the vocabulary and the special tokens of a shape.
pub(crate) fn tokenizer(shape: &Shape) -> Result<Value> {
    let special = shape.special_tokens()?;
    let ids: Vec<u32> =
        (0..shape.base_vocab_size as u32).filter(|id| !special.contains_key(id)).collect();
    let Some(merge_count) = ids.len().checked_sub(256) else {
        bail!("a byte-level vocabulary needs 256 entries, not {}", ids.len());
    };
    let merges = merges(merge_count);

    let mut vocab = Map::new();
    let tokens = byte_alphabet()
        .into_iter()
        .map(String::from)
        .chain(merges.iter().map(|(left, right)| format!("{left}{right}")));
    for (token, id) in tokens.zip(&ids) {
        vocab.insert(token, json!(id));
    }
    // The library gives an added token its id in the vocabulary, or else the next id after the
    // vocabulary.
    for (id, content) in special.range(..shape.base_vocab_size as u32) {
        vocab.insert(content.clone(), json!(id));
    }
    let added: Vec<Value> = special
        .iter()
        .map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();

    let byte_level = |add_prefix_space: bool, use_regex: bool| {
        json!({
            "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true,
            "use_regex": use_regex,
        })
    };
    let post_processor = match shape.bos_token_id.and_then(|id| Some((id, special.get(&id)?))) {
        None => byte_level(true, true),
        Some((id, bos)) => {
            let token = json!({ "SpecialToken": { "id": bos, "type_id": 0 } });
            let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
            let second = json!({ "Sequence": { "id": "B", "type_id": 1 } });
            json!({
                "type": "TemplateProcessing",
                "single": [token, text],
                "pair": [token, text, second],
                "special_tokens": { bos: { "id": bos, "ids": [id], "tokens": [bos] } },
            })
        }
    };
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split", "pattern": { "Regex": Words::LLAMA_3.expressions[0] }, "behavior": "Isolated",
                    "invert": false,
                },
                byte_level(false, false),
            ],
        },
        "post_processor": post_processor,
        "decoder": byte_level(true, true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": true,
            "vocab": vocab,
            "merges": merges,
        },
    }))
}

/// The characters that represent the bytes 0..=255, in byte order, as in GPT-2: printable Latin-1
/// characters represent themselves, the others are moved to U+0100 and up.
fn byte_alphabet() -> Vec<char> {
    let mut moved = '\u{100}'..;
    (0..=255u8)
        .filter_map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => Some(char::from(byte)),
            _ => moved.next(),
        })
        .collect()
}

/// The first `count` merges. Each appends a letter to an existing token.
fn merges(count: usize) -> Vec<(String, String)> {
    let mut merges = Vec::with_capacity(count);
    // `Ġ` represents the space.
    let mut shorter: Vec<String> = ['Ġ'].into_iter().chain('a'..='z').map(String::from).collect();
    while merges.len() < count {
        let mut longer = Vec::new();
        for token in &shorter {
            for letter in 'a'..='z' {
                merges.push((token.clone(), letter.to_string()));
                longer.push(format!("{token}{letter}"));
            }
        }
        shorter = longer;
    }
    merges.truncate(count);
    merges
}
