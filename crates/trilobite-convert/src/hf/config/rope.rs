//! Rotary position embedding: bases and scaling, in the formats of transformers 4 and 5.
//!
//! Keys have the meaning that `modeling_rope_utils.py` of transformers 5.23 gives them.

use trilobite_format::model::{Architecture, Hyperparameters, Role, Rope, Scaling, Yarn, limits};

use crate::Error;
use crate::hf::json::Object;

const THETA: &str = "rope_theta";
const FACTOR: &str = "factor";
const ORIGINAL: &str = "original_max_position_embeddings";
const ATTENTION: &str = "attention_factor";

/// The RoPE parameters in config.json.
pub(super) struct Rotary {
    pub(super) rope: Rope,
    /// Number of rotated elements of a head.
    pub(super) rope_dim: u64,
    /// The context length, which YaRN may extend beyond `max_position_embeddings`.
    pub(super) context: u64,
    /// The base of sliding layers.
    pub(super) local_theta: f32,
    /// The divisors of the frequencies.
    pub(super) divisors: Vec<(Role, Vec<f32>)>,
    pub(super) notes: Vec<String>,
}

/// Reads `rope_theta`, `rope_local_base_freq` and `rope_scaling` (transformers 4) or
/// `rope_parameters` (transformers 5). Gemma 3 has the latter once for each kind of layer.
pub(super) fn read(
    object: &Object<'_>,
    sizes: &Hyperparameters,
    default_theta: f32,
) -> Result<Rotary, Error> {
    let scaling = object.object("rope_scaling.")?.filter(|scaling| !scaling.is_empty());
    let parameters = object.object("rope_parameters.")?.filter(|all| !all.is_empty());
    let gemma = sizes.arch == Architecture::Gemma3;
    let (full, local) = match &parameters {
        Some(all) if gemma => (all.object(FULL)?, all.object(SLIDING)?),
        _ => (None, None),
    };
    // Gemma's `rope_scaling` adds to the parameters; in others it replaces them.
    let sources = match (gemma, scaling) {
        (true, scaling) => [scaling, full],
        (false, None) => [parameters, None],
        (false, scaling) => [scaling, None],
    };
    let keys = Parameters { object, sources };
    let theta = keys.positive(THETA)?.or(object.positive(THETA)?).unwrap_or(default_theta);
    let local_theta = local.as_ref().map(|local| local.positive(THETA)).transpose()?.flatten();
    let local_theta = match local_theta {
        Some(theta) => theta,
        None if gemma => object.positive("rope_local_base_freq")?.unwrap_or(10_000.0),
        None => theta,
    };
    if let Some(all) = parameters.as_ref() {
        check_grouping(all, gemma, theta)?;
    }
    if let Some(local) = &local
        && let Some(key) = kind(local)
        && local.str(key)? != Some("default")
    {
        return Err(local.unsupported(key));
    }
    let partial = "partial_rotary_factor";
    let maple = sizes.arch == Architecture::Maple;
    for place in keys.sources.iter().chain([&local, &Some(*object)]).flatten() {
        if place.number(partial)?.is_some_and(|factor| factor != 1.0 && !maple) {
            return Err(place.unsupported(partial));
        }
    }
    let rope_dim = match maple {
        true => {
            let factor = keys.of(partial).get(partial).or(object.get(partial));
            // As Python computes it, with the default of `MapleConfig`.
            let factor = factor.and_then(serde_json::Value::as_f64).unwrap_or(0.5);
            (sizes.head_dim as f64 * factor) as u64
        }
        false => sizes.head_dim,
    };
    let rope = Rope::unscaled(theta);
    let context = sizes.context;
    let (divisors, notes) = (Vec::new(), Vec::new());
    let mut rotary = Rotary { rope, rope_dim, context, local_theta, divisors, notes };
    if !gemma && scaling.is_some() && parameters.is_some() {
        let file = object.file;
        rotary.notes.push(format!("{file}: `rope_parameters` has no effect beside `rope_scaling`"));
    }
    rotary.scale(&keys, sizes)?;
    // There is no such model to test against.
    if maple && rotary.rope.scaling != Scaling::None {
        return Err(object.unsupported("rope_scaling"));
    }
    Ok(rotary)
}

/// Prefixes of parameters for one kind of layer.
const FULL: &str = "full_attention.";
const SLIDING: &str = "sliding_attention.";

