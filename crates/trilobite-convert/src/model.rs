//! What a model is made of, whatever its source: sizes, and the tensors that follow from them.

use trilobite_format::{Metadata, TensorType};

use crate::scan::Scan;
use crate::source::View;
use crate::trits::Ternary;

/// The architectures that Trilobite runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    /// Sub-norms, squared ReLU.
    BitNetB158,
    /// Sub-norms, SiLU.
    BitNet,
    /// No sub-norms, SiLU, q and k permuted for RoPE on adjacent pairs.
    Llama,
}

impl Arch {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Arch::BitNetB158 => "bitnet-b1.58",
            Arch::BitNet => "bitnet",
            Arch::Llama => "llama",
        }
    }
}

/// The sizes of a model. All are within [`limits`], so that products of two fit in `u64`.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) arch: Arch,
    pub(crate) vocab: u64,
    pub(crate) context: u64,
    pub(crate) hidden: u64,
    pub(crate) ffn: u64,
    pub(crate) layers: u64,
    pub(crate) heads: u64,
    pub(crate) kv_heads: u64,
    pub(crate) head_dim: u64,
    pub(crate) norm_eps: f32,
    pub(crate) rope_theta: f32,
}

/// Largest sizes that are taken for sizes, far above those of any model. Rows of at most 2^22
/// weights also keep the integer sums of the kernels within 32 bits.
pub(crate) mod limits {
    pub(crate) const VOCAB: u64 = 1 << 24;
    pub(crate) const CONTEXT: u64 = 1 << 31;
    pub(crate) const WIDTH: u64 = 1 << 22;
    pub(crate) const LAYERS: u64 = 1 << 12;
    pub(crate) const HEADS: u64 = 1 << 16;
}

/// A tensor of a block.
pub(crate) struct Slot {
    /// The name in the output, without `blk.N.` and `.weight`.
    pub(crate) gguf: &'static str,
    /// The name in a Hugging Face checkpoint, without `model.layers.N.` and `.weight`.
    pub(crate) hf: &'static str,
    pub(crate) shape: Vec<u64>,
    /// Whether the rows are those of heads that RoPE turns.
    pub(crate) rotated: bool,
}

impl Slot {
    pub(crate) fn is_norm(&self) -> bool {
        self.shape.len() == 1
    }
}

impl Config {
    /// The tensors of every block, in the order in which they are written.
    pub(crate) fn block(&self) -> Vec<Slot> {
        let (h, f) = (self.hidden, self.ffn);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let slot =
            |gguf, hf, shape: &[u64]| Slot { gguf, hf, shape: shape.to_vec(), rotated: false };
        let turned = |gguf, hf, shape: &[u64]| Slot { rotated: true, ..slot(gguf, hf, shape) };
        let mut slots = vec![
            slot("attn_norm", "input_layernorm", &[h]),
            turned("attn_q", "self_attn.q_proj", &[q, h]),
            turned("attn_k", "self_attn.k_proj", &[kv, h]),
            slot("attn_v", "self_attn.v_proj", &[kv, h]),
            slot("attn_output", "self_attn.o_proj", &[h, q]),
            slot("attn_sub_norm", "self_attn.attn_sub_norm", &[q]),
            slot("ffn_norm", "post_attention_layernorm", &[h]),
            slot("ffn_gate", "mlp.gate_proj", &[f, h]),
            slot("ffn_up", "mlp.up_proj", &[f, h]),
            slot("ffn_down", "mlp.down_proj", &[h, f]),
            slot("ffn_sub_norm", "mlp.ffn_sub_norm", &[f]),
        ];
        match self.arch {
            Arch::BitNetB158 => {}
            Arch::BitNet => {
                for slot in &mut slots {
                    slot.hf = match slot.hf {
                        "self_attn.attn_sub_norm" => "self_attn.inner_attn_ln",
                        "mlp.ffn_sub_norm" => "mlp.ffn_layernorm",
                        same => same,
                    };
                }
            }
            Arch::Llama => slots.retain(|slot| !slot.gguf.ends_with("sub_norm")),
        }
        slots
    }

    /// The metadata keys that describe the model.
    pub(crate) fn describe(&self, metadata: &mut Metadata) {
        let arch = self.arch.name();
        let mut set =
            |key: &str, value: u64| metadata.insert(format!("{arch}.{key}"), value as u32);
        set("vocab_size", self.vocab);
        set("context_length", self.context);
        set("embedding_length", self.hidden);
        set("block_count", self.layers);
        set("feed_forward_length", self.ffn);
        set("attention.head_count", self.heads);
        set("attention.head_count_kv", self.kv_heads);
        set("attention.key_length", self.head_dim);
        set("attention.value_length", self.head_dim);
        set("rope.dimension_count", self.head_dim);
        metadata.insert(format!("{arch}.attention.layer_norm_rms_epsilon"), self.norm_eps);
        metadata.insert(format!("{arch}.rope.freq_base"), self.rope_theta);
    }
}

/// A file that is to be written: everything but the weights themselves.
pub(crate) struct Plan<'a> {
    pub(crate) arch: Arch,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<Planned<'a>>,
    pub(crate) notes: Vec<String>,
}

/// A tensor that is to be written.
pub(crate) struct Planned<'a> {
    pub(crate) name: String,
    pub(crate) ty: TensorType,
    /// Outermost dimension first.
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Data<'a>,
}

/// Where a tensor's weights come from.
pub(crate) enum Data<'a> {
    Ternary(Ternary<'a>),
    Dense(Dense<'a>),
    /// Blocks of Q8_0, passed on as they are.
    Blocks(&'a [u8]),
    /// Computed values, as F32.
    Values(Vec<f32>),
    /// A part of the coarse copy of the head.
    Scan(Scan<'a>),
}

/// Dense weights, rows reordered where `head_dim` is given: see [`source_row`].
pub(crate) struct Dense<'a> {
    pub(crate) view: View<'a>,
    pub(crate) head_dim: Option<usize>,
}

/// The row of a Hugging Face query or key projection that becomes row `row`, for RoPE that turns
/// adjacent rows `2i` and `2i + 1` of a head instead of `i` and `i + head_dim / 2`. Without a
/// `head_dim` rows stay where they are.
pub(crate) fn source_row(row: usize, head_dim: Option<usize>) -> usize {
    match head_dim {
        None => row,
        Some(dim) => {
            let (head, within) = (row / dim, row % dim);
            head * dim + within % 2 * (dim / 2) + within / 2
        }
    }
}
