//! The list of a checkpoint's tensors: names, types, shapes and how their values are drawn.

use crate::models::{Family, Shape, Weights};

/// A tensor's element type in safetensors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Dtype {
    U8,
    Bf16,
    F32,
}

/// How the values of a tensor are drawn.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fill {
    /// 2-bit codes, four a byte: 0, 1, 2 for -1, 0, +1; 3 never occurs.
    TernaryCodes,
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform between 0.75 and 1.25: the weights of a norm.
    NearOne,
    /// Uniform between -0.25 and 0.25: the weights of a norm that are stored less 1.
    NearZero,
    /// One value, this one times a random factor between 0.8 and 1.2.
    Around(f32),
}

/// One tensor of the checkpoint.
#[derive(Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) fill: Fill,
}

impl Dtype {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Dtype::U8 => "U8",
            Dtype::Bf16 => "BF16",
            Dtype::F32 => "F32",
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Dtype::U8 => 1,
            Dtype::Bf16 => 2,
            Dtype::F32 => 4,
        }
    }
}

impl Tensor {
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}

/// Share of zeros among the ternary weights; +1 and -1 are equally frequent. (A multiple of 1/16:
/// `random` draws a weight from four bits.)
pub(crate) const ZEROS: f32 = 6.0 / 16.0;

/// Standard deviation of the logits. The last norm brings the residual stream to RMS 1, so the rows
/// of the output matrix need `LOGITS / sqrt(hidden_size)`.
const LOGITS: f32 = 3.0;

/// Standard deviation of biases.
const BIAS: f32 = 0.1;

/// Mean absolute value of the standard normal distribution.
const NORMAL_ABSMEAN: f32 = 0.797_884_6;

/// Every tensor of the checkpoint, in the order of the safetensors library: wide types first, then
/// by name.
pub(crate) fn tensors(shape: &Shape, weights: Weights) -> Vec<Tensor> {
    let gemma = shape.family == Family::Gemma3;
    let mut list = List {
        weights,
        inverse_scale: shape.family == Family::Llama,
        norms: if gemma { Fill::NearZero } else { Fill::NearOne },
        out: Vec::new(),
    };
    let hidden = shape.hidden_size;
    let queries = shape.num_attention_heads * shape.head_dim;
    let keys = shape.num_key_value_heads * shape.head_dim;
    let inter = shape.intermediate_size;

    let logits = Fill::Normal(LOGITS / (hidden as f32).sqrt());
    list.dense("model.embed_tokens.weight".to_owned(), &[shape.vocab_size, hidden], logits);
    if !shape.tie_word_embeddings {
        list.dense("lm_head.weight".to_owned(), &[shape.vocab_size, hidden], logits);
    }
    list.norm("model.norm".to_owned(), hidden);
    let sub_norms = match shape.family {
        Family::BitNet => Some(["self_attn.attn_sub_norm", "mlp.ffn_sub_norm"]),
        Family::OneBitLlm => Some(["self_attn.inner_attn_ln", "mlp.ffn_layernorm"]),
        Family::Llama | Family::Qwen2 | Family::Gemma3 => None,
    };
    for layer in 0..shape.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        list.norm(name("input_layernorm"), hidden);
        list.norm(name("post_attention_layernorm"), hidden);
        if let Some([attention, feed_forward]) = sub_norms {
            list.norm(name(attention), queries);
            list.norm(name(feed_forward), inter);
        }
        if gemma {
            list.norm(name("pre_feedforward_layernorm"), hidden);
            list.norm(name("post_feedforward_layernorm"), hidden);
            list.norm(name("self_attn.q_norm"), shape.head_dim);
            list.norm(name("self_attn.k_norm"), shape.head_dim);
        }
        if shape.family == Family::Qwen2 {
            for (part, width) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
                list.dense(name(&format!("self_attn.{part}.bias")), &[width], Fill::Normal(BIAS));
            }
        }
        list.projection(name("self_attn.q_proj"), queries, hidden);
        list.projection(name("self_attn.k_proj"), keys, hidden);
        list.projection(name("self_attn.v_proj"), keys, hidden);
        list.projection(name("self_attn.o_proj"), hidden, queries);
        list.projection(name("mlp.gate_proj"), inter, hidden);
        list.projection(name("mlp.up_proj"), inter, hidden);
        list.projection(name("mlp.down_proj"), hidden, inter);
    }
    list.out.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    list.out
}

struct List {
    weights: Weights,
    /// How the weights of norms are drawn.
    norms: Fill,
    /// `weight_scale` divides, as in `BitLinear`, instead of multiplying, as in `AutoBitLinear`.
    inverse_scale: bool,
    out: Vec<Tensor>,
}

impl List {
    fn push(&mut self, name: String, dtype: Dtype, shape: &[usize], fill: Fill) {
        self.out.push(Tensor { name, dtype, shape: shape.to_vec(), fill });
    }

    fn dense(&mut self, name: String, shape: &[usize], fill: Fill) {
        let dtype = if self.weights == Weights::F32 { Dtype::F32 } else { Dtype::Bf16 };
        self.push(name, dtype, shape, fill);
    }

    fn norm(&mut self, name: String, width: usize) {
        self.dense(name + ".weight", &[width], self.norms);
    }

    /// A matrix `[rows, cols]`, ternary unless the model is dense, scaled so that an input of RMS 1 gives an output of RMS
    /// about 1: activations then stay of order 1 through any number of layers, and gates are
    /// negative half of the time.
    fn projection(&mut self, name: String, rows: usize, cols: usize) {
        if self.weights == Weights::Dense {
            let fill = Fill::Normal(1.0 / (cols as f32).sqrt());
            return self.dense(name + ".weight", &[rows, cols], fill);
        }
        let scale = 1.0 / (cols as f32 * (1.0 - ZEROS)).sqrt();
        if self.weights == Weights::Packed {
            let stored = if self.inverse_scale { 1.0 / scale } else { scale };
            self.push(name.clone() + ".weight_scale", Dtype::Bf16, &[1], Fill::Around(stored));
            self.push(name + ".weight", Dtype::U8, &[rows / 4, cols], Fill::TernaryCodes);
        } else {
            self.dense(name + ".weight", &[rows, cols], Fill::Normal(scale / NORMAL_ABSMEAN));
        }
    }
}
