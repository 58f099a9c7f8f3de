//! Tiny checkpoints for tests, built in memory.

use std::borrow::Cow;

use serde_json::{Value, json};
use trilobite_format::{Gguf, TensorType, ternary};

use crate::{Checkpoint, Error, Options, Report, convert, ignore_progress};

/// A tensor of a safetensors file: type, shape, bytes.
#[derive(Clone)]
pub(crate) struct Tensor(pub(crate) &'static str, pub(crate) Vec<u64>, pub(crate) Vec<u8>);

/// A checkpoint with one block.
#[derive(Clone)]
pub(crate) struct Tiny {
    pub(crate) config: Value,
    pub(crate) tensors: Vec<(String, Tensor)>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

pub(crate) const HIDDEN: u64 = 16;
pub(crate) const FFN: u64 = 24;
pub(crate) const VOCAB: u64 = 20;

/// Name, rows and columns of the projections. There are two heads of width eight, and one key and
/// value head.
pub(crate) const PROJECTIONS: [(&str, u64, u64); 7] = [
    ("self_attn.q_proj", 16, HIDDEN),
    ("self_attn.k_proj", 8, HIDDEN),
    ("self_attn.v_proj", 8, HIDDEN),
    ("self_attn.o_proj", HIDDEN, 16),
    ("mlp.gate_proj", FFN, HIDDEN),
    ("mlp.up_proj", FFN, HIDDEN),
    ("mlp.down_proj", HIDDEN, FFN),
];

/// Pseudorandom trits, determined by the seed.
pub(crate) fn trits(seed: u64, n: u64) -> Vec<i8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % 3) as i8 - 1
        })
        .collect()
}

pub(crate) fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub(crate) fn bf16s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect()
}

/// Packs trits as transformers does.
pub(crate) fn pack(trits: &[i8], rows: u64, cols: u64) -> Tensor {
    let quarter = (rows / 4 * cols) as usize;
    let bytes = (0..quarter)
        .map(|at| (0..4).map(|i| ((trits[at + i * quarter] + 1) as u8) << (2 * i)).sum())
        .collect();
    Tensor("U8", vec![rows / 4, cols], bytes)
}

/// The name of a tensor of the only block.
pub(crate) fn block(name: &str) -> String {
    format!("model.layers.0.{name}")
}

impl Tiny {
    /// `BitNetForCausalLM` with packed weights and a scale that multiplies. The trits of projection
    /// `i` of [`PROJECTIONS`] are `trits(i, ..)`, its scale is `0.5 + i / 8`.
    pub(crate) fn bitnet() -> Tiny {
        let mut tiny = Tiny {
            config: json!({
                "architectures": ["BitNetForCausalLM"], "model_type": "bitnet",
                "hidden_act": "relu2", "hidden_size": HIDDEN, "intermediate_size": FFN,
                "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
                "vocab_size": VOCAB, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
                "rope_theta": 10000.0, "tie_word_embeddings": true,
                "quantization_config": {"quant_method": "bitnet",
                    "linear_class": "autobitlinear", "quantization_mode": "offline"},
            }),
            tensors: Vec::new(),
            files: Vec::new(),
        };
        let embedding: Vec<f32> = (0..VOCAB * HIDDEN).map(|i| i as f32 / 8.0 - 2.0).collect();
        tiny.set("model.embed_tokens.weight", "BF16", &[VOCAB, HIDDEN], bf16s(&embedding));
        for (name, len) in [
            ("input_layernorm", HIDDEN),
            ("post_attention_layernorm", HIDDEN),
            ("self_attn.attn_sub_norm", 16),
            ("mlp.ffn_sub_norm", FFN),
        ] {
            tiny.set(block(name) + ".weight", "BF16", &[len], bf16s(&vec![1.0; len as usize]));
        }
        tiny.set("model.norm.weight", "F32", &[HIDDEN], f32s(&[2.0; HIDDEN as usize]));
        for (i, (name, rows, cols)) in PROJECTIONS.into_iter().enumerate() {
            let packed = pack(&trits(i as u64, rows * cols), rows, cols);
            tiny.tensors.push((block(name) + ".weight", packed));
            tiny.set(block(name) + ".weight_scale", "BF16", &[1], bf16s(&[0.5 + i as f32 / 8.0]));
        }
        tiny
    }

