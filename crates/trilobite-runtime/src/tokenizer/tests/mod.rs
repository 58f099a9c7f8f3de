mod expressions;
mod hostile;
mod reference;
mod settings;

use serde_json::json;
use trilobite_format::Metadata;

use super::merge::{Symbol, merge};
use super::scored::Scored;
use super::vocabulary::Vocabulary;
use super::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/golden");

fn metadata(vocabulary: &str) -> Metadata {
    let path = format!("{FIXTURES}/vocabularies/{vocabulary}/vocabulary.gguf");
    Metadata::parse(&std::fs::read(path).unwrap()).unwrap()
}

/// The metadata with one key changed or removed.
fn changed(vocabulary: &str, key: &str, value: Option<trilobite_format::Value>) -> Metadata {
    let old = metadata(vocabulary);
    let mut new = Metadata::new();
    for (other, value) in old.iter().filter(|(other, _)| *other != key) {
        new.insert(other, value.clone());
    }
    if let Some(value) = value {
        new.insert(key, value);
    }
    new
}

/// Pseudo-random numbers.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// Texts of a few different characters, so that many merges apply, and of the characters of the
/// cases.
fn texts(count: usize) -> Vec<String> {
    const PARTS: [&str; 24] = [
        "a", "aa", "the", " ", "  ", "   ", "\n", "e", "r", "t", "h", " river", "12", "3", "ß",
        "é", "川", "子", "🦀", "<s>", "</s>", "\u{2581}", ",", "'s",
    ];
    let mut state = 1;
    let text = |_| (0..random(&mut state) % 20).map(|_| PARTS[random(&mut state) % 24]).collect();
    (0..count).map(text).collect()
}

#[test]
fn our_byte_pair_encoding_is_the_crate_s() {
    for name in ["gpt2", "llama2", "llama3"] {
        let json = std::fs::read(format!("{FIXTURES}/tokenizers/{name}/tokenizer.json")).unwrap();
        let ours = Tokenizer::from_json(&json).unwrap();
        let mut theirs = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        for text in texts(2000) {
            for parse_special in [false, true] {
                theirs.set_encode_special_tokens(!parse_special);
                let expected = theirs.encode(text.as_str(), true).unwrap().get_ids().to_vec();
                assert_eq!(ours.encode(&text, true, parse_special).unwrap(), expected, "{text:?}");
                for keep in [false, true] {
                    let expected = theirs.decode(&expected, !keep).unwrap();
                    let ids = ours.encode(&text, true, parse_special).unwrap();
                    assert_eq!(ours.decode(&ids, keep).unwrap(), expected, "{text:?}");
                }
            }
        }
    }
}

#[test]
fn a_token_of_spaces_does_not_match_in_those_of_another() {
    let added = |lstrip: bool, rstrip: bool| {
        json!({"id": 3, "content": "  ", "special": false, "normalized": false,
               "single_word": false, "lstrip": lstrip, "rstrip": rstrip})
    };
    for (lstrip, rstrip) in [(true, true), (true, false), (false, true), (false, false)] {
        let json = json!({"added_tokens": [added(lstrip, rstrip)],
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, " ": 2}, "merges": []}});
        let json = serde_json::to_vec(&json).unwrap();
        let ours = Tokenizer::from_json(&json).unwrap();
        let theirs = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        for text in ["a  b", "a   b", "a    b", "a      b", "    ", "a       "] {
            let expected = theirs.encode(text, true).unwrap().get_ids().to_vec();
            let found = ours.encode(text, true, false).unwrap();
            assert_eq!(found, expected, "{text:?} {lstrip} {rstrip}");
        }
    }
}