/// Checks that parameters are grouped by kind of layer exactly if the model has two kinds.
fn check_grouping(all: &Object<'_>, gemma: bool, theta: f32) -> Result<(), Error> {
    let kinds = [FULL, SLIDING].map(|kind| kind.trim_end_matches('.'));
    let by_kind = kinds.into_iter().find(|kind| all.get(kind).is_some());
    match by_kind {
        Some(kind) if !gemma => Err(all.unsupported(kind)),
        None if gemma => {
            // transformers ignores them, which is right only if they repeat the other values.
            let expected = "parameters within full_attention and sliding_attention";
            if all.positive(THETA)?.is_some_and(|other| other != theta) {
                return Err(all.bad(THETA, expected));
            }
            match kind(all) {
                Some(key) if all.str(key)? != Some("default") => Err(all.bad(key, expected)),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The key that states the type of RoPE, if present.
fn kind(parameters: &Object<'_>) -> Option<&'static str> {
    ["rope_type", "type"].into_iter().find(|key| parameters.get(key).is_some())
}

/// The places that can hold the parameters of layers without a window.
struct Parameters<'a, 'o> {
    object: &'o Object<'a>,
    /// The first takes precedence.
    sources: [Option<Object<'a>>; 2],
}

impl<'a> Parameters<'a, '_> {
    /// The object that has a key; if none has, the one where it belongs.
    fn of(&self, key: &str) -> Object<'a> {
        let mut places = self.sources.iter().flatten();
        let place = places.clone().find(|place| place.value.get(key).is_some());
        *place.or(places.next()).unwrap_or(self.object)
    }

    fn positive(&self, key: &str) -> Result<Option<f32>, Error> {
        self.of(key).positive(key)
    }

    fn require(&self, key: &str) -> Result<f32, Error> {
        self.of(key).require(key, self.positive(key)?)
    }

    /// The factor. Null means the ratio of the two contexts.
    fn factor(&self, sizes: &Hyperparameters, original: u64) -> Result<f32, Error> {
        match self.of(FACTOR).is_null(FACTOR) {
            true => Ok((sizes.context as f64 / original as f64) as f32),
            false => self.require(FACTOR),
        }
    }

    /// The original context length, if stated. A value outside the parameters takes precedence over
    /// one within; Gemma ignores the former.
    fn original(&self, sizes: &Hyperparameters) -> Result<Option<u64>, Error> {
        let tokens = 1..=u32::MAX.into();
        let outside = match sizes.arch {
            Architecture::Gemma3 => None,
            _ => self.object.integer(ORIGINAL, tokens.clone())?,
        };
        Ok(outside.or(self.of(ORIGINAL).integer(ORIGINAL, tokens)?))
    }

    /// Notes about keys that have no effect.
    fn without_effect(&self, kind: &str, known: &[&str]) -> Vec<String> {
        const ALWAYS: [&str; 4] = ["rope_type", "type", THETA, "partial_rotary_factor"];
        let places = self.sources.iter().flatten();
        let keys = places.flat_map(|place| place.keys().map(move |key| (place, key)));
        keys.filter(|(_, key)| !ALWAYS.contains(key) && !known.contains(key))
            .map(|(place, key)| {
                let (file, path) = (place.file, place.path);
                format!("{file}: `{path}{key}` has no effect on RoPE of type {kind}")
            })
            .collect()
    }
}

impl Rotary {
    /// Applies the scaling.
    fn scale(&mut self, keys: &Parameters<'_, '_>, sizes: &Hyperparameters) -> Result<(), Error> {
        let place = keys.sources.iter().flatten().find(|place| kind(place).is_some());
        let key = place.and_then(kind);
        let name = match (place, key) {
            (Some(place), Some(key)) => place.str(key)?.unwrap_or("default"),
            _ if keys.sources.iter().flatten().any(|place| place.get(FACTOR).is_some()) => {
                return Err(keys.of(FACTOR).unsupported(FACTOR));
            }
            _ => "default",
        };
        let known: &[&str] = match name {
            "default" => &[],
            "linear" => {
                let factor = keys.require(FACTOR)?;
                if factor != 1.0 {
                    self.rope.scaling = Scaling::Linear { factor };
                }
                &[FACTOR]
            }
            "dynamic" => {
                // The base changes only beyond the context of the model; within, scaling has no
                // effect.
                keys.require(FACTOR)?;
                let context = sizes.context;
                self.notes.push(format!(
                    "dynamic RoPE scaling begins beyond {context} tokens, where the context ends"
                ));
                &[FACTOR]
            }
            "llama3" => {
                self.divisors.push((Role::RopeFreqs, self.llama3(keys, sizes)?));
                &[FACTOR, LOW, HIGH, ORIGINAL]
            }
            "yarn" => {
                self.yarn(keys, sizes)?;
                &[FACTOR, ORIGINAL, ATTENTION, MSCALE[0], MSCALE[1], BETAS[0], BETAS[1], TRUNCATE]
            }
            "longrope" => {
                self.longrope(keys, sizes)?;
                &[FACTOR, ORIGINAL, ATTENTION, LISTS[0], LISTS[1]]
            }
            _ => {
                let (place, key) = (place.unwrap_or(keys.object), key.unwrap_or("rope_type"));
                return Err(place.unsupported(key));
            }
        };
        self.notes.extend(keys.without_effect(name, known));
        Ok(())
    }

    fn llama3(
        &self,
        keys: &Parameters<'_, '_>,
        sizes: &Hyperparameters,
    ) -> Result<Vec<f32>, Error> {
        let factor = keys.require(FACTOR)?;
        let (low, high) = (keys.require(LOW)?, keys.require(HIGH)?);
        if low >= high {
            let expected = format!("less than {HIGH} ({high})");
            return Err(keys.of(LOW).bad(LOW, &expected));
        }
        let old = keys.original(sizes)?.unwrap_or(sizes.context) as f32;
        let divisors = (0..sizes.head_dim / 2).map(|i| {
            let exponent = (2 * i) as f32 / sizes.head_dim as f32;
            let wavelength = 2.0 * std::f32::consts::PI * self.rope.theta.powf(exponent);
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

    fn yarn(&mut self, keys: &Parameters<'_, '_>, sizes: &Hyperparameters) -> Result<(), Error> {
        let stated = keys.original(sizes)?;
        let original = stated.unwrap_or(sizes.context);
        let factor = keys.factor(sizes, original)?;
        // As in Python, 0 counts as absent.
        let number = |key: &str| {
            let number = keys.of(key).number(key)?;
            Ok::<_, Error>(number.filter(|number| *number != 0.0))
        };
        // Qwen's models state the original context as theirs, and users add YaRN to the
        // configuration for a longer one.
        if stated.is_some() {
            let stretched = (original as f64 * f64::from(factor)) as u64;
            self.context = self.context.max(stretched.min(limits::CONTEXT));
        }
        let truncate = keys.of(TRUNCATE).bool(TRUNCATE)?.unwrap_or(true);
        if !truncate && sizes.arch == Architecture::Gemma3 {
            return Err(keys.of(TRUNCATE).unsupported(TRUNCATE));
        }
        let magnitude = |scale: f32| {
            let log = libm::log(f64::from(factor).max(1.0));
            0.1 * f64::from(scale) * log + 1.0
        };
        let stated = match (keys.positive(ATTENTION)?, number(MSCALE[0])?, number(MSCALE[1])?) {
            (Some(factor), ..) => Some(f64::from(factor)),
            (None, Some(scale), Some(all)) => Some(magnitude(scale) / magnitude(all)),
            _ => None,
        };
        // The stored factor is relative to YaRN's usual one.
        if let Some(stated) = stated {
            self.rope.attention_factor = (stated / magnitude(1.0)) as f32;
        }
        self.rope.scaling = Scaling::Yarn(Yarn {
            factor,
            original,
            beta_fast: number(BETAS[0])?.unwrap_or(Yarn::BETAS.0),
            beta_slow: number(BETAS[1])?.unwrap_or(Yarn::BETAS.1),
            truncate,
        });
        Ok(())
    }

    fn longrope(
        &mut self,
        keys: &Parameters<'_, '_>,
        sizes: &Hyperparameters,
    ) -> Result<(), Error> {
        let original = keys.original(sizes)?.unwrap_or(sizes.context);
        let factor = match keys.positive(FACTOR)? {
            Some(factor) => f64::from(factor),
            None => sizes.context as f64 / original as f64,
        };
        let attention = match keys.positive(ATTENTION)? {
            Some(factor) => f64::from(factor),
            None if factor <= 1.0 => 1.0,
            None if original == 1 => {
                return Err(keys.of(ORIGINAL).bad(ORIGINAL, "more than 1 token"));
            }
            None => libm::sqrt(1.0 + libm::log(factor) / libm::log(original as f64)),
        };
        for (list, tensor) in LISTS.into_iter().zip([Role::RopeShort, Role::RopeLong]) {
            let place = keys.of(list);
            self.divisors.push((tensor, place.positives(list, sizes.head_dim / 2)?));
        }
        self.rope.attention_factor = attention as f32;
        self.rope.scaling = Scaling::LongRope { original };
        Ok(())
    }
}

const LOW: &str = "low_freq_factor";
const HIGH: &str = "high_freq_factor";
const MSCALE: [&str; 2] = ["mscale", "mscale_all_dim"];
const BETAS: [&str; 2] = ["beta_fast", "beta_slow"];
const TRUNCATE: &str = "truncate";
/// The keys of the divisors for short and long contexts, in the order of their tensors.
const LISTS: [&str; 2] = ["short_factor", "long_factor"];