    /// `LlamaForCausalLM` with packed weights, a scale that divides, and an untied head.
    pub(crate) fn llama() -> Tiny {
        let mut tiny = Tiny::bitnet();
        tiny.config["architectures"] = json!(["LlamaForCausalLM"]);
        tiny.config["model_type"] = json!("llama");
        tiny.config["hidden_act"] = json!("silu");
        tiny.config["tie_word_embeddings"] = json!(false);
        tiny.config["quantization_config"] =
            json!({"quant_method": "bitnet", "modules_to_not_convert": null});
        tiny.tensors.retain(|(name, _)| !name.contains("sub_norm"));
        let head: Vec<f32> = (0..VOCAB * HIDDEN).map(|i| 3.0 - i as f32 / 16.0).collect();
        tiny.set("lm_head.weight", "BF16", &[VOCAB, HIDDEN], bf16s(&head));
        tiny
    }

    /// `Qwen2ForCausalLM`: dense, with biases that count up in steps of 1/8 from the index of the
    /// projection.
    pub(crate) fn qwen2() -> Tiny {
        let mut tiny = Tiny::llama().with_dense(|i, e| (i * 100 + e) as f32 / 64.0);
        tiny.config["architectures"] = json!(["Qwen2ForCausalLM"]);
        tiny.config["model_type"] = json!("qwen2");
        tiny.config["quantization_config"] = json!(null);
        for (i, (name, rows, _)) in PROJECTIONS.into_iter().take(3).enumerate() {
            let bias: Vec<f32> = (0..rows).map(|r| i as f32 + r as f32 / 8.0).collect();
            tiny.set(block(name) + ".bias", "BF16", &[rows], bf16s(&bias));
        }
        tiny
    }

    /// `Qwen3ForCausalLM`: dense, every norm stored as 0.25.
    pub(crate) fn qwen3() -> Tiny {
        let mut tiny = Tiny::llama().with_dense(|i, e| (i * 100 + e) as f32 / 64.0);
        tiny.config["architectures"] = json!(["Qwen3ForCausalLM"]);
        tiny.config["model_type"] = json!("qwen3");
        tiny.config["head_dim"] = json!(8);
        tiny.config["quantization_config"] = json!(null);
        for (name, len) in [
            ("input_layernorm", HIDDEN),
            ("post_attention_layernorm", HIDDEN),
            ("self_attn.q_norm", 8),
            ("self_attn.k_norm", 8),
        ] {
            tiny.set(block(name) + ".weight", "BF16", &[len], bf16s(&vec![0.25; len as usize]));
        }
        tiny.set("model.norm.weight", "BF16", &[HIDDEN], bf16s(&[0.25; HIDDEN as usize]));
        tiny
    }

    /// `Gemma3ForCausalLM`: dense, every norm stored as 0.25.
    pub(crate) fn gemma3() -> Tiny {
        let mut tiny = Tiny::llama().with_dense(|i, e| (i * 100 + e) as f32 / 64.0);
        tiny.config = json!({
            "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
            "hidden_activation": "gelu_pytorch_tanh", "hidden_size": HIDDEN,
            "intermediate_size": FFN, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 8, "vocab_size": VOCAB, "sliding_window": 32,
            "query_pre_attn_scalar": 8, "tie_word_embeddings": true,
        });
        tiny.tensors.retain(|(name, _)| name != "lm_head.weight");
        for (name, len) in [
            ("input_layernorm", HIDDEN),
            ("post_attention_layernorm", HIDDEN),
            ("pre_feedforward_layernorm", HIDDEN),
            ("post_feedforward_layernorm", HIDDEN),
            ("self_attn.q_norm", 8),
            ("self_attn.k_norm", 8),
        ] {
            tiny.set(block(name) + ".weight", "BF16", &[len], bf16s(&vec![0.25; len as usize]));
        }
        tiny.set("model.norm.weight", "BF16", &[HIDDEN], bf16s(&[0.25; HIDDEN as usize]));
        tiny
    }

