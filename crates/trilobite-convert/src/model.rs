//! What a model is made of, whatever its source: sizes, and the tensors that follow from them.

pub(crate) use trilobite_format::model::Arch;
use trilobite_format::{Metadata, TensorType};

use crate::scan::Scan;
use crate::source::{SourceFile, View};
use crate::trits::{Encoding, Ternary};

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
    /// What every RoPE frequency is divided by, sliding layers excepted; 1 without scaling.
    pub(crate) rope_factor: f32,
    /// Projections with a bias, by their names in the output.
    pub(crate) biases: Vec<&'static str>,
    /// Sliding-window attention, where some layers have it.
    pub(crate) window: Option<Window>,
    /// What scores are multiplied by, where it is not `1 / sqrt(head_dim)`.
    pub(crate) attention_scale: Option<f32>,
    /// What the logits are capped at.
    pub(crate) softcap: Option<f32>,
}

/// Layers in which a token sees only the last tokens.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// The tokens that it sees, itself included.
    pub(crate) tokens: u64,
    /// Which layers those are.
    pub(crate) layers: Vec<bool>,
    /// Their RoPE base.
    pub(crate) rope_theta: f32,
}

impl Window {
    /// The period, where every layer slides but the last of each period.
    fn period(&self) -> Option<u32> {
        let period = self.layers.iter().position(|slides| !slides)? + 1;
        self.has_period(period).then_some(period as u32)
    }

    fn has_period(&self, period: usize) -> bool {
        (1..)
            .zip(&self.layers)
            .all(|(layer, slides)| *slides != usize::is_multiple_of(layer, period))
    }
}

/// The projections with a bias where attention has biases.
pub(crate) const BIASED: [&str; 4] = ["attn_q", "attn_k", "attn_v", "attn_output"];

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

impl Config {
    /// The tensors of every block, in the order in which they are written.
    pub(crate) fn block(&self) -> Vec<Slot> {
        let (h, f, d) = (self.hidden, self.ffn, self.head_dim);
        let (q, kv) = (self.heads * d, self.kv_heads * d);
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
        match self.arch {
            Arch::BitNetB158 => slots.extend([
                slot("attn_sub_norm", "self_attn.attn_sub_norm", &[q]),
                slot("ffn_sub_norm", "mlp.ffn_sub_norm", &[f]),
            ]),
            Arch::BitNet => slots.extend([
                slot("attn_sub_norm", "self_attn.inner_attn_ln", &[q]),
                slot("ffn_sub_norm", "mlp.ffn_layernorm", &[f]),
            ]),
            Arch::Llama | Arch::Qwen2 => {}
            Arch::Gemma3 => {
                for slot in slots.iter_mut().filter(|slot| slot.gguf == "ffn_norm") {
                    slot.hf = "pre_feedforward_layernorm";
                }
                slots.extend([
                    slot("post_attention_norm", "post_attention_layernorm", &[h]),
                    slot("post_ffw_norm", "post_feedforward_layernorm", &[h]),
                    slot("attn_q_norm", "self_attn.q_norm", &[d]),
                    slot("attn_k_norm", "self_attn.k_norm", &[d]),
                ]);
            }
        }
        for i in 0..slots.len() {
            if let Some(slot) = slots.get(i).filter(|slot| self.biases.contains(&slot.gguf)) {
                let &Slot { gguf, hf, rotated, .. } = slot;
                let shape = slot.shape.iter().take(1).copied().collect();
                slots.push(Slot { gguf, hf, suffix: "bias", shape, rotated });
            }
        }
        slots
    }

    /// Head length by which the rows of rotated tensors are reordered; see [`source_row`].
    pub(crate) fn reordering(&self, slot: &Slot) -> Option<usize> {
        (slot.rotated && self.arch == Arch::Llama).then_some(self.head_dim as usize)
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
        if self.rope_factor != 1.0 {
            metadata.insert(format!("{arch}.rope.scaling.type"), "linear");
            metadata.insert(format!("{arch}.rope.scaling.factor"), self.rope_factor);
        }
        if let Some(window) = &self.window {
            let pattern = format!("{arch}.attention.sliding_window_pattern");
            metadata.insert(format!("{arch}.attention.sliding_window"), window.tokens as u32);
            // llama.cpp's default for Gemma 3, which it took for granted before it had the key.
            let default = self.arch == Arch::Gemma3 && window.has_period(6);
            match window.period() {
                _ if default => metadata.remove(&pattern),
                Some(period) => metadata.insert(pattern, period),
                None => metadata.insert(pattern, window.layers.clone()),
            }
            metadata.insert(format!("{arch}.rope.freq_base_swa"), window.rope_theta);
        }
        if let Some(scale) = self.attention_scale {
            metadata.insert(format!("{arch}.attention.scale"), scale);
        }
        if let Some(cap) = self.softcap {
            metadata.insert(format!("{arch}.final_logit_softcapping"), cap);
        }
    }
}

/// A file that is to be written: everything but the weights themselves.
pub(crate) struct Plan<'a> {
    pub(crate) arch: Arch,
    /// The files of the source.
    pub(crate) files: &'a [SourceFile],
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

impl Planned<'_> {
    /// Makes the columns of a ternary matrix the rows of a tensor of this name.
    pub(crate) fn transpose(&mut self, name: String) {
        let data = std::mem::replace(&mut self.data, Data::Values(Vec::new()));
        self.data = match data {
            Data::Ternary(ternary) => {
                self.name = name;
                self.ty = TensorType::I2R;
                self.shape.reverse();
                Data::Transposed(ternary)
            }
            other => other,
        };
    }
}

/// Where a tensor's weights come from.
pub(crate) enum Data<'a> {
    Ternary(Ternary<'a>),
    /// A ternary matrix whose columns are stored as rows.
    Transposed(Ternary<'a>),
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
        matches!(self, Data::Ternary(_) | Data::Transposed(_))
    }

    /// The bytes of the source.
    pub(crate) fn source(&self) -> &'a [u8] {
        match self {
            Data::Ternary(ternary) | Data::Transposed(ternary) => match &ternary.encoding {
                Encoding::Packed { view, .. } | Encoding::Plain { view, .. } => view.bytes,
                Encoding::Master { view } | Encoding::Dense { view } => view.bytes,
                Encoding::Gguf { bytes, .. } | Encoding::Transposed { bytes, .. } => bytes,
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
