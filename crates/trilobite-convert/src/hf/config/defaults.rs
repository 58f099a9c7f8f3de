//! The defaults of transformers for absent keys of config.json, by configuration class.
//!
//! The values are those of `configuration_llama.py`, `configuration_bitnet.py`,
//! `configuration_qwen2.py`, `configuration_qwen3.py` and `configuration_gemma3.py` of transformers
//! 5.23, and those of `configuration_minicpm.py` that OpenBMB publishes with its models. `models/golden/configs.py` records them for the tests. No key is required there; sizes
//! that do not match the tensors are found by the tensors' shapes.

/// The default values of a configuration class.
pub(super) struct Defaults {
    pub(super) vocab: u64,
    pub(super) hidden: u64,
    pub(super) ffn: u64,
    pub(super) layers: u64,
    pub(super) heads: u64,
    /// Number of key and value heads; `None` means as many as `heads`.
    pub(super) kv_heads: Option<u64>,
    /// Head width; `None` means `hidden / heads`.
    pub(super) head_dim: Option<u64>,
    pub(super) context: u64,
    pub(super) norm_eps: f32,
    pub(super) rope_theta: f32,
    pub(super) activation: &'static str,
    /// Whether the head is tied to the embedding.
    pub(super) tied: bool,
}

/// `LlamaConfig`. The configuration class of 1bitLLM's checkpoints has the same defaults.
pub(super) const LLAMA: Defaults = Defaults {
    vocab: 32_000,
    hidden: 4096,
    ffn: 11_008,
    layers: 32,
    heads: 32,
    kv_heads: None,
    head_dim: None,
    context: 2048,
    norm_eps: 1e-6,
    rope_theta: 10_000.0,
    activation: "silu",
    tied: false,
};

/// `BitNetConfig`.
pub(super) const BITNET: Defaults = Defaults {
    vocab: 128_256,
    hidden: 2560,
    ffn: 6912,
    layers: 30,
    heads: 20,
    kv_heads: Some(5),
    norm_eps: 1e-5,
    rope_theta: 500_000.0,
    activation: "relu2",
    ..LLAMA
};

/// `Qwen2Config`.
pub(super) const QWEN2: Defaults =
    Defaults { vocab: 151_936, ffn: 22_016, kv_heads: Some(32), context: 32_768, ..LLAMA };

/// `Qwen3Config`, whose head width is independent of the other sizes.
pub(super) const QWEN3: Defaults = Defaults { head_dim: Some(128), ..QWEN2 };

/// `Gemma3TextConfig`, whose activation has another key.
pub(super) const GEMMA3: Defaults = Defaults {
    vocab: 262_208,
    hidden: 2304,
    ffn: 9216,
    layers: 26,
    heads: 8,
    kv_heads: Some(4),
    head_dim: Some(256),
    context: 131_072,
    rope_theta: 1_000_000.0,
    activation: "gelu_pytorch_tanh",
    tied: true,
    ..LLAMA
};

/// `MapleConfig` of deepgrove's `configuration_maple.py`. The width of a feed-forward network is
/// unused.
pub(super) const MAPLE: Defaults = Defaults {
    vocab: 151_936,
    hidden: 2048,
    ffn: 512,
    layers: 20,
    heads: 16,
    kv_heads: Some(4),
    head_dim: Some(128),
    context: 32_768,
    ..LLAMA
};

/// `MiniCPMConfig`.
pub(super) const MINICPM: Defaults = Defaults { tied: true, ..LLAMA };
