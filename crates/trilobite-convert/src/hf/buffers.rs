//! Buffers: saved tensors that are not weights and follow from the configuration.

use trilobite_format::model::{Architecture, Hyperparameters};

use crate::source::{Dtype, View};

/// Whether a tensor is a buffer and can be left out. `name` is its name in a model with a head.
/// transformers ignores these tensors too.
pub(super) fn is_derived(name: &str, view: &View<'_>, model: &Hyperparameters) -> bool {
    let (module, buffer) = name.rsplit_once('.').unwrap_or(("", name));
    let parent = module.rsplit_once('.').map_or(module, |(_, last)| last);
    match buffer {
        // Positions, and the fill value of masks.
        "position_ids" => matches!(view.dtype, Dtype::Other(..)),
        "masked_bias" => true,
        // Causal masks. (The biases of projections are named after `q_proj` and so on.)
        "causal_mask" => is_mask(view),
        "bias" => {
            let attention = matches!(parent, "attn" | "attention" | "self_attn");
            attention && view.shape.len() == 4 && is_mask(view)
        }
        // The factor of Gemma's embeddings, in any precision.
        "embed_scale" if model.arch == Architecture::Gemma3 => {
            let expected = (model.hidden as f32).sqrt();
            let close = |scale: &f32| (scale / expected - 1.0).abs() < BF16_STEP;
            view.count() == 1 && view.to_f32().first().is_some_and(close)
        }
        // RoPE frequencies, and their cosines and sines.
        _ => {
            let rotary = module.split('.').any(|part| part.starts_with("rotary_emb"));
            let table = |name| {
                buffer.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest == "_cached")
            };
            rotary && (buffer.ends_with("inv_freq") || table("cos") || table("sin"))
        }
    }
}

/// The relative distance of adjacent numbers in BF16.
const BF16_STEP: f32 = 1.0 / 128.0;

/// Whether a tensor has the shape `[n, n]` or `[1, 1, n, n]` and contains only zeros and ones.
fn is_mask(view: &View<'_>) -> bool {
    let square =
        matches!(*view.shape.as_slice(), [rows, cols] | [1, 1, rows, cols] if rows == cols);
    square
        && match view.dtype {
            Dtype::Other("BOOL", _) | Dtype::U8 => view.bytes.iter().all(|byte| *byte <= 1),
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => {
                view.to_f32().iter().all(|value| *value == 0.0 || *value == 1.0)
            }
            _ => false,
        }
}
