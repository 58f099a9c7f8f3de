//! Tokens that the files beside a tokenizer.json add to it.
//!
//! Like transformers, this adds the tokens in `added_tokens_decoder` of tokenizer_config.json (or
//! in added_tokens.json if there is none), and then the special tokens that are still missing.
//! Their ids follow the vocabulary in this order, regardless of the ids in the files. Tokens without
//! a text are left out.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::json::Object;
use crate::Error;

/// The settings of a tokenizer.
pub(super) const SETTINGS: &str = "tokenizer_config.json";
/// Added tokens with their ids, in files of old versions.
pub(super) const NUMBERED: &str = "added_tokens.json";

/// The keys of named special tokens, in the order in which the tokens are added.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The keys of unnamed special tokens, new and old.
const EXTRA: &str = "extra_special_tokens";
const ADDITIONAL: &str = "additional_special_tokens";

/// Applies special_tokens_map.json over an old-version tokenizer_config.json.
pub(super) fn overlay(config: &mut Value, special: &Value) {
    let (Value::Object(config), Value::Object(special)) = (config, special) else { return };
    if config.get("added_tokens_decoder").is_some_and(|tokens| !tokens.is_null()) {
        return;
    }
    // Rename the key in the configuration before the other file's tokens are added.
    if config.get(EXTRA).is_none_or(|list| list.is_null())
        && let Some(list) = config.remove(ADDITIONAL)
    {
        config.insert(EXTRA.to_owned(), list);
    }
    config.extend(special.clone());
}

/// The changes to a tokenizer.json.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) any: bool,
    /// A message about the first token whose id differs from the stated one.
    pub(super) other_id: Option<String>,
}

/// Completes the `added_tokens` of a tokenizer.json. `numbered` is added_tokens.json.
pub(super) fn complete(
    tokenizer: &mut Value,
    config: &Object<'_>,
    numbered: &Object<'_>,
) -> Result<Changes, Error> {
    let padding = tokenizer.get("padding").and_then(|padding| padding.get("pad_token")).cloned();
    let model = tokenizer.get("model").and_then(|model| model.get("vocab"));
    let (ids, mut next) = match model {
        Some(Value::Object(vocab)) => {
            let id = |(text, id): (&String, &Value)| Some((text.clone(), id.as_u64()?));
            (vocab.iter().filter_map(id).collect(), vocab.len() as u64)
        }
        Some(Value::Array(vocab)) => {
            let id = |(id, pair): (usize, &Value)| Some((text(pair.get(0)?)?, id as u64));
            (vocab.iter().enumerate().filter_map(id).collect(), vocab.len() as u64)
        }
        _ => (HashMap::new(), 0),
    };
    let Some(object) = tokenizer.as_object_mut() else { return Ok(Changes::default()) };
    let list = object.entry("added_tokens").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    // A value that is not a list is reported where it is read.
    let Some(list) = list.as_array_mut() else { return Ok(Changes::default()) };

    let before = list.clone();
    let mut known: HashMap<String, Value> = HashMap::new();
    for token in list.iter() {
        known.extend(text(token).map(|text| (text, flags(token, false))));
    }
    for (text, token) in further(config, numbered, padding.as_ref(), &before)? {
        if known.get(&text) != Some(&token) {
            known.insert(text, token.clone());
            list.push(token);
        }
    }
    let mut ids: HashMap<String, u64> = ids;
    for token in list.iter_mut() {
        let Some(text) = text(token).filter(|text| !text.is_empty()) else { continue };
        let id = *ids.entry(text).or_insert_with(|| {
            next += 1;
            next - 1
        });
        if let Value::Object(token) = token {
            token.insert("id".to_owned(), id.into());
        }
    }
    let other_id = before.iter().zip(&*list).find_map(|(before, after)| {
        let (stated, id, content) = (before.get("id")?, after.get("id")?, text(after)?);
        (stated != id).then(|| {
            format!(
                "the added token {content:?} has the id {id}, not {stated} as tokenizer.json says: \
                 ids of added tokens follow the vocabulary"
            )
        })
    });
    Ok(Changes { any: *list != before, other_id })
}

