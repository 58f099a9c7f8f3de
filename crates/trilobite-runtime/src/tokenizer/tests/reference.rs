//! Every part of a tokenizer.json, compared with the `tokenizers` crate.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

use super::*;

/// Fragments of the test texts: characters that some part treats specially, and pieces of the
/// tokens below.
const PARTS: [&str; 64] = [
    "a",
    "b",
    "A",
    "The",
    "river",
    "ran",
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\n",
    "\r\n",
    "\t",
    "\u{a0}",
    "\u{3000}",
    "\u{200b}",
    "\u{85}",
    "\u{feff}",
    "0",
    "12",
    "345",
    "6789",
    "½",
    "٣",
    "Ⅷ",
    "'s",
    "'LL",
    "'ſ",
    "don't",
    ".",
    ",",
    "!?",
    "...",
    "«",
    "»",
    "-",
    "--",
    "_",
    "$",
    "+",
    "|",
    "<x>",
    "<y>",
    "<",
    "▁",
    "é",
    "e\u{301}",
    "ß",
    "İ",
    "ﬁ",
    "Å",
    "\u{212b}",
    "가",
    "\u{1100}\u{1161}",
    "川",
    "に",
    "カー",
    "река",
    "नदी",
    "🦀",
    "👩‍🚀",
    "\0",
    "\u{7f}\u{fffd}",
];

pub(super) fn random_texts(seed: u64, count: usize) -> Vec<String> {
    let mut state = seed;
    let mut text = |_| {
        let length = random(&mut state) % 12;
        (0..length).map(|_| PARTS[random(&mut state) % PARTS.len()]).collect()
    };
    (0..count).map(&mut text).collect()
}

/// A vocabulary that splits every word into bytes, one of which ends the word.
fn letters() -> Value {
    let vocab: serde_json::Map<_, _> =
        (0..256).map(|byte| (format!("<0x{byte:02X}>"), json!(byte))).collect();
    json!({"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true,
        "end_of_word_suffix": "\u{1}"})
}

fn file(parts: Value) -> Value {
    let mut file = json!({"version": "1.0", "added_tokens": [], "model": letters()});
    file.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    file
}

fn added(content: &str, flags: &[&str]) -> Value {
    let flag = |name: &str| flags.contains(&name);
    json!({"id": 0, "content": content, "single_word": flag("single_word"),
        "lstrip": flag("lstrip"), "rstrip": flag("rstrip"), "normalized": flag("normalized"),
        "special": flag("special")})
}

/// Compares the encoding of texts and the decoding of their ids.
fn compare(file: &Value, texts: &[String]) {
    let bytes = file.to_string();
    let ours = Tokenizer::from_json(bytes.as_bytes()).unwrap();
    let mut theirs = tokenizers::Tokenizer::from_bytes(&bytes).unwrap();
    for text in texts {
        for (special, parse) in [(true, true), (false, false)] {
            theirs.set_encode_special_tokens(!parse);
            let encode = || theirs.encode(text.as_str(), special);
            // The reference loses its position in some texts that two normalizers have changed.
            let Ok(expected) = catch_unwind(AssertUnwindSafe(encode)) else { continue };
            let found = ours.encode(text, special, parse);
            let (Ok(expected), Ok(found)) = (&expected, &found) else {
                assert_eq!(expected.is_err(), found.is_err(), "{text:?} {file}");
                continue;
            };
            assert_eq!(found, expected.get_ids(), "{text:?} {file}");
            for keep in [false, true] {
                let expected = theirs.decode(expected.get_ids(), !keep).unwrap();
                assert_eq!(ours.decode(found, keep).unwrap(), expected, "{text:?} {file}");
            }
        }
    }
}

