//! The sizes and other numeric parameters of a model.

use super::architecture::Architecture;
use super::experts::Experts;
use super::fault::Fault;
use super::limits;
use super::pooling::Pooling;
use super::prefixed::Keys;
use super::rope::{Rope, check_base};
use super::scales::Scales;
use super::window::Window;
use crate::keys::model::{
    ATTENTION_SCALE, CONTEXT, FFN, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, NORM_EPS, POOLING,
    PROJECTION_NORM_EPS, ROPE_BASE_WINDOW, ROPE_DIM, ROPE_DIM_WINDOW, SOFTCAP, VALUE_DIM, VOCAB,
    WINDOW,
};
use crate::{Error, Metadata, Value};

/// The numbers of rotated elements of a head. Only the first is written.
const ROPE_DIMS: [&str; 2] = [ROPE_DIM, ROPE_DIM_WINDOW];

/// The hyperparameters of a model, as its metadata store them.
///
/// [`read`](Self::read) returns values that have passed [`check`](Self::check) and can be run.
/// [`describe`](Self::describe) is the inverse of `read`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// The architecture.
    pub arch: Architecture,
    /// Size of the vocabulary: the number of rows of the embedding.
    pub vocab: u64,
    /// Maximum context length in tokens.
    pub context: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Width of the feed-forward network. A mixture of experts has its own and does not use this.
    pub ffn: u64,
    /// Number of layers.
    pub layers: u64,
    /// Number of query heads.
    pub heads: u64,
    /// Number of key and value heads, a divisor of `heads`.
    pub kv_heads: u64,
    /// Width of a head; even.
    pub head_dim: u64,
    /// Number of elements at the start of a head that RoPE rotates; even. It is `head_dim` except
    /// in Maple.
    pub rope_dim: u64,
    /// The epsilon of every RMS norm, added to the mean square.
    pub norm_eps: f32,
    /// The epsilon of the norms of projections' inputs, if it is not `norm_eps`.
    pub projection_norm_eps: Option<f32>,
    /// RoPE of the layers without a sliding window.
    pub rope: Rope,
    /// Sliding-window attention, if some layers have it.
    pub window: Option<Window>,
    /// The experts, if the feed-forward network is a mixture of them.
    pub experts: Option<Experts>,
    /// The factor of attention scores; `1 / sqrt(scale_width)` by default.
    pub attention_scale: Option<f32>,
    /// The cap `c` of logits: they become `c tanh(x / c)`.
    pub softcap: Option<f32>,
    /// Factors of the residual stream and the logits.
    pub scales: Scales,
    /// How an embedding model pools the hidden states of a text.
    pub pooling: Option<Pooling>,
}

