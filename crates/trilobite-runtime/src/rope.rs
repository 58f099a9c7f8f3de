//! Rotary position embedding tables (arXiv 2104.09864).
//!
//! The frequencies are computed operation by operation as in transformers
//! (`modeling_rope_utils.py`): frequencies and angles are rounded to f32. Sine and cosine come from
//! a portable implementation, so every machine has the same table.
//!
//! LongRoPE has different factors for short and long contexts. transformers chooses them by the
//! number of tokens in a call, and does not recompute cached keys when a text outgrows the original
//! context. This crate chooses them by the session's context length, as llama.cpp does, so a
//! token's logits do not depend on how the text was divided. Both agree if the context is as long
//! as the text.

use trilobite_format::model::{Rope, Scaling, Yarn};

use crate::weights::RopeDivisors;

/// Maximum number of positions that a table allocates at the start. Beyond them it grows.
const INITIAL_POSITIONS: usize = 1 << 15;

/// Cosines and sines of the positions so far.
pub(crate) struct RopeTable {
    /// `1 / theta^(2 i / head_dim)` after RoPE scaling, `[head_dim / 2]`.
    frequencies: Vec<f32>,
    /// Factor of the cosines and sines.
    magnitude: f32,
    /// `[positions][head_dim / 2]`
    cos: Vec<f32>,
    /// `[positions][head_dim / 2]`
    sin: Vec<f32>,
}

impl RopeTable {
    /// Creates an empty table with capacity for a context of `positions` positions.
    pub(crate) fn new(
        rope: &Rope,
        divisors: &RopeDivisors,
        head_dim: usize,
        positions: usize,
    ) -> Self {
        let bases = (0..head_dim / 2).map(|i| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            libm::pow(f64::from(rope.theta), f64::from(exponent)) as f32
        });
        let mut magnitude = f64::from(rope.attention_factor);
        let mut frequencies: Vec<f32> = match (&rope.scaling, divisors) {
            (Scaling::LongRope { original }, RopeDivisors::ByContext { short, long }) => {
                let divisors = if positions as u64 > *original { long } else { short };
                bases.zip(divisors).map(|(base, divisor)| 1.0 / (divisor * base)).collect()
            }
            (Scaling::Linear { factor }, _) => bases.map(|base| 1.0 / base / factor).collect(),
            (Scaling::Yarn(yarn), _) => {
                magnitude *= 1.0 + 0.1 * libm::log(f64::from(yarn.factor).max(1.0));
                let ramp = ramp(yarn, rope.theta, head_dim);
                let mix = |(base, kept): (f32, f32)| {
                    1.0 / (yarn.factor * base) * (1.0 - kept) + 1.0 / base * kept
                };
                bases.zip(ramp).map(mix).collect()
            }
            (Scaling::None | Scaling::LongRope { .. }, _) => bases.map(|base| 1.0 / base).collect(),
        };
        if let RopeDivisors::Fixed(divisors) = divisors {
            frequencies.iter_mut().zip(divisors).for_each(|(f, divisor)| *f /= divisor);
        }
        // Pages that are not written to take no memory.
        let room = || Vec::with_capacity(positions.min(INITIAL_POSITIONS) * frequencies.len());
        let (cos, sin) = (room(), room());
        Self { frequencies, magnitude: magnitude as f32, cos, sin }
    }

    /// Extends the table to `positions` positions.
    pub(crate) fn extend(&mut self, positions: usize) {
        for position in self.cos.len() / self.frequencies.len()..positions {
            for frequency in &self.frequencies {
                let angle = f64::from(position as f32 * frequency);
                self.cos.push(libm::cos(angle) as f32 * self.magnitude);
                self.sin.push(libm::sin(angle) as f32 * self.magnitude);
            }
        }
    }

    /// Cosines and sines of a position in the table, `[head_dim / 2]` each.
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let pairs = self.frequencies.len();
        let range = position * pairs..(position + 1) * pairs;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// The share of each frequency that YaRN keeps: all of a frequency with more than `beta_fast` turns
/// within the original context, nothing of one with fewer than `beta_slow`, and a linear ramp in
/// between.
fn ramp(yarn: &Yarn, theta: f32, head_dim: usize) -> impl Iterator<Item = f32> {
    let dim = head_dim as f64;
    // The index of the pair, as a fraction, whose frequency makes this many turns.
    let pair = |turns: f32| {
        let wavelength = yarn.original as f64 / (f64::from(turns) * 2.0 * std::f64::consts::PI);
        dim * libm::log(wavelength) / (2.0 * libm::log(f64::from(theta)))
    };
    let (mut low, mut high) = (pair(yarn.beta_fast), pair(yarn.beta_slow));
    if yarn.truncate {
        (low, high) = (libm::floor(low), libm::ceil(high));
    }
    (low, high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001;
    }
    let width = (high - low) as f32;
    (0..head_dim / 2).map(move |i| 1.0 - ((i as f32 - low as f32) / width).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: usize = 4;

    fn table(scaling: Scaling, divisors: &RopeDivisors, context: usize) -> RopeTable {
        let rope = Rope { theta: 100.0, scaling, attention_factor: 1.0 };
        let mut table = RopeTable::new(&rope, divisors, DIM, context);
        table.extend(context);
        table
    }

    #[test]
    fn longrope_follows_the_length_of_the_context() {
        let divisors = RopeDivisors::ByContext { short: vec![1.0, 2.0], long: vec![4.0, 8.0] };
        for (context, expected) in [(15, [1.0, 0.05]), (16, [1.0, 0.05]), (17, [0.25, 0.0125])] {
            let table = table(Scaling::LongRope { original: 16 }, &divisors, context);
            for (found, expected) in table.frequencies.iter().zip(expected) {
                assert!((found / expected - 1.0f32).abs() < 1e-6, "{context}: {found}");
            }
        }
    }

    #[test]
    fn attention_factors_multiply_cosines_and_sines() {
        let plain = table(Scaling::None, &RopeDivisors::None, 8);
        let yarn =
            Yarn { factor: 1.0, original: 8, beta_fast: 32.0, beta_slow: 1.0, truncate: true };
        // A factor of 1 stretches nothing.
        let same = table(Scaling::Yarn(yarn.clone()), &RopeDivisors::None, 8);
        assert_eq!((&same.cos, &same.sin), (&plain.cos, &plain.sin));
        let rope = Rope {
            theta: 100.0,
            scaling: Scaling::Yarn(Yarn { factor: std::f32::consts::E, ..yarn }),
            attention_factor: 2.0,
        };
        let mut stretched = RopeTable::new(&rope, &RopeDivisors::None, DIM, 1);
        stretched.extend(1);
        // 2 (1 + 0.1 ln e)
        assert!(stretched.at(0).0.iter().all(|cos| (cos - 2.2).abs() < 1e-6));
    }
}