#[test]
fn the_bytes_of_tokens_are_those_of_their_text() {
    for name in ["gpt2", "llama2", "llama3"] {
        let json = std::fs::read(format!("{FIXTURES}/tokenizers/{name}/tokenizer.json")).unwrap();
        let tokenizer = Tokenizer::from_json(&json).unwrap();
        for text in texts(500).into_iter().filter(|text| !text.is_empty()) {
            let ids = tokenizer.encode(&text, false, false).unwrap();
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.bytes(id).unwrap()).collect();
            // SentencePiece puts a space before a text, and writes spaces as U+2581.
            let text = match name {
                "llama2" => format!(" {}", text.replace('\u{2581}', " ")),
                _ => text,
            };
            assert_eq!(String::from_utf8_lossy(&bytes), text, "{name}");
        }
        let special = if name == "llama2" { "</s>" } else { "<|endoftext|>" };
        if let Some(id) = tokenizer.id(special) {
            assert_eq!(tokenizer.bytes(id).unwrap(), special.as_bytes());
        }
        assert_eq!(tokenizer.bytes(1 << 23).unwrap(), b"");
    }
}

/// The specification: find the best pair of all neighbours, join it, and start again.
fn joined_one_by_one(
    symbols: &mut Vec<Symbol>,
    join: impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>,
) {
    loop {
        let pairs = symbols.windows(2).enumerate();
        let best = pairs
            .filter_map(|(at, pair)| Some((join(&pair[0], &pair[1])?, at)))
            .min_by_key(|&((priority, _), at)| (priority, at));
        let Some(((_, id), at)) = best else { return };
        symbols[at] = Symbol { id, end: symbols[at + 1].end, ..symbols[at] };
        symbols.remove(at + 1);
    }
}

#[test]
fn the_queue_joins_in_the_order_of_the_definition() {
    let mut state = 7;
    for round in 0..2000 {
        let count = random(&mut state) as u32 % 24;
        let kinds = 2 + random(&mut state) as u32 % 3;
        let mut expected: Vec<Symbol> = (0..count)
            .map(|at| Symbol { id: random(&mut state) as u32 % kinds, start: at, end: at + 1 })
            .collect();
        let mut found = expected.clone();
        // Any function of the two ids works. Ties are common.
        let salt = random(&mut state) as u32 | 1;
        let join = |a: &Symbol, b: &Symbol| {
            let hash = (a.id * 31 + b.id + 1).wrapping_mul(salt) >> 7;
            (!hash.is_multiple_of(3) && a.id < 40 && b.id < 40).then_some((hash % 5, hash % 50))
        };
        joined_one_by_one(&mut expected, join);
        merge(&mut found, join);
        assert_eq!(found, expected, "round {round}");
    }
}

#[test]
fn equal_scores_join_from_the_left() {
    let mut vocabulary = Vocabulary::default();
    for token in ["a", "aa", "aaa", "b", "<c>", "<", "c", ">", "<c"] {
        vocabulary.push(token);
    }
    let scores = [-9.0, -1.0, -1.0, -9.0, 0.0, -9.0, -9.0, -9.0, -1.0];
    let pieces = (0..9).map(|id| id != 4);
    let scored = Scored::new(vocabulary, &scores, pieces, Some(3));
    let ids = |text: &str| {
        let mut ids = Vec::new();
        scored.tokenize(text, &mut ids).unwrap();
        ids
    };
    assert_eq!(ids("aaaaa"), [2, 1]);
    // A control token is never part of a text. Without byte tokens, SentencePiece makes one unknown
    // token of a stretch of unknown characters.
    assert_eq!(ids("<c>"), [8, 7]);
    assert_eq!(ids("éüaé"), [3, 0, 3]);
    assert_eq!(scored.unspellable(), None);
}

#[test]
fn a_missing_or_unknown_pre_tokenizer_is_said() {
    let said = |vocabulary, value| {
        let metadata = changed(vocabulary, "tokenizer.ggml.pre", value);
        let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
        tokenizer.assumption().unwrap_or_default().to_owned()
    };
    assert_eq!(said("llama-bpe", Some("llama-v3".into())), "");
    let missing = said("llama-bpe", None);
    assert!(missing.contains("tokenizer.ggml.pre is missing") && missing.contains("llama-bpe"));
    let missing = said("gpt-2", None);
    assert!(missing.contains("tokenizer.ggml.pre is missing") && missing.contains("default"));
    let unknown = said("gpt-2", Some("no-such".into()));
    assert!(unknown.contains("\"no-such\"") && unknown.contains("default"), "{unknown}");
}