    /// `MapleForCausalLM` with two experts, a router whose weights count up, and projections of whole
    /// blocks of TQ2_0. Row `r` of a projection holds [`trits`] of the seed `r`, multiplied by
    /// `(r + 1) / 64`, with zeros of both signs.
    pub(crate) fn maple() -> Tiny {
        const WIDE: u64 = 256;
        let mut tiny = Tiny {
            config: json!({
                "architectures": ["MapleForCausalLM"], "model_type": "maple",
                "hidden_act": "silu", "hidden_size": WIDE, "num_hidden_layers": 1,
                "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 64,
                "vocab_size": VOCAB, "max_position_embeddings": 64, "sliding_window": 8,
                "layer_types": ["sliding_attention"], "num_experts": 2, "num_experts_per_tok": 1,
                "moe_intermediate_size": WIDE,
            }),
            tensors: Vec::new(),
            files: Vec::new(),
        };
        let counting = |n: u64| bf16s(&(0..n).map(|i| i as f32 / 8.0 - 2.0).collect::<Vec<_>>());
        for name in ["model.word_embeddings", "lm_head"] {
            let shape = [VOCAB, WIDE];
            tiny.set(format!("{name}.weight"), "BF16", &shape, counting(VOCAB * WIDE));
        }
        tiny.set(block("mlp.gate.weight"), "BF16", &[2, WIDE], counting(2 * WIDE));
        for (name, len) in [
            ("input_layernorm", WIDE),
            ("post_attention_layernorm", WIDE),
            ("self_attn.q_norm", 64),
            ("self_attn.k_norm", 64),
        ] {
            tiny.set(block(name) + ".weight", "BF16", &[len], bf16s(&vec![1.0; len as usize]));
        }
        tiny.set("model.norm.weight", "BF16", &[WIDE], bf16s(&[2.0; WIDE as usize]));
        let projections = [("q_proj", WIDE), ("k_proj", 64), ("v_proj", 64), ("o_proj", WIDE)]
            .map(|(name, rows)| (format!("self_attn.{name}"), rows));
        let experts = ["gate_proj", "up_proj", "down_proj"].into_iter().flat_map(|name| {
            (0..2).map(move |expert| (format!("mlp.experts.{expert}.{name}"), WIDE))
        });
        for (name, rows) in projections.into_iter().chain(experts) {
            let weights = bf16s(&Tiny::maple_rows(rows, WIDE));
            tiny.set(block(&name) + ".weight", "BF16", &[rows, WIDE], weights);
        }
        tiny
    }

    /// The weights of a projection of [`maple`](Self::maple).
    pub(crate) fn maple_rows(rows: u64, cols: u64) -> Vec<f32> {
        let row = |r: u64| {
            let scale = (r + 1) as f32 / 64.0;
            trits(r, cols).into_iter().enumerate().map(move |(i, trit)| match trit {
                0 if i % 2 == 0 => -0.0,
                trit => f32::from(trit) * scale,
            })
        };
        (0..rows).flat_map(row).collect()
    }

    /// Replaces the projections by dense F32 weights: `weight(projection, element)`.
    pub(crate) fn with_dense(mut self, weight: impl Fn(usize, usize) -> f32) -> Tiny {
        self.tensors.retain(|(name, _)| !name.ends_with("weight_scale"));
        for (i, (name, rows, cols)) in PROJECTIONS.into_iter().enumerate() {
            let weights: Vec<f32> = (0..(rows * cols) as usize).map(|e| weight(i, e)).collect();
            self.set(block(name) + ".weight", "F32", &[rows, cols], f32s(&weights));
        }
        self
    }

