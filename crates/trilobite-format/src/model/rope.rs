//! Rotary position embedding: its base, and its scaling to longer contexts.

use super::fault::Fault;
use super::limits;
use super::prefixed::Keys;
use crate::keys::model::{
    ATTENTION_FACTOR, BETA_FAST, BETA_SLOW, EXT_FACTOR, FINETUNED, LOG_MULTIPLIER,
    OLD_SCALING_FACTOR, ORIGINAL_CONTEXT, ROPE, ROPE_BASE, ROPE_BASE_WINDOW, ROPE_DIM,
    ROPE_DIM_WINDOW, SCALING, SCALING_FACTOR, TRUNCATE, YARN_ATTENTION_FACTOR,
};
use crate::{Error, Value};

/// Keys that llama.cpp reads for other architectures only, with the values that have no effect. Any
/// other value is an error, because its meaning differs between architectures.
const NEUTRAL: [(&str, &[f32]); 3] =
    [(EXT_FACTOR, &[-1.0, 1.0]), (YARN_ATTENTION_FACTOR, &[1.0]), (LOG_MULTIPLIER, &[0.0])];

/// Every accepted key that starts with `rope.`. An unknown one could change the computation, so it
/// is an error.
const KNOWN: [&str; 16] = [
    ROPE_DIM,
    ROPE_DIM_WINDOW,
    ROPE_BASE,
    ROPE_BASE_WINDOW,
    SCALING,
    SCALING_FACTOR,
    OLD_SCALING_FACTOR,
    ATTENTION_FACTOR,
    ORIGINAL_CONTEXT,
    BETA_FAST,
    BETA_SLOW,
    TRUNCATE,
    NEUTRAL[0].0,
    NEUTRAL[1].0,
    NEUTRAL[2].0,
    FINETUNED,
];

/// RoPE of the layers without a sliding window.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f32,
    /// How the frequencies are scaled.
    pub scaling: Scaling,
    /// The factor of cosines and sines, in addition to that of [`Yarn`].
    pub attention_factor: f32,
}

/// How rotary frequencies are scaled.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Unscaled, or divided by [`Role::RopeFreqs`](super::Role::RopeFreqs) if the model has it.
    None,
    /// All frequencies are divided by one number.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// YaRN (arXiv 2309.00071).
    Yarn(Yarn),
    /// LongRoPE (arXiv 2402.13753): each frequency has its own divisor, from
    /// [`Role::RopeShort`](super::Role::RopeShort) in contexts of at most `original` tokens and
    /// from [`Role::RopeLong`](super::Role::RopeLong) in longer ones.
    LongRope {
        /// The original context length, before scaling.
        original: u64,
    },
}

/// The parameters of YaRN.
///
/// Frequencies that turn often within the original context are kept, those that turn seldom are
/// divided by `factor`, and a ramp connects the two. Cosines and sines are multiplied by
/// `1 + 0.1 ln(factor)` if that exceeds 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// The factor by which the context is extended.
    pub factor: f32,
    /// The original context length, before scaling.
    pub original: u64,
    /// Minimum number of turns of a frequency that is kept.
    pub beta_fast: f32,
    /// Maximum number of turns of a frequency that is divided by `factor`.
    pub beta_slow: f32,
    /// Whether the ends of the ramp are rounded to whole pairs.
    pub truncate: bool,
}

impl Yarn {
    /// The default numbers of turns at the ends of the ramp: fast and slow.
    pub const BETAS: (f32, f32) = (32.0, 1.0);
}

impl Rope {
    /// RoPE without scaling.
    pub fn unscaled(theta: f32) -> Self {
        Self { theta, scaling: Scaling::None, attention_factor: 1.0 }
    }

    /// Reads the keys, by llama.cpp's rules: a factor of 0 means none, the original context length
    /// defaults to `context`, and the attention factor applies to every type.
    ///
    /// Unlike in llama.cpp, the betas of YaRN apply to every architecture. llama.cpp reads them for
    /// a few and uses 32 and 1 for the others, although its converter writes those of the
    /// checkpoint.
    pub(super) fn read(keys: &Keys<'_>, context: u64) -> Result<Self, Error> {
        let rope = keys.name(ROPE);
        for (key, _) in keys.metadata.iter().filter(|(key, _)| key.starts_with(&rope)) {
            if !KNOWN.iter().any(|known| keys.name(known) == key) {
                return Err(Error::UnknownKey(key.to_owned()));
            }
        }
        for (key, neutral) in NEUTRAL {
            if let Some(found) = keys.float(key)?.filter(|found| !neutral.contains(found)) {
                let expected = neutral.iter().map(f32::to_string).collect::<Vec<_>>().join(" or ");
                return Err(keys.bad(key, expected, found));
            }
        }
        let kind = keys.metadata.str(&keys.name(SCALING))?.unwrap_or("linear");
        let factor = match keys.float(SCALING_FACTOR)? {
            Some(factor) => Some(factor),
            None => keys.float(OLD_SCALING_FACTOR)?,
        };
        let factor = factor.filter(|factor| *factor != 0.0).unwrap_or(1.0);
        let original = || Ok::<_, Error>(keys.size(ORIGINAL_CONTEXT)?.unwrap_or(context));
        let (fast, slow) = Yarn::BETAS;
        let scaling = match kind {
            "none" => Scaling::None,
            "linear" if factor == 1.0 => Scaling::None,
            "linear" => Scaling::Linear { factor },
            "yarn" => Scaling::Yarn(Yarn {
                factor,
                original: original()?,
                beta_fast: keys.float(BETA_FAST)?.unwrap_or(fast),
                beta_slow: keys.float(BETA_SLOW)?.unwrap_or(slow),
                truncate: keys.metadata.bool(&keys.name(TRUNCATE))?.unwrap_or(true),
            }),
            "longrope" if factor == 1.0 => Scaling::LongRope { original: original()? },
            // llama.cpp divides by the factor as well; transformers never does.
            "longrope" => return Err(keys.bad(SCALING_FACTOR, "1 for longrope", factor)),
            other => {
                let expected = "none, linear, yarn or longrope";
                return Err(keys.bad(SCALING, expected, format_args!("{other:?}")));
            }
        };
        Ok(Self {
            theta: keys.float(ROPE_BASE)?.unwrap_or(10_000.0),
            scaling,
            attention_factor: keys.float(ATTENTION_FACTOR)?.unwrap_or(1.0),
        })
    }

