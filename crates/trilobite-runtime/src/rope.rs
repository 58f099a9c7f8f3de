//! Rotary position embedding tables (arXiv 2104.09864).

use crate::config::{Config, Window};

/// Cosines and sines of every position so far.
///
/// As in transformers, the frequencies and the angles are rounded to f32; sine and cosine come from
/// a portable implementation, so that every machine computes with the same table.
pub(crate) struct RopeTable {
    /// `1 / theta^(2 i / head_dim)`, divided by what the model's scaling says, `[head_dim / 2]`.
    frequencies: Vec<f32>,
    /// `[positions][head_dim / 2]`
    cos: Vec<f32>,
    /// `[positions][head_dim / 2]`
    sin: Vec<f32>,
}

impl RopeTable {
    /// The table of the layers that see all positions: empty, with room for `positions` positions.
    pub(crate) fn new(config: &Config, divisors: Option<&[f32]>, positions: usize) -> Self {
        Self::scaled(config.head_dim, config.rope_theta, positions, |i| {
            divisors.map_or(1.0, |divisors| divisors[i]) * config.rope_factor
        })
    }

    /// The table of sliding layers.
    pub(crate) fn local(config: &Config, window: &Window, positions: usize) -> Self {
        Self::scaled(config.head_dim, window.rope_theta, positions, |_| 1.0)
    }

    fn scaled(
        head_dim: usize,
        theta: f32,
        positions: usize,
        divisor: impl Fn(usize) -> f32,
    ) -> Self {
        let pairs = head_dim / 2;
        let frequencies = (0..pairs)
            .map(|i| {
                let exponent = (2 * i) as f32 / head_dim as f32;
                let base = libm::pow(f64::from(theta), f64::from(exponent)) as f32;
                (1.0 / base) / divisor(i)
            })
            .collect();
        // Pages that are not written to take no memory.
        let room = || Vec::with_capacity(positions * pairs);
        Self { frequencies, cos: room(), sin: room() }
    }

    /// Makes the table reach `positions` positions.
    pub(crate) fn extend(&mut self, positions: usize) {
        for position in self.cos.len() / self.frequencies.len()..positions {
            for frequency in &self.frequencies {
                let angle = f64::from(position as f32 * frequency);
                self.cos.push(libm::cos(angle) as f32);
                self.sin.push(libm::sin(angle) as f32);
            }
        }
    }

    /// Cosines and sines of a position that the table reaches, `[head_dim / 2]` each.
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let pairs = self.frequencies.len();
        let range = position * pairs..(position + 1) * pairs;
        (&self.cos[range.clone()], &self.sin[range])
    }
}
