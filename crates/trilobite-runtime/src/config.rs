//! The shape of a model, read from its metadata.

use trilobite_format::model::{Architecture, Hyperparameters, Pooling, Rope};

/// The nonlinearity of the gated feed-forward network: `act(gate) * up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)^2` (BitNet b1.58 2B4T).
    Relu2,
    /// `x * sigmoid(x)` (Llama, Qwen, 1bitLLM).
    Silu,
    /// The tanh approximation of GELU (Gemma).
    Gelu,
}

/// The pairs of a head's elements that a rotary position embedding rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(i, i + head_dim / 2)`, as in Hugging Face checkpoints.
    Halves,
    /// `(2 i, 2 i + 1)`, as in GGUF files of the architectures `llama` and `minicpm`, which permute
    /// the q and k rows.
    Adjacent,
}

/// The properties of an architecture's graph that the list of its tensors does not show.
#[derive(Clone, Copy)]
struct Graph {
    activation: Activation,
    rope_pairs: RopePairs,
    scaled_embedding: bool,
}

/// The graph of Qwen. The other graphs are defined by their differences from it.
const QWEN: Graph =
    Graph { activation: Activation::Silu, rope_pairs: RopePairs::Halves, scaled_embedding: false };

/// The graph of an architecture. GGUF has no metadata keys for these properties.
fn graph(architecture: Architecture) -> Graph {
    match architecture {
        Architecture::BitNetB158 => Graph { activation: Activation::Relu2, ..QWEN },
        Architecture::BitNet | Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Maple => {
            QWEN
        }
        Architecture::Llama | Architecture::MiniCpm => {
            Graph { rope_pairs: RopePairs::Adjacent, ..QWEN }
        }
        Architecture::Gemma3 => {
            Graph { activation: Activation::Gelu, scaled_embedding: true, ..QWEN }
        }
    }
}

/// Sliding-window attention: some layers attend to the most recent tokens only.
#[derive(Clone, Debug)]
pub struct Window {
    /// Length of the window in tokens, the current token included.
    pub tokens: usize,
    /// For each layer, whether it slides.
    pub layers: Vec<bool>,
    /// Base of the rotary frequencies of the sliding layers.
    pub rope_theta: f32,
    /// Whether RoPE scaling applies to the sliding layers too. It does not in Gemma.
    pub scaled: bool,
}

/// A mixture of experts: feed-forward networks of which a token uses a few.
#[derive(Clone, Debug)]
pub struct Experts {
    /// Number of experts of a layer.
    pub count: usize,
    /// Number of experts that a token uses.
    pub used: usize,
    /// The clamp of each layer.
    pub clamp: Vec<f32>,
}

/// Hyperparameters of a decoder-only transformer.
#[derive(Clone, Debug)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: String,
    /// Size of the vocabulary, which is the number of rows of the embedding.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward network, or of an expert.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads. Query head `h` uses head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Number of elements at the start of a head that the rotary embedding rotates.
    pub rope_dim: usize,
    /// Longest context the model was trained for, in tokens.
    pub context: usize,
    /// The epsilon of every RMS norm, added to the mean square.
    pub norm_eps: f32,
    /// The epsilon of the norms of the inputs of single projections.
    pub projection_norm_eps: f32,
    /// Rotary position embedding of the layers with full attention.
    pub rope: Rope,
    /// The pairs of elements that the rotary embedding rotates.
    pub rope_pairs: RopePairs,
    /// Nonlinearity of the feed-forward network.
    pub activation: Activation,
    /// Factor of the attention scores: `1 / sqrt(head_dim)` in most models.
    pub attention_scale: f32,
    /// Sliding-window attention, if some layers use it.
    pub window: Option<Window>,
    /// Whether only layers with a window have a rotary embedding (Maple).
    pub rotates_in_windows_only: bool,
    /// The experts, if the feed-forward network is a mixture of them.
    pub experts: Option<Experts>,
    /// Whether products of weights in blocks of more than two bits take activations of 32 bits, as a
    /// pair of 16-bit codes. In Maple and MiniCPM, 16 bits would change logits by more than another
    /// order of float sums does.
    pub pairs_codes: bool,
    /// Factor of the token embeddings: `sqrt(hidden)` in Gemma, stated in MiniCPM, otherwise 1.
    pub embedding_scale: f32,
    /// Factor of what a block adds to the residual stream: stated in MiniCPM, otherwise 1.
    pub residual_scale: f32,
    /// The cap `c` of soft-capped logits, `c tanh(x / c)`.
    pub logit_cap: Option<f32>,
    /// How an embedding model pools the hidden states of a text.
    pub pooling: Option<Pooling>,
}

impl Config {
    /// The configuration of a model. `name` is the architecture's name in the file.
    pub(crate) fn new(model: Hyperparameters, name: &str) -> Self {
        let Graph { activation, rope_pairs, scaled_embedding } = graph(model.arch);
        let scale = 1.0 / (model.scale_width() as f32).sqrt();
        Self {
            architecture: name.to_owned(),
            vocab: model.vocab as usize,
            hidden: model.hidden as usize,
            intermediate: model.experts.as_ref().map_or(model.ffn, |experts| experts.ffn) as usize,
            layers: model.layers as usize,
            heads: model.heads as usize,
            kv_heads: model.kv_heads as usize,
            head_dim: model.head_dim as usize,
            rope_dim: model.rope_dim as usize,
            context: model.context as usize,
            norm_eps: model.norm_eps,
            projection_norm_eps: model.projection_norm_eps.unwrap_or(model.norm_eps),
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
            pairs_codes: matches!(model.arch, Architecture::Maple | Architecture::MiniCpm),
            rotates_in_windows_only: model.arch.rotates_in_windows_only(),
            experts: model.experts.map(|experts| Experts {
                count: experts.count as usize,
                used: experts.used as usize,
                clamp: experts.clamp,
            }),
            embedding_scale: match scaled_embedding {
                true => (model.hidden as f32).sqrt(),
                false => model.scales.embedding,
            },
            residual_scale: model.scales.residual,
            logit_cap: model.softcap,
            pooling: model.pooling,
        }
    }

    /// The window of a layer, or `None` if the layer attends to all tokens.
    pub fn window(&self, layer: usize) -> Option<&Window> {
        self.window.as_ref().filter(|window| window.layers.get(layer) == Some(&true))
    }

    /// Whether a layer has a rotary position embedding.
    pub fn rotates(&self, layer: usize) -> bool {
        !self.rotates_in_windows_only || self.window(layer).is_some()
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
