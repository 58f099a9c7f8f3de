//! The architectures, by their name in `general.architecture`.

use crate::keys::ARCHITECTURE;
use crate::{Error, Metadata};

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
    /// Norms of q and k, SiLU.
    Qwen3,
    /// Norms before and after each part and of q and k, GELU, sliding windows.
    Gemma3,
}

/// Every name, the one that is written first where an architecture has two.
const NAMES: [(&str, Architecture); 7] = [
    ("bitnet-b1.58", Architecture::BitNetB158),
    ("bitnet-25", Architecture::BitNetB158),
    ("bitnet", Architecture::BitNet),
    ("llama", Architecture::Llama),
    ("qwen2", Architecture::Qwen2),
    ("qwen3", Architecture::Qwen3),
    ("gemma3", Architecture::Gemma3),
];

impl Architecture {
    /// The architecture of a name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|&(_, architecture)| architecture)
    }

    /// The architecture of a file, and the name that it has there.
    ///
    /// # Errors
    /// The name is missing or not known.
    pub fn of(metadata: &Metadata) -> Result<(Self, &str), Error> {
        let name = metadata
            .str(ARCHITECTURE)?
            .ok_or_else(|| Error::MissingKey(ARCHITECTURE.to_owned()))?;
        let supported = || NAMES.map(|(name, _)| name).join(", ");
        let unknown = || Error::Architecture { found: name.to_owned(), supported: supported() };
        Ok((Self::named(name).ok_or_else(unknown)?, name))
    }

    /// The name that is written.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::BitNetB158 => "bitnet-b1.58",
            Architecture::BitNet => "bitnet",
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Gemma3 => "gemma3",
        }
    }

    /// Whether models of this architecture are ternary by definition. Weights of others are what they
    /// seem.
    pub fn is_bitnet(self) -> bool {
        match self {
            Architecture::BitNetB158 | Architecture::BitNet => true,
            Architecture::Llama
            | Architecture::Qwen2
            | Architecture::Qwen3
            | Architecture::Gemma3 => false,
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
