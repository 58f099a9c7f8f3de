//! The names of tensors in Hugging Face checkpoints.

use trilobite_format::model::{Architecture, Role};

/// The module of the language model head.
pub(super) const HEAD: &str = "lm_head";

/// The module of which a tensor is the weight or the bias. `old` selects the names of 1bitLLM's
/// checkpoints. `None` for a role without a tensor in checkpoints.
pub(super) fn module(role: Role, layer: u64, arch: Architecture, old: bool) -> Option<String> {
    let part = match role {
        Role::Embedding if arch == Architecture::Maple => "model.word_embeddings",
        Role::Embedding => "model.embed_tokens",
        Role::OutputNorm => "model.norm",
        Role::Head => HEAD,
        Role::AttnNorm => "input_layernorm",
        Role::Q | Role::QBias => "self_attn.q_proj",
        Role::K | Role::KBias => "self_attn.k_proj",
        Role::V | Role::VBias => "self_attn.v_proj",
        Role::AttnOutput | Role::AttnOutputBias => "self_attn.o_proj",
        Role::QNorm => "self_attn.q_norm",
        Role::KNorm => "self_attn.k_norm",
        Role::AttnSubNorm if old => "self_attn.inner_attn_ln",
        Role::AttnSubNorm => "self_attn.attn_sub_norm",
        Role::FfnNorm if arch == Architecture::Gemma3 => "pre_feedforward_layernorm",
        Role::FfnNorm | Role::AttnPostNorm => "post_attention_layernorm",
        Role::FfnPostNorm => "post_feedforward_layernorm",
        Role::Gate => "mlp.gate_proj",
        Role::Up => "mlp.up_proj",
        Role::Down => "mlp.down_proj",
        Role::FfnSubNorm if old => "mlp.ffn_layernorm",
        Role::FfnSubNorm => "mlp.ffn_sub_norm",
        Role::Router => "mlp.gate",
        // Each expert has a tensor of its own.
        Role::GateExperts | Role::UpExperts | Role::DownExperts => return None,
        Role::QInputNorm => "self_attn.q_proj.norm",
        Role::KInputNorm => "self_attn.k_proj.norm",
        Role::VInputNorm => "self_attn.v_proj.norm",
        Role::AttnOutputInputNorm => "self_attn.o_proj.norm",
        Role::GateInputNorm => "mlp.gate_proj.norm",
        Role::UpInputNorm => "mlp.up_proj.norm",
        Role::DownInputNorm => "mlp.down_proj.norm",
        Role::RopeFreqs | Role::RopeShort | Role::RopeLong | Role::DownTransposed => return None,
    };
    Some(match role.in_layer() {
        true => format!("model.layers.{layer}.{part}"),
        false => part.to_owned(),
    })
}

/// The module of an expert's projection. `None` for a role without experts.
pub(super) fn expert(role: Role, layer: u64, expert: u64) -> Option<String> {
    let part = match role {
        Role::GateExperts => "gate_proj",
        Role::UpExperts => "up_proj",
        Role::DownExperts => "down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.mlp.experts.{expert}.{part}"))
}

/// The suffix after the name of the module.
pub(super) fn suffix(role: Role) -> &'static str {
    if role.is_bias() { "bias" } else { "weight" }
}
