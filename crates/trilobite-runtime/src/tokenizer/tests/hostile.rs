//! Damaged and malicious files: each causes a single error, or works.

use serde_json::{Value, json};

use super::super::deadline::Deadline;
use super::super::pattern::Pattern;
use super::*;

/// The texts on which every valid tokenizer is tried.
const TEXTS: [&str; 4] =
    ["", "The river  ran\r\n to <x> 1234 <s>!", "aaaaaaaaaaaaaaaaaaaaaaaa", "é川🦀\0▁"];

/// The files to damage: the golden tokenizers, and one with every kind of part.
fn files() -> Vec<Value> {
    let mut files: Vec<Value> = ["gpt2", "llama2", "llama3"]
        .iter()
        .map(|name| {
            let path = format!("{FIXTURES}/tokenizers/{name}/tokenizer.json");
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        })
        .collect();
    for file in &mut files {
        // In a small vocabulary the interesting parts are damaged more often.
        let model = &mut file["model"];
        model["merges"].as_array_mut().unwrap().truncate(4);
    }
    files.push(json!({"version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 5}, "direction": "Right", "pad_id": 0, "pad_type_id": 0,
            "pad_token": "<x>", "pad_to_multiple_of": null},
        "added_tokens": [
            {"id": 0, "content": "<x>", "single_word": true, "lstrip": true, "rstrip": true,
                "normalized": true, "special": true},
            {"id": 1, "content": "a", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": false}],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true},
            {"type": "Strip", "strip_left": true, "strip_right": true},
            {"type": "Precompiled", "precompiled_charsmap": super::reference::charsmap()},
            {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "aa"},
            {"type": "Prepend", "prepend": "▁"}, {"type": "NFKC"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(?<=a)\\s+|\\p{L}+(?!\\S)"}, "behavior": "Isolated",
                "invert": false},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
            {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "FixedLength", "length": 3},
            {"type": "CharDelimiterSplit", "delimiter": "-"}, {"type": "UnicodeScripts"},
            {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [], "special_tokens": {"<x>": {"id": "<x>", "ids": [0], "tokens": ["<x>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 1},
            {"type": "WordPiece", "prefix": "##", "cleanup": true},
            {"type": "CTC", "pad_token": "a", "word_delimiter_token": "|", "cleanup": true},
            {"type": "BPEDecoder", "suffix": "</w>"}]},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true,
            "vocab": [["<unk>", 0.0], ["a", -1.5], ["▁", -2], ["the", -3.0], ["<0x61>", -4.0]]}}));
    let mut more = files[3].clone();
    more["model"] = json!({"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": {"a": 0, "##a": 1, "the": 2}});
    more["post_processor"] = json!({"type": "BertProcessing", "sep": ["a", 0], "cls": ["b", 1]});
    files.push(more);
    files
}

/// Values that are invalid in most places.
fn harmful(state: &mut u64) -> Value {
    let deep = |open: &str, close: &str| {
        serde_json::from_str(&format!("{}1{}", open.repeat(50), close.repeat(50))).unwrap()
    };
    match random(state) % 26 {
        0 => json!(null),
        1 => json!(-1),
        2 => json!(4_000_000_000u64),
        3 => json!(u64::MAX),
        4 => json!(16_777_216),
        5 => json!(1e300),
        6 => json!(0.5),
        7 => json!(true),
        8 => json!(""),
        9 => json!("a".repeat(100_000)),
        10 => json!([]),
        11 => json!({}),
        12 => deep("[", "]"),
        13 => deep("{\"type\":\"Sequence\",\"normalizers\":[", "]}"),
        14 => deep("{\"type\":\"Sequence\",\"pretokenizers\":[", "]}"),
        15 => json!("(a*)*b"),
        16 => json!("(?=(a+)+$)"),
        17 => json!(format!("{}a{}", "(".repeat(5000), ")".repeat(5000))),
        18 => json!(r"(?:\p{L}{1000}){1000}"),
        19 => json!(r"(?:(?=a)\p{L}{500}){500}"),
        20 => json!("["),
        21 => json!("\\"),
        22 => json!(vec![0; 10_000]),
        23 => json!("\u{1b}[2J\u{7}"),
        24 => json!([["a", "a"], ["a", 1], "a", "a b c", [], ["a", "b", "c"]]),
        _ => json!(0),
    }
}

/// A random place in a value.
fn place<'v>(value: &'v mut Value, state: &mut u64) -> &'v mut Value {
    let count = value.as_array().map(Vec::len).or(value.as_object().map(serde_json::Map::len));
    let count = count.unwrap_or(0);
    if count == 0 || random(state).is_multiple_of(8) {
        return value;
    }
    let at = random(state) % count;
    match value {
        Value::Array(list) => place(&mut list[at], state),
        Value::Object(map) => place(map.values_mut().nth(at).unwrap(), state),
        _ => unreachable!(),
    }
}