/// A small character map: a trie with `texts` under single bytes.
pub(super) fn charsmap() -> String {
    use base64::Engine as _;
    let mut units = vec![0u32; 512];
    // The root's children begin at 256: the offset is counted in units.
    units[0] = 256 << 10;
    // Children by byte, each with a value in the unit that its own offset leads to.
    for (byte, value) in [(b'A', 0u32), (b'a', 2), (b'b', 5)] {
        let at = 256 ^ usize::from(byte);
        units[at] = u32::from(byte) | 1 << 8 | 1 << 10;
        units[at ^ 1] = 1 << 31 | value;
    }
    let mut bytes = (units.len() as u32 * 4).to_le_bytes().to_vec();
    bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    bytes.extend("x\0yz\0\0".bytes());
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn normalizers_are_those_of_the_reference() {
    let bert = |clean: bool, chinese: bool, strip: Option<bool>, lowercase: bool| {
        json!({"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese,
            "strip_accents": strip, "lowercase": lowercase})
    };
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let kind = |name: &str| json!({"type": name});
    let strip = |left: bool, right: bool| json!({"type": "Strip", "strip_left": left, "strip_right": right});
    let steps = [
        bert(true, true, None, true),
        bert(false, true, Some(true), false),
        bert(true, false, Some(false), true),
        strip(true, true),
        strip(true, false),
        strip(false, true),
        kind("StripAccents"),
        kind("NFC"),
        kind("NFD"),
        kind("NFKC"),
        kind("NFKD"),
        kind("Lowercase"),
        kind("Nmt"),
        kind("ByteLevel"),
        json!({"type": "Precompiled", "precompiled_charsmap": charsmap()}),
        replace(json!({"String": " "}), "▁"),
        replace(json!({"String": "a"}), ""),
        replace(json!({"Regex": r"\s{2,}"}), " "),
        replace(json!({"Regex": r"(?<=[a-z])\d"}), "#"),
        json!({"type": "Prepend", "prepend": "▁"}),
    ];
    let first = json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"});
    for (at, step) in steps.iter().enumerate() {
        let texts = random_texts(at as u64 + 100, 300);
        for before in [step, &steps[(at + 5) % steps.len()], &steps[(at + 11) % steps.len()]] {
            let both = json!({"type": "Sequence", "normalizers": [before, step]});
            compare(&file(json!({"normalizer": both, "pre_tokenizer": first})), &texts);
        }
        let tokens = json!([
            added("<x>", &["normalized"]),
            added("ran a", &["special"]),
            added("A<", &["normalized", "lstrip"])
        ]);
        compare(&file(json!({"normalizer": step, "added_tokens": tokens})), &texts);
    }
}

fn pre_tokenizers() -> Vec<Value> {
    let kind = |name: &str| json!({"type": name});
    let byte_level = |prefix: bool, regex: bool| {
        json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true,
            "use_regex": regex})
    };
    let metaspace = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
    let mut all = vec![
        kind("BertPreTokenizer"),
        kind("Whitespace"),
        kind("WhitespaceSplit"),
        kind("UnicodeScripts"),
        byte_level(true, true),
        byte_level(true, false),
        byte_level(false, true),
        byte_level(false, false),
        metaspace("always", true),
        metaspace("first", true),
        metaspace("never", true),
        metaspace("first", false),
        json!({"type": "Metaspace", "replacement": "▁", "add_prefix_space": true}),
        json!({"type": "CharDelimiterSplit", "delimiter": "-"}),
        json!({"type": "Digits", "individual_digits": true}),
        json!({"type": "Digits", "individual_digits": false}),
        json!({"type": "FixedLength", "length": 3}),
        json!({"type": "FixedLength"}),
        kind("Punctuation"),
    ];
    for behavior in ["Removed", "Isolated", "Contiguous", "MergedWithPrevious", "MergedWithNext"] {
        all.push(json!({"type": "Punctuation", "behavior": behavior}));
        for invert in [false, true] {
            for pattern in [
                json!({"String": " "}),
                json!({"String": ""}),
                json!({"Regex": r"\p{L}+"}),
                json!({"Regex": r"\s+(?=\S)|a*"}),
            ] {
                all.push(json!({"type": "Split", "pattern": pattern, "behavior": behavior,
                    "invert": invert}));
            }
        }
    }
    all
}

