use std::collections::HashSet;
use std::ops::ControlFlow;

use serde_json::Value;
use trilobite_convert::Options;

use super::tensors::{Dtype, Fill, Tensor, ZEROS, tensors};
use super::*;
use crate::models::{Model, Models, Shape, Weights};

fn all(shape: &Shape, weights: Weights) -> Vec<Tensor> {
    tensors(&config::config(shape, weights), weights).unwrap()
}

#[test]
fn bitnet_2b4t_has_the_published_tensors() {
    let models = Models::load().unwrap();
    let model = models.find("bitnet-b1.58-2b-4t").unwrap();
    let list = all(models.shape(model).unwrap(), model.weights);

    let codes: Vec<_> = list.iter().filter(|t| t.fill == Fill::TernaryCodes).collect();
    assert_eq!(codes.len(), 210);
    let weights: usize = codes.iter().map(|t| 4 * t.bytes()).sum();
    assert_eq!(weights, 2_084_044_800);
    // The published GGUF stores each scale in its matrix.
    let scales = list.iter().filter(|t| t.name.ends_with(".weight_scale")).count();
    assert_eq!(list.len() - scales, 332);

    let down = list.iter().find(|t| t.name == "model.layers.29.mlp.down_proj.weight").unwrap();
    assert_eq!((down.dtype, down.shape.as_slice()), (Dtype::U8, &[640, 6912][..]));
    assert!(list.iter().all(|t| t.name != "lm_head.weight"));
}

