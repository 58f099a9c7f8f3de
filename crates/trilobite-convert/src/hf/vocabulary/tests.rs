use serde_json::{Value, json};
use trilobite_format::Gguf;

use super::*;
use crate::testing::*;
use crate::{Options, Report};

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A byte-level tokenizer of 17 tokens, for a vocabulary of 20.
fn byte_level() -> Value {
    let mut vocab: serde_json::Map<_, _> =
        (0..12u8).map(|i| (char::from(b'a' + i).to_string(), json!(i))).collect();
    vocab.insert("ab".to_owned(), json!(12));
    vocab.insert("abc".to_owned(), json!(13));
    let added =
        |id, content: &str, special| json!({"id": id, "content": content, "special": special});
    json!({
        "added_tokens": [added(14, "<s>", true), added(15, "</s>", true),
            added(16, "<|eot_id|>", true), added(17, "<tool>", false)],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA_3}}, {"type": "ByteLevel", "use_regex": false}]},
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A"}}]},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"], "ab c"]},
    })
}

fn convert(change: impl FnOnce(&mut Tiny)) -> (Metadata, Report) {
    let mut tiny = Tiny::bitnet();
    change(&mut tiny);
    let (file, report) = tiny.convert(&Options::default()).unwrap();
    (Gguf::parse(&file).unwrap().metadata().clone(), report)
}

#[test]
fn a_byte_level_tokenizer_travels_whole_and_as_arrays() {
    let (metadata, report) = convert(|tiny| tiny.file("tokenizer.json", byte_level()));
    let text = metadata.str("tokenizer.huggingface.json").unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), byte_level());
    let str = |key: &str| metadata.str(&format!("tokenizer.ggml.{key}")).unwrap();
    assert_eq!((str("model"), str("pre")), (Some("gpt2"), Some("llama-bpe")));
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!(tokens[..2], ["a", "b"]);
    assert_eq!(tokens[13..], ["abc", "<s>", "</s>", "<|eot_id|>", "<tool>", "[PAD18]", "[PAD19]"]);
    let types = metadata.i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(types[13..], [1, 3, 3, 3, 4, 5, 5]);
    assert_eq!(metadata.strings("tokenizer.ggml.merges").unwrap().unwrap(), ["a b", "ab c"]);
    assert!(metadata.get("tokenizer.ggml.scores").is_none());
    assert_eq!(report.notes, ["no end-of-text token is known: generation stops at its limit only"]);
}