fn damage(file: &mut Value, files: &[Value], state: &mut u64) {
    match random(state) % 5 {
        0 => match place(file, state) {
            Value::Object(map) => {
                let key = map.keys().nth(random(state) % map.len().max(1)).cloned();
                key.map(|key| map.remove(&key));
            }
            Value::Array(list) => {
                list.pop();
            }
            other => *other = harmful(state),
        },
        1 => {
            let mut other = files[random(state) % files.len()].clone();
            let part = place(&mut other, state).take();
            *place(file, state) = part;
        }
        2 => match place(file, state) {
            Value::Object(map) => {
                let value = harmful(state);
                let key = ["a", "", "type", "\0", "vocab"][random(state) % 5];
                map.insert(key.to_owned(), value);
            }
            Value::Array(list) => {
                let double = list.first().cloned().unwrap_or(Value::Null);
                list.push(double);
            }
            other => *other = harmful(state),
        },
        _ => *place(file, state) = harmful(state),
    }
}

/// Reads a file and uses the resulting tokenizer.
fn try_out(json: &[u8]) -> bool {
    let tokenizer = match Tokenizer::from_json(json) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("tokenizer.json: "), "{message}");
            assert!(!message.contains('\n') && message.len() < 1000, "{message}");
            return false;
        }
    };
    for text in TEXTS {
        let ids = tokenizer.encode(text, true, true).unwrap_or_default();
        let _ = tokenizer.decode(&ids, false);
        let _ = tokenizer.encode(text, false, false);
    }
    let _ = tokenizer.decode(&[0, 1, 2, 3, 4, 5, 999, u32::MAX], true);
    let _ = tokenizer.decode(&[], true);
    true
}

/// Number of rounds, and the seed; `TRILOBITE_FUZZ` sets more rounds and another seed.
fn rounds() -> (u64, u64) {
    let asked = std::env::var("TRILOBITE_FUZZ").ok();
    let asked = asked.and_then(|asked| {
        let (seed, rounds) = asked.split_once(':')?;
        Some((seed.parse().ok()?, rounds.parse().ok()?))
    });
    asked.unwrap_or((1, 2000))
}

#[test]
fn damaged_files_are_refused_or_work() {
    let files = files();
    for file in &files {
        assert!(try_out(file.to_string().as_bytes()), "{file}");
    }
    let (seed, rounds) = rounds();
    let mut state = seed;
    let mut read = 0;
    for _ in 0..rounds {
        let mut file = files[random(&mut state) % files.len()].clone();
        for _ in 0..1 + random(&mut state) % 3 {
            damage(&mut file, &files, &mut state);
        }
        read += u64::from(try_out(file.to_string().as_bytes()));
    }
    // Some files are accepted and some are rejected.
    assert!(rounds / 50 < read && read < rounds, "{read} of {rounds} were read");
}

#[test]
fn damaged_texts_are_refused_or_work() {
    let files: Vec<Vec<u8>> = files().iter().map(|file| file.to_string().into_bytes()).collect();
    let (seed, rounds) = rounds();
    let mut state = seed;
    for _ in 0..rounds {
        let mut text = files[random(&mut state) % files.len()].clone();
        let at = random(&mut state) % text.len();
        match random(&mut state) % 6 {
            0 => text.truncate(at),
            1 => drop(text.remove(at)),
            2 => text[at] = random(&mut state) as u8,
            3 => text.insert(at, b",:{}[]\"\\0"[random(&mut state) % 9]),
            4 => {
                text.splice(at..at, br"\ud800".iter().copied());
            }
            _ => {
                let end = (at + random(&mut state) % 40).min(text.len());
                let copy = text[at..end].to_vec();
                text.splice(end..end, copy);
            }
        }
        try_out(&text);
    }
}

