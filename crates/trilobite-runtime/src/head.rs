//! The largest logits without the whole head.
//!
//! Greedy decoding needs the largest logit and top-k sampling the k largest, but in most models the
//! head is more than half of what a decoded token reads. A coarse copy of it encloses every logit
//! between two floats ([`scan`]). Let `t` be the k-th largest of the lower ends: then k logits are at
//! least `t`, and a row whose upper end is below `t` is neither among the k largest nor equal to one
//! of them. The logits of all other rows, a few dozen, are computed from the head itself, by the
//! kernel that computes the whole head and therefore to the same bit.

use std::ops::Range;

use trilobite_kernels::scan::{Bounds, Query};
use trilobite_kernels::{DenseType, Kernels};

use crate::profile::Stage;
use crate::team::{Pieces, Team};

/// Rows that one thread scans at a time.
const ROWS: usize = 64;
/// Columns of an output that one thread takes are a multiple of this: a cache line of f32.
const ALIGN: usize = 16;
/// How the rows of the coarse copy are divided among threads.
const SCAN: Pieces = Pieces { least: ROWS, size: 4 * ROWS };
/// How rows that are computed exactly are divided among threads.
const EXACT: Pieces = Pieces { least: 4, size: 8 };
/// A search for more than this fraction of the rows is not begun.
const MOST: usize = 16;

/// Exact logits of all tokens, or of those that can be among the likeliest.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    ids: Option<&'a [u32]>,
    values: &'a [f32],
}

impl<'a> Logits<'a> {
    /// The logits of all tokens.
    pub fn all(values: &'a [f32]) -> Self {
        Self { ids: None, values }
    }

    /// The logits, in the order of the ids.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The token of a logit, by its index in [`values`](Self::values).
    pub fn id(&self, index: usize) -> u32 {
        self.ids.map_or(index as u32, |ids| ids[index])
    }

    /// Whether these are the logits of all tokens.
    pub fn is_all(&self) -> bool {
        self.ids.is_none()
    }
}

/// A head with its coarse copy.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) ty: DenseType,
    /// The weights, `[rows][cols]`.
    pub(crate) weights: &'a [u8],
    pub(crate) cols: usize,
    /// Codes of the coarse copy, `[rows][cols]`.
    pub(crate) codes: &'a [u8],
    /// Bounds of the coarse copy, `[rows]`.
    pub(crate) bounds: &'a [[u8; Bounds::BYTES]],
}

/// A search for the largest logits, with its buffers.
#[derive(Default)]
pub(crate) struct Search {
    query: Query,
    /// The lower ends of all logits, then the upper ends, `[2][rows]`.
    ends: Vec<f32>,
    /// The lower ends once more, to be sorted.
    sorted: Vec<f32>,
    ids: Vec<u32>,
    values: Vec<f32>,
}

impl Search {
    /// Finds every row whose product with `x` is among the `k` largest or equal to one of them, and
    /// computes their products. `false` if that cannot be done with less than the whole head.
    pub(crate) fn run(
        &mut self,
        kernels: &Kernels,
        team: &mut Team,
        head: Head<'_>,
        x: &[f32],
        k: usize,
    ) -> bool {
        let rows = head.bounds.len();
        if k == 0 || k > rows / MOST || !self.query.set(x) {
            return false;
        }
        self.ends.resize(2 * rows, 0.0);
        let query = &self.query;
        team.columns([(&mut self.ends, rows)], ALIGN, SCAN, |_, _, range, strip| {
            for start in range.clone().step_by(ROWS) {
                let rows = start..range.end.min(start + ROWS);
                let (lower, upper) = head.enclose(kernels, query, rows.clone());
                let part = start - range.start..rows.end - range.start;
                strip.row(0)[part.clone()].copy_from_slice(&lower[..rows.len()]);
                strip.row(1)[part].copy_from_slice(&upper[..rows.len()]);
            }
        });
        let (lower, upper) = self.ends.split_at(rows);
        // No telling about one row is no telling about any.
        if lower.iter().fold(false, |any, end| any | (*end == f32::NEG_INFINITY)) {
            return false;
        }
        let threshold = nth_largest(lower, k, &mut self.sorted);
        self.ids.clear();
        self.ids.reserve(rows);
        for (block, upper) in upper.chunks(ROWS).enumerate() {
            if largest(upper) >= threshold {
                let ids = ((block * ROWS) as u32..).zip(upper);
                self.ids.extend(ids.filter(|(_, end)| **end >= threshold).map(|(id, _)| id));
            }
        }
        team.lap(Stage::Scan);
        if self.ids.len() > rows / 2 {
            return false;
        }
        let ids = &self.ids;
        self.values.clear();
        self.values.reserve(rows / 2);
        self.values.resize(ids.len(), 0.0);
        team.columns([(&mut self.values, ids.len())], 1, EXACT, |_, _, range, strip| {
            let values = strip.row(0).chunks_exact_mut(1);
            for (value, &row) in values.zip(&ids[range]) {
                let row = row as usize;
                kernels.dense_gemm(head.ty, head.weights, head.cols, row..row + 1, x, 1, value);
            }
        });
        team.lap(Stage::Head);
        true
    }

    /// What the last search found.
    pub(crate) fn found(&self) -> Logits<'_> {
        Logits { ids: Some(&self.ids), values: &self.values }
    }
}

/// The `k`-th largest of some numbers that are at least `k`; `sorted` is room for a copy of some.
fn nth_largest(values: &[f32], k: usize, sorted: &mut Vec<f32>) -> f32 {
    let nth = |sorted: &mut [f32]| *sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
    sorted.clear();
    sorted.reserve(values.len());
    sorted.extend(values.chunks(ROWS).map(largest));
    // k blocks whose largest reaches `floor` have k values that do.
    let floor = if k <= sorted.len() { nth(sorted) } else { f32::NEG_INFINITY };
    sorted.clear();
    for block in values.chunks(ROWS).filter(|block| largest(block) >= floor) {
        sorted.extend(block.iter().filter(|value| **value >= floor));
    }
    nth(sorted)
}

/// The largest of some numbers, several at a time.
fn largest(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

impl Head<'_> {
    /// The ends between which the products of some rows lie; infinite where there is no telling.
    fn enclose(
        &self,
        kernels: &Kernels,
        query: &Query,
        rows: Range<usize>,
    ) -> ([f32; ROWS], [f32; ROWS]) {
        let mut sums = [0; ROWS];
        let sums = &mut sums[..rows.len()];
        let codes = &self.codes[rows.start * self.cols..rows.end * self.cols];
        kernels.scan(codes, query.codes(), sums);
        let (mut lower, mut upper) = ([0.0; ROWS], [0.0; ROWS]);
        for (i, (&sum, bounds)) in sums.iter().zip(&self.bounds[rows]).enumerate() {
            (lower[i], upper[i]) = query
                .enclose(sum, &Bounds::from_bytes(bounds))
                .unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        }
        (lower, upper)
    }
}

#[cfg(test)]
mod tests;