#[test]
fn every_listed_shape_has_tensors_and_a_whole_vocabulary() {
    let models = Models::load().unwrap();
    let written = |model: &&Model| !matches!(model.weights, Weights::Gguf | Weights::Rows);
    for model in models.model.iter().filter(written) {
        let name = &model.name;
        let Ok(shape) = models.shape(model) else { continue };
        let more = match shape.class.as_str() {
            "LlamaForCausalLM" => 0,
            "BitNetForCausalLM" | "BitnetForCausalLM" | "Qwen3ForCausalLM" => 2,
            "Qwen2ForCausalLM" => 3,
            "Gemma3ForCausalLM" => 4,
            other => panic!("{other}"),
        };
        let scales = if model.weights == Weights::Packed { 7 } else { 0 };
        let head = usize::from(!shape.tie_word_embeddings);
        assert_eq!(
            all(shape, model.weights).len(),
            2 + head + shape.num_hidden_layers * (9 + more + scales),
            "{name}"
        );

        let tokenizer = tokenizer::tokenizer(shape).unwrap();
        let vocab = tokenizer["model"]["vocab"].as_object().unwrap();
        let added = tokenizer["added_tokens"].as_array().unwrap();
        let ids: HashSet<u64> = vocab
            .values()
            .chain(added.iter().map(|token| &token["id"]))
            .map(|id| id.as_u64().unwrap())
            .collect();
        assert_eq!(ids, (0..shape.vocab_size as u64).collect(), "{name}");
        for merge in tokenizer["model"]["merges"].as_array().unwrap() {
            let (left, right) = (merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
            for token in [left, right, &format!("{left}{right}")] {
                assert!(vocab.contains_key(token), "{name}: {token}");
            }
        }
    }
}

#[test]
fn the_dense_models_have_their_published_sizes() {
    let models = Models::load().unwrap();
    for (name, parameters) in [
        ("llama-3.2-1b-instruct", 1_235_814_400),
        ("qwen2.5-1.5b-instruct", 1_543_714_304),
        ("qwen3-0.6b", 596_049_920),
        ("gemma-3-1b-it", 999_885_952),
        ("smollm2-135m-instruct", 134_515_008),
        ("gemma-3-270m-it", 268_098_176),
    ] {
        let model = models.find(name).unwrap();
        let list = all(models.shape(model).unwrap(), model.weights);
        assert_eq!(list.iter().map(|t| t.bytes() / 2).sum::<usize>(), parameters, "{name}");
    }
}

#[test]
fn maple_has_its_published_size_and_is_written_packed() {
    let models = Models::load().unwrap();
    let model = models.find("maple").unwrap();
    let mut shape = models.shape(model).unwrap().clone();
    let list = all(&shape, model.weights);
    let experts = list.iter().filter(|t| t.name.contains(".mlp.experts.")).count();
    assert_eq!(experts, 24 * 256 * 3);
    let parameters: usize = list.iter().map(|t| t.bytes() / 2).sum();
    assert_eq!(parameters, 20_214_030_336);

    // Few, narrow experts.
    (shape.num_hidden_layers, shape.vocab_size, shape.base_vocab_size) = (2, 300, 297);
    (shape.hidden_size, shape.num_attention_heads) = (256, 2);
    shape.num_key_value_heads = 1;
    for (key, value) in
        [("num_experts", 3), ("moe_intermediate_size", 256), ("num_experts_per_tok", 2)]
    {
        shape.config.insert(key.to_owned(), value.into());
    }
    let mut file = Vec::new();
    packed::write(&mut file, &shape, 1).unwrap();
    let gguf = trilobite_format::Gguf::parse(&file).unwrap();
    let total: usize = gguf.tensors().iter().map(|info| info.range.len()).sum();
    assert_eq!(total as u64, packed::bytes(&shape).unwrap());
    let model = trilobite_format::model::Hyperparameters::read(gguf.metadata(), None).unwrap();
    assert_eq!(model.experts.unwrap().count, 3);
    assert_eq!(model.window.unwrap().layers, [true, true]);
    let info = gguf.tensor("blk.1.ffn_down_exps.weight").unwrap();
    let blocks = info.bytes(&file).as_chunks::<66>().0;
    assert!(blocks.iter().all(|block| block[64..] == blocks[0][64..]));
}

#[test]
fn bonsai_and_the_embedding_model_have_their_published_sizes() {
    let models = Models::load().unwrap();
    for (name, parameters) in [
        ("bonsai-1.7b", 1_720_574_976),
        ("bonsai-4b", 4_022_468_096),
        ("bonsai-8b", 8_190_735_360),
        // As Qwen 3 0.6B, with the norms of 196 projections.
        ("bitnet-embedding-0.6b", 596_049_920 + 28 * (5 * 1024 + 2048 + 3072)),
    ] {
        let (weights, shape) = models.unlisted(name).unwrap();
        let list = all(shape, weights);
        assert_eq!(list.iter().map(|t| t.bytes() / 2).sum::<usize>(), parameters, "{name}");
    }
}

#[test]
fn small_checkpoints_convert_to_what_they_are_random_versions_of() {
    let models = Models::load().unwrap();
    for (name, ty) in [("bonsai-1.7b", "PQ2_0"), ("bitnet-embedding-0.6b", "I2_S")] {
        let (weights, shape) = models.unlisted(name).unwrap();
        let mut shape = shape.clone();
        (shape.num_hidden_layers, shape.vocab_size, shape.base_vocab_size) = (2, 300, 297);
        (shape.hidden_size, shape.intermediate_size, shape.head_dim) = (256, 384, 64);
        (shape.num_attention_heads, shape.num_key_value_heads) = (4, 2);
        (shape.bos_token_id, shape.eos_token_id) = (Some(297), vec![298, 297]);
        shape.special_tokens = [("297", "<|endoftext|>"), ("298", "<|im_end|>")]
            .map(|(id, name)| (id.to_owned(), name.to_owned()))
            .into();
        let folder = tempfile::tempdir().unwrap();
        write_checkpoint(&shape, weights, folder.path(), 1).unwrap();
        let checkpoint = trilobite_convert::Checkpoint::open(folder.path()).unwrap();
        let mut file = Vec::new();
        let progress = &mut |_: trilobite_convert::Progress<'_>| ControlFlow::Continue(());
        trilobite_convert::convert(&checkpoint, &Options::default(), &mut file, progress).unwrap();
        let gguf = trilobite_format::Gguf::parse(&file).unwrap();
        assert_eq!(gguf.tensor("blk.1.ffn_down.weight").unwrap().ty.name(), ty, "{name}");
        let embeds = gguf.tensor("blk.1.ffn_down_norm_in.weight").is_some();
        assert_eq!(embeds, name.contains("embedding"));
    }
}

#[test]
fn the_table_of_the_report_is_whole() {
    let models = Models::load().unwrap();
    let columns: Vec<_> = models.model.iter().filter_map(|m| m.published.as_ref()).collect();
    assert_eq!(columns.len(), 4);
    for column in columns {
        assert!(column.scores.keys().eq(models.model[0].published.as_ref().unwrap().scores.keys()));
        assert_eq!(column.scores.len(), 16);
    }
}

#[test]
fn the_same_seed_gives_the_same_file() {
    let list = [
        Tensor { name: "a".into(), dtype: Dtype::F32, shape: vec![3], fill: Fill::NearOne },
        Tensor {
            name: "b".into(),
            dtype: Dtype::U8,
            shape: vec![700, 600],
            fill: Fill::TernaryCodes,
        },
    ];
    let file = |seed| {
        let mut bytes = Vec::new();
        write_safetensors(&mut bytes, &list, seed).unwrap();
        bytes
    };
    assert_eq!(file(1), file(1));
    assert_ne!(file(1), file(2));

    let bytes = file(1);
    let (length, rest) = bytes.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!(header["b"]["data_offsets"], json!([12, 420_012]));
    assert_eq!(data.len(), 420_012);

    let codes = || data[12..].iter().flat_map(|byte| (0..4).map(move |i| byte >> (2 * i) & 3));
    let share = |code| codes().filter(|c| *c == code).count() as f32 / codes().count() as f32;
    assert_eq!(share(3), 0.0);
    assert!((share(1) - ZEROS).abs() < 0.001);
    assert!((share(0) - share(2)).abs() < 0.001);
}