#[test]
fn every_known_pre_tokenizer_can_be_built() {
    for name in [
        "llama-bpe",
        "default",
        "qwen2",
        "stablelm2",
        "gpt-2",
        "smollm",
        "dbrx",
        "gpt-4o",
        "tekken",
    ] {
        let pre = trilobite_format::model::Words::named(name).unwrap();
        split::steps(pre).unwrap();
        assert_eq!(pre.name(), name);
    }
}

#[test]
fn contradictions_are_one_error_that_names_the_key() {
    let numbers = |count: usize| Some(vec![0f32; count].into());
    for (vocabulary, key, value, words) in [
        ("gpt-2", "model", Some("bert".into()), "\"bert\""),
        ("gpt-2", "tokens", None, "missing"),
        ("gpt-2", "tokens", Some(Vec::<String>::new().into()), "empty"),
        ("gpt-2", "tokens", Some(7u32.into()), "u32"),
        ("gpt-2", "token_type", Some(vec![1i32].into()), "1 entries, expected an entry for each"),
        ("gpt-2", "token_type", Some("1".into()), "string"),
        ("gpt-2", "merges", None, "missing"),
        ("gpt-2", "merges", Some(vec!["ab".to_owned()].into()), "\"ab\""),
        ("gpt-2", "merges", Some(vec!["a zq".to_owned()].into()), "\"zq\" is no token"),
        ("gpt-2", "merges", Some(vec!["z q".to_owned()].into()), "\"zq\" is no token"),
        ("gpt-2", "eos_token_id", Some("</s>".into()), "string"),
        ("llama", "scores", None, "missing"),
        ("llama", "scores", numbers(3), "3 entries"),
        ("llama", "scores", Some(vec![f32::NAN; 641].into()), "NaN for token 0"),
        ("llama", "add_space_prefix", Some(1u32.into()), "u32"),
    ] {
        let key = format!("tokenizer.ggml.{key}");
        let result = Tokenizer::from_metadata(&changed(vocabulary, &key, value));
        let message = result.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains(&key) && message.contains(words), "{key}: {message:?}");
    }
}

/// As in llama.cpp, an id of -1, in any integer type, means that there is no such token.
#[test]
fn special_ids_that_are_no_tokens_are_said_and_left_out() {
    for (vocabulary, name, value) in [
        ("gpt-2", "eos", u32::MAX.into()),
        ("llama-bpe", "bos", 9999u32.into()),
        ("llama-bpe", "padding", (-1i32).into()),
        ("llama", "unknown", u64::MAX.into()),
        ("gemma", "eot", 1_000_000u32.into()),
    ] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let (with, without) =
            (changed(vocabulary, &key, Some(value)), changed(vocabulary, &key, None));
        let tokenizer = Tokenizer::from_metadata(&with).unwrap();
        let plain = Tokenizer::from_metadata(&without).unwrap();
        for text in ["the river", "é"] {
            let ids = |tokenizer: &Tokenizer| tokenizer.encode(text, true, false).unwrap();
            assert_eq!(ids(&tokenizer), ids(&plain), "{vocabulary} {name}");
        }
        let ends = |metadata, tokenizer| end_ids(metadata, Some(tokenizer)).unwrap();
        assert_eq!(ends(&with, &tokenizer), ends(&without, &plain));
        let said = tokenizer.assumption().unwrap_or_default();
        assert!(said.contains(&key) && !said.contains('\n'), "{said}");
        assert!(!plain.assumption().unwrap_or_default().contains(&key));
    }
}

