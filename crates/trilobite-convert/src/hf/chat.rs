//! Chat templates and the special tokens that they can name.

use serde_json::Value;
use trilobite_format::Metadata;
use trilobite_format::keys::{SPECIAL_TOKENS, named_template};

use super::json::Object;
use crate::Error;
use crate::source::Checkpoint;

/// The keys of unnamed special tokens, old and new.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// The text of a token: a string, or an object with the string as `content`.
pub(super) fn token(value: Option<&Value>) -> Option<String> {
    let value = value?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// Adds the chat template: from its own file, a string, or the entry called "default" of a list.
/// The other entries of a list get keys of their own.
pub(super) fn template(
    checkpoint: &Checkpoint,
    tokenizer_config: &Object<'_>,
    metadata: &mut Metadata,
) -> Result<Option<String>, Error> {
    const KEY: &str = "chat_template";
    if let Some(text) = checkpoint.text("chat_template.jinja")? {
        return Ok(Some(text.to_owned()));
    }
    match tokenizer_config.get(KEY) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(list)) => {
            let mut default = None;
            for entry in list {
                let field = |name: &str| entry.get(name).and_then(Value::as_str);
                match (field("name"), field("template")) {
                    (Some("default"), Some(text)) => default = Some(text.to_owned()),
                    (Some(name), Some(text)) => {
                        metadata.insert(named_template(name), text);
                    }
                    _ => {}
                }
            }
            Ok(default)
        }
        Some(_) => Err(tokenizer_config.bad(KEY, "a string, or a list of named templates")),
    }
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
