//! The shape of a model, read from its metadata.

use std::fmt::Display;

use trilobite_format::Metadata;

use crate::error::{Error, Result};

/// The nonlinearity of the gated feed-forward network: `act(gate) * up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)^2` (BitNet b1.58 2B4T).
    Relu2,
    /// `x * sigmoid(x)` (Llama, 1bitLLM).
    Silu,
}

/// Which pairs of a head's elements a rotary position embedding rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(i, i + head_dim / 2)`, as in Hugging Face checkpoints.
    Halves,
    /// `(2 i, 2 i + 1)`: GGUF files of the architecture `llama` have their q and k rows permuted.
    Adjacent,
}

/// What distinguishes one architecture from another, as data.
struct Architecture {
    name: &'static str,
    activation: Activation,
    rope_pairs: RopePairs,
    sub_norms: bool,
}

/// The architectures, by their name in `general.architecture`. The activation is implied by the
/// name: GGUF has no key for it.
const ARCHITECTURES: [Architecture; 4] = [
    Architecture {
        name: "bitnet-b1.58",
        activation: Activation::Relu2,
        rope_pairs: RopePairs::Halves,
        sub_norms: true,
    },
    Architecture {
        name: "bitnet-25",
        activation: Activation::Relu2,
        rope_pairs: RopePairs::Halves,
        sub_norms: true,
    },
    Architecture {
        name: "bitnet",
        activation: Activation::Silu,
        rope_pairs: RopePairs::Halves,
        sub_norms: true,
    },
    Architecture {
        name: "llama",
        activation: Activation::Silu,
        rope_pairs: RopePairs::Adjacent,
        sub_norms: false,
    },
];

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
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Pairs that the rotary embedding rotates.
    pub rope_pairs: RopePairs,
    /// Nonlinearity of the feed-forward network.
    pub activation: Activation,
    /// A norm before the attention's output projection and before the down projection (BitNet).
    pub sub_norms: bool,
}

impl Config {
    /// Reads the hyperparameters and checks that they fit together.
    ///
    /// # Errors
    /// An architecture that is not supported, a missing key, or values that contradict each other.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let name = metadata
            .str("general.architecture")?
            .ok_or_else(|| Error::MissingKey("general.architecture".into()))?;
        let architecture =
            ARCHITECTURES.iter().find(|known| known.name == name).ok_or_else(|| {
                Error::Architecture {
                    found: name.to_owned(),
                    supported: ARCHITECTURES.map(|known| known.name).join(", "),
                }
            })?;
        let keys = Keys { metadata, prefix: name };

        let hidden = keys.size("embedding_length")?;
        let heads = keys.size("attention.head_count")?;
        let kv_heads = keys.optional_size("attention.head_count_kv")?.unwrap_or(heads);
        keys.check("attention.head_count_kv", kv_heads, heads.is_multiple_of(kv_heads), || {
            format!("a divisor of the {heads} query heads")
        })?;
        let head_dim = match keys.optional_size("attention.key_length")? {
            Some(head_dim) => head_dim,
            None => {
                keys.check("embedding_length", hidden, hidden.is_multiple_of(heads), || {
                    format!("a multiple of the {heads} heads")
                })?;
                hidden / heads
            }
        };
        keys.check("attention.key_length", head_dim, head_dim.is_multiple_of(2), || {
            "an even width, since rotary embeddings turn pairs".into()
        })?;
        for key in ["attention.value_length", "rope.dimension_count"] {
            let width = keys.optional_size(key)?.unwrap_or(head_dim);
            keys.check(key, width, width == head_dim, || format!("the head width {head_dim}"))?;
        }
        let vocab = match keys.optional_size("vocab_size")? {
            Some(vocab) => vocab,
            None => metadata
                .strings("tokenizer.ggml.tokens")?
                .map(|tokens| tokens.len())
                .ok_or_else(|| Error::MissingKey(format!("{name}.vocab_size")))?,
        };
        let norm_eps = keys.float("attention.layer_norm_rms_epsilon")?;
        keys.check(
            "attention.layer_norm_rms_epsilon",
            norm_eps,
            (0.0..1.0).contains(&norm_eps),
            || "a number in 0..1".into(),
        )?;
        let rope_theta = keys.float("rope.freq_base")?;
        keys.check(
            "rope.freq_base",
            rope_theta,
            rope_theta >= 1.0 && rope_theta.is_finite(),
            || "a finite number of at least 1".into(),
        )?;
        if let Some(scaling) = metadata.str(&format!("{name}.rope.scaling.type"))? {
            keys.check("rope.scaling.type", scaling, scaling == "none", || {
                "none (frequency divisors come as the tensor rope_freqs.weight)".into()
            })?;
        }
        Ok(Self {
            vocab,
            hidden,
            intermediate: keys.size("feed_forward_length")?,
            layers: keys.size("block_count")?,
            heads,
            kv_heads,
            head_dim,
            context: keys.size("context_length")?,
            norm_eps,
            rope_theta,
            rope_pairs: architecture.rope_pairs,
            activation: architecture.activation,
            sub_norms: architecture.sub_norms,
            architecture: name.to_owned(),
        })
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

/// The keys of one architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'a str,
}

impl Keys<'_> {
    /// The largest size accepted: sizes are multiplied with each other and must not overflow.
    const MAX: u64 = 1 << 24;

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        let name = self.key(key);
        let Some(value) = self.metadata.u64(&name)? else { return Ok(None) };
        self.check(key, value, (1..=Self::MAX).contains(&value), || {
            format!("a number in 1..={}", Self::MAX)
        })?;
        Ok(Some(value as usize))
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?.ok_or_else(|| Error::MissingKey(self.key(key)))
    }

    fn float(&self, key: &str) -> Result<f32> {
        let name = self.key(key);
        self.metadata.f32(&name)?.ok_or(Error::MissingKey(name))
    }

    fn check(
        &self,
        key: &str,
        found: impl Display,
        fits: bool,
        expected: impl FnOnce() -> String,
    ) -> Result<()> {
        if fits {
            return Ok(());
        }
        Err(Error::BadValue { key: self.key(key), expected: expected(), found: found.to_string() })
    }
}
