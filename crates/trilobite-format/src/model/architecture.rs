//! The architectures, by their name in `general.architecture`.

/// An architecture that Trilobite runs. The name implies what GGUF has no key for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Sub-norms, squared ReLU.
    BitNetB158,
    /// Sub-norms, SiLU.
    BitNet,
    /// No sub-norms, SiLU, q and k permuted for RoPE on adjacent pairs.
    Llama,
    /// Biases of q, k and v, SiLU.
    Qwen2,
    /// Norms before and after each part and of q and k, GELU, sliding windows.
    Gemma3,
}

/// Every name, the one that is written first where an architecture has two.
const NAMES: [(&str, Architecture); 6] = [
    ("bitnet-b1.58", Architecture::BitNetB158),
    ("bitnet-25", Architecture::BitNetB158),
    ("bitnet", Architecture::BitNet),
    ("llama", Architecture::Llama),
    ("qwen2", Architecture::Qwen2),
    ("gemma3", Architecture::Gemma3),
];

impl Architecture {
    /// The architecture of a name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|&(_, architecture)| architecture)
    }

    /// All names, for messages.
    pub(crate) fn names() -> String {
        NAMES.map(|(name, _)| name).join(", ")
    }

    /// The name that is written.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::BitNetB158 => "bitnet-b1.58",
            Architecture::BitNet => "bitnet",
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Gemma3 => "gemma3",
        }
    }

    /// Whether the file of a dense model of this architecture is one that other programs run too, and
    /// dense weights are therefore what they seem.
    pub fn may_be_dense(self) -> bool {
        match self {
            Architecture::BitNetB158 | Architecture::BitNet => false,
            Architecture::Llama | Architecture::Qwen2 | Architecture::Gemma3 => true,
        }
    }

    /// Whether squared ReLU makes many activations of the feed-forward network zero.
    pub fn squared_relu(self) -> bool {
        self == Architecture::BitNetB158
    }

    /// Whether the layers of a file with a window slide though nothing says which: five in six, with
    /// a RoPE of their own.
    pub fn slides(self) -> bool {
        self == Architecture::Gemma3
    }
}
