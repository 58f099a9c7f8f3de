//! Chat templates in common formats, for models without one.

use trilobite_format::model::{BITNET_TEMPLATE, END_OF_TURN};

/// A chat template in a common format.
#[derive(Clone, Copy, Debug)]
pub struct StandardTemplate {
    /// The name of the format.
    pub name: &'static str,
    /// The source of the template.
    pub source: &'static str,
    /// Stop strings for vocabularies without an end-of-turn token.
    pub stop: &'static [&'static str],
}

macro_rules! template {
    ($name:literal, $($stop:literal),*) => {
        StandardTemplate {
            name: $name,
            source: include_str!(concat!("standard/", $name, ".jinja")),
            stop: &[$($stop),*],
        }
    };
}

/// The standard templates, in alphabetical order.
pub(super) const TEMPLATES: [StandardTemplate; 10] = [
    template!("alpaca", "### Instruction:"),
    StandardTemplate { name: "bitnet", source: BITNET_TEMPLATE, stop: &[END_OF_TURN] },
    template!("chatml", "<|im_end|>", "<|im_start|>"),
    template!("gemma", "<end_of_turn>", "<start_of_turn>"),
    template!("llama2", "[INST]"),
    template!("llama3", "<|eot_id|>", "<|start_header_id|>"),
    template!("mistral", "[INST]"),
    template!("phi3", "<|end|>", "<|user|>"),
    template!("vicuna", "USER:"),
    template!("zephyr", "<|user|>", "<|system|>"),
];
