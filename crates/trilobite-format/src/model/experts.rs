//! Mixtures of experts: feed-forward networks of which each token uses a few.

use super::fault::Fault;
use super::limits;
use super::prefixed::Keys;
use crate::keys::model::{
    EXPERT, EXPERT_CLAMP, EXPERT_FFN, EXPERT_GATING, EXPERT_NORM, EXPERT_SCALE, EXPERTS,
    EXPERTS_USED,
};
use crate::{Error, Value};

/// Every accepted key that starts with `expert_`. An unknown one could change the computation, so it
/// is an error.
const KNOWN: [&str; 10] = [
    EXPERTS,
    EXPERTS_USED,
    EXPERT_FFN,
    EXPERT_GATING,
    EXPERT_NORM,
    EXPERT_SCALE,
    NEUTRAL[0].0,
    NEUTRAL[1].0,
    NEUTRAL[2].0,
    NEUTRAL[3].0,
];

/// Keys of parts that no supported mixture has, with the largest values that mean that there are
/// none.
const NEUTRAL: [(&str, u64); 5] = [
    ("expert_shared_count", 0),
    ("expert_shared_feed_forward_length", 0),
    ("expert_group_count", 1),
    ("expert_group_used_count", 1),
    ("leading_dense_block_count", 0),
];

/// llama.cpp's number of softmax among the functions that turn router logits into weights.
const SOFTMAX: u64 = 1;

/// A mixture of experts in every layer.
///
/// The router's logits become weights by softmax over all experts. A token uses the experts with the
/// largest weights, divided by their sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    /// Number of experts of a layer.
    pub count: u64,
    /// Number of experts that a token uses.
    pub used: u64,
    /// Width of an expert.
    pub ffn: u64,
    /// The clamp `c` of each layer: gates are at most `c`, and the outputs of the up projection are
    /// from `-c` to `c`.
    pub clamp: Vec<f32>,
}

impl Experts {
    /// The clamp of deepgrove's model code, and the default of llama.cpp.
    pub const CLAMP: f32 = 7.0;

    pub(super) fn read(keys: &Keys<'_>, layers: u64) -> Result<Self, Error> {
        let prefix = keys.name(EXPERT);
        for (key, _) in keys.metadata.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            if !KNOWN.iter().any(|known| keys.name(known) == key) {
                return Err(Error::UnknownKey(key.to_owned()));
            }
        }
        for (key, most) in NEUTRAL {
            if let Some(found) = keys.size(key)?.filter(|found| *found > most) {
                return Err(keys.bad(key, format!("at most {most}"), found));
            }
        }
        if let Some(found) = keys.size(EXPERT_GATING)?.filter(|found| *found != SOFTMAX) {
            return Err(keys.bad(EXPERT_GATING, format!("{SOFTMAX}, which is softmax"), found));
        }
        if keys.metadata.bool(&keys.name(EXPERT_NORM))? == Some(false) {
            return Err(keys.bad(EXPERT_NORM, "true", false));
        }
        // llama.cpp takes 0 for 1.
        let scale = keys.float(EXPERT_SCALE)?.filter(|scale| ![0.0, 1.0].contains(scale));
        if let Some(found) = scale {
            return Err(keys.bad(EXPERT_SCALE, "1", found));
        }
        Ok(Self {
            count: keys.require_size(EXPERTS)?,
            used: keys.require_size(EXPERTS_USED)?,
            ffn: keys.layer_size(EXPERT_FFN, layers)?.ok_or_else(|| keys.missing(EXPERT_FFN))?,
            clamp: clamps(keys, layers)?,
        })
    }

    /// Passes each key with its value to `set`; `None` removes the key.
    pub(super) fn describe(experts: Option<&Self>, mut set: impl FnMut(&str, Option<Value>)) {
        let size = |of: fn(&Self) -> u64| experts.map(|experts| (of(experts) as u32).into());
        set(EXPERTS, size(|experts| experts.count));
        set(EXPERTS_USED, size(|experts| experts.used));
        set(EXPERT_FFN, size(|experts| experts.ffn));
        set(EXPERT_CLAMP, experts.map(|experts| experts.clamp.clone().into()));
        let neutral = NEUTRAL.iter().map(|(key, _)| *key);
        neutral.chain([EXPERT_GATING, EXPERT_NORM, EXPERT_SCALE]).for_each(|key| set(key, None));
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        Fault::range(EXPERTS, self.count, 1, limits::EXPERTS)?;
        Fault::range(EXPERTS_USED, self.used, 1, self.count)?;
        Fault::range(EXPERT_FFN, self.ffn, 1, limits::WIDTH)?;
        self.clamp.iter().try_for_each(|clamp| Fault::positive(EXPERT_CLAMP, *clamp))
    }
}

/// Reads the clamps: a number for each layer, or one for all.
fn clamps(keys: &Keys<'_>, layers: u64) -> Result<Vec<f32>, Error> {
    let same = |clamp| vec![clamp; layers as usize];
    match keys.get(EXPERT_CLAMP) {
        None => Ok(same(Experts::CLAMP)),
        Some(Value::Array(_)) => {
            let list = keys.metadata.f32s(&keys.name(EXPERT_CLAMP))?.unwrap_or_default();
            if list.len() as u64 != layers {
                let expected = format!("an entry for each of {layers} layers");
                let found = format!("a list of {}", list.len());
                return Err(keys.bad(EXPERT_CLAMP, expected, found));
            }
            Ok(list.to_vec())
        }
        Some(_) => Ok(same(keys.float(EXPERT_CLAMP)?.unwrap_or(Experts::CLAMP))),
    }
}
