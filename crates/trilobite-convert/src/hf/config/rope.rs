//! Rotary position embedding: bases and scaling, in the dialects of transformers 4 and 5.

use crate::Error;
use crate::hf::json::Object;
use crate::model::{Arch, Config};

/// What config.json says about RoPE.
pub(super) struct Rope {
    pub(super) theta: f32,
    /// The base of sliding layers, which are never scaled.
    pub(super) local_theta: f32,
    /// What every frequency is divided by.
    pub(super) factor: f32,
    /// What each frequency is divided by, where that differs.
    pub(super) divisors: Option<Vec<f32>>,
}

/// Reads `rope_theta`, `rope_local_base_freq` and `rope_scaling` (transformers 4), or
/// `rope_parameters`, which Gemma 3 has once for each kind of layer (transformers 5).
pub(super) fn read(object: &Object<'_>, config: &Config) -> Result<Rope, Error> {
    let parameters = object.object("rope_parameters.")?;
    let (global, local) = match &parameters {
        Some(both) if config.arch == Arch::Gemma3 => {
            let local = both.object("sliding_attention.")?;
            match (both.object("full_attention.")?, local) {
                (None, None) => (Some(*both), None),
                found => found,
            }
        }
        found => (*found, None),
    };
    let stated = |found: &Option<Object<'_>>, key: &str| match found {
        Some(object) => object.positive(key),
        None => Ok(None),
    };
    let gemma = |default: f32| (config.arch == Arch::Gemma3).then_some(default);
    let theta = stated(&global, "rope_theta")?.or(object.positive("rope_theta")?);
    let theta = object.require("rope_theta", theta.or(gemma(1e6)))?;
    let local_theta = match stated(&local, "rope_theta")? {
        Some(theta) => theta,
        None => object.positive("rope_local_base_freq")?.or(gemma(1e4)).unwrap_or(theta),
    };
    if let Some(local) = &local
        && !matches!(local.str("rope_type")?, None | Some("default"))
    {
        return Err(local.unsupported("rope_type"));
    }
    let scaling = object.object("rope_scaling.")?.or(global);
    let mut rope = Rope { theta, local_theta, factor: 1.0, divisors: None };
    if let Some(scaling) = scaling {
        rope.scale(object, &scaling, config)?;
    }
    Ok(rope)
}

impl Rope {
    /// Applies scaling: by one number, or Llama 3's, which is a divisor of each frequency.
    fn scale(
        &mut self,
        object: &Object<'_>,
        scaling: &Object<'_>,
        config: &Config,
    ) -> Result<(), Error> {
        for partial in [object, scaling] {
            if partial.number("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
                return Err(partial.unsupported("partial_rotary_factor"));
            }
        }
        let key = if scaling.get("rope_type").is_some() { "rope_type" } else { "type" };
        let positive = |key: &str| scaling.require(key, scaling.positive(key)?);
        match scaling.str(key)? {
            None if scaling.get("factor").is_some() => Err(scaling.unsupported("factor")),
            None | Some("default") => Ok(()),
            Some("linear") => {
                self.factor = positive("factor")?;
                Ok(())
            }
            Some("llama3") if config.arch != Arch::Gemma3 => {
                self.divisors = Some(self.llama3(object, scaling, config.head_dim)?);
                Ok(())
            }
            Some(_) => Err(scaling.unsupported(key)),
        }
    }

    fn llama3(
        &self,
        object: &Object<'_>,
        scaling: &Object<'_>,
        head_dim: u64,
    ) -> Result<Vec<f32>, Error> {
        let positive = |key: &str| scaling.require(key, scaling.positive(key)?);
        let factor = positive("factor")?;
        let (low, high) = (positive("low_freq_factor")?, positive("high_freq_factor")?);
        if low >= high {
            let expected = format!("less than high_freq_factor ({high})");
            return Err(scaling.bad("low_freq_factor", &expected));
        }
        const OLD: &str = "original_max_position_embeddings";
        let old = scaling.positive(OLD)?.or(object.positive(OLD)?);
        let old = scaling.require(OLD, old)?;
        let divisors = (0..head_dim / 2).map(|i| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            let wavelength = 2.0 * std::f32::consts::PI * self.theta.powf(exponent);
            if wavelength < old / high {
                1.0
            } else if wavelength > old / low {
                factor
            } else {
                let smooth = (old / wavelength - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        });
        Ok(divisors.collect())
    }
}
