//! The shape of a model, read from its metadata.

use std::fmt::Display;

use trilobite_format::model::Arch;
use trilobite_format::{Metadata, Value};

use crate::error::{Error, Result};

/// The nonlinearity of the gated feed-forward network: `act(gate) * up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)^2` (BitNet b1.58 2B4T).
    Relu2,
    /// `x * sigmoid(x)` (Llama, Qwen 2, 1bitLLM).
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

/// What distinguishes one architecture from another, as data.
#[derive(Clone, Copy)]
struct Architecture {
    activation: Activation,
    rope_pairs: RopePairs,
    sub_norms: bool,
    post_norms: bool,
    qk_norms: bool,
    qkv_biases: bool,
    scaled_embedding: bool,
    /// Every layer but each sixth slides where the metadata has a window but says no more.
    windows: bool,
}

/// Llama: the others are this with something changed.
const LLAMA: Architecture = Architecture {
    activation: Activation::Silu,
    rope_pairs: RopePairs::Adjacent,
    sub_norms: false,
    post_norms: false,
    qk_norms: false,
    qkv_biases: false,
    scaled_embedding: false,
    windows: false,
};

/// The activation is implied by the architecture: GGUF has no key for it.
const fn architecture(arch: Arch) -> Architecture {
    match arch {
        Arch::BitNetB158 => {
            Architecture { activation: Activation::Relu2, ..architecture(Arch::BitNet) }
        }
        Arch::BitNet => Architecture { rope_pairs: RopePairs::Halves, sub_norms: true, ..LLAMA },
        Arch::Llama => LLAMA,
        Arch::Qwen2 => Architecture { rope_pairs: RopePairs::Halves, qkv_biases: true, ..LLAMA },
        Arch::Gemma3 => Architecture {
            activation: Activation::Gelu,
            rope_pairs: RopePairs::Halves,
            post_norms: true,
            qk_norms: true,
            scaled_embedding: true,
            windows: true,
            ..LLAMA
        },
    }
}

/// The architecture that `general.architecture` names, and the name.
///
/// # Errors
/// It is missing or not known.
pub(crate) fn arch(metadata: &Metadata) -> Result<(Arch, &str)> {
    const KEY: &str = "general.architecture";
    let name = metadata.str(KEY)?.ok_or_else(|| Error::MissingKey(KEY.to_owned()))?;
    let arch = Arch::from_name(name).ok_or_else(|| Error::Architecture {
        found: name.to_owned(),
        supported: Arch::ALL.map(Arch::name).join(", "),
    })?;
    Ok((arch, name))
}

/// Layers whose tokens see only the last tokens.
#[derive(Clone, Debug)]
pub struct Window {
    /// Tokens that a token sees, itself included.
    pub tokens: usize,
    /// Which layers those are.
    pub layers: Vec<bool>,
    /// The base of their rotary frequencies, which are never scaled.
    pub rope_theta: f32,
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
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Pairs that the rotary embedding rotates.
    pub rope_pairs: RopePairs,
    /// Nonlinearity of the feed-forward network.
    pub activation: Activation,
    /// What every rotary frequency is divided by, those of sliding layers excepted; 1 without
    /// linear scaling.
    pub rope_factor: f32,
    /// What attention scores are multiplied by: `1 / sqrt(head_dim)` in most models.
    pub attention_scale: f32,
    /// Sliding-window attention, where some layers have it.
    pub window: Option<Window>,
    /// A norm before the attention's output projection and before the down projection (BitNet).
    pub sub_norms: bool,
    /// A norm of what each part adds to the residual stream (Gemma).
    pub post_norms: bool,
    /// A norm of every head of q and k before the rotary embedding (Gemma).
    pub qk_norms: bool,
    /// Biases of the q, k and v projections without which the model is not complete (Qwen 2).
    pub qkv_biases: bool,
    /// What embeddings are multiplied by: `sqrt(hidden)` in Gemma, otherwise 1.
    pub embedding_scale: f32,
    /// `c` of logits that are `c tanh(x / c)`.
    pub logit_cap: Option<f32>,
}

