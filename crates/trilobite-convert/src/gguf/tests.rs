use trilobite_format::{Gguf, Metadata, TensorType, Value, Writer, ternary as tail};

use crate::testing::*;
use crate::{
    Checkpoint, Error, Head, Layout, Options, Quantize, Report, convert_file, ignore_progress,
};

/// A GGUF file taken apart, to be changed and written again.
struct Parts {
    metadata: Metadata,
    tensors: Vec<(String, TensorType, Vec<u64>, Vec<u8>)>,
}

impl Parts {
    fn of(file: &[u8]) -> Parts {
        let gguf = Gguf::parse(file).unwrap();
        let tensor = |info: &trilobite_format::TensorInfo| {
            (info.name.clone(), info.ty, info.shape.clone(), info.bytes(file).to_vec())
        };
        Parts {
            metadata: gguf.metadata().clone(),
            tensors: gguf.tensors().iter().map(tensor).collect(),
        }
    }

    /// Makes the file look like another program's: removes our keys.
    fn foreign(file: &[u8]) -> Parts {
        let mut parts = Parts::of(file);
        parts.retain(|key| !key.starts_with("trilobite.") && !key.contains("attention.key_length"));
        parts
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let mut kept = Metadata::new();
        for (key, value) in self.metadata.iter().filter(|(key, _)| keep(key)) {
            kept.insert(key, value.clone());
        }
        self.metadata = kept;
    }

    fn get(&mut self, name: &str) -> &mut (String, TensorType, Vec<u64>, Vec<u8>) {
        self.tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap()
    }

    fn push(&mut self, name: &str, shape: &[u64], values: &[f32]) {
        self.tensors.push((name.to_owned(), TensorType::F32, shape.to_vec(), f32s(values)));
    }

    fn file(&self) -> Vec<u8> {
        let index = self.tensors.iter().map(|(n, ty, shape, _)| (n.clone(), *ty, shape.clone()));
        let mut writer = Writer::new(Vec::new(), &self.metadata, index.collect()).unwrap();
        for (name, _, _, bytes) in &self.tensors {
            writer.tensor(name, bytes).unwrap();
        }
        writer.finish().unwrap()
    }

    fn convert(&self, options: &Options) -> Result<(Vec<u8>, Report), Error> {
        run(&Checkpoint::from_files(vec![("m.gguf".to_owned(), self.file().into())])?, options)
    }

    fn converted(&self) -> (Vec<u8>, Report) {
        self.convert(&Options::default()).unwrap()
    }

    fn error(&self) -> String {
        chain(&self.convert(&Options::default()).unwrap_err())
    }
}

#[test]
fn our_own_files_are_copied_byte_by_byte() {
    let mut mixed = Tiny::llama();
    mixed.config["quantization_config"]["modules_to_not_convert"] =
        serde_json::json!(["v_proj", "lm_head"]);
    mixed.set(block("self_attn.v_proj.weight"), "BF16", &[8, 16], bf16s(&[0.5; 128]));
    mixed.tensors.retain(|(name, _)| !name.ends_with("v_proj.weight_scale"));
    for tiny in [Tiny::bitnet(), Tiny::llama(), mixed] {
        let file = tiny.converted();
        assert!(Parts::of(&file).converted().0 == file);
    }
}