#[test]
fn a_tokenizer_with_byte_fallback_has_scores() {
    let mut tokenizer = byte_level();
    tokenizer["model"]["byte_fallback"] = json!(true);
    tokenizer["model"]["unk_token"] = json!("a");
    tokenizer["model"]["vocab"]["<0x0A>"] = json!(14);
    let (metadata, _) = convert(|tiny| tiny.file("tokenizer.json", tokenizer.clone()));
    assert_eq!(metadata.str("tokenizer.ggml.model").unwrap(), Some("llama"));
    assert_eq!(metadata.bool("tokenizer.ggml.add_space_prefix").unwrap(), Some(false));
    let scores = metadata.f32s("tokenizer.ggml.scores").unwrap().unwrap();
    assert_eq!(scores[11..15], [0.0, -1.0, -2.0, 0.0]);
    let types = metadata.i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!((types[0], types[1], types[14]), (2, 1, 6));
    for prefix in [
        json!({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend"}]}}),
        json!({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"}}),
    ] {
        let mut tokenizer = tokenizer.clone();
        tokenizer.as_object_mut().unwrap().extend(prefix.as_object().unwrap().clone());
        let (metadata, _) = convert(|tiny| tiny.file("tokenizer.json", tokenizer));
        assert_eq!(metadata.bool("tokenizer.ggml.add_space_prefix").unwrap(), Some(true));
    }
}

#[test]
fn digits_one_by_one_are_named() {
    let mut tokenizer = byte_level();
    tokenizer["pre_tokenizer"]["pretokenizers"] = json!([
        {"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "use_regex": true}]);
    let (metadata, _) = convert(|tiny| tiny.file("tokenizer.json", tokenizer));
    assert_eq!(metadata.str("tokenizer.ggml.pre").unwrap(), Some("smollm"));
}

#[test]
fn special_tokens_are_gathered_from_all_files() {
    let (metadata, report) = convert(|tiny| {
        tiny.config["eos_token_id"] = json!(3);
        tiny.config["pad_token_id"] = json!(-1);
        tiny.file("tokenizer.json", byte_level());
        tiny.file(
            "tokenizer_config.json",
            json!({
            "bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": "</s>",
            "extra_special_tokens": {"image_token": {"content": "<image>"}},
            "chat_template": [{"name": "tools", "template": "no"},
                {"name": "default", "template": "{{ content }}<|eot_id|>"}]}),
        );
        tiny.file(
            "generation_config.json",
            json!({"eos_token_id": [4, 3], "do_sample": true,
            "temperature": 0.5, "top_k": 40, "top_p": 0.75, "repetition_penalty": 1.25}),
        );
        tiny.file(
            "special_tokens_map.json",
            json!({"pad_token": "<other>", "unk_token": "<unk>", "additional_special_tokens": ["<a>"]}),
        );
    });
    // Named tokens outside the vocabulary are added as long as the embedding has rows.
    let left_out = "no rows for the added tokens";
    assert!(report.notes.len() == 1 && report.notes[0].contains(left_out), "{:?}", report.notes);
    assert_eq!(metadata.u32s("trilobite.eos_token_ids").unwrap(), Some(vec![3, 4, 15, 16]));
    for (key, id) in [("bos", 14), ("eos", 3), ("padding", 19)] {
        assert_eq!(metadata.u32(&format!("tokenizer.ggml.{key}_token_id")).unwrap(), Some(id));
    }
    assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
    assert_eq!(metadata.str("trilobite.bos_token").unwrap(), Some("<s>"));
    assert_eq!(metadata.str("trilobite.eos_token").unwrap(), Some("</s>"));
    let template = metadata.str("tokenizer.chat_template").unwrap();
    assert_eq!(template, Some("{{ content }}<|eot_id|>"));
    assert_eq!(metadata.str("tokenizer.chat_template.tools").unwrap(), Some("no"));
    let special = |name: &str| metadata.str(&format!("trilobite.special_tokens.{name}")).unwrap();
    assert_eq!(
        ["pad_token", "unk_token", "image_token", "bos_token"].map(special),
        [Some("<other>"), Some("<unk>"), Some("<image>"), None]
    );
    let list = metadata.strings("trilobite.special_tokens.additional_special_tokens").unwrap();
    assert_eq!(list, Some(&["<a>".to_owned()][..]));
    let number = |key: &str| metadata.f32(&format!("trilobite.generation.{key}")).unwrap();
    assert_eq!(
        ["temperature", "top_p", "repetition_penalty"].map(number),
        [0.5, 0.75, 1.25].map(Some)
    );
    assert_eq!(metadata.u32("trilobite.generation.top_k").unwrap(), Some(40));
    assert_eq!(metadata.bool("trilobite.generation.do_sample").unwrap(), Some(true));
}

#[test]
fn special_tokens_without_a_text_are_ignored() {
    let none = json!("");
    let mut tiny = Tiny::bitnet();
    tiny.file("tokenizer.json", byte_level());
    tiny.file(
        "tokenizer_config.json",
        json!({"bos_token": none, "eos_token": {"content": ""},
        "unk_token": none, "pad_token": none, "added_tokens_decoder": {"16": {"content": ""}}}),
    );
    tiny.convert(&Options::default()).unwrap();
    let mut file = byte_level();
    let tokens = file["added_tokens"].as_array_mut().unwrap();
    tokens.push(json!({"id": 99, "content": ""}));
    tiny.file("tokenizer.json", file);
    tiny.convert(&Options::default()).unwrap();
}

#[test]
fn added_tokens_of_other_files_get_the_ids_behind_the_vocabulary() {
    let mut tokenizer = byte_level();
    tokenizer["model"]["type"] = json!("BPE");
    let end = json!({"content": "<|im_end|>", "special": true});
    let settings = json!({"pad_token": "<pad>", "unk_token": "<unk>", "added_tokens_decoder": {
        "900": end, "15": {"content": "</s>", "rstrip": true, "special": true}}});
    let (metadata, report) = convert(|tiny| {
        tiny.file("tokenizer.json", tokenizer);
        tiny.file("tokenizer_config.json", settings);
    });
    let text = metadata.str("tokenizer.huggingface.json").unwrap().unwrap();
    let added = serde_json::from_str::<Value>(text).unwrap()["added_tokens"].take();
    let list = added.as_array().unwrap().iter();
    let added: Vec<_> =
        list.map(|token| (token["content"].as_str(), token["id"].as_u64())).collect();
    let expected = [("<s>", 14), ("</s>", 15), ("<|eot_id|>", 16), ("<tool>", 17)];
    let expected = expected.into_iter().chain([("</s>", 15), ("<|im_end|>", 18), ("<unk>", 19)]);
    assert_eq!(added, expected.map(|(text, id)| (Some(text), Some(id))).collect::<Vec<_>>());
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!(tokens[16..], ["<|eot_id|>", "<tool>", "<|im_end|>", "<unk>"]);
    let types = metadata.i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(types[16..], [3, 4, 3, 3]);
    contains(&report.notes[0], "no rows for the added tokens \"<pad>\"");
}

#[test]
fn other_ids_than_a_tokenizer_states_are_said() {
    let (metadata, report) = convert(|tiny| {
        let mut tokenizer = byte_level();
        tokenizer["added_tokens"][1]["id"] = json!(99);
        tiny.file("tokenizer.json", tokenizer);
    });
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!(tokens[14..16], ["<s>", "</s>"]);
    let expected = "the added token \"</s>\" has the id 15, not 99 as tokenizer.json says";
    contains(&report.notes[0], expected);
}

#[test]
fn a_tokenizer_that_nothing_is_added_to_is_kept_to_the_letter() {
    let text = byte_level().to_string().replace(":14,", ": 14 ,");
    let (metadata, _) = convert(|tiny| {
        tiny.files.push(("tokenizer.json".to_owned(), text.clone().into_bytes()));
        tiny.file("tokenizer_config.json", json!({"bos_token": "<s>", "add_bos_token": false}));
    });
    assert_eq!(metadata.str("tokenizer.huggingface.json").unwrap(), Some(text.as_str()));
    // The template determines the beginning of a text.
    assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
}

#[test]
fn scores_are_kept_to_the_letter_when_tokens_are_added() {
    const SCORE: &str = "-3.14159265358979323846264338327950288";
    let mut tokenizer = byte_level();
    tokenizer["model"] = json!({"type": "Unigram", "vocab": [["x", "SCORE"]]});
    let text = tokenizer.to_string().replace("\"SCORE\"", SCORE);
    let (metadata, _) = convert(|tiny| {
        tiny.config["eos_token_id"] = json!(1);
        tiny.files.push(("tokenizer.json".to_owned(), text.into_bytes()));
        tiny.file(
            "tokenizer_config.json",
            json!({"unk_token": "<unk>",
            "clean_up_tokenization_spaces": true}),
        );
    });
    let text = metadata.str("tokenizer.huggingface.json").unwrap().unwrap();
    assert!(text.contains(SCORE) && text.contains("<unk>"), "{text}");
    let key = "trilobite.clean_up_tokenization_spaces";
    assert_eq!(metadata.bool(key).unwrap(), Some(true));
}

#[test]
fn damaged_files_beside_a_tokenizer_are_refused() {
    let error = |settings: Value| {
        let mut tiny = Tiny::bitnet();
        tiny.file("tokenizer.json", byte_level());
        tiny.file("tokenizer_config.json", settings);
        tiny.error()
    };
    for tokens in [json!([]), json!({"x": {"content": "a"}}), json!({"1": "a"}), json!({"1": {}})] {
        let error = error(json!({"added_tokens_decoder": tokens}));
        contains(&error, "tokenizer_config.json: `added_tokens_decoder` is");
    }
}

#[test]
fn a_template_of_its_own_file_comes_first() {
    let (metadata, _) = convert(|tiny| {
        tiny.file("tokenizer_config.json", json!({"chat_template": "old", "add_bos_token": false}));
        tiny.files.push(("chat_template.jinja".to_owned(), b"new".to_vec()));
        tiny.file("tokenizer.json", byte_level());
    });
    assert_eq!(metadata.str("tokenizer.chat_template").unwrap(), Some("new"));
    assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(false));
}

#[test]
fn the_template_for_tools_can_have_a_file() {
    let (metadata, _) = convert(|tiny| {
        tiny.file("tokenizer_config.json", json!({"chat_template": "usual"}));
        let file = "additional_chat_templates/tool_use.jinja";
        tiny.files.push((file.to_owned(), b"tools".to_vec()));
    });
    assert_eq!(metadata.str("tokenizer.chat_template").unwrap(), Some("usual"));
    assert_eq!(metadata.str("tokenizer.chat_template.tool_use").unwrap(), Some("tools"));
}

#[test]
fn several_templates_have_names_and_a_default() {
    let of = |templates: Value| {
        let mut tiny = Tiny::bitnet();
        tiny.file("tokenizer_config.json", json!({"chat_template": templates}));
        tiny.convert(&Options::default())
    };
    let default = |templates| {
        let (file, report) = of(templates).unwrap();
        let metadata = Gguf::parse(&file).unwrap().metadata().clone();
        (metadata.str("tokenizer.chat_template").unwrap().map(str::to_owned), report.notes.join(""))
    };
    assert_eq!(default(json!({"default": "a", "rag": "b"})).0.unwrap(), "a");
    let (none, notes) = default(json!([{"name": "rag", "template": "b"}]));
    assert_eq!(none, None);
    contains(&notes, "`chat_template` has no template called \"default\"");
    for wrong in [json!(["a"]), json!([{"template": "a"}]), json!({"default": 1}), json!(1)] {
        let error = of(wrong).unwrap_err().to_string();
        contains(&error, "tokenizer_config.json: `chat_template` is");
    }
}

#[test]
fn a_checkpoint_without_tokenizer_is_converted_with_a_note() {
    let (metadata, report) = convert(|_| {});
    assert!(metadata.get("tokenizer.huggingface.json").is_none());
    contains(&report.notes[0], "the file takes token ids only");
}

#[test]
fn other_kinds_of_tokenizer_travel_without_arrays() {
    let mut tokenizer = byte_level();
    tokenizer["model"] = json!({"type": "Unigram", "vocab": [["x", -1.0], ["y", -2.0]]});
    let (metadata, report) = convert(|tiny| {
        tiny.config["eos_token_id"] = json!(1);
        tiny.file("tokenizer.json", tokenizer);
    });
    assert!(metadata.get("tokenizer.huggingface.json").is_some());
    assert!(metadata.get("tokenizer.ggml.tokens").is_none());
    contains(&report.notes.join("\n"), "no GGUF form");
}

#[test]
fn a_tokenizer_that_does_not_fit_is_refused() {
    let error = |change: &dyn Fn(&mut Value)| {
        let mut tokenizer = byte_level();
        change(&mut tokenizer);
        let mut tiny = Tiny::bitnet();
        tiny.file("tokenizer.json", tokenizer);
        tiny.error()
    };
    contains(
        &error(&|t| t["model"]["vocab"]["z"] = json!(20)),
        "tokenizer.json: `model.vocab: \"z\"` is 20, expected an id below the vocab_size of \
         config.json, 20",
    );
    contains(&error(&|t| t["model"]["merges"][0] = json!(["a"])), "expected a list of pairs");
    contains(&error(&|t| t["model"] = json!(null)), "`model` is missing");
}
