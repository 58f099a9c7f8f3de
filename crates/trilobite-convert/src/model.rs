//! What a model is made of, whatever its source: sizes, and the tensors that follow from them.

use trilobite_format::model::{Architecture, Hyperparameters};
use trilobite_format::{Metadata, TensorType};

use crate::scan::Scan;
use crate::source::{SourceFile, View};
use crate::trits::{Encoding, Ternary};

/// The projections with a bias where attention has biases.
pub(crate) const BIASED: [&str; 4] = ["attn_q", "attn_k", "attn_v", "attn_output"];

/// A tensor of a block.
pub(crate) struct Slot {
    /// The name in the output, without `blk.N.` and the suffix.
    pub(crate) gguf: &'static str,
    /// The name in a Hugging Face checkpoint, without `model.layers.N.` and the suffix.
    pub(crate) hf: &'static str,
    /// `weight` or `bias`, in both.
    pub(crate) suffix: &'static str,
    pub(crate) shape: Vec<u64>,
    /// Whether the rows are those of heads that RoPE turns.
    pub(crate) rotated: bool,
}

impl Slot {
    /// Whether this is a norm or a bias.
    pub(crate) fn is_vector(&self) -> bool {
        self.shape.len() == 1
    }
}

/// The tensors of every block, in the order in which they are written, with a bias for each of
/// `biases`.
pub(crate) fn block(model: &Hyperparameters, biases: &[&str]) -> Vec<Slot> {
    let (h, f, d) = (model.hidden, model.ffn, model.head_dim);
    let (q, kv) = (model.heads * d, model.kv_heads * d);
    let slot = |gguf, hf, shape: &[u64]| {
        let (shape, suffix) = (shape.to_vec(), "weight");
        Slot { gguf, hf, suffix, shape, rotated: gguf == "attn_q" || gguf == "attn_k" }
    };
    let mut slots = vec![
        slot("attn_norm", "input_layernorm", &[h]),
        slot("attn_q", "self_attn.q_proj", &[q, h]),
        slot("attn_k", "self_attn.k_proj", &[kv, h]),
        slot("attn_v", "self_attn.v_proj", &[kv, h]),
        slot("attn_output", "self_attn.o_proj", &[h, q]),
        slot("ffn_norm", "post_attention_layernorm", &[h]),
        slot("ffn_gate", "mlp.gate_proj", &[f, h]),
        slot("ffn_up", "mlp.up_proj", &[f, h]),
        slot("ffn_down", "mlp.down_proj", &[h, f]),
    ];
    let qk_norms = [
        slot("attn_q_norm", "self_attn.q_norm", &[d]),
        slot("attn_k_norm", "self_attn.k_norm", &[d]),
    ];
    match model.arch {
        Architecture::BitNetB158 | Architecture::BitNet => slots.extend([
            slot("attn_sub_norm", "self_attn.attn_sub_norm", &[q]),
            slot("ffn_sub_norm", "mlp.ffn_sub_norm", &[f]),
        ]),
        Architecture::Llama | Architecture::Qwen2 => {}
        Architecture::Qwen3 => slots.extend(qk_norms),
        Architecture::Gemma3 => {
            for slot in slots.iter_mut().filter(|slot| slot.gguf == "ffn_norm") {
                slot.hf = "pre_feedforward_layernorm";
            }
            slots.extend([
                slot("post_attention_norm", "post_attention_layernorm", &[h]),
                slot("post_ffw_norm", "post_feedforward_layernorm", &[h]),
            ]);
            slots.extend(qk_norms);
        }
    }
    for i in 0..slots.len() {
        if let Some(slot) = slots.get(i).filter(|slot| biases.contains(&slot.gguf)) {
            let &Slot { gguf, hf, rotated, .. } = slot;
            let shape = slot.shape.iter().take(1).copied().collect();
            slots.push(Slot { gguf, hf, suffix: "bias", shape, rotated });
        }
    }
    slots
}

/// A file to write: everything but the weights themselves.
pub(crate) struct Plan<'a> {
    /// What `metadata` says about the model.
    pub(crate) model: Hyperparameters,
    /// The files of the source.
    pub(crate) files: &'a [SourceFile],
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<Planned<'a>>,
    pub(crate) notes: Vec<String>,
}

/// A tensor to write.
pub(crate) struct Planned<'a> {
    pub(crate) name: String,
    pub(crate) ty: TensorType,
    /// Outermost dimension first.
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Data<'a>,
}

impl Planned<'_> {
    /// Makes the columns of a ternary matrix the rows of the tensor.
    pub(crate) fn transpose(&mut self) {
        self.name = TensorType::transposed(&self.name);
        self.ty = TensorType::I2T;
        self.shape.reverse();
    }
}

/// Where a tensor's weights come from.
pub(crate) enum Data<'a> {
    Ternary(Ternary<'a>),
    Dense(Dense<'a>),
    /// Blocks of a quantised type, passed on as they are.
    Blocks(&'a [u8]),
    /// Computed values, as F32.
    Values(Vec<f32>),
    /// A part of the coarse copy of the head.
    Scan(Scan<'a>),
}

impl<'a> Data<'a> {
    /// Whether these are trits, and not what is multiplied as a dense matrix.
    pub(crate) fn is_ternary(&self) -> bool {
        matches!(self, Data::Ternary(_))
    }

    /// The bytes of the source.
    pub(crate) fn source(&self) -> &'a [u8] {
        match self {
            Data::Ternary(ternary) => match &ternary.encoding {
                Encoding::Packed { view, .. } | Encoding::Plain { view, .. } => view.bytes,
                Encoding::Master { view } | Encoding::Dense { view } => view.bytes,
                Encoding::Gguf { bytes, .. } => bytes,
            },
            Data::Dense(dense) => dense.view.bytes,
            Data::Blocks(bytes) => bytes,
            Data::Values(_) => &[],
            Data::Scan(scan) => scan.view.bytes,
        }
    }
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
