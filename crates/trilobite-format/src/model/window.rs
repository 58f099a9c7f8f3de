//! Sliding-window attention.

use super::architecture::Architecture;
use super::prefixed::Keys;
use crate::keys::model::{ROPE_BASE_WINDOW, WINDOW, WINDOW_PATTERN};
use crate::{Array, Error, Value};

/// The default in llama.cpp for Gemma 3: all layers slide except every sixth.
const PERIOD: u64 = 6;

/// Sliding-window attention: in some layers a token sees only the most recent tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Number of tokens that a token sees, including itself.
    pub tokens: u64,
    /// Whether each layer has the window.
    pub layers: Vec<bool>,
    /// RoPE base of the layers with the window. Their RoPE is unscaled if the architecture
    /// [slides](Architecture::slides); otherwise it is scaled like that of the other layers.
    pub rope_theta: f32,
}

impl Window {
    /// Reads the keys. As in llama.cpp, the result is `None` for a window of 0 tokens and if no
    /// layer has the window.
    pub(super) fn read(
        keys: &Keys<'_>,
        architecture: Architecture,
        layers: u64,
        rope_theta: f32,
    ) -> Result<Option<Self>, Error> {
        let tokens = keys.size(WINDOW)?.filter(|tokens| *tokens > 0);
        if architecture.rotates_in_windows_only() {
            // Without its pattern the file does not say which layers have RoPE.
            let Some(Value::Array(list)) = keys.get(WINDOW_PATTERN) else {
                return Err(keys.missing(WINDOW_PATTERN));
            };
            if !listed(keys, list, layers)?.contains(&true) {
                return Ok(None);
            }
            match keys.size(WINDOW)? {
                Some(0) => return Err(keys.bad(WINDOW, "at least 1".to_owned(), 0)),
                stated => stated.ok_or_else(|| keys.missing(WINDOW))?,
            };
        }
        let Some(tokens) = tokens else { return Ok(None) };
        let tokens = tokens.saturating_add(u64::from(architecture.window_precedes()));
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

    /// Passes each key with its value to `set`; `None` removes the key.
    pub(super) fn describe(
        window: Option<&Self>,
        architecture: Architecture,
        layers: u64,
        mut set: impl FnMut(&str, Option<Value>),
    ) {
        let before = u64::from(architecture.window_precedes());
        set(WINDOW, window.map(|window| (window.tokens.saturating_sub(before) as u32).into()));
        let pattern = match window {
            None if architecture.rotates_in_windows_only() => {
                Some(vec![false; layers as usize].into())
            }
            Some(window) if architecture.rotates_in_windows_only() => {
                Some(window.layers.clone().into())
            }
            Some(window) if !(architecture.slides() && window.has_period(PERIOD)) => {
                Some(window.period().map_or_else(|| window.layers.clone().into(), Value::from))
            }
            _ => None,
        };
        set(WINDOW_PATTERN, pattern);
        set(ROPE_BASE_WINDOW, window.map(|window| window.rope_theta.into()));
    }

    /// The period, if all layers slide except the last of each period.
    fn period(&self) -> Option<u32> {
        let period = self.layers.iter().position(|slides| !slides)? as u64 + 1;
        self.has_period(period).then_some(period as u32)
    }

    fn has_period(&self, period: u64) -> bool {
        (1u64..).zip(&self.layers).all(|(layer, slides)| *slides != layer.is_multiple_of(period))
    }
}

/// Reads a list that says for each layer whether it slides, as booleans or as numbers.
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