/// Replaces some elements of a list in the vocabulary's metadata.
fn damaged(original: &Metadata, key: &str, state: &mut u64) -> Option<trilobite_format::Value> {
    let names = ["", "a", "\0", "<s>", " ", "a b", "<0x41>", "\u{2581}"];
    let scores = [f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE];
    if let Ok(Some(list)) = original.strings(key) {
        let mut list = list.to_vec();
        for _ in 0..1 + random(state) % 50 {
            let at = random(state) % list.len();
            list[at] = names[random(state) % names.len()].to_owned();
        }
        list.truncate(list.len() - random(state) % 2);
        return Some(list.into());
    }
    if let Ok(Some(mut kinds)) = original.i32s(key) {
        for _ in 0..50 {
            let at = random(state) % kinds.len();
            kinds[at] = random(state) as i32 % 9 - 1;
        }
        return Some(kinds.into());
    }
    if let Ok(Some(list)) = original.f32s(key) {
        let mut list = list.to_vec();
        for _ in 0..50 {
            let at = random(state) % list.len();
            list[at] = scores[random(state) % scores.len()];
        }
        return Some(list.into());
    }
    match random(state) % 4 {
        0 => None,
        1 => Some(u32::MAX.into()),
        2 => Some("".into()),
        _ => Some(Vec::<String>::new().into()),
    }
}

#[test]
fn damaged_arrays_are_refused_or_work() {
    let mut state = 5;
    for vocabulary in ["gpt-2", "llama-bpe", "qwen2", "llama", "gemma", "default"] {
        let original = metadata(vocabulary);
        let keys: Vec<&str> = original.iter().map(|(key, _)| key).collect();
        for round in 0..200 {
            let key = keys[round % keys.len()];
            let value = damaged(&original, key, &mut state);
            let Ok(tokenizer) = Tokenizer::from_metadata(&changed(vocabulary, key, value)) else {
                continue;
            };
            for text in TEXTS {
                let ids = tokenizer.encode(text, true, true).unwrap_or_default();
                let _ = tokenizer.decode(&ids, false);
            }
            let _ = tokenizer.decode(&[0, 1, 2, 999, u32::MAX], true);
        }
    }
}

/// The error for a small file with one part changed.
fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut file = files().swap_remove(2);
    change(&mut file);
    let result = Tokenizer::from_json(file.to_string().as_bytes());
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn an_error_names_the_key_and_what_is_there() {
    let cut = |file: &mut Value, cut: Value| file["pre_tokenizer"] = cut;
    let split = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [{"type": "Split", "behavior": "Isolated",
            "invert": false, "pattern": {"Regex": pattern}}]})
    };
    let regex = "`pre_tokenizer.pretokenizers[0].pattern.Regex`";
    for (message, words) in [
        (refused(|f| *f = json!([])), vec!["no JSON object"]),
        (refused(|f| f["model"] = json!(null)), vec!["`model` is missing"]),
        (refused(|f| f["version"] = json!("2.0")), vec!["`version` is \"2.0\"", "\"1.0\""]),
        (refused(|f| f["model"]["vocab"] = json!(null)), vec!["`model.vocab` is missing"]),
        (refused(|f| f["model"]["vocab"]["x"] = json!(-1)), vec!["`model.vocab`", "\"x\"", "-1"]),
        (
            refused(|f| f["model"]["vocab"]["zz"] = json!(0)),
            vec!["`model.vocab` has the id 0", "\"zz\""],
        ),
        (
            refused(|f| f["model"]["vocab"]["zz"] = json!(4_000_000_000u32)),
            vec!["4000000000", "\"zz\"", "16777216"],
        ),
        (
            refused(|f| f["model"]["merges"][0] = json!(["a", "zzz"])),
            vec!["`model.merges[0]`", "\"zzz\"", "no token"],
        ),
        (refused(|f| f["model"]["merges"][1] = json!(["a"])), vec!["`model.merges`", "no pair"]),
        (refused(|f| f["model"]["type"] = json!("Bits")), vec!["`model.type` is \"Bits\""]),
        (refused(|f| f["model"]["dropout"] = json!(7)), vec!["`model.dropout` is 7"]),
        (
            refused(|f| f["model"]["ignore_merges"] = json!("no")),
            vec!["`model.ignore_merges` is \"no\""],
        ),
        (
            refused(|f| f["added_tokens"][0]["content"] = json!(5)),
            vec!["`added_tokens[0].content` is 5"],
        ),
        (refused(|f| f["added_tokens"][0]["id"] = json!(-5)), vec!["`added_tokens[0].id` is -5"]),
        (refused(|f| cut(f, json!({"type": "Words"}))), vec!["`pre_tokenizer.type` is \"Words\""]),
        (refused(|f| cut(f, json!([]))), vec!["`pre_tokenizer` is an array, expected an object"]),
        (
            refused(|f| cut(f, json!({"type": "FixedLength", "length": 0}))),
            vec!["`pre_tokenizer.length` is 0"],
        ),
        (refused(|f| cut(f, split("(a"))), vec![regex, "regular expression"]),
        (refused(|f| cut(f, split(r"(?:\p{L}{1000}){1000}"))), vec![regex, "size"]),
        (refused(|f| cut(f, split(&"a".repeat(20_000)))), vec![regex, "20000 bytes"]),
        (
            refused(|f| f["post_processor"]["processors"][1]["special_tokens"] = json!({})),
            vec!["`post_processor.processors[1].single[0].SpecialToken.id`", "<|begin_of_text|>"],
        ),
        (refused(|f| f["post_processor"]["processors"][1]["single"] = json!([])), vec!["0 times"]),
        (
            refused(|f| f["decoder"] = json!({"type": "Strip"})),
            vec!["`decoder.content` is missing"],
        ),
        (
            refused(|f| {
                f["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})
            }),
            vec!["`normalizer.precompiled_charsmap`", "3 bytes"],
        ),
    ] {
        let all = words.iter().all(|word| message.contains(word));
        assert!(all && message.starts_with("tokenizer.json: "), "{words:?}: {message}");
    }
}

