//! Tensors that no weights are: what trainers save because the module had it.

use trilobite_format::model::{Architecture, Hyperparameters};

use crate::source::{Dtype, View};

/// Whether a tensor follows from the configuration and is therefore left out, by its name in a model
/// with a head. transformers takes no notice of these either.
pub(super) fn follows(name: &str, view: &View<'_>, model: &Hyperparameters) -> bool {
    let (module, buffer) = name.rsplit_once('.').unwrap_or(("", name));
    let parent = module.rsplit_once('.').map_or(module, |(_, last)| last);
    match buffer {
        // Positions, and what masks are filled with.
        "position_ids" => matches!(view.dtype, Dtype::Other(..)),
        "masked_bias" => true,
        // Causal masks. (The biases of projections are those of `q_proj` and so on.)
        "causal_mask" => is_mask(view),
        "bias" => {
            let attention = matches!(parent, "attn" | "attention" | "self_attn");
            attention && view.shape.len() == 4 && is_mask(view)
        }
        // What Gemma multiplies embeddings by, in whatever precision.
        "embed_scale" if model.arch == Architecture::Gemma3 => {
            let expected = (model.hidden as f32).sqrt();
            let close = |scale: &f32| (scale / expected - 1.0).abs() < BF16_STEP;
            view.count() == 1 && view.to_f32().first().is_some_and(close)
        }
        // Frequencies of RoPE, and their cosines and sines.
        _ => {
            let rotary = module.split('.').any(|part| part.starts_with("rotary_emb"));
            let table = |name| {
                buffer.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest == "_cached")
            };
            rotary && (buffer.ends_with("inv_freq") || table("cos") || table("sin"))
        }
    }
}

/// The relative distance of neighbouring numbers in BF16.
const BF16_STEP: f32 = 1.0 / 128.0;

/// Whether a tensor is `[n, n]` or `[1, 1, n, n]` and made of zeros and ones.
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