impl Config {
    /// Reads the hyperparameters and checks that they fit together.
    ///
    /// # Errors
    /// An architecture that is not supported, a missing key, or values that contradict each other.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let (arch, name) = arch(metadata)?;
        let architecture = architecture(arch);
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
        let rope_theta = keys.optional_float("rope.freq_base")?.unwrap_or(10_000.0);
        keys.check(
            "rope.freq_base",
            rope_theta,
            rope_theta >= 1.0 && rope_theta.is_finite(),
            || "a finite number of at least 1".into(),
        )?;
        let layers = keys.size("block_count")?;
        let positive = |key: &str| -> Result<Option<f32>> {
            let Some(found) = metadata.f32(&keys.key(key))? else { return Ok(None) };
            keys.check(key, found, found > 0.0 && found.is_finite(), || "positive".into())?;
            Ok(Some(found))
        };
        Ok(Self {
            vocab,
            hidden,
            intermediate: keys.size("feed_forward_length")?,
            layers,
            heads,
            kv_heads,
            head_dim,
            context: keys.size("context_length")?,
            norm_eps,
            rope_theta,
            rope_pairs: architecture.rope_pairs,
            activation: architecture.activation,
            rope_factor: keys.rope_factor()?,
            attention_scale: match positive("attention.scale")? {
                Some(scale) => scale,
                // Gemma 3 27B, whose files do not say so.
                None if architecture.windows && layers == 62 => {
                    1.0 / ((hidden / heads) as f32).sqrt()
                }
                None => 1.0 / (head_dim as f32).sqrt(),
            },
            window: keys.window(&architecture, layers, rope_theta)?,
            sub_norms: architecture.sub_norms,
            post_norms: architecture.post_norms,
            qk_norms: architecture.qk_norms,
            qkv_biases: architecture.qkv_biases,
            embedding_scale: if architecture.scaled_embedding {
                (hidden as f32).sqrt()
            } else {
                1.0
            },
            logit_cap: positive("final_logit_softcapping")?,
            architecture: name.to_owned(),
        })
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

    fn optional_float(&self, key: &str) -> Result<Option<f32>> {
        Ok(self.metadata.f32(&self.key(key))?)
    }

    fn float(&self, key: &str) -> Result<f32> {
        self.optional_float(key)?.ok_or_else(|| Error::MissingKey(self.key(key)))
    }

    /// What rotary frequencies are divided by. (Divisors that differ come as the tensor
    /// `rope_freqs.weight`.)
    fn rope_factor(&self) -> Result<f32> {
        const TYPE: &str = "rope.scaling.type";
        let kind = self.metadata.str(&self.key(TYPE))?.unwrap_or("linear");
        self.check(TYPE, kind, matches!(kind, "none" | "linear"), || "none or linear".into())?;
        // Old files have the second key.
        for key in ["rope.scaling.factor", "rope.scale_linear"] {
            if let Some(factor) = self.optional_float(key)?.filter(|_| kind == "linear") {
                self.check(key, factor, factor > 0.0 && factor.is_finite(), || "positive".into())?;
                return Ok(factor);
            }
        }
        Ok(1.0)
    }

    /// Sliding windows. llama.cpp's defaults for Gemma 3 are five layers in six, and a base of
    /// 10,000; in other architectures a window without a pattern has no effect.
    fn window(
        &self,
        architecture: &Architecture,
        layers: usize,
        rope_theta: f32,
    ) -> Result<Option<Window>> {
        const PATTERN: &str = "attention.sliding_window_pattern";
        const BASE: &str = "rope.freq_base_swa";
        let Some(tokens) = self.optional_size("attention.sliding_window")? else {
            return Ok(None);
        };
        let pattern = self.metadata.get(&self.key(PATTERN));
        let listed = if let Some(Value::Array(_)) = pattern {
            let listed = self.metadata.bools(&self.key(PATTERN))?.unwrap_or_default();
            self.check(PATTERN, listed.len(), listed.len() == layers, || {
                format!("an entry for each of {layers} layers")
            })?;
            listed.to_vec()
        } else {
            let default = if architecture.windows { 6 } else { 1 };
            let period = self.optional_size(PATTERN)?.unwrap_or(default);
            (1..=layers).map(|layer| !layer.is_multiple_of(period)).collect()
        };
        let base = if architecture.windows { 10_000.0 } else { rope_theta };
        let rope_theta = self.optional_float(BASE)?.unwrap_or(base);
        self.check(BASE, rope_theta, rope_theta >= 1.0 && rope_theta.is_finite(), || {
            "a finite number of at least 1".into()
        })?;
        Ok(listed.contains(&true).then_some(Window { tokens, layers: listed, rope_theta }))
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