#[test]
fn projections_that_a_checkpoint_keeps_dense_are_named_in_the_file() {
    for mut mixed in [Tiny::bitnet(), Tiny::llama()] {
        mixed.config["quantization_config"]["modules_to_not_convert"] =
            serde_json::json!(["v_proj", "lm_head"]);
        mixed.set(block("self_attn.v_proj.weight"), "BF16", &[8, 16], bf16s(&[0.5; 128]));
        mixed.tensors.retain(|(name, _)| !name.ends_with("v_proj.weight_scale"));
        let mut parts = Parts::of(&mixed.converted());
        let names = parts.metadata.strings("trilobite.dense_projections").unwrap().unwrap();
        assert_eq!(names, ["blk.0.attn_v.weight"]);
        // They stay dense.
        let absmean = Options { quantize: Some(Quantize::Absmean), ..Options::default() };
        let (file, report) = parts.convert(&absmean).unwrap();
        assert!(file == parts.file());
        contains(&report.notes[0], "1 of 7 projections are dense");
        // The list excuses no other projection, and neither does the program that wrote the file.
        let q = parts.get("blk.0.attn_q.weight");
        (q.1, q.3) = (TensorType::F32, f32s(&[0.7; 256]));
        contains(&parts.error(), "tensor \"blk.0.attn_q.weight\" is F32");
        let (file, _) = parts.convert(&absmean).unwrap();
        assert_eq!(ternary(&file, "blk.0.attn_q.weight"), (vec![1; 256], 0.7));
        parts.metadata.remove("trilobite.dense_projections");
        contains(&parts.error(), "is F32");
    }
    // A model without ternary projections needs no list.
    let file = Tiny::qwen2().converted();
    assert!(Parts::of(&file).metadata.get("trilobite.dense_projections").is_none());
}

#[test]
fn zeros_are_kept_and_named() {
    let mut parts = Parts::foreign(&Tiny::bitnet().converted());
    let mut zero = |name: &str, scale: f32| {
        let tensor = parts.get(name);
        let codes = tensor.3.len() - tail::TAIL;
        tensor.3[..codes].fill(0x55);
        tensor.3[codes..].copy_from_slice(&tail::tail(scale));
    };
    zero("blk.0.ffn_gate.weight", 0.0);
    zero("blk.0.ffn_up.weight", 2.0);
    let (file, report) = parts.converted();
    contains(&report.notes[0], "nothing but zeros in blk.0.ffn_gate, blk.0.ffn_up: training");
    assert_eq!(ternary(&file, "blk.0.ffn_gate.weight"), (vec![0; 384], 0.0));
    assert_eq!(ternary(&file, "blk.0.ffn_up.weight"), (vec![0; 384], 2.0));
    for layout in [Layout::T5_3, Layout::Sparse] {
        let options = Options { layout, ..Options::default() };
        let (packed, report) = parts.convert(&options).unwrap();
        contains(&report.notes[0], "nothing but zeros in blk.0.ffn_gate, blk.0.ffn_up: training");
        assert!(Parts::of(&packed).converted().0 == file);
    }
    // Nonzero weights need a scale.
    parts.get("blk.0.ffn_gate.weight").3[0] = 0x95;
    contains(&parts.error(), "scale blk.0.ffn_gate.weight is 0, expected a positive");
    // Dense weights are checked for zeros too.
    let mut tiny = Tiny::llama().with_dense(|i, _| if i == 5 { -0.0 } else { 1.0 });
    tiny.config["quantization_config"] = serde_json::json!(null);
    let mut parts = Parts::of(&tiny.converted());
    contains(&parts.converted().1.notes[0], "nothing but zeros in blk.0.ffn_up:");
    let up = parts.get("blk.0.ffn_up.weight");
    up.3[..4].copy_from_slice(&f32s(&[1.0]));
    assert_eq!(parts.converted().1.notes, Vec::<String>::new());
}

#[test]
fn codes_that_stand_for_nothing_are_refused_in_padding_too() {
    for (layout, name, (at, code), place) in [
        (Layout::Auto, "blk.0.ffn_down.weight", (0, 0x57), "row 4, column 0"),
        (Layout::T5_3, "blk.0.ffn_down.weight", (20, 0x00), "row 20, column 0"),
        (Layout::Sparse, "blk.0.ffn_down_t.weight", (32, 0x57), "row 96, column 1"),
    ] {
        let options = Options { layout, ..Options::default() };
        let mut parts = Parts::of(&Tiny::bitnet().convert(&options).unwrap().0);
        parts.get(name).3[at] = code;
        contains(&parts.error(), &format!("has a code that stands for no weight at {place}"));
    }
}

