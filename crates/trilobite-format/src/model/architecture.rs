//! The architectures and their names in `general.architecture`.

use crate::keys::ARCHITECTURE;
use crate::{Error, Metadata};

/// An architecture that Trilobite runs. It implies the properties that have no GGUF key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Sub-norms, squared ReLU.
    BitNetB158,
    /// Sub-norms, SiLU.
    BitNet,
    /// No sub-norms, SiLU; q and k are permuted for RoPE on adjacent pairs.
    Llama,
    /// SiLU; biases of q, k and v.
    Qwen2,
    /// SiLU; norms of each head of q and k.
    Qwen3,
    /// GELU; norms before and after attention and feed-forward network, norms of each head of q and
    /// k, sliding windows.
    Gemma3,
    /// SiLU with clamped inputs; a mixture of experts, norms of each head of q and k, sliding windows;
    /// RoPE on the first elements of each head, in the layers with a window only.
    Maple,
    /// Llama with factors of the embedding, of what blocks add to the residual stream, and of the
    /// logits; q and k are permuted as in Llama.
    MiniCpm,
}

/// All names. The first of an architecture is the one that is written.
const NAMES: [(&str, Architecture); 9] = [
    ("bitnet-b1.58", Architecture::BitNetB158),
    ("bitnet-25", Architecture::BitNetB158),
    ("bitnet", Architecture::BitNet),
    ("llama", Architecture::Llama),
    ("qwen2", Architecture::Qwen2),
    ("qwen3", Architecture::Qwen3),
    ("gemma3", Architecture::Gemma3),
    ("maple", Architecture::Maple),
    ("minicpm", Architecture::MiniCpm),
];

impl Architecture {
    /// The architecture with this name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|&(_, architecture)| architecture)
    }

    /// The architecture of a file, with its name in the file.
    ///
    /// # Errors
    /// The name is missing or unknown.
    pub fn of(metadata: &Metadata) -> Result<(Self, &str), Error> {
        let name = metadata
            .str(ARCHITECTURE)?
            .ok_or_else(|| Error::MissingKey(ARCHITECTURE.to_owned()))?;
        let supported = || NAMES.map(|(name, _)| name).join(", ");
        let unknown = || Error::Architecture { found: name.to_owned(), supported: supported() };
        Ok((Self::named(name).ok_or_else(unknown)?, name))
    }

    /// The name to write.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::BitNetB158 => "bitnet-b1.58",
            Architecture::BitNet => "bitnet",
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Gemma3 => "gemma3",
            Architecture::Maple => "maple",
            Architecture::MiniCpm => "minicpm",
        }
    }

    /// Whether models of this architecture are ternary by definition. In the others a projection is
    /// what its tensor type says.
    pub fn is_bitnet(self) -> bool {
        match self {
            Architecture::BitNetB158 | Architecture::BitNet => true,
            Architecture::Llama
            | Architecture::Qwen2
            | Architecture::Qwen3
            | Architecture::Gemma3
            | Architecture::Maple
            | Architecture::MiniCpm => false,
        }
    }

    /// Whether the activation is squared ReLU, which makes many activations of the feed-forward
    /// network zero.
    pub fn squared_relu(self) -> bool {
        self == Architecture::BitNetB158
    }

    /// Whether the feed-forward network is a mixture of experts. Its projections are never multiplied
    /// with int8 activations, even if they are ternary.
    pub fn has_experts(self) -> bool {
        self == Architecture::Maple
    }

    /// Whether only layers with a sliding window have RoPE.
    pub fn rotates_in_windows_only(self) -> bool {
        self == Architecture::Maple
    }

    /// Whether `attention.sliding_window` counts the tokens before the current one, as deepgrove's
    /// model code does for Maple. In the other architectures it includes the current token.
    pub fn window_precedes(self) -> bool {
        self == Architecture::Maple
    }

    /// Whether files of this architecture permute the rows of q and k, so that RoPE rotates adjacent
    /// elements.
    pub fn permutes(self) -> bool {
        matches!(self, Architecture::Llama | Architecture::MiniCpm)
    }

    /// Whether five in six layers slide by default, with a RoPE of their own, in a file that has a
    /// window.
    pub fn slides(self) -> bool {
        self == Architecture::Gemma3
    }
}
