//! The model classes of transformers.

use trilobite_format::model::Architecture;

use super::defaults::{self, Defaults};
use crate::Error;
use crate::hf::json::Object;

/// A model class.
pub(super) struct Class {
    /// Its names in `architectures`: that of the model with a head, and that of the base model.
    names: [&'static str; 2],
    /// The model type that selects the class if there is no name.
    model_type: Option<&'static str>,
    /// The architecture with the default activation.
    arch: Architecture,
    /// Whether this is the class of 1bitLLM's checkpoints, which call themselves
    /// `BitnetForCausalLM` with a lower-case n and have `llama` as the model type.
    pub(super) old: bool,
    /// The key of the activation.
    activation: &'static str,
    pub(super) defaults: &'static Defaults,
}

static CLASSES: [Class; 8] = [
    Class {
        names: ["BitNetForCausalLM", "BitNetModel"],
        model_type: Some("bitnet"),
        arch: Architecture::BitNetB158,
        old: false,
        activation: "hidden_act",
        defaults: &defaults::BITNET,
    },
    Class {
        names: ["BitnetForCausalLM", "BitnetModel"],
        model_type: None,
        arch: Architecture::BitNet,
        old: true,
        activation: "hidden_act",
        defaults: &defaults::LLAMA,
    },
    Class {
        names: ["LlamaForCausalLM", "LlamaModel"],
        model_type: Some("llama"),
        arch: Architecture::Llama,
        old: false,
        activation: "hidden_act",
        defaults: &defaults::LLAMA,
    },
    Class {
        names: ["Qwen2ForCausalLM", "Qwen2Model"],
        model_type: Some("qwen2"),
        arch: Architecture::Qwen2,
        old: false,
        activation: "hidden_act",
        defaults: &defaults::QWEN2,
    },
    Class {
        names: ["Qwen3ForCausalLM", "Qwen3Model"],
        model_type: Some("qwen3"),
        arch: Architecture::Qwen3,
        old: false,
        activation: "hidden_act",
        defaults: &defaults::QWEN3,
    },
    Class {
        names: ["Gemma3ForCausalLM", "Gemma3TextModel"],
        model_type: Some("gemma3_text"),
        arch: Architecture::Gemma3,
        old: false,
        activation: "hidden_activation",
        defaults: &defaults::GEMMA3,
    },
    Class {
        names: ["MapleForCausalLM", "MapleModel"],
        model_type: Some("maple"),
        arch: Architecture::Maple,
        old: false,
        activation: "hidden_act",
        defaults: &defaults::MAPLE,
    },
    Class {
        names: ["MiniCPMForCausalLM", "MiniCPMModel"],
        model_type: Some("minicpm"),
        arch: Architecture::MiniCpm,
        old: false,
        activation: "hidden_act",
        defaults: &defaults::MINICPM,
    },
];

impl Class {
    /// The class of a configuration, by its name or else by the model type, and its architecture,
    /// which also depends on the activation.
    pub(super) fn of(object: &Object<'_>) -> Result<(&'static Self, Architecture), Error> {
        let names = object.get("architectures").and_then(|list| list.as_array());
        let name = names.and_then(|list| list.first()).and_then(|name| name.as_str());
        let model_type = object.str("model_type")?;
        let class = CLASSES.iter().find(|class| match name {
            Some(name) => class.names.contains(&name),
            None => class.model_type.is_some() && class.model_type == model_type,
        });
        let class = class.ok_or_else(|| object.bad("architectures", &known()))?;
        Ok((class, class.architecture(object)?))
    }

    fn architecture(&self, object: &Object<'_>) -> Result<Architecture, Error> {
        let (key, expected) = (self.activation, self.defaults.activation);
        let activation = match object.str(key)? {
            // Two names of one function.
            Some("swish") => "silu",
            found => found.unwrap_or(expected),
        };
        // Both BitNet architectures have sub-norms; they differ in the activation.
        match (self.arch.is_bitnet(), activation) {
            (true, "relu2") => Ok(Architecture::BitNetB158),
            (true, "silu") => Ok(Architecture::BitNet),
            (true, _) => Err(object.bad(key, "\"relu2\" or \"silu\" for this architecture")),
            (false, found) if found == expected => Ok(self.arch),
            (false, _) => Err(object.bad(key, &format!("\"{expected}\" for this architecture"))),
        }
    }
}

/// The names of the classes, for errors.
fn known() -> String {
    let names = CLASSES.each_ref().map(|class| class.names[0]);
    let (others, last) = (names[..names.len() - 1].join(", "), names[names.len() - 1]);
    format!("{others} or {last}")
}
