//! Tokenizer settings, in tokenizer.json and in files next to it, compared with transformers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::*;

/// `models/golden/tokenizer_settings.json`, by the script of the same name.
#[derive(Deserialize)]
struct Settings {
    bases: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    base: String,
    /// Changes of the base's tokenizer.json.
    patch: Value,
    /// tokenizer_config.json.
    settings: Value,
    /// Other files by their names.
    others: BTreeMap<String, Value>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    ids_without_special: Vec<u32>,
    decoded: String,
    decoded_without_special: String,
}

/// The value with some keys replaced. In the model and its vocabulary, keys are added.
fn patched(mut value: Value, patch: &Value) -> Value {
    for (key, new) in patch.as_object().unwrap() {
        let old = value[key].take();
        let merges = ["model", "vocab"].contains(&key.as_str());
        value[key] = if merges { patched(old, new) } else { new.clone() };
    }
    value
}

#[test]
fn settings_have_the_effect_that_they_have_in_transformers() {
    let json = std::fs::read(format!("{FIXTURES}/tokenizer_settings.json")).unwrap();
    let Settings { bases, cases } = serde_json::from_slice(&json).unwrap();
    for Case { name, base, patch, settings, others, texts } in cases {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, value: &Value| {
            std::fs::write(folder.path().join(file), value.to_string()).unwrap();
        };
        write("tokenizer.json", &patched(bases[&base].clone(), &patch));
        if settings != Value::Object(Map::new()) {
            write("tokenizer_config.json", &settings);
        }
        others.iter().for_each(|(file, value)| write(file, value));
        let checkpoint = trilobite_convert::Checkpoint::open_without_weights(&folder).unwrap();
        let (json, clean_up) = checkpoint.tokenizer_json().unwrap().unwrap();
        let tokenizer = Tokenizer::from_json(json.as_bytes()).unwrap().with_clean_up(clean_up);
        for text in texts {
            let case = format!("{name}: {:?}", text.text);
            let ids = |special| tokenizer.encode(&text.text, special, true).unwrap();
            assert_eq!(ids(true), text.ids, "{case}");
            assert_eq!(ids(false), text.ids_without_special, "{case}");
            assert_eq!(tokenizer.decode(&text.ids, true).unwrap(), text.decoded, "{case}");
            let without = tokenizer.decode(&text.ids, false).unwrap();
            assert_eq!(without, text.decoded_without_special, "{case}");
        }
    }
}

#[test]
fn merges_are_never_left_out_at_random() {
    let path = format!("{FIXTURES}/tokenizers/llama3/tokenizer.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let ids = |file: &Value| {
        let tokenizer = Tokenizer::from_json(file.to_string().as_bytes()).unwrap();
        tokenizer.encode("the river ran down to the sea", true, true).unwrap()
    };
    let expected = ids(&file);
    for dropout in [0.0, 0.5, 1.0] {
        file["model"]["dropout"] = dropout.into();
        assert_eq!(ids(&file), expected);
    }
}
