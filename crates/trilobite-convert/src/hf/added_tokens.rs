//! Tokens that the files beside a tokenizer.json add to it.
//!
//! Transformers gives a tokenizer the tokens of tokenizer_config.json's `added_tokens_decoder`, and
//! of added_tokens.json where there is none, and then the special tokens that it still lacks. Ids
//! follow the vocabulary in this order, whatever the files say.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::json::Object;
use crate::Error;

/// Special tokens, in the order in which they are added.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Whether special_tokens_map.json counts, and before tokenizer_config.json: files of old versions.
pub(super) fn overlay(config: &mut Value, special: &Value) {
    if config.get("added_tokens_decoder").is_none_or(Value::is_null)
        && let (Value::Object(config), Value::Object(special)) = (config, special)
    {
        config.extend(special.clone());
    }
}

/// Completes the `added_tokens` of a tokenizer.json, and says whether they have changed. `numbered`
/// is added_tokens.json.
pub(super) fn complete(
    tokenizer: &mut Value,
    config: &Object<'_>,
    numbered: &Object<'_>,
) -> Result<bool, Error> {
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
    let Some(object) = tokenizer.as_object_mut() else { return Ok(false) };
    let list = object.entry("added_tokens").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    // What is no list is refused where it is read.
    let Some(list) = list.as_array_mut() else { return Ok(false) };

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
    Ok(*list != before)
}

/// The tokens of the other files, in the order in which they are added.
fn further(
    config: &Object<'_>,
    numbered: &Object<'_>,
    padding: Option<&Value>,
    list: &[Value],
) -> Result<Vec<(String, Value)>, Error> {
    let named = named(config, padding);
    let extra = ["extra_special_tokens", "additional_special_tokens"].map(|key| config.get(key));
    let extra =
        extra.into_iter().flatten().filter_map(Value::as_array).find(|list| !list.is_empty());
    let extra: Vec<&Value> = extra.into_iter().flatten().collect();

    let is_named =
        |content: &str| named.iter().any(|token| text(token).as_deref() == Some(content));

    let mut by_id: Vec<(u64, Value)> = Vec::new();
    match config.get("added_tokens_decoder") {
        Some(Value::Object(tokens)) => {
            for (id, token) in tokens {
                let parsed = id.parse().ok().zip(text(token));
                let Some((id, content)) = parsed.filter(|_| token.is_object()) else {
                    let expected = "ids, each with an object that has a content";
                    return Err(config.bad("added_tokens_decoder", expected));
                };
                by_id.push((id, flags(token, is_named(&content))));
            }
        }
        Some(_) => return Err(config.bad("added_tokens_decoder", "an object of ids and tokens")),
        None => {
            let taken = |id: u64| list.iter().any(|token| token.get("id") == Some(&json!(id)));
            for (content, id) in numbered.value.as_object().into_iter().flatten() {
                let Some(id) = id.as_u64() else {
                    return Err(numbered.bad(content, "a token id"));
                };
                let is_extra = extra.iter().any(|token| text(token).as_ref() == Some(content));
                if !taken(id) {
                    by_id.push((id, flags(&json!(content), is_extra || is_named(content))));
                }
            }
        }
    }
    by_id.sort_by_key(|(id, _)| *id);

    let mut all: Vec<(String, Value)> = Vec::new();
    let with_text = |token: Value| Some((text(&token)?, token));
    all.extend(by_id.into_iter().filter_map(|(_, token)| with_text(token)));
    let named = named.into_iter().map(|token| flags(token, true));
    // Those of a list are special unless they say that they are not.
    let extra = extra.into_iter().map(|token| flags(token, token.is_string()));
    for token in named.chain(extra) {
        let Some((text, token)) = with_text(token) else { continue };
        let has = |token: &Value| self::text(token).as_ref() == Some(&text);
        if !list.iter().any(has) && !all.iter().any(|(_, token)| has(token)) {
            all.push((text, token));
        }
    }
    Ok(all)
}

/// The special tokens that have names: those of every model, then those of this one.
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
    let more = config.get("extra_special_tokens").and_then(Value::as_object);
    named.extend(more.into_iter().flat_map(Map::values));
    named.retain(|token| text(token).is_some());
    named
}

/// A token's text: the token itself, or its `content`.
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