    /// Adds or replaces a tensor.
    pub(crate) fn set(
        &mut self,
        name: impl Into<String>,
        dtype: &'static str,
        shape: &[u64],
        bytes: Vec<u8>,
    ) {
        let name = name.into();
        self.tensors.retain(|(other, _)| *other != name);
        self.tensors.push((name, Tensor(dtype, shape.to_vec(), bytes)));
    }

    pub(crate) fn get(&mut self, name: &str) -> &mut Tensor {
        &mut self.tensors.iter_mut().find(|(other, _)| other == name).unwrap().1
    }

    pub(crate) fn rename(&mut self, name: &str, new: &str) {
        self.tensors.iter_mut().find(|(other, _)| other == name).unwrap().0 = new.to_owned();
    }

    pub(crate) fn file(&mut self, name: &str, json: Value) {
        self.files.push((name.to_owned(), json.to_string().into_bytes()));
    }

    /// All files of the checkpoint.
    pub(crate) fn all_files(&self) -> Vec<(String, Cow<'static, [u8]>)> {
        let mut files: Vec<(String, Cow<'static, [u8]>)> =
            self.files.iter().map(|(name, bytes)| (name.clone(), bytes.clone().into())).collect();
        files.push(("config.json".to_owned(), self.config.to_string().into_bytes().into()));
        files.push(("model.safetensors".to_owned(), safetensors(&self.tensors).into()));
        files
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint::from_files(self.all_files()).unwrap()
    }

    pub(crate) fn convert(&self, options: &Options) -> Result<(Vec<u8>, Report), Error> {
        run(&self.checkpoint(), options)
    }

    /// Converts with the default options.
    pub(crate) fn converted(&self) -> Vec<u8> {
        self.convert(&Options::default()).unwrap().0
    }

    /// Converts with the default options and returns the error message.
    pub(crate) fn error(&self) -> String {
        self.convert(&Options::default()).unwrap_err().to_string()
    }
}

pub(crate) fn run(checkpoint: &Checkpoint, options: &Options) -> Result<(Vec<u8>, Report), Error> {
    let mut out = Vec::new();
    let report = convert(checkpoint, options, &mut out, &mut ignore_progress)?;
    Ok((out, report))
}

/// Builds a safetensors file.
pub(crate) fn safetensors(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data: Vec<u8> = Vec::new();
    for (name, Tensor(dtype, shape, bytes)) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header
            .insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend(bytes);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// The trits and the scale of a ternary tensor, decoded weight by weight as the README of
/// trilobite-format specifies.
pub(crate) fn ternary(file: &[u8], name: &str) -> (Vec<i8>, f32) {
    let gguf = Gguf::parse(file).unwrap();
    let info = gguf.tensor(name).unwrap();
    let [rows, cols] = info.shape[..] else { panic!("{name} is no matrix") };
    let stride = match info.ty {
        TensorType::I2S => cols,
        TensorType::I2R | TensorType::I2T => cols.next_multiple_of(128),
        other => panic!("{name} is {other}"),
    };
    let (codes, scale) = ternary::split(info.bytes(file)).unwrap();
    let trit = |row: u64, col: u64| {
        let element = (row * stride + col) as usize;
        let (block, within) = (element / 128, element % 128);
        (codes[32 * block + within % 32] >> (6 - 2 * (within / 32)) & 3) as i8 - 1
    };
    let trits = (0..rows).flat_map(|row| (0..cols).map(move |col| trit(row, col))).collect();
    (trits, scale)
}

/// The values of a dense F32 or BF16 tensor.
pub(crate) fn dense(file: &[u8], name: &str) -> Vec<f32> {
    let gguf = Gguf::parse(file).unwrap();
    let info = gguf.tensor(name).unwrap();
    let bytes = info.bytes(file);
    match info.ty {
        TensorType::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        TensorType::Bf16 => {
            bytes.as_chunks().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect()
        }
        other => panic!("{name} is {other}"),
    }
}

#[track_caller]
pub(crate) fn contains(message: &str, part: &str) {
    assert!(message.contains(part), "{message:?} lacks {part:?}");
}

/// An error with its causes, as the command line prints it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", chain(cause)));
    format!("{error}{}", cause.unwrap_or_default())
}