#[test]
fn foreign_files_keep_their_metadata_and_get_what_is_missing() {
    let ours = Tiny::bitnet().converted();
    let mut parts = Parts::foreign(&ours);
    let mut metadata = Metadata::new();
    for (key, value) in parts.metadata.iter() {
        metadata.insert(key.replace("bitnet-b1.58.", "bitnet-25."), value.clone());
    }
    metadata.insert("general.architecture", "bitnet-25");
    metadata.insert("general.author", "someone");
    let tokens = (0..VOCAB).map(|i| format!("t{i}")).chain(["<|eot_id|>".to_owned()]);
    metadata.insert("tokenizer.ggml.tokens", tokens.skip(1).collect::<Vec<_>>());
    metadata.insert("tokenizer.ggml.model", "gpt2");
    metadata.insert("tokenizer.ggml.bos_token_id", 0u32);
    metadata.insert("tokenizer.ggml.eos_token_id", 1u32);
    metadata.insert("tokenizer.chat_template", "Human: ... BITNETAssistant: <eos>");
    parts.metadata = metadata;
    parts.tensors.reverse();
    let (file, report) = parts.converted();
    assert_eq!(report.architecture, "bitnet-b1.58");
    assert_eq!(report.notes.len(), 2);
    assert_eq!(ternary(&file, "blk.0.ffn_down.weight"), ternary(&ours, "blk.0.ffn_down.weight"));
    let gguf = Gguf::parse(&file).unwrap();
    let metadata = gguf.metadata();
    assert_eq!(gguf.tensors()[0].name, "token_embd.weight");
    assert_eq!(metadata.u32("bitnet-b1.58.attention.key_length").unwrap(), Some(8));
    assert!(metadata.iter().all(|(key, _)| !key.starts_with("bitnet-25")));
    assert_eq!(metadata.str("general.author").unwrap(), Some("someone"));
    assert_eq!(metadata.str("tokenizer.ggml.pre").unwrap(), Some("llama-bpe"));
    assert_eq!(metadata.u32s("trilobite.eos_token_ids").unwrap(), Some(vec![1, 19]));
    assert_eq!(metadata.str("trilobite.bos_token").unwrap(), Some("t1"));
    contains(metadata.str("tokenizer.chat_template").unwrap().unwrap(), "capitalize");
}

#[test]
fn words_are_guessed_as_they_are_where_the_file_is_run() {
    for (mark, words) in [("<|begin_of_text|>", Some("llama-bpe")), ("<s>", None)] {
        let mut parts = Parts::foreign(&Tiny::bitnet().converted());
        parts.metadata.insert("tokenizer.ggml.model", "gpt2");
        parts.metadata.insert("tokenizer.ggml.tokens", vec![mark.to_owned()]);
        parts.metadata.remove("tokenizer.ggml.pre");
        let (file, report) = parts.converted();
        let gguf = Gguf::parse(&file).unwrap();
        assert_eq!(gguf.metadata().str("tokenizer.ggml.pre").unwrap(), words);
        let said = report.notes.join("\n").contains("taken to be llama-bpe");
        assert_eq!(said, words.is_some(), "{mark}");
    }
}

#[test]
fn metadata_that_is_not_a_number_is_kept_bit_by_bit() {
    let mut parts = Parts::of(&Tiny::bitnet().converted());
    let scores = [0x7fc0_0001, 0xffc0_0000, 0x8000_0000].map(f32::from_bits);
    parts.metadata.insert("tokenizer.ggml.scores", scores.to_vec());
    let files = vec![("m.gguf".to_owned(), parts.file().into())];
    let checkpoint = Checkpoint::from_files(files).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    convert_file(&checkpoint, &Options::default(), &out, false, &mut ignore_progress).unwrap();
    assert!(std::fs::read(&out).unwrap() == parts.file());
}

#[test]
fn scales_of_their_own_are_factors() {
    let mut parts = Parts::foreign(&Tiny::bitnet().converted());
    parts.push("blk.0.attn_q.scale", &[1], &[3.0]);
    assert_eq!(ternary(&parts.converted().0, "blk.0.attn_q.weight").1, 1.5);
    // A scale beside plain numbers marks them as ternary.
    let weights: Vec<f32> = trits(0, 256).into_iter().map(f32::from).collect();
    let q = parts.get("blk.0.attn_q.weight");
    (q.1, q.3) = (TensorType::F32, f32s(&weights));
    assert_eq!(ternary(&parts.converted().0, "blk.0.attn_q.weight"), (trits(0, 256), 3.0));
    parts.get("blk.0.attn_q.scale").3 = f32s(&[f32::NAN]);
    contains(&parts.error(), "m.gguf: scale blk.0.attn_q.scale is NaN");
}

