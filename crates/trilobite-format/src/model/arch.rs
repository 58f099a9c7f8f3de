/// An architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// BitNet b1.58 2B4T: sub-norms, squared ReLU.
    BitNetB158,
    /// 1bitLLM: sub-norms, SiLU.
    BitNet,
    /// No sub-norms, SiLU, q and k permuted for RoPE on adjacent pairs.
    Llama,
    /// Biases of q, k and v, SiLU.
    Qwen2,
    /// Norms before and after each part and of q and k, GELU, sliding windows.
    Gemma3,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 5] =
        [Arch::BitNetB158, Arch::BitNet, Arch::Llama, Arch::Qwen2, Arch::Gemma3];

    /// The value of `general.architecture` in files that Trilobite writes.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::BitNetB158 => "bitnet-b1.58",
            Arch::BitNet => "bitnet",
            Arch::Llama => "llama",
            Arch::Qwen2 => "qwen2",
            Arch::Gemma3 => "gemma3",
        }
    }

    /// The architecture of a value of `general.architecture`.
    pub fn from_name(name: &str) -> Option<Arch> {
        match name {
            // The first name of 2B4T's.
            "bitnet-25" => Some(Arch::BitNetB158),
            _ => Arch::ALL.into_iter().find(|arch| arch.name() == name),
        }
    }

    /// Whether models of the architecture are ternary by definition.
    pub const fn is_bitnet(self) -> bool {
        match self {
            Arch::BitNetB158 | Arch::BitNet => true,
            Arch::Llama | Arch::Qwen2 | Arch::Gemma3 => false,
        }
    }

    /// Whether squared ReLU makes many activations of the feed-forward network zero.
    pub const fn squared_relu(self) -> bool {
        matches!(self, Arch::BitNetB158)
    }
}