#[test]
fn replacements_of_replacements_do_not_fill_the_memory() {
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let mut file = files().swap_remove(2);
    file["normalizer"] = json!({"type": "Sequence", "normalizers": vec![double.clone(); 60]});
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes()).unwrap();
    let error = tokenizer.encode("aaaa", true, true).unwrap_err().to_string();
    assert!(error.contains("longer than"), "{error}");
    file["normalizer"] = json!(null);
    file["decoder"] = json!({"type": "Sequence", "decoders": vec![double; 60]});
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes()).unwrap();
    let ids = tokenizer.encode("aaaa", true, true).unwrap();
    assert!(tokenizer.decode(&ids, true).unwrap_err().to_string().contains("longer than"));
}

#[test]
fn an_expression_that_steps_back_for_ever_is_an_error() {
    let mut file = files().swap_remove(2);
    file["pre_tokenizer"] = json!({"type": "Split", "behavior": "Isolated", "invert": false,
        "pattern": {"Regex": r"(?=(?:a(?=a)|aa)+c)a|b"}});
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes()).unwrap();
    assert!(tokenizer.encode("aaaac", true, true).is_ok());
    let error = tokenizer.encode(&"a".repeat(40), true, true).unwrap_err().to_string();
    assert!(error.contains("acktrack") && !error.contains('\n'), "{error}");
}

/// Oniguruma gives up on the expression of Llama 3 here.
#[test]
fn ten_megabytes_of_spaces_are_tokens() {
    let mut file = files().swap_remove(2);
    let steps = file["pre_tokenizer"]["pretokenizers"].as_array_mut().unwrap();
    steps.insert(1, json!({"type": "FixedLength", "length": 1}));
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes()).unwrap();
    let space = tokenizer.id("\u{120}").unwrap();
    let text = " ".repeat(10_000_000);
    assert_eq!(tokenizer.encode(&text, false, true).unwrap(), vec![space; text.len()]);
}

#[test]
fn work_that_grows_with_the_square_of_a_text_ends_in_time() {
    let text = "a".repeat(1000);
    let all = |deadline: Deadline| {
        let pattern = Pattern::expression("a*b|a").unwrap();
        let mut matches = 0;
        let result = pattern.each_match(&text, &deadline, &mut |_, _| {
            matches += 1;
            Ok(())
        });
        (result, matches)
    };
    assert_eq!(all(Deadline::for_text(&text)), (Ok(()), 1000));
    let (result, matches) = all(Deadline::passed());
    assert!(result.unwrap_err().contains("too long") && matches < 100, "{matches}");
    for model in [
        json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0], ["aa", -2.0]]}),
        json!({"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "",
            "max_input_chars_per_word": 1_000_000, "vocab": {"a": 0, "aaab": 1}}),
    ] {
        let file = json!({"version": "1.0", "model": model}).to_string();
        let model = json::read(file.as_bytes()).unwrap().0.model;
        let mut ids = Vec::new();
        assert!(model.tokenize(&text, &Deadline::passed(), &mut ids).is_err());
        model.tokenize(&text, &Deadline::for_text(&text), &mut ids).unwrap();
        assert!(ids.len() >= 500);
    }
}