    /// Passes each key with its value to `set`; `None` removes the key.
    pub(super) fn describe(&self, mut set: impl FnMut(&str, Option<Value>)) {
        let number = |number: f32, usual: f32| (number != usual).then(|| number.into());
        set(ROPE_BASE, Some(self.theta.into()));
        let (kind, factor, original) = match &self.scaling {
            Scaling::None => (None, None, None),
            Scaling::Linear { factor } => (Some("linear"), Some(*factor), None),
            Scaling::Yarn(yarn) => (Some("yarn"), Some(yarn.factor), Some(yarn.original)),
            Scaling::LongRope { original } => (Some("longrope"), None, Some(*original)),
        };
        set(SCALING, kind.map(Value::from));
        set(SCALING_FACTOR, factor.map(Value::from));
        set(OLD_SCALING_FACTOR, None);
        set(ORIGINAL_CONTEXT, original.map(|tokens| (tokens as u32).into()));
        set(ATTENTION_FACTOR, number(self.attention_factor, 1.0));
        let yarn = match &self.scaling {
            Scaling::Yarn(yarn) => Some(yarn),
            _ => None,
        };
        let (fast, slow) = Yarn::BETAS;
        set(BETA_FAST, yarn.and_then(|yarn| number(yarn.beta_fast, fast)));
        set(BETA_SLOW, yarn.and_then(|yarn| number(yarn.beta_slow, slow)));
        set(TRUNCATE, yarn.filter(|yarn| !yarn.truncate).map(|_| false.into()));
        NEUTRAL.iter().for_each(|(key, _)| set(key, None));
    }

    /// Checks that the angles of all positions of the context are finite.
    pub(super) fn check(&self, context: u64) -> Result<(), Fault> {
        let factor = match &self.scaling {
            Scaling::Linear { factor } | Scaling::Yarn(Yarn { factor, .. }) => *factor,
            Scaling::None | Scaling::LongRope { .. } => 1.0,
        };
        Fault::positive(SCALING_FACTOR, factor)?;
        check_base(ROPE_BASE, self.theta, factor, context)?;
        Fault::positive(ATTENTION_FACTOR, self.attention_factor)?;
        match &self.scaling {
            Scaling::None | Scaling::Linear { .. } => Ok(()),
            Scaling::LongRope { original } => {
                Fault::range(ORIGINAL_CONTEXT, *original, 1, u32::MAX.into())
            }
            Scaling::Yarn(yarn) => {
                Fault::range(ORIGINAL_CONTEXT, yarn.original, 1, u32::MAX.into())?;
                Fault::positive(BETA_FAST, yarn.beta_fast)?;
                Fault::positive(BETA_SLOW, yarn.beta_slow)?;
                // The ends of the ramp are logarithms to this base.
                Fault::unless(self.theta > 1.0, ROPE_BASE, self.theta, || "above 1 for yarn".into())
            }
        }
    }
}

/// Checks that the largest frequency gives finite angles at all positions of the context. That
/// frequency is 1 or `1 / theta`, divided by `factor` if that is less than 1.
pub(super) fn check_base(
    key: &'static str,
    theta: f32,
    factor: f32,
    context: u64,
) -> Result<(), Fault> {
    Fault::positive(key, theta)?;
    let angle = context as f32 / theta.min(1.0) / factor.min(1.0);
    Fault::unless(angle.is_finite(), key, theta, || {
        format!("a base whose angles are finite in a context of {context}")
    })
}

/// Checks the divisors of rotary frequencies: each must be a positive number, and large enough for
/// finite angles.
///
/// # Errors
/// The first invalid divisor, with the name of the tensor that holds it.
pub fn check_divisors(tensor: &str, divisors: &[f32]) -> Result<(), Error> {
    let angle = |divisor: &f32| limits::CONTEXT as f32 / divisor;
    let usable =
        |divisor: &f32| *divisor > 0.0 && divisor.is_finite() && angle(divisor).is_finite();
    match divisors.iter().position(|divisor| !usable(divisor)) {
        None => Ok(()),
        Some(element) => Err(Error::Divisor {
            tensor: tensor.to_owned(),
            element,
            found: divisors.get(element).copied().unwrap_or(f32::NAN),
        }),
    }
}