#[test]
fn pre_tokenizers_are_those_of_the_reference() {
    let steps = pre_tokenizers();
    for (at, step) in steps.iter().enumerate() {
        let texts = random_texts(at as u64 + 200, 300);
        let tokens = json!([added("<x>", &["special"])]);
        compare(&file(json!({"pre_tokenizer": step, "added_tokens": tokens})), &texts);
        let nested = json!({"type": "Sequence", "pretokenizers": [steps[(at + 7) % steps.len()],
            {"type": "Sequence", "pretokenizers": [step]}]});
        compare(&file(json!({"pre_tokenizer": nested})), &texts);
    }
}

#[test]
fn added_tokens_are_found_as_the_reference_finds_them() {
    let flags = ["single_word", "lstrip", "rstrip", "normalized", "special"];
    let contents =
        ["<x>", "<", "a", "river", "The", " ", "  ", "12", "é", "▁", "\n", "ran", "<y> "];
    let lowercase = json!({"type": "Lowercase"});
    let mut state = 17;
    for round in 0..150 {
        let mut tokens = Vec::new();
        for _ in 0..1 + random(&mut state) % 5 {
            let chosen = random(&mut state);
            let flags: Vec<&str> = flags
                .iter()
                .enumerate()
                .filter(|(at, _)| chosen >> at & 1 == 1)
                .map(|(_, f)| *f)
                .collect();
            // The reference panics if stripped spaces overlap another token.
            let content = contents[random(&mut state) % contents.len()];
            let spaces = content.trim().is_empty();
            let flags = if spaces { vec!["special"] } else { flags };
            tokens.push(added(content, &flags));
        }
        let strips = tokens.iter().any(|t| t["lstrip"] == true || t["rstrip"] == true);
        if strips {
            tokens.retain(|token| !token["content"].as_str().unwrap().trim().is_empty());
        }
        let normalizer = if round % 3 == 0 { lowercase.clone() } else { Value::Null };
        let file = file(json!({"added_tokens": tokens, "normalizer": normalizer,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": round % 2 == 0,
                "trim_offsets": true, "use_regex": true}, "decoder": {"type": "ByteFallback"}}));
        if tokenizers::Tokenizer::from_bytes(file.to_string()).is_err() {
            assert!(Tokenizer::from_json(file.to_string().as_bytes()).is_err(), "{file}");
            continue;
        }
        compare(&file, &random_texts(round + 300, 60));
    }
}

/// Vocabularies of random texts, for models of every kind.
#[test]
fn models_are_those_of_the_reference() {
    let mut state = 23;
    let letters = ["a", "b", "c", "é", "川", " ", "▁"];
    for round in 0..400 {
        let mut tokens: Vec<String> = letters.iter().map(|&letter| letter.to_owned()).collect();
        tokens.retain(|_| !random(&mut state).is_multiple_of(6));
        tokens.extend(
            ["<unk>", "##a", "##ab", "a</w>", "b</w>", "<0x61>", "<0xC3>", "<0xA9>"]
                .map(str::to_owned),
        );
        let mut merges = Vec::new();
        for _ in 0..random(&mut state) % 14 {
            let left = tokens[random(&mut state) % tokens.len()].clone();
            let right = tokens[random(&mut state) % tokens.len()].clone();
            let joined = format!("{left}{right}");
            if joined.len() < 12 && !tokens.contains(&joined) {
                tokens.push(joined);
                merges.push(json!([left, right]));
            }
        }
        let vocab: serde_json::Map<_, _> =
            tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let mut chance = |of: usize| random(&mut state).is_multiple_of(of);
        let unknown = if chance(3) {
            json!(null)
        } else if chance(5) {
            json!("<none>")
        } else {
            json!("<unk>")
        };
        let model = match round % 4 {
            0 => json!({"type": "BPE", "vocab": vocab, "merges": merges, "unk_token": unknown,
                "fuse_unk": chance(2), "byte_fallback": chance(2), "ignore_merges": chance(3),
                "end_of_word_suffix": if chance(3) { json!("</w>") } else { json!(null) }}),
            1 => {
                let scores: Vec<Value> = tokens
                    .iter()
                    .map(|token| json!([token, -((token.len() * 7 % 5) as f64)]))
                    .collect();
                json!({"type": "Unigram", "vocab": scores, "byte_fallback": chance(2),
                    "unk_id": if chance(4) { json!(null) } else { json!(tokens.iter().position(|t| t == "<unk>")) }})
            }
            2 => json!({"type": "WordPiece", "vocab": vocab, "unk_token": "<unk>",
                "continuing_subword_prefix": "##", "max_input_chars_per_word": 6}),
            _ => json!({"type": "WordLevel", "vocab": vocab,
                "unk_token": if chance(5) { "<none>" } else { "<unk>" }}),
        };
        let texts = (0..80).map(|_| {
            let length = random(&mut state) % 9;
            (0..length)
                .map(|_| ["a", "b", "c", "é", "川", "ab", "x", "ß"][random(&mut state) % 8])
                .collect()
        });
        let texts: Vec<String> = texts.collect();
        compare(&json!({"version": "1.0", "added_tokens": [], "model": model}), &texts);
    }
}

