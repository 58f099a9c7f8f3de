//! The tensors of a checkpoint: names, types, shapes and distributions of values.

use anyhow::Result;
use serde_json::Value;
use trilobite_convert::{CheckpointTensor, checkpoint_tensors};
use trilobite_format::model::{Architecture, Role};

use super::config::is_base;
use crate::models::Weights;

/// A tensor's element type in safetensors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Dtype {
    U8,
    F16,
    Bf16,
    F32,
}

/// The distribution of a tensor's values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fill {
    /// 2-bit codes, four a byte: 0, 1, 2 for -1, 0, +1. The code 3 never occurs.
    TernaryCodes,
    /// Minus this number, 0 and this number.
    Trits(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform between 0.75 and 1.25: the weights of a norm.
    NearOne,
    /// Uniform between -0.25 and 0.25: the weights of a norm, stored as the difference from 1.
    NearZero,
    /// A single value: this number times a random factor between 0.8 and 1.2.
    Around(f32),
}

/// A tensor of the checkpoint.
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
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::F32 => "F32",
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Dtype::U8 => 1,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 => 4,
        }
    }
}

impl Tensor {
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}

/// Fraction of zeros among the ternary weights; +1 and -1 are equally frequent. A multiple of 1/16,
/// because `random` draws a weight from four bits.
pub(crate) const ZEROS: f32 = 6.0 / 16.0;

/// Standard deviation of the logits. The last norm scales the residual stream to RMS 1, so the rows
/// of the output matrix need `LOGITS / sqrt(hidden_size)`.
pub(crate) const LOGITS: f32 = 3.0;

/// Standard deviation of biases.
const BIAS: f32 = 0.1;

/// Mean absolute value of the standard normal distribution.
const NORMAL_ABSMEAN: f32 = 0.797_884_6;

/// All tensors of the checkpoint that a config.json describes, in the order of the safetensors
/// library: wide types first, then by name.
pub(crate) fn tensors(config: &Value, weights: Weights) -> Result<Vec<Tensor>> {
    let (model, tensors) = checkpoint_tensors(config)?;
    let gemma = model.arch == Architecture::Gemma3;
    let quantization = config.get("quantization_config");
    let mut list = List {
        weights,
        inverse_scale: quantization.is_some_and(|settings| settings["linear_class"].is_null()),
        norms: if gemma { Fill::NearZero } else { Fill::NearOne },
        input_norms: is_base(config),
        out: Vec::new(),
    };
    let std = LOGITS / (model.hidden as f32).sqrt();
    let logits = match weights {
        Weights::Groups => Fill::Trits(std / (1.0 - ZEROS).sqrt()),
        _ => Fill::Normal(std),
    };
    for CheckpointTensor { role, name, shape } in tensors {
        let shape: Vec<usize> = shape.into_iter().map(|n| n as usize).collect();
        let base = |name: &str| name.strip_prefix("model.").map(str::to_owned);
        let name = if list.input_norms { base(&name).unwrap_or(name) } else { name };
        match role {
            Role::Embedding | Role::Head => list.dense(name, &shape, logits),
            _ if role.is_bias() => list.dense(name, &shape, Fill::Normal(BIAS)),
            _ if role.is_vector() => list.dense(name, &shape, list.norms),
            _ => list.projection(name, &shape),
        }
    }
    list.out.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    Ok(list.out)
}

struct List {
    weights: Weights,
    /// The distribution of the weights of norms.
    norms: Fill,
    /// Whether every projection has a norm of its input.
    input_norms: bool,
    /// Whether `weight_scale` divides, as in `BitLinear`, instead of multiplying, as in
    /// `AutoBitLinear`.
    inverse_scale: bool,
    out: Vec<Tensor>,
}

impl List {
    fn push(&mut self, name: String, dtype: Dtype, shape: &[usize], fill: Fill) {
        self.out.push(Tensor { name, dtype, shape: shape.to_vec(), fill });
    }

    fn dense(&mut self, name: String, shape: &[usize], fill: Fill) {
        let dtype = match self.weights {
            Weights::F32 => Dtype::F32,
            Weights::Groups => Dtype::F16,
            _ => Dtype::Bf16,
        };
        self.push(name, dtype, shape, fill);
    }

    /// Adds a matrix `[rows, cols]`, ternary unless the model is dense.
    ///
    /// It is scaled so that an input of RMS 1 gives an output of RMS about 1. Activations then stay
    /// of order 1 through any number of layers, and gates are negative half of the time.
    fn projection(&mut self, name: String, shape: &[usize]) {
        let (rows, cols) = (shape[0], shape[1]);
        if self.weights == Weights::Dense {
            return self.dense(name, shape, Fill::Normal(1.0 / (cols as f32).sqrt()));
        }
        if self.input_norms {
            let norm = name.replace(".weight", ".norm.weight");
            self.dense(norm, &[cols], self.norms);
        }
        let scale = 1.0 / (cols as f32 * (1.0 - ZEROS)).sqrt();
        if self.weights == Weights::Groups {
            self.dense(name, shape, Fill::Trits(scale));
        } else if self.weights == Weights::Packed {
            let stored = if self.inverse_scale { 1.0 / scale } else { scale };
            self.push(format!("{name}_scale"), Dtype::Bf16, &[1], Fill::Around(stored));
            self.push(name, Dtype::U8, &[rows / 4, cols], Fill::TernaryCodes);
        } else {
            self.dense(name, shape, Fill::Normal(scale / NORMAL_ABSMEAN));
        }
    }
}
