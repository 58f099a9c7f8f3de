use serde_json::json;
use trilobite_format::{Gguf, TensorType};
use trilobite_kernels::{DenseMatrix, DenseType, Kernels};

use crate::Options;
use crate::testing::*;

const WIDE: u64 = 256;

/// The codes and the scales of rows of [`Tiny::maple_rows`].
fn packed(rows: u64) -> (Vec<u8>, Vec<f32>) {
    let codes = (0..rows).flat_map(|row| trits(row, WIDE)).map(|trit| (trit + 1) as u8);
    let codes: Vec<u8> = codes.collect();
    let bytes = codes.chunks(4).map(|c| c[0] | c[1] << 2 | c[2] << 4 | c[3] << 6).collect();
    (bytes, (0..rows).map(|row| (row + 1) as f32 / 64.0).collect())
}

/// Sets the words and the scales of matrices of so many rows each, one below the other.
fn set(tiny: &mut Tiny, module: &str, experts: Option<u64>, heights: &[u64]) {
    let (mut words, mut alphas) = (Vec::new(), Vec::new());
    for height in (0..experts.unwrap_or(1)).flat_map(|_| heights) {
        let (bytes, scales) = packed(*height);
        words.extend(bytes);
        alphas.extend(scales);
    }
    let shape: Vec<u64> = experts.into_iter().chain([heights.iter().sum()]).collect();
    let words_shape: Vec<u64> = shape.iter().copied().chain([WIDE / 16]).collect();
    tiny.set(block(module) + ".weight", "U32", &words_shape, words);
    tiny.set(block(module) + ".row_alpha", "BF16", &shape, bf16s(&alphas));
}

/// [`Tiny::maple`] as MLX packs it, with one tensor for several projections or for each.
fn mlx(fused: bool) -> Tiny {
    let mut tiny = Tiny::maple();
    tiny.tensors.retain(|(name, _)| !name.contains("_proj"));
    tiny.config["quantization"] = json!({"group_size": 128, "bits": 2, "mode": "affine"});
    tiny.config["quantization_config"] = tiny.config["quantization"].clone();
    set(&mut tiny, "self_attn.o_proj", None, &[WIDE]);
    set(&mut tiny, "mlp.switch_mlp.down_proj", Some(2), &[WIDE]);
    if fused {
        set(&mut tiny, "self_attn.qkv_proj", None, &[WIDE, 64, 64]);
        set(&mut tiny, "mlp.switch_mlp.up_gate_proj", Some(2), &[WIDE, WIDE]);
    } else {
        for (name, rows) in [("q_proj", WIDE), ("k_proj", 64), ("v_proj", 64)] {
            set(&mut tiny, &format!("self_attn.{name}"), None, &[rows]);
        }
        for name in ["up_proj", "gate_proj"] {
            set(&mut tiny, &format!("mlp.switch_mlp.{name}"), Some(2), &[WIDE]);
        }
    }
    tiny
}

#[test]
fn packs_of_mlx_become_the_file_of_their_floats() {
    let expected = Tiny::maple().converted();
    assert!(mlx(true).converted() == expected);
    assert!(mlx(false).converted() == expected);

    // Up rows come before gate rows: the file changes with those of the gates.
    let mut other = mlx(true);
    let name = block("mlp.switch_mlp.up_gate_proj.row_alpha");
    let alphas = &mut other.get(&name).2;
    alphas[2 * WIDE as usize..][..2].copy_from_slice(&[0, 0x40]);
    let file = other.converted();
    let gguf = Gguf::parse(&file).unwrap();
    let of =
        |file, name: &str| Gguf::parse(file).unwrap().tensor(name).unwrap().bytes(file).to_vec();
    for (name, same) in [("ffn_up_exps", true), ("ffn_gate_exps", false)] {
        let name = format!("blk.0.{name}.weight");
        assert!(gguf.tensor(&name).is_some());
        assert_eq!(of(&file, &name) == of(&expected, &name), same, "{name}");
    }
}

#[test]
fn scales_for_groups_are_the_scales_of_rows() {
    let mut tiny = mlx(false);
    for (name, rows) in [("self_attn.q_proj", WIDE), ("mlp.switch_mlp.up_proj", 2 * WIDE)] {
        let alphas = block(name) + ".row_alpha";
        let Tensor(_, mut shape, bytes) = tiny.get(&alphas).clone();
        tiny.tensors.retain(|(name, _)| *name != alphas);
        let twice: Vec<u8> = bytes.chunks(2).flat_map(|b| [b, b].concat()).collect();
        let negative = twice.chunks(2).flat_map(|b| [b[0], b[1] ^ 0x80]).collect();
        assert_eq!(twice.len() as u64, 4 * rows);
        shape.push(2);
        tiny.set(block(name) + ".scales", "BF16", &shape, twice);
        tiny.set(block(name) + ".biases", "BF16", &shape, negative);
    }
    assert!(tiny.converted() == Tiny::maple().converted());
    tiny.get(&block("self_attn.q_proj.biases")).2[1] ^= 0x80;
    contains(&tiny.error(), "group 0 of model.layers.0.self_attn.q_proj.scales has the scale");
}

#[test]
fn scales_that_f16_lacks_keep_the_weights_as_floats() {
    let mut tiny = mlx(false);
    let name = block("self_attn.k_proj.row_alpha");
    tiny.set(name, "F32", &[64], f32s(&[1.0 / 3.0; 64]));
    let (file, report) = tiny.convert(&Options::default()).unwrap();
    let weights: Vec<f32> =
        (0..64).flat_map(|row| trits(row, WIDE)).map(|trit| f32::from(trit) / 3.0).collect();
    assert_eq!(dense(&file, "blk.0.attn_k.weight"), weights);
    assert!(report.notes.iter().any(|note| note.starts_with("1 projections are stored as floats")));
}