impl Hyperparameters {
    /// Reads the hyperparameters from metadata. Without a key for the vocabulary size it is `rows`,
    /// the number of rows of the embedding, or else the number of tokens.
    ///
    /// # Errors
    /// A key is missing or has the wrong type, or a value is outside its valid range.
    pub fn read(metadata: &Metadata, rows: Option<u64>) -> Result<Self, Error> {
        let (arch, prefix) = Architecture::of(metadata)?;
        let keys = Keys { metadata, prefix };
        // A head is as wide as it rotates where its width is not stated.
        let widths = [HEAD_DIM, ROPE_DIM].map(|key| keys.get(key).is_some());
        let rotated = arch != Architecture::Maple && widths == [false, true];
        let bad = |fault: Fault| match fault.key {
            HEAD_DIM if rotated => keys.unfit(Fault { key: ROPE_DIM, ..fault }),
            _ => keys.unfit(fault),
        };

        let layers = keys.require_size(LAYERS)?;
        let hidden = keys.require_size(HIDDEN)?;
        let heads = keys.layer_size(HEADS, layers)?.ok_or_else(|| keys.missing(HEADS))?;
        Fault::range(HEADS, heads, 1, limits::HEADS).map_err(bad)?;
        let width = match keys.size(HEAD_DIM)? {
            Some(width) => Some(width),
            None if arch == Architecture::Maple => None,
            None => keys.size(ROPE_DIM)?,
        };
        let head_dim = match width {
            Some(width) => width,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let expected = format!("a multiple of the {heads} heads without {HEAD_DIM}");
                return Err(keys.bad(HIDDEN, expected, hidden));
            }
        };
        if let Some(width) = keys.size(VALUE_DIM)?.filter(|width| *width != head_dim) {
            return Err(keys.bad(VALUE_DIM, format!("the head width {head_dim}"), width));
        }
        let rope_dim = rope_dim(&keys, arch, head_dim)?;
        let experts = match arch.has_experts() {
            true => {
                Fault::range(LAYERS, layers, 1, limits::LAYERS).map_err(bad)?;
                Some(Experts::read(&keys, layers)?)
            }
            false => None,
        };
        let ffn = keys.layer_size(FFN, layers)?;
        let ffn = match &experts {
            None => ffn.ok_or_else(|| keys.missing(FFN))?,
            // The layers have no dense network, so some files omit its width.
            Some(experts) => ffn.filter(|ffn| *ffn > 0).unwrap_or(experts.ffn),
        };
        let tokens = || metadata.strings(crate::keys::TOKENS);
        let vocab = match (keys.size(VOCAB)?, rows) {
            (Some(vocab), _) | (None, Some(vocab)) => vocab,
            (None, None) => tokens()?.ok_or_else(|| keys.missing(VOCAB))?.len() as u64,
        };
        let context = keys.require_size(CONTEXT)?;
        let rope = Rope::read(&keys, context)?;
        let mut read = Self {
            arch,
            vocab,
            context,
            hidden,
            ffn,
            layers,
            heads,
            kv_heads: keys.layer_size(KV_HEADS, layers)?.unwrap_or(heads),
            head_dim,
            rope_dim,
            norm_eps: keys.float(NORM_EPS)?.ok_or_else(|| keys.missing(NORM_EPS))?,
            projection_norm_eps: keys.float(PROJECTION_NORM_EPS)?,
            rope,
            window: None,
            experts,
            attention_scale: keys.float(ATTENTION_SCALE)?,
            softcap: keys.float(SOFTCAP)?,
            scales: Scales::read(&keys, arch, layers, hidden)?,
            pooling: Pooling::read(&keys)?,
        };
        // Check the number of layers before a list of that length is built.
        read.check().map_err(bad)?;
        read.window = Window::read(&keys, arch, layers, read.rope.theta)?;
        read.check().map_err(bad)?;
        Ok(read)
    }

    /// The width for the default scale of attention scores, `1 / sqrt(scale_width)`: the width of a
    /// head.
    pub fn scale_width(&self) -> u64 {
        // The exception is Gemma 3 27B, whose files have no key for it.
        let spread = self.arch == Architecture::Gemma3 && self.layers == 62;
        if spread { self.hidden / self.heads } else { self.head_dim }
    }

    /// Writes the keys, and removes existing ones that contradict them.
    pub fn describe(&self, metadata: &mut Metadata) {
        let mut set = |key: &str, value: Option<Value>| {
            let key = format!("{}.{key}", self.arch.name());
            match value {
                Some(value) => metadata.insert(key, value),
                None => metadata.remove(&key),
            }
        };
        for (key, size) in [
            (VOCAB, self.vocab),
            (CONTEXT, self.context),
            (HIDDEN, self.hidden),
            (LAYERS, self.layers),
            (FFN, self.ffn),
            (HEADS, self.heads),
            (KV_HEADS, self.kv_heads),
            (HEAD_DIM, self.head_dim),
            (VALUE_DIM, self.head_dim),
            (ROPE_DIM, self.rope_dim),
        ] {
            set(key, Some((size as u32).into()));
        }
        set(NORM_EPS, Some(self.norm_eps.into()));
        self.rope.describe(&mut set);
        Window::describe(self.window.as_ref(), self.arch, self.layers, &mut set);
        Experts::describe(self.experts.as_ref(), &mut set);
        set(ATTENTION_SCALE, self.attention_scale.map(Value::from));
        set(SOFTCAP, self.softcap.map(Value::from));
        set(PROJECTION_NORM_EPS, self.projection_norm_eps.map(Value::from));
        set(POOLING, self.pooling.map(|pooling| (pooling.number() as u32).into()));
        self.scales.describe(self.arch, &mut set);
    }

    /// Checks that a model with these hyperparameters can be run. Reading and writing share this
    /// rule.
    ///
    /// # Errors
    /// The first value outside its valid range.
    pub fn check(&self) -> Result<(), Fault> {
        Fault::range(LAYERS, self.layers, 1, limits::LAYERS)?;
        Fault::range(VOCAB, self.vocab, 1, limits::VOCAB)?;
        Fault::range(CONTEXT, self.context, 1, limits::CONTEXT)?;
        Fault::range(HIDDEN, self.hidden, 1, limits::WIDTH)?;
        Fault::range(FFN, self.ffn, 1, limits::WIDTH)?;
        Fault::range(HEADS, self.heads, 1, limits::HEADS)?;
        Fault::range(KV_HEADS, self.kv_heads, 1, limits::HEADS)?;
        let divides = self.heads.is_multiple_of(self.kv_heads);
        Fault::unless(divides, KV_HEADS, self.kv_heads, || {
            format!("a divisor of the {} query heads", self.heads)
        })?;
        let widest = limits::WIDTH / self.heads;
        let width = self.head_dim.is_multiple_of(2) && (2..=widest).contains(&self.head_dim);
        Fault::unless(width, HEAD_DIM, self.head_dim, || {
            format!("an even number from 2 to {widest}, as RoPE turns pairs")
        })?;
        let pairs = self.rope_dim.is_multiple_of(2) && (2..=self.head_dim).contains(&self.rope_dim);
        Fault::unless(pairs, ROPE_DIM, self.rope_dim, || {
            format!(
                "an even number from 2 to the head width {}, as RoPE turns pairs",
                self.head_dim
            )
        })?;
        let eps = self.norm_eps >= 0.0 && self.norm_eps.is_finite();
        Fault::unless(eps, NORM_EPS, self.norm_eps, || "a finite number of at least 0".into())?;
        if let Some(eps) = self.projection_norm_eps {
            let valid = eps >= 0.0 && eps.is_finite();
            Fault::unless(valid, PROJECTION_NORM_EPS, eps, || {
                "a finite number of at least 0".into()
            })?;
        }
        self.scales.check()?;
        self.rope.check(self.context)?;
        self.experts.as_ref().map_or(Ok(()), Experts::check)?;
        if let Some(window) = &self.window {
            Fault::range(WINDOW, window.tokens, 1, limits::CONTEXT)?;
            check_base(ROPE_BASE_WINDOW, window.rope_theta, 1.0, self.context)?;
        }
        self.attention_scale.map_or(Ok(()), |scale| Fault::positive(ATTENTION_SCALE, scale))?;
        self.softcap.map_or(Ok(()), |cap| Fault::positive(SOFTCAP, cap))
    }
}

/// The number of elements of a head that RoPE rotates: the number that the file states in Maple,
/// all of them in other architectures.
fn rope_dim(keys: &Keys<'_>, arch: Architecture, head_dim: u64) -> Result<u64, Error> {
    let mut stated = None;
    for key in ROPE_DIMS {
        let maple = arch == Architecture::Maple;
        // Some converters write 0 for the layers without a window, which have no RoPE.
        let Some(found) = keys.size(key)?.filter(|width| !(maple && *width == 0)) else { continue };
        match stated {
            None if maple || found == head_dim => stated = Some(found),
            None => return Err(keys.bad(key, format!("the head width {head_dim}"), found)),
            Some(other) if found == other => {}
            Some(other) => {
                return Err(keys.bad(key, format!("{other}, as in {ROPE_DIM}"), found));
            }
        }
    }
    match stated {
        None if arch == Architecture::Maple => Err(keys.missing(ROPE_DIM)),
        stated => Ok(stated.unwrap_or(head_dim)),
    }
}