#[test]
fn dense_projections_need_to_be_told_about() {
    let mut parts = Parts::foreign(&Tiny::bitnet().converted());
    let weights: Vec<f32> = trits(0, 256).into_iter().map(|t| f32::from(t) * 0.7).collect();
    let q = parts.get("blk.0.attn_q.weight");
    (q.1, q.3) = (TensorType::F32, f32s(&weights));
    contains(&parts.error(), "m.gguf: tensor \"blk.0.attn_q.weight\" is F32, but the projections");
    let absmean = Options { quantize: Some(Quantize::Absmean), ..Options::default() };
    let (file, _) = parts.convert(&absmean).unwrap();
    assert_eq!(ternary(&file, "blk.0.attn_q.weight"), (trits(0, 256), 0.7));
}

#[test]
fn a_repeated_head_is_left_out() {
    let plain = Tiny::bitnet().converted();
    let mut parts = Parts::of(&plain);
    let embedding = parts.get("token_embd.weight").clone();
    parts.tensors.push(("output.weight".to_owned(), embedding.1, embedding.2, embedding.3));
    let (file, report) = parts.converted();
    assert!(file == plain);
    contains(&report.notes[0], "output.weight repeats the embedding");
    parts.get("output.weight").3[0] ^= 1;
    assert!(Gguf::parse(&parts.converted().0).unwrap().tensor("output.weight").is_some());
}

#[test]
fn a_q8_0_head_stays_one() {
    let mut tiny = Tiny::bitnet();
    // Rows of 32 are whole blocks.
    tiny.config["hidden_size"] = serde_json::json!(32);
    for (i, (name, rows, cols)) in PROJECTIONS.into_iter().enumerate() {
        let (rows, cols) = if matches!(i, 3 | 6) { (32, cols) } else { (rows, 32) };
        *tiny.get(&(block(name) + ".weight")) = pack(&trits(1, rows * cols), rows, cols);
    }
    tiny.config["head_dim"] = serde_json::json!(8);
    for norm in ["input_layernorm", "post_attention_layernorm"] {
        tiny.set(block(norm) + ".weight", "F32", &[32], f32s(&[1.0; 32]));
    }
    tiny.set("model.norm.weight", "F32", &[32], f32s(&[1.0; 32]));
    let values: Vec<f32> = (0..VOCAB * 32).map(|i| (i as f32 - 320.0) / 64.0).collect();
    tiny.set("model.embed_tokens.weight", "F32", &[VOCAB, 32], f32s(&values));
    let q8 = Options { head: Head::Q8_0, ..Options::default() };
    let (file, report) = tiny.convert(&q8).unwrap();
    contains(&report.notes[0], "token_embd.weight was stored as Q8_0 with rounding; it was F32");
    let gguf = Gguf::parse(&file).unwrap();
    let info = gguf.tensor("token_embd.weight").unwrap();
    for (block, values) in info.bytes(&file).chunks(34).zip(values.chunks(32)) {
        let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
        for (&code, value) in block[2..].iter().zip(values) {
            assert!((f32::from(code as i8) * scale - value).abs() <= 0.51 * scale);
        }
    }
    assert!(Parts::of(&file).converted().0 == file);
    assert!(Parts::of(&file).convert(&q8).unwrap().0 == file);
    let f16 = Options { head: Head::F16, ..Options::default() };
    contains(&Parts::of(&file).convert(&f16).unwrap_err().to_string(), "the source has it as Q8_0");
}

#[test]
fn sizes_listed_for_every_layer_become_one_number() {
    let ours = Tiny::bitnet().converted();
    let plain = Parts::foreign(&ours).converted().0;
    for (key, size) in
        [("attention.head_count", 2), ("attention.head_count_kv", 1), ("feed_forward_length", 24)]
    {
        let mut parts = Parts::foreign(&ours);
        parts.metadata.insert(format!("bitnet-b1.58.{key}"), vec![size; 1]);
        assert!(trilobite_runtime::Model::from_bytes(parts.file()).is_ok());
        assert!(parts.converted().0 == plain);
        parts.metadata.insert(format!("bitnet-b1.58.{key}"), vec![size; 2]);
        contains(&parts.error(), &format!("{key} is a list of 2, expected an entry for each of 1"));
    }
}