/// The tokens of the other files, in the order in which they are added.
fn further(
    config: &Object<'_>,
    numbered: &Object<'_>,
    padding: Option<&Value>,
    list: &[Value],
) -> Result<Vec<(String, Value)>, Error> {
    let named = named(config, padding);
    let extra = [EXTRA, ADDITIONAL].map(|key| config.get(key));
    let extra =
        extra.into_iter().flatten().filter_map(Value::as_array).find(|list| !list.is_empty());
    let extra: Vec<&Value> = extra.into_iter().flatten().collect();

    let names: HashSet<String> = named.iter().filter_map(|token| text(token)).collect();

    let mut by_id: Vec<(u64, Value)> = Vec::new();
    match config.get("added_tokens_decoder") {
        Some(Value::Object(tokens)) => {
            for (id, token) in tokens {
                let parsed = id.parse().ok().zip(text(token));
                let Some((id, content)) = parsed.filter(|_| token.is_object()) else {
                    let expected = "ids, each with an object that has a content";
                    return Err(config.bad("added_tokens_decoder", expected));
                };
                by_id.push((id, flags(token, names.contains(&content))));
            }
        }
        Some(_) => return Err(config.bad("added_tokens_decoder", "an object of ids and tokens")),
        None => {
            let ids = list.iter().filter_map(|token| token.get("id")?.as_u64());
            let taken: HashSet<u64> = ids.collect();
            let in_list = config.get(EXTRA).and_then(Value::as_array).into_iter().flatten();
            let in_list: HashSet<String> = in_list.filter_map(text).collect();
            for (content, id) in numbered.value.as_object().into_iter().flatten() {
                let Some(id) = id.as_u64() else {
                    return Err(numbered.bad(content, "a token id"));
                };
                let special = in_list.contains(content) || names.contains(content);
                if !taken.contains(&id) {
                    by_id.push((id, flags(&json!(content), special)));
                }
            }
        }
    }
    by_id.sort_by_key(|(id, _)| *id);

    let with_text = |token: Value| Some((text(&token).filter(|text| !text.is_empty())?, token));
    let mut all: Vec<(String, Value)> =
        by_id.into_iter().filter_map(|(_, token)| with_text(token)).collect();
    let mut seen: HashSet<String> = list.iter().filter_map(text).collect();
    seen.extend(all.iter().map(|(text, _)| text.clone()));
    let named = named.into_iter().map(|token| flags(token, true));
    // Tokens of a list are special by default.
    let extra = extra.into_iter().map(|token| flags(token, token.is_string()));
    let others = named.chain(extra).filter_map(with_text);
    all.extend(others.filter(|(text, _)| seen.insert(text.clone())));
    Ok(all)
}

/// The named special tokens: those that every model can have, then those of this model.
fn named<'a>(config: &Object<'a>, padding: Option<&'a Value>) -> Vec<&'a Value> {
    let mut named: Vec<&Value> = Vec::new();
    for name in NAMED {
        let stated = config.value.get(name);
        named.extend(stated.or(padding.filter(|_| name == "pad_token")));
    }
    let others = config.value.as_object().into_iter().flatten();
    let others =
        others.filter(|(key, _)| key.ends_with("_token") && !NAMED.contains(&key.as_str()));
    named.extend(others.map(|(_, value)| value));
    let more = config.get(EXTRA).and_then(Value::as_object);
    named.extend(more.into_iter().flat_map(Map::values));
    named.retain(|token| text(token).is_some());
    named
}

/// The text of a token: the token itself if it is a string, or its `content`.
fn text(token: &Value) -> Option<String> {
    let text = token.as_str().or_else(|| token.get("content")?.as_str())?;
    Some(text.to_owned())
}

/// A token with all of its flags.
fn flags(token: &Value, special: bool) -> Value {
    let flag = |name: &str| token.get(name).and_then(Value::as_bool);
    let special = special || flag("special").unwrap_or(false);
    json!({
        "content": text(token),
        "single_word": flag("single_word").unwrap_or(false),
        "lstrip": flag("lstrip").unwrap_or(false),
        "rstrip": flag("rstrip").unwrap_or(false),
        "normalized": flag("normalized").unwrap_or(!special),
        "special": special,
    })
}