/// The tensors of an embedding of four bits, and its weights.
fn four_bits(tiny: &mut Tiny, module: &str, scale: f32) -> Vec<f32> {
    let codes: Vec<u8> = (0..VOCAB * WIDE).map(|i| (i * i % 13 + i % 4) as u8).collect();
    let bytes = codes.chunks(2).map(|c| c[0] | c[1] << 4).collect();
    let scales: Vec<f32> = (0..VOCAB * WIDE / 64).map(|i| (i as f32 - 40.0) * scale).collect();
    let biases: Vec<f32> = scales.iter().map(|scale| scale * -3.5).collect();
    let groups = [VOCAB, WIDE / 64];
    tiny.set(format!("{module}.weight"), "U32", &[VOCAB, WIDE / 8], bytes);
    tiny.set(format!("{module}.scales"), "F32", &groups, f32s(&scales));
    tiny.set(format!("{module}.biases"), "F32", &groups, f32s(&biases));
    for key in ["quantization", "quantization_config"] {
        tiny.config[key][module] = json!({"group_size": 64, "bits": 4});
    }
    let weight = |(i, code): (usize, &u8)| f32::from(*code) * scales[i / 64] + biases[i / 64];
    codes.iter().enumerate().map(weight).collect()
}

#[test]
fn an_embedding_and_a_head_of_four_bits_keep_their_weights() {
    let mut tiny = mlx(false);
    let embedding = four_bits(&mut tiny, "model.word_embeddings", 1.0 / 64.0);
    let head = four_bits(&mut tiny, "lm_head", 1.0 / 3.0);
    tiny.set("lm_head_flash.token_map", "I32", &[1, VOCAB], vec![0; 4 * VOCAB as usize]);
    let (file, report) = tiny.convert(&Options::default()).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("approximate head")));
    let gguf = Gguf::parse(&file).unwrap();
    let info = gguf.tensor("token_embd.weight").unwrap();
    assert_eq!(info.ty, TensorType::Q4_1);
    let bytes = info.bytes(&file);
    let matrix = DenseMatrix::new(DenseType::Q4_1, bytes, VOCAB as usize, WIDE as usize).unwrap();
    let mut row = vec![0.0; WIDE as usize];
    for (i, expected) in embedding.chunks_exact(WIDE as usize).enumerate() {
        Kernels::best().dense_row(&matrix, i, &mut row);
        assert_eq!(row, expected, "{i}");
    }
    // A scale that F16 lacks.
    assert_eq!(dense(&file, "output.weight"), head);
}

#[test]
fn a_damaged_or_ambiguous_pack_is_refused() {
    let with = |change: &dyn Fn(&mut Tiny)| {
        let mut tiny = mlx(true);
        change(&mut tiny);
        tiny.error()
    };
    let without =
        |name: &str| with(&|tiny| tiny.tensors.retain(|(tensor, _)| *tensor != block(name)));
    contains(&without("self_attn.qkv_proj.weight"), "self_attn.q_proj.weight is missing");
    contains(&without("mlp.switch_mlp.down_proj.row_alpha"), "down_proj.row_alpha is missing");
    contains(
        &with(&|tiny| set(tiny, "self_attn.qkv_proj", None, &[WIDE, 64, 63])),
        "qkv_proj.weight has shape [383, 16], expected [384, 16]",
    );
    contains(
        &with(&|tiny| set(tiny, "mlp.switch_mlp.up_gate_proj", Some(3), &[WIDE, WIDE])),
        "up_gate_proj.weight has shape [3, 512, 16], expected [2, 512, 16]",
    );
    // Two versions of one matrix.
    contains(
        &with(&|tiny| set(tiny, "self_attn.q_proj", None, &[WIDE])),
        "unexpected tensor model.layers.0.self_attn.q_proj",
    );
    contains(
        &with(&|tiny| {
            tiny.set(block("self_attn.o_proj.scales"), "BF16", &[WIDE, 2], vec![0; 1024]);
        }),
        "unexpected tensor model.layers.0.self_attn.o_proj.scales",
    );
    let alpha = block("self_attn.o_proj.row_alpha");
    let nan = bf16s(&[f32::NAN; WIDE as usize]);
    contains(
        &with(&|tiny| tiny.set(alpha.as_str(), "BF16", &[WIDE], nan.clone())),
        "row_alpha holds NaN at element 0",
    );
    contains(
        &with(&|tiny| tiny.set(alpha.as_str(), "I8", &[WIDE], vec![1; WIDE as usize])),
        "self_attn.o_proj.row_alpha has type I8, expected BF16, F16 or F32",
    );
    contains(
        &with(&|tiny| tiny.get(&block("self_attn.o_proj.weight")).0 = "I32"),
        "self_attn.o_proj.weight has type I32, expected U32",
    );
    contains(
        &with(&|tiny| tiny.config["quantization"]["bits"] = json!(4)),
        "`quantization.bits` is 4, expected 2",
    );
    let eight = json!({"group_size": 64, "bits": 8});
    contains(
        &with(&|tiny| tiny.config["quantization"]["lm_head"] = eight.clone()),
        "expected 2 bits in groups of 128, or 4 in groups of a multiple of 32",
    );
}
