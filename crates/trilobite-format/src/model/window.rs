//! Sliding-window attention.

use super::Architecture;
use super::prefixed::Keys;
use crate::keys::model::{ROPE_BASE_WINDOW, WINDOW, WINDOW_PATTERN};
use crate::{Array, Error, Value};

/// llama.cpp's default for Gemma 3: every layer slides but each sixth.
const PERIOD: u64 = 6;

/// Layers in which a token sees only the last tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The tokens that it sees, itself included.
    pub tokens: u64,
    /// Which layers those are.
    pub layers: Vec<bool>,
    /// Their RoPE base. Where the architecture [slides](Architecture::slides) their RoPE is not scaled,
    /// otherwise it is scaled like that of the other layers.
    pub rope_theta: f32,
}

impl Window {
    /// The windows of a file. A window of 0 tokens is none, and so is one that no layer has; both are
    /// llama.cpp's rules.
    pub(super) fn read(
        keys: &Keys<'_>,
        architecture: Architecture,
        layers: u64,
        rope_theta: f32,
    ) -> Result<Option<Self>, Error> {
        let Some(tokens) = keys.size(WINDOW)?.filter(|tokens| *tokens > 0) else { return Ok(None) };
        let layers = match keys.get(WINDOW_PATTERN) {
            Some(Value::Array(list)) => listed(keys, list, layers)?,
            _ => {
                let default = if architecture.slides() { PERIOD } else { 1 };
                let period = keys.size(WINDOW_PATTERN)?.unwrap_or(default);
                (1..=layers).map(|layer| period == 0 || !layer.is_multiple_of(period)).collect()
            }
        };
        let base = if architecture.slides() { 10_000.0 } else { rope_theta };
        let rope_theta = keys.float(ROPE_BASE_WINDOW)?.unwrap_or(base);
        Ok(layers.contains(&true).then_some(Self { tokens, layers, rope_theta }))
    }

    /// The keys that say so.
    pub(super) fn describe(
        window: Option<&Self>,
        architecture: Architecture,
        mut set: impl FnMut(&str, Option<Value>),
    ) {
        set(WINDOW, window.map(|window| (window.tokens as u32).into()));
        let pattern = window.filter(|window| !(architecture.slides() && window.has_period(PERIOD)));
        set(
            WINDOW_PATTERN,
            pattern.map(|window| match window.period() {
                Some(period) => period.into(),
                None => window.layers.clone().into(),
            }),
        );
        set(ROPE_BASE_WINDOW, window.map(|window| window.rope_theta.into()));
    }

    /// The period, where every layer slides but the last of each period.
    fn period(&self) -> Option<u32> {
        let period = self.layers.iter().position(|slides| !slides)? as u64 + 1;
        self.has_period(period).then_some(period as u32)
    }

    fn has_period(&self, period: u64) -> bool {
        (1u64..).zip(&self.layers).all(|(layer, slides)| *slides != layer.is_multiple_of(period))
    }
}

/// Whether each layer slides, as booleans or as numbers.
fn listed(keys: &Keys<'_>, list: &Array, layers: u64) -> Result<Vec<bool>, Error> {
    let slides = match list {
        Array::Bool(list) => list.clone(),
        _ => {
            let list = keys.metadata.u32s(&keys.name(WINDOW_PATTERN))?.unwrap_or_default();
            list.into_iter().map(|slides| slides != 0).collect()
        }
    };
    if slides.len() as u64 != layers {
        let expected = format!("an entry for each of {layers} layers");
        return Err(keys.bad(WINDOW_PATTERN, expected, format!("a list of {}", slides.len())));
    }
    Ok(slides)
}