#[test]
fn decoders_are_those_of_the_reference() {
    let kind = |name: &str| json!({"type": name});
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true});
    let steps = [
        json!({"type": "BPEDecoder", "suffix": "</w>"}),
        byte_level,
        json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        json!({"type": "WordPiece", "prefix": "##", "cleanup": false}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}),
        json!({"type": "CTC", "pad_token": "a", "word_delimiter_token": "|", "cleanup": true}),
        replace(json!({"String": "▁"}), " "),
        replace(json!({"Regex": "[0-9]+"}), "#"),
        kind("Fuse"),
        kind("ByteFallback"),
        json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}),
    ];
    let tokens = [
        "a", "b", "ab</w>", "##b", "##", "▁", "▁a", "a▁▁b", "<0x61>", "<0xC3>", "<0xA9>", "<0xff>",
        "<0x+1>", "Ġthe", "Ã", "©", "川", " ", "  x", " .", " n't", " do not", "12", "|", "é",
        " '",
    ];
    let vocab: serde_json::Map<_, _> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let mut state = 29;
    for at in 0..steps.len() * steps.len() {
        let (first, second) = (&steps[at / steps.len()], &steps[at % steps.len()]);
        let decoder = json!({"type": "Sequence", "decoders": [first, second]});
        let file = json!({"version": "1.0", "decoder": decoder, "added_tokens": [added("ab</w>", &["special"])],
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "a"}});
        let ours = Tokenizer::from_json(file.to_string().as_bytes()).unwrap();
        let theirs = tokenizers::Tokenizer::from_bytes(file.to_string()).unwrap();
        for _ in 0..200 {
            let length = 1 + random(&mut state) % 8;
            let ids: Vec<u32> = (0..length).map(|_| random(&mut state) as u32 % 27).collect();
            for keep in [false, true] {
                let decode = || theirs.decode(&ids, !keep).unwrap();
                // The reference panics without any token, since it looks for the last one.
                let Ok(expected) = catch_unwind(AssertUnwindSafe(decode)) else { continue };
                assert_eq!(ours.decode(&ids, keep).unwrap(), expected, "{ids:?} {decoder}");
            }
        }
    }
}

#[test]
fn texts_get_the_beginning_and_the_end_that_the_reference_gives() {
    let piece = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let pair = json!([text, {"Sequence": {"id": "B", "type_id": 1}}]);
    let template = |single: Value| {
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {
            "<s>": {"id": "<s>", "ids": [7], "tokens": ["<s>"]},
            "<two>": {"id": "<two>", "ids": [8, 9], "tokens": ["<a>", "<b>"]}}})
    };
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true});
    for processor in [
        json!(null),
        byte_level.clone(),
        template(json!([text])),
        template(json!([piece("<s>"), text])),
        template(json!([piece("<two>"), piece("<s>"), text, piece("<two>")])),
        json!({"type": "BertProcessing", "sep": ["[SEP]", 5], "cls": ["[CLS]", 6]}),
        json!({"type": "RobertaProcessing", "sep": ["</s>", 5], "cls": ["<s>", 6], "trim_offsets": true,
            "add_prefix_space": true}),
        json!({"type": "Sequence", "processors": [byte_level, template(json!([text, piece("<s>")]))]}),
    ] {
        let texts = ["", "a", "river run"].map(str::to_owned);
        compare(&file(json!({"post_processor": processor})), &texts);
    }
}
