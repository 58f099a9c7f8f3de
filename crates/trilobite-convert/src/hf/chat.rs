//! Chat templates and the special tokens that they can name.

use serde_json::Value;
use trilobite_format::Metadata;
use trilobite_format::keys::{SPECIAL_TOKENS, TOOL_TEMPLATE, named_template};

use super::json::Object;
use crate::Error;
use crate::source::{Checkpoint, TEMPLATE_FILE, TOOL_TEMPLATE_FILE};

/// The keys of unnamed special tokens, old and new.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// The text of a token: a string, or an object with the string as `content`.
pub(super) fn token(value: Option<&Value>) -> Option<String> {
    let value = value?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// Adds the chat template: from its own file, a string, or the one called "default" of several. The
/// others of several, and the one for tools in its own file, get keys of their own.
pub(super) fn template(
    checkpoint: &Checkpoint,
    tokenizer_config: &Object<'_>,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<Option<String>, Error> {
    const KEY: &str = "chat_template";
    const DEFAULT: &str = "default";
    if let Some(text) = checkpoint.text(TOOL_TEMPLATE_FILE)? {
        metadata.insert(TOOL_TEMPLATE, text);
    }
    if let Some(text) = checkpoint.text(TEMPLATE_FILE)? {
        return Ok(Some(text.to_owned()));
    }
    let named: Option<Vec<(&str, &str)>> = match tokenizer_config.get(KEY) {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text.clone())),
        Some(Value::Array(list)) => {
            let pairs = list.iter().map(|entry| {
                Some((entry.get("name")?.as_str()?, entry.get("template")?.as_str()?))
            });
            pairs.collect()
        }
        Some(Value::Object(all)) => {
            all.iter().map(|(name, text)| Some((name.as_str(), text.as_str()?))).collect()
        }
        Some(_) => None,
    };
    let named = named.ok_or_else(|| {
        tokenizer_config.bad(KEY, "a string, or a list of templates with `name` and `template`")
    })?;
    let mut default = None;
    for (name, text) in named {
        match name {
            DEFAULT => default = Some(text.to_owned()),
            name if metadata.get(&named_template(name)).is_none() => {
                metadata.insert(named_template(name), text);
            }
            _ => {}
        }
    }
    if default.is_none() {
        notes.push(format!(
            "{}: `{KEY}` has no template called \"{DEFAULT}\": the file has no chat template",
            tokenizer_config.file
        ));
    }
    Ok(default)
}

/// Adds every special token by its name, except the beginning and the end of a text, which have
/// their own keys. tokenizer_config.json takes precedence over special_tokens_map.json.
pub(super) fn special_tokens(
    tokenizer_config: &Object<'_>,
    map: &Object<'_>,
    metadata: &mut Metadata,
) {
    let mut add = |name: &str, value: trilobite_format::Value| {
        let key = format!("{SPECIAL_TOKENS}{name}");
        if metadata.get(&key).is_none() {
            metadata.insert(key, value);
        }
    };
    for (name, value) in [tokenizer_config, map].into_iter().flat_map(Object::iter) {
        match value {
            Value::Array(tokens) if LISTS.contains(&name) => {
                let texts: Vec<String> =
                    tokens.iter().filter_map(|value| token(Some(value))).collect();
                add(LISTS[0], texts.into());
            }
            // Tokens of a model family, such as an image token.
            Value::Object(tokens) if name == LISTS[1] => {
                for (name, value) in tokens {
                    token(Some(value)).into_iter().for_each(|text| add(name, text.into()));
                }
            }
            _ if name.ends_with("_token") && !matches!(name, "bos_token" | "eos_token") => {
                token(Some(value)).into_iter().for_each(|text| add(name, text.into()));
            }
            _ => {}
        }
    }
}