#[test]
fn special_ids_that_are_no_tokens_are_said_and_left_out() {
    let mut parts = Parts::foreign(&Tiny::bitnet().converted());
    parts.metadata.insert("tokenizer.ggml.tokens", vec!["<s>".to_owned(), "</s>".to_owned()]);
    parts.metadata.insert("tokenizer.ggml.bos_token_id", u32::MAX);
    parts.metadata.insert("tokenizer.ggml.eos_token_id", 2u32);
    parts.metadata.insert("tokenizer.ggml.eot_token_id", 1u32);
    parts.metadata.insert("tokenizer.ggml.padding_token_id", -1i32);
    let (file, report) = parts.converted();
    let said = report.notes.join("\n");
    contains(&said, "tokenizer.ggml.bos_token_id is 4294967295, which is no token");
    contains(&said, "tokenizer.ggml.eos_token_id is 2, which is no token");
    contains(&said, "tokenizer.ggml.padding_token_id is -1, which is no token");
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!(gguf.metadata().u32s("trilobite.eos_token_ids").unwrap(), Some(vec![1]));
    assert!(gguf.metadata().get("trilobite.bos_token").is_none());
}

#[test]
fn scaled_rope_is_kept() {
    let mut parts = Parts::foreign(&Tiny::llama().converted());
    let set = |parts: &mut Parts, key: &str, value: Value| {
        parts.metadata.insert(format!("llama.rope.{key}"), value);
    };
    // The old key is replaced by the new one.
    set(&mut parts, "scale_linear", 2f32.into());
    let gguf = Gguf::parse(&parts.converted().0).unwrap();
    assert_eq!(gguf.metadata().f32("llama.rope.scaling.factor").unwrap(), Some(2.0));
    assert!(gguf.metadata().get("llama.rope.scale_linear").is_none());
    parts.retain(|key| !key.ends_with("scale_linear"));

    set(&mut parts, "scaling.type", "yarn".into());
    set(&mut parts, "scaling.factor", 4f32.into());
    set(&mut parts, "scaling.yarn_beta_fast", 8f32.into());
    set(&mut parts, "scaling.attn_factor", 1.5f32.into());
    let file = parts.converted().0;
    assert!(Parts::of(&file).converted().0 == file);
    let gguf = Gguf::parse(&file).unwrap();
    for (key, value) in [("factor", 4.0), ("yarn_beta_fast", 8.0), ("attn_factor", 1.5)] {
        let key = format!("llama.rope.scaling.{key}");
        assert_eq!(gguf.metadata().f32(&key).unwrap(), Some(value));
    }

    parts.retain(|key| !key.contains("rope.scaling"));
    set(&mut parts, "scaling.type", "longrope".into());
    contains(&parts.error(), "tensor rope_factors_short.weight is missing");
    parts.push("rope_factors_long.weight", &[4], &[1.0, 2.0, 3.0, 4.0]);
    parts.push("rope_factors_short.weight", &[4], &[1.0, 1.5, 2.0, 2.5]);
    let file = parts.converted().0;
    assert_eq!(dense(&file, "rope_factors_long.weight"), [1.0, 2.0, 3.0, 4.0]);
    assert!(trilobite_runtime::Model::from_bytes(file).is_ok());
    // Without the type the other keys are unexplained.
    let mut untold = Parts::of(&parts.file());
    untold.retain(|key| !key.contains("rope.scaling"));
    contains(&untold.error(), "unexpected tensor rope_factors_long.weight");
    parts.get("rope_factors_short.weight").3 = f32s(&[1.0, 0.0, 2.0, 2.5]);
    let message = "\"rope_factors_short.weight\" holds 0 at element 1, expected a positive number";
    contains(&parts.error(), message);
    let opened = trilobite_runtime::Model::from_bytes(parts.file());
    contains(&chain(&opened.err().unwrap()), "rope_factors_short.weight");
}

