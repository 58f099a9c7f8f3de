//! The shape of a model, read from its metadata.

use trilobite_format::model::{Architecture, Hyperparameters, Rope};

/// The nonlinearity of the gated feed-forward network: `act(gate) * up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)^2` (BitNet b1.58 2B4T).
    Relu2,
    /// `x * sigmoid(x)` (Llama, Qwen, 1bitLLM).
    Silu,
    /// GELU by its approximation with tanh (Gemma).
    Gelu,
}

/// Which pairs of a head's elements a rotary position embedding rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(i, i + head_dim / 2)`, as in Hugging Face checkpoints.
    Halves,
    /// `(2 i, 2 i + 1)`: GGUF files of the architecture `llama` have their q and k rows permuted.
    Adjacent,
}

/// What distinguishes the graph of one architecture from that of another beyond the tensors that
/// it has, as data.
#[derive(Clone, Copy)]
struct Graph {
    activation: Activation,
    rope_pairs: RopePairs,
    scaled_embedding: bool,
}

/// Qwen: the others are this with something changed.
const QWEN: Graph =
    Graph { activation: Activation::Silu, rope_pairs: RopePairs::Halves, scaled_embedding: false };

/// The graph of an architecture, which GGUF has no keys for.
fn graph(architecture: Architecture) -> Graph {
    match architecture {
        Architecture::BitNetB158 => Graph { activation: Activation::Relu2, ..QWEN },
        Architecture::BitNet | Architecture::Qwen2 | Architecture::Qwen3 => QWEN,
        Architecture::Llama => Graph { rope_pairs: RopePairs::Adjacent, ..QWEN },
        Architecture::Gemma3 => {
            Graph { activation: Activation::Gelu, scaled_embedding: true, ..QWEN }
        }
    }
}

/// Layers whose tokens see only the last tokens.
#[derive(Clone, Debug)]
pub struct Window {
    /// Tokens that a token sees, itself included.
    pub tokens: usize,
    /// Which layers those are.
    pub layers: Vec<bool>,
    /// The base of their rotary frequencies.
    pub rope_theta: f32,
    /// Whether these are scaled like those of the other layers (not in Gemma).
    pub scaled: bool,
}

/// Hyperparameters of a decoder-only transformer.
#[derive(Clone, Debug)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: String,
    /// Size of the vocabulary: rows of the embedding.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward network.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; query head `h` uses `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest context the model was trained for, in tokens.
    pub context: usize,
    /// Added to the mean square in every RMS norm.
    pub norm_eps: f32,
    /// Rotary position embedding of the layers that do not slide.
    pub rope: Rope,
    /// Pairs that the rotary embedding rotates.
    pub rope_pairs: RopePairs,
    /// Nonlinearity of the feed-forward network.
    pub activation: Activation,
    /// What attention scores are multiplied by: `1 / sqrt(head_dim)` in most models.
    pub attention_scale: f32,
    /// Sliding-window attention, where some layers have it.
    pub window: Option<Window>,
    /// What embeddings are multiplied by: `sqrt(hidden)` in Gemma, otherwise 1.
    pub embedding_scale: f32,
    /// `c` of logits that are `c tanh(x / c)`.
    pub logit_cap: Option<f32>,
}

impl Config {
    /// The configuration of a model whose architecture has this name in its file.
    pub(crate) fn new(model: Hyperparameters, name: &str) -> Self {
        let Graph { activation, rope_pairs, scaled_embedding } = graph(model.arch);
        let scale = 1.0 / (model.scale_width() as f32).sqrt();
        Self {
            architecture: name.to_owned(),
            vocab: model.vocab as usize,
            hidden: model.hidden as usize,
            intermediate: model.ffn as usize,
            layers: model.layers as usize,
            heads: model.heads as usize,
            kv_heads: model.kv_heads as usize,
            head_dim: model.head_dim as usize,
            context: model.context as usize,
            norm_eps: model.norm_eps,
            rope: model.rope,
            rope_pairs,
            activation,
            attention_scale: model.attention_scale.unwrap_or(scale),
            window: model.window.map(|window| Window {
                tokens: window.tokens as usize,
                layers: window.layers,
                rope_theta: window.rope_theta,
                scaled: !model.arch.slides(),
            }),
            embedding_scale: if scaled_embedding { (model.hidden as f32).sqrt() } else { 1.0 },
            logit_cap: model.softcap,
        }
    }

    /// The window of a layer, where it slides.
    pub fn window(&self, layer: usize) -> Option<&Window> {
        self.window.as_ref().filter(|window| window.layers.get(layer) == Some(&true))
    }

    /// Width of all query heads together.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
