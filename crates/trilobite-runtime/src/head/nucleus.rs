//! Top-p: the most likely tokens whose probabilities together reach a value, without the probabilities
//! of all tokens.
//!
//! Weights are probabilities relative to that of the most likely token. The tokens that are kept depend
//! on the sum of all weights. Upper bounds of logits bound the sum of those weights that are not
//! computed: if the same tokens are kept whatever these weigh up to the bound, they are known.

use super::{Largest, PAUSE};

/// The parameters of top-p sampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nucleus {
    /// What the probabilities of the tokens to keep reach.
    pub top_p: f32,
    /// The divisor of the logits, above 0.
    pub temperature: f32,
}

/// Number of steps of a distance of one temperature, by which a weight falls to `1 / e`.
const STEPS: f32 = 8.0;
/// Number of steps whose logits are counted apart: weights below `exp(-32)` are counted together.
const COUNTS: usize = 256;
/// What the tokens whose logits are not computed may weigh together. With less, more logits are
/// computed; with more, it is more often unknown which tokens are kept.
const REST: f64 = 1.0 / 1024.0;
/// A generous bound on the relative rounding errors of sums of weights, which are f64.
const SLACK: f64 = 1e-9;
/// The same for weights of upper bounds, whose distances are f32.
const COARSE_SLACK: f64 = 1e-3;

/// Number of searches for the tokens that top-p keeps that fail one after the other before a pause.
const MISSES: usize = 2;
/// The longest pause after them. Each is twice as long as the one before, and half as long after every
/// search that succeeds.
const MAX_PAUSE: usize = 1024;

/// How many upper bounds of logits lie how far below a logit.
pub(super) struct Distances([u32; COUNTS + 1]);

impl Distances {
    /// Counts upper bounds by their distance from `top`.
    pub(super) fn count(upper: impl Iterator<Item = f32>, top: f32, temperature: f32) -> Self {
        let mut counts = [0; COUNTS + 1];
        // Finite, so that no distance is NaN, and none is larger than it is.
        let steps = (STEPS / temperature).min(f32::MAX);
        for upper in upper {
            // The cast rounds down and saturates.
            let distance = ((top - upper) * steps) as usize;
            counts[distance.min(COUNTS)] += 1;
        }
        Self(counts)
    }

    /// An upper bound of the weights, relative to that of the logit.
    pub(super) fn weight(&self) -> f64 {
        self.weights().sum::<f64>() * (1.0 + COARSE_SLACK)
    }

    /// The bounds of the weights at each distance.
    fn weights(&self) -> impl DoubleEndedIterator<Item = f64> + ExactSizeIterator {
        let step = |(distance, count): (usize, &u32)| {
            f64::from(*count) * libm::exp(-(distance as f64) / f64::from(STEPS))
        };
        self.0.iter().enumerate().map(step)
    }

    /// The least number of steps from which on all weights together are at most [`REST`].
    fn rest(&self) -> usize {
        let mut rest = 0.0;
        let heavy = self.weights().enumerate().rev().find(|(_, weight)| {
            rest += weight;
            rest > REST
        });
        heavy.map_or(0, |(steps, _)| steps + 1)
    }
}

impl Nucleus {
    /// The logit from which on tokens may be kept, given a logit and the distances of all upper bounds
    /// from it. At most that logit.
    pub(super) fn threshold(&self, distances: &Distances, top: f32) -> f32 {
        top - distances.rest() as f32 * (self.temperature / STEPS)
    }

    /// Whether the tokens that are kept are known. `sorted` are all logits from `threshold` on, in
    /// descending order, and `rest` bounds the weights of the others relative to that of `top`.
    pub(super) fn is_known(&self, sorted: &[f32], threshold: f32, (rest, top): (f64, f32)) -> bool {
        let [first, ..] = *sorted else { return false };
        let temperature = f64::from(self.temperature);
        let weight = |logit: f32| libm::exp(f64::from(logit - first) / temperature);
        let rest = rest * weight(top);
        let computed: f64 = sorted.iter().map(|logit| weight(*logit)).sum();
        let top_p = f64::from(self.top_p);
        // The kept tokens are at least so many, and at most so many.
        let least = top_p * computed * (1.0 - SLACK);
        let most = top_p * (computed + rest) * (1.0 + SLACK);
        let mut mass = 0.0;
        for logit in sorted {
            mass += weight(*logit);
            if mass >= least {
                return mass >= most && *logit >= threshold;
            }
        }
        false
    }
}

impl Largest {
    /// The tokens that top-p keeps.
    pub fn nucleus(nucleus: Nucleus) -> Self {
        Self { nucleus: Some(nucleus), ..Self::count(usize::MAX) }
    }
}

/// How often the tokens that top-p keeps are searched for.
#[derive(Default)]
pub(super) struct TopPPace {
    /// Number of failed searches since one succeeded or a pause began.
    misses: usize,
    /// Number of searches to come that do not look for them.
    pub(super) pause: usize,
    /// The length of the last pause, halved by every search that has succeeded since.
    last: usize,
}

impl TopPPace {
    /// Notes whether they were found.
    pub(super) fn note(&mut self, found: bool) {
        if found {
            (self.misses, self.last) = (0, self.last / 2);
            return;
        }
        self.misses += 1;
        if self.misses == MISSES {
            self.last = (2 * self.last).clamp(PAUSE, MAX_PAUSE);
            (self.misses, self.pause) = (0, self.last);
        }
    }
}