#[test]
fn what_does_not_fit_is_named() {
    type Change = fn(&mut Parts);
    let set = |key: &'static str, value: Value| {
        move |parts: &mut Parts| parts.metadata.insert(key, value.clone())
    };
    let ours = Tiny::bitnet().converted();
    let error = |change: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::foreign(&ours);
        change(&mut parts);
        chain(&parts.convert(&Options::default()).unwrap_err())
    };
    let metadata: [(&str, Value, &str); 8] = [
        ("general.architecture", "qwen3moe".into(), "architecture \"qwen3moe\" is not supported"),
        ("general.architecture", 5u32.into(), "key \"general.architecture\" is u32"),
        ("split.count", 2u16.into(), "part 1 of 1 says of itself that it is part 1 of 2"),
        ("bitnet-b1.58.rope.scaling.type", "ntk".into(), "rope.scaling.type is \"ntk\""),
        ("bitnet-b1.58.embedding_length", 0u32.into(), "embedding_length is 0"),
        ("bitnet-b1.58.attention.head_count_kv", 3u32.into(), "head_count_kv is 3"),
        ("bitnet-b1.58.rope.dimension_count", 4u32.into(), "value_length is 8"),
        ("bitnet-b1.58.rope.freq_base", f32::NAN.into(), "rope.freq_base is NaN, expected a"),
    ];
    for (key, value, expected) in metadata {
        contains(&error(&set(key, value)), expected);
    }
    let tensors: [(Change, &str); 8] = [
        (
            |p| p.get("output_norm.weight").0 = "output_nrm.weight".to_owned(),
            "tensor output_norm.weight is missing",
        ),
        (|p| p.push("blk.0.attn_q.bias", &[1], &[0.0]), "attn_q.bias has shape [1], expected [16]"),
        (|p| p.push("blk.0.ffn_up.bias", &[1], &[0.0]), "unexpected tensor blk.0.ffn_up.bias"),
        (|p| p.get("output_norm.weight").2 = vec![1, 16], "has shape [1, 16], expected [16]"),
        (
            |p| p.get("blk.0.attn_q.weight").3[7] |= 0b11,
            "m.gguf: tensor blk.0.attn_q.weight has a code that stands for no weight",
        ),
        (
            |p| p.get("blk.0.attn_q.weight").3[64..].copy_from_slice(&tail::tail(f32::INFINITY)),
            "scale blk.0.attn_q.weight is inf",
        ),
        (
            |p| p.get("blk.0.attn_norm.weight").3[..4].copy_from_slice(&f32s(&[f32::NAN])),
            "attn_norm.weight holds NaN at element 0",
        ),
        (|p| p.get("token_embd.weight").1 = TensorType::I2R, "token_embd.weight has type I2_R"),
    ];
    for (change, expected) in tensors {
        let message = error(&|parts: &mut Parts| {
            change(parts);
            let embedding = parts.get("token_embd.weight");
            let len = embedding.1.byte_len(&embedding.2).unwrap_or(0);
            embedding.3.resize(len as usize, 0);
        });
        contains(&message, expected);
    }
    let strict = Options { layout: Layout::I2S, ..Options::default() };
    assert!(Parts::of(&ours).convert(&strict).is_ok());
    let cut = Checkpoint::from_files(vec![("m.gguf".to_owned(), ours[..900].to_vec().into())]);
    contains(&chain(&run(&cut.unwrap(), &strict).unwrap_err()), "m.gguf: ");
}

#[test]
fn a_header_with_any_byte_changed_never_panics() {
    let ours = Tiny::bitnet().converted();
    let data = Gguf::parse(&ours).unwrap().tensors()[0].range.start;
    for at in 0..data {
        for byte in [0, 2, 0x7f, 0xff] {
            let mut file = ours.clone();
            file[at] = byte;
            let files = vec![("m.gguf".to_owned(), file.into())];
            let _ = Checkpoint::from_files(files).and_then(|c| run(&c, &Options::default()));
        }
    }
}