#[test]
fn unused_tokens_print_as_nothing() {
    for (vocabulary, filler) in [("gpt-2", "[PAD9]"), ("llama", "[PAD9]")] {
        let mut metadata = metadata(vocabulary);
        let mut tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap().to_vec();
        let mut types = metadata.i32s("tokenizer.ggml.token_type").unwrap().unwrap();
        let id = tokens.len() as u32;
        tokens.push(filler.to_owned());
        types.push(5);
        metadata.insert("tokenizer.ggml.tokens", tokens);
        metadata.insert("tokenizer.ggml.token_type", types);
        if let Some(scores) = metadata.f32s("tokenizer.ggml.scores").unwrap() {
            metadata.insert("tokenizer.ggml.scores", [scores, &[0.0]].concat());
        }
        let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
        let ids = tokenizer.encode("the river", false, false).unwrap();
        let padded = [&ids[..], &[id]].concat();
        for special in [false, true] {
            let text = tokenizer.decode(&ids, special).unwrap();
            assert_eq!(tokenizer.decode(&padded, special).unwrap(), text, "{vocabulary}");
        }
        // No text encodes to it.
        assert!(!tokenizer.encode(filler, false, true).unwrap().contains(&id));
    }
}

#[test]
fn added_end_and_beginning_come_when_the_file_asks() {
    let mut metadata = metadata("llama");
    let ids = |metadata: &Metadata| {
        let tokenizer = Tokenizer::from_metadata(metadata).unwrap();
        tokenizer.encode("the", true, false).unwrap()
    };
    let plain = Tokenizer::from_metadata(&metadata).unwrap().encode("the", false, false).unwrap();
    // SentencePiece vocabularies add BOS by default.
    assert_eq!(ids(&metadata), [&[1], &plain[..]].concat());
    metadata.insert("tokenizer.ggml.add_eos_token", true);
    assert_eq!(ids(&metadata), [&[1], &plain[..], &[2]].concat());
    metadata.insert("tokenizer.ggml.add_bos_token", false);
    assert_eq!(ids(&metadata), [&plain[..], &[2]].concat());
}

#[test]
fn end_ids_are_those_of_the_file_and_of_known_names() {
    let mut metadata = metadata("gemma");
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    let end_of_turn = tokenizer.id("<end_of_turn>").unwrap();
    assert_eq!(end_ids(&metadata, Some(&tokenizer)).unwrap(), [2, end_of_turn]);
    metadata.insert("tokenizer.ggml.eot_token_id", 5u32);
    metadata.insert("tokenizer.ggml.eom_token_id", 6u32);
    assert_eq!(end_ids(&metadata, Some(&tokenizer)).unwrap(), [2, 5, 6, end_of_turn]);
}

/// The output of the reference library for a line.
#[derive(serde::Deserialize)]
struct Line {
    text: String,
    reference_ids: Vec<u32>,
    reference_ids_text: Vec<u32>,
}

/// With the real files in `TRILOBITE_MODELS`, whose folder `ref` has the ids of 2,000 lines of
/// mixed text, by the `tokenizers` library for SmolLM2 and by `sentencepiece` for Gemma.
#[test]
#[ignore = "needs TRILOBITE_MODELS, a folder of real models"]
fn vocabularies_of_real_models_agree_with_the_reference() {
    let folder = std::env::var("TRILOBITE_MODELS").expect("TRILOBITE_MODELS");
    for (model, reference) in [("smollm2-135m", "smollm2"), ("gemma3-270m", "gemma3")] {
        let map = crate::map(format!("{folder}/{model}.gguf").as_ref()).unwrap();
        let tokenizer = Tokenizer::from_metadata(&Metadata::parse(&map).unwrap()).unwrap();
        let lines = std::fs::read_to_string(format!("{folder}/ref/{reference}.tokens.jsonl"));
        let lines = lines.unwrap();
        assert!(lines.lines().count() >= 2000);
        for line in lines.lines() {
            let line: Line = serde_json::from_str(line).unwrap();
            let ids = tokenizer.encode(&line.text, false, true).unwrap();
            assert_eq!(ids, line.reference_ids, "{model}: {:?}", line.text);
            let ids = tokenizer.encode(&line.text, false, false).unwrap();
            assert_eq!(ids, line.reference_ids_text, "{model}: {:?}", line.text);
        }
    }
}
