//! Anchors for the hidden states of a model, found while it runs.
//!
//! The hidden states before the head have a large mean and a few directions in which most of them differ.
//! The leading directions of the last states, without their mean taken out, hold both.

use trilobite_kernels::scan::dot;

/// Number of states that are kept.
const STATES: usize = 64;
/// Number of directions after few states, which cost less, and after many.
const ANCHORS: [usize; 2] = [8, 16];
/// From so many states on there are more directions.
const MANY: usize = 256;
/// One in this many states, the newest, tells what the directions of the others leave.
const HELD_OUT: usize = 4;
/// Number of states before directions are looked for.
const FIRST: usize = 16;
/// The most states before directions are looked for again. Until then it is half of all so far.
const MAX_WAIT: usize = 1024;
/// What the products of the anchors with all rows cost, as a number of bits of all weights that a scan
/// reads in the same time. On two cores those of 16 anchors took as long as 40 bits of narrow rows and 80 of
/// wide ones; those of the first 8, for which the head is read for the first time, as long as 110.
const COST: f64 = 120.0;
/// The most tokens over which this cost is spread.
const HORIZON: usize = 256;
/// Number of iterations in which the directions converge.
const ITERATIONS: usize = 30;

/// The last hidden states, and when to look for directions in them.
#[derive(Default)]
pub(super) struct Learner {
    /// The states times the factors of the columns, `[STATES][cols]`. The oldest is overwritten.
    states: Vec<f32>,
    /// Number of states so far.
    seen: usize,
    /// Number of states when directions are looked for next.
    due: usize,
}

/// Directions of hidden states.
pub(super) struct Directions {
    /// Orthogonal vectors for states times the factors of the columns.
    pub(super) vectors: Vec<Vec<f64>>,
    /// The mean norm of what they leave of such a state.
    pub(super) radius: f64,
}

impl Learner {
    /// Notes a hidden state for columns with these factors.
    pub(super) fn note(&mut self, x: &[f32], factors: &[f32]) {
        let cols = x.len();
        if self.states.len() != STATES * cols {
            *self = Self { states: vec![0.0; STATES * cols], seen: 0, due: FIRST };
        }
        let state = &mut self.states[self.seen % STATES * cols..][..cols];
        for (state, (x, factor)) in state.iter_mut().zip(x.iter().zip(factors)) {
            *state = x * factor;
        }
        self.seen += 1;
    }

    /// The leading directions of the states, if it is time to look for them.
    pub(super) fn directions(&self) -> Option<Directions> {
        if self.seen < self.due.max(FIRST) {
            return None;
        }
        let (known, cols) = (self.seen.min(STATES), self.states.len() / STATES);
        let state = |at: usize| -> Vec<f64> {
            let state = &self.states[at % STATES * cols..][..cols];
            state.iter().map(|x| f64::from(*x)).collect()
        };
        // Oldest first.
        let mut old: Vec<Vec<f64>> = (self.seen - known..self.seen).map(state).collect();
        let new = old.split_off(known - known / HELD_OUT);
        old.iter_mut().for_each(|x| normalize(x));
        let vectors = leading(&old, ANCHORS[usize::from(self.seen >= MANY)]);
        let left = new.iter().map(|x| {
            let mut rest = x.clone();
            vectors.iter().for_each(|direction| subtract(&mut rest, direction));
            dot(&rest, &rest).sqrt()
        });
        let radius = left.sum::<f64>() / new.len() as f64;
        Some(Directions { vectors, radius })
    }

    /// Decides whether directions are worth the products of all rows with them, if they save so many
    /// bits of a weight for every token.
    pub(super) fn decide(&mut self, saved: f64) -> bool {
        let worth = saved * self.seen.min(HORIZON) as f64 > COST;
        self.due = self.seen + (self.seen / 2).min(MAX_WAIT);
        worth
    }
}

/// At most so many leading directions of some vectors, by orthogonal iteration with the products of all pairs.
fn leading(vectors: &[Vec<f64>], most: usize) -> Vec<Vec<f64>> {
    let (n, cols) = (vectors.len(), vectors.first().map_or(0, Vec::len));
    let pairs: Vec<Vec<f64>> =
        vectors.iter().map(|x| vectors.iter().map(|y| dot(x, y)).collect()).collect();
    // A direction is a mixture of the vectors. The first mixtures are single vectors, far apart.
    let count = most.min(n);
    let single = |i: usize| (0..n).map(|j| f64::from(u8::from(j == i * n / count))).collect();
    let mut mixtures: Vec<Vec<f64>> = (0..count).map(single).collect();
    for _ in 0..ITERATIONS {
        for i in 0..count {
            let (done, rest) = mixtures.split_at_mut(i);
            let mut mixture: Vec<f64> = pairs.iter().map(|row| dot(row, &rest[0])).collect();
            done.iter().for_each(|other| subtract(&mut mixture, other));
            normalize(&mut mixture);
            rest[0] = mixture;
        }
    }
    let mix = |mixture: &Vec<f64>| {
        let mut out = vec![0.0; cols];
        for (x, part) in vectors.iter().zip(mixture) {
            out.iter_mut().zip(x).for_each(|(out, x)| *out += part * x);
        }
        normalize(&mut out);
        out
    };
    mixtures.iter().map(mix).collect()
}

/// Subtracts the part of a vector along a direction of norm 1.
fn subtract(x: &mut [f64], direction: &[f64]) {
    let part = dot(x, direction);
    x.iter_mut().zip(direction).for_each(|(x, d)| *x -= part * d);
}

/// Gives a vector the norm 1, unless it is zero.
fn normalize(x: &mut [f64]) {
    let norm = dot(x, x).sqrt();
    if norm > 0.0 {
        x.iter_mut().for_each(|x| *x /= norm);
    }
}
