//! The largest logits, without computing the whole head.
//!
//! Greedy decoding needs the largest logit and top-k sampling the k largest, yet in most models the
//! head is more than half of the bytes that a decoded token reads. A coarse copy of the head bounds
//! every logit from below and above ([`scan`]). The search has three steps:
//!
//! 1. Compute the coarse logits of all rows, and the exact logits of the `k` rows with the largest.
//!    Let `t` be the smallest of these exact logits. Then `k` logits are at least `t`.
//! 2. Exclude every row whose upper bound is below `t`. For the other rows read the next bit of the
//!    codes, which tightens the bounds, then the bit after it.
//! 3. Compute the exact logits of the remaining rows, a few dozen, with the kernel that computes
//!    the whole head, which gives the same bits.
//!
//! [`scan`]: trilobite_kernels::scan

use std::sync::atomic::{AtomicUsize, Ordering};

use trilobite_kernels::scan::{Bounds, Query, REFINEMENTS, code_bytes};
use trilobite_kernels::{DenseMatrix, Kernels};

use crate::profile::Stage;
use crate::team::Pieces;
use crate::workers::Workers;

/// Rows that a thread scans at a time.
const ROWS: usize = 64;
/// Rows from which a thread selects those to refine.
const GROUP: usize = 512;
/// Granularity of the columns of an output that a thread takes: a cache line of f32.
const ALIGN: usize = 16;
/// How the rows of the coarse copy are divided among threads.
const SCAN: Pieces = Pieces { least: ROWS, size: 4 * ROWS };
/// How the rows to refine are divided among threads.
const REFINE: Pieces = Pieces { least: GROUP, size: GROUP };
/// How the rows to compute exactly are divided among threads.
const EXACT: Pieces = Pieces { least: 4, size: 8 };
/// Minimum number of rows of the head per requested logit. Below it the whole head is computed.
const MIN_ROWS_PER_LOGIT: usize = 16;

/// The exact logits of all tokens, or of those that can be among the largest.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    ids: Option<&'a [u32]>,
    values: &'a [f32],
    refined: [usize; REFINEMENTS],
}

impl<'a> Logits<'a> {
    /// The logits of all tokens.
    pub fn all(values: &'a [f32]) -> Self {
        Self { ids: None, values, refined: [0; _] }
    }

    /// The logits, in the order of the ids.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The token of the logit at `index` in [`values`](Self::values).
    pub fn id(&self, index: usize) -> u32 {
        self.ids.map_or(index as u32, |ids| ids[index])
    }

    /// Number of rows of the coarse copy for which at least one further bit was read, and for which
    /// two were.
    pub fn refined(&self) -> [usize; REFINEMENTS] {
        self.refined
    }

    /// Whether these are the logits of all tokens.
    pub fn is_all(&self) -> bool {
        self.ids.is_none()
    }
}

/// A head with its coarse copy.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// The weights, `[rows][cols]`, as floats.
    pub(crate) weights: DenseMatrix<'a>,
    /// Codes of the coarse copy, rows of [`code_bytes`].
    pub(crate) codes: &'a [u8],
    /// The further bits of the codes.
    pub(crate) refinements: &'a [u8],
    /// Bounds of the coarse copy, `[rows]`.
    pub(crate) bounds: &'a [[u8; Bounds::BYTES]],
}

/// A search for the largest logits, with its buffers.
#[derive(Default)]
pub(crate) struct Search {
    query: Query,
    /// For all rows the sums, the coarse logits and the upper bounds of the logits, `[3][rows]`.
    /// The latter two are [`ordered`] integers.
    seen: Vec<i32>,
    /// Coarse logits, for sorting.
    sorted: Vec<i32>,
    ids: Vec<u32>,
    values: Vec<f32>,
    refined: [usize; REFINEMENTS],
}

/// The coarse logit of a row that has no bounds.
const LOWEST: i32 = i32::MIN;

/// An integer with the same order as the float. Both zeros map to the same integer.
fn ordered(value: f32) -> i32 {
    let bits = (value + 0.0).to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

impl Search {
    /// Finds every row whose product with `x` is one of the `k` largest or equal to one of them,
    /// and computes these products. Returns `false` if that takes the whole head.
    pub(crate) fn run(
        &mut self,
        workers: &mut Workers,
        head: Head<'_>,
        x: &[f32],
        k: usize,
    ) -> bool {
        let kernels = workers.kernels;
        let rows = head.bounds.len();
        if k == 0 || k > rows / MIN_ROWS_PER_LOGIT || !self.query.set(x) {
            return false;
        }
        self.seen.resize(3 * rows, 0);
        let query = &self.query;
        workers.team.columns([(&mut self.seen, rows)], ALIGN, SCAN, |_, _, range, strip| {
            for start in range.clone().step_by(ROWS) {
                let rows = start..range.end.min(start + ROWS);
                let part = start - range.start..rows.end - range.start;
                let (mut sums, mut coarse, mut upper) = ([0; ROWS], [0; ROWS], [0; ROWS]);
                let sums = &mut sums[..rows.len()];
                let bytes = code_bytes(head.weights.cols());
                kernels.scan(&head.codes[rows.start * bytes..rows.end * bytes], query, sums);
                for (i, (&sum, bounds)) in sums.iter().zip(&head.bounds[rows.clone()]).enumerate() {
                    let (low, high) = query.enclose(sum, 0, &Bounds::from_bytes(bounds));
                    let known = low > f32::NEG_INFINITY;
                    coarse[i] = if known { ordered(low / 2.0 + high / 2.0) } else { LOWEST };
                    upper[i] = ordered(high);
                }
                strip.row(0)[part.clone()].copy_from_slice(sums);
                strip.row(1)[part.clone()].copy_from_slice(&coarse[..rows.len()]);
                strip.row(2)[part].copy_from_slice(&upper[..rows.len()]);
            }
        });
        let coarse = &self.seen[rows..2 * rows];
        // A row without bounds may be the largest.
        if coarse.iter().fold(false, |any, coarse| any | (*coarse == LOWEST)) {
            return false;
        }
        let least = nth_largest(coarse, k, &mut self.sorted);
        self.ids.clear();
        self.ids.reserve(rows / 2);
        self.values.clear();
        self.values.reserve(rows / 2);
        self.ids.extend((0..).zip(coarse).filter(|(_, c)| **c >= least).map(|(id, _)| id).take(k));
        workers.lap(Stage::Scan);
        self.compute(workers, head, x);
        let threshold = self.values.iter().copied().map(ordered).fold(i32::MAX, i32::min);

        let refined = [const { AtomicUsize::new(0) }; REFINEMENTS];
        let query = &self.query;
        workers.team.columns([(&mut self.seen, rows)], ALIGN, REFINE, |_, _, range, strip| {
            for start in range.clone().step_by(GROUP) {
                let end = range.end.min(start + GROUP);
                let part = start - range.start..end - range.start;
                let mut sums = [0; GROUP];
                sums[..part.len()].copy_from_slice(&strip.row(0)[part.clone()]);
                let upper = &mut strip.row(2)[part];
                let looked = head.refine(kernels, query, threshold, start, &mut sums, upper);
                for (sum, looked) in refined.iter().zip(looked) {
                    sum.fetch_add(looked, Ordering::Relaxed);
                }
            }
        });
        self.refined = refined.map(AtomicUsize::into_inner);
        let upper = &self.seen[2 * rows..];
        if upper.iter().map(|end| usize::from(*end >= threshold)).sum::<usize>() > rows / 2 {
            return false;
        }
        self.ids.clear();
        self.ids.extend((0..).zip(upper).filter(|(_, end)| **end >= threshold).map(|(id, _)| id));
        workers.lap(Stage::Scan);
        self.compute(workers, head, x);
        true
    }

    /// Computes the products of the rows `ids` exactly.
    fn compute(&mut self, workers: &mut Workers, head: Head<'_>, x: &[f32]) {
        let (kernels, ids) = (workers.kernels, &self.ids);
        self.values.clear();
        self.values.resize(ids.len(), 0.0);
        let out = [(&mut self.values[..], ids.len())];
        workers.team.columns(out, 1, EXACT, |scratch, _, range, strip| {
            let values = strip.row(0).chunks_exact_mut(1);
            for (value, &row) in values.zip(&ids[range]) {
                let (row, workspace) = (row as usize, &mut scratch.workspace);
                kernels.dense_gemm(&head.weights, row..row + 1, x, workspace, value);
            }
        });
        workers.lap(Stage::Head);
    }

    /// The result of the last search.
    pub(crate) fn found(&self) -> Logits<'_> {
        Logits { ids: Some(&self.ids), values: &self.values, refined: self.refined }
    }
}

/// The `k`-th largest of at least `k` numbers. `sorted` is a buffer.
fn nth_largest(values: &[i32], k: usize, sorted: &mut Vec<i32>) -> i32 {
    let nth = |sorted: &mut [i32]| *sorted.select_nth_unstable_by(k - 1, |a, b| b.cmp(a)).1;
    sorted.clear();
    sorted.reserve(values.len());
    sorted.extend(values.chunks(ROWS).map(largest));
    // Each of k blocks whose maximum is at least `floor` has one value that is.
    let floor = if k <= sorted.len() { nth(sorted) } else { LOWEST };
    sorted.clear();
    for block in values.chunks(ROWS).filter(|block| largest(block) >= floor) {
        sorted.extend(block.iter().filter(|value| **value >= floor));
    }
    nth(sorted)
}

/// The maximum of some numbers.
fn largest(values: &[i32]) -> i32 {
    values.iter().copied().fold(LOWEST, i32::max)
}

impl Head<'_> {
    /// Reads further bits of the rows from `first` on whose upper bounds reach the threshold, and
    /// excludes the rows whose tighter upper bounds do not. Returns how many rows were refined.
    fn refine(
        &self,
        kernels: &Kernels,
        query: &Query,
        threshold: i32,
        first: usize,
        sums: &mut [i32; GROUP],
        upper: &mut [i32],
    ) -> [usize; REFINEMENTS] {
        let (mut ids, mut len) = ([0; GROUP], 0);
        for (i, &end) in upper.iter().enumerate() {
            (ids[len], sums[len]) = ((first + i) as u32, sums[i]);
            len += usize::from(end >= threshold);
        }
        let mut looked = [0; REFINEMENTS];
        for (refinement, looked) in looked.iter_mut().enumerate() {
            *looked = len;
            let (some, bits) = (&ids[..len], self.refinements);
            kernels.refine_scan(bits, refinement, some, query, &mut sums[..len]);
            let mut left = 0;
            for i in 0..len {
                let row = ids[i] as usize;
                let bounds = Bounds::from_bytes(&self.bounds[row]);
                let end = ordered(query.enclose(sums[i], refinement + 1, &bounds).1);
                upper[row - first] = end;
                (ids[left], sums[left]) = (ids[i], sums[i]);
                left += usize::from(end >= threshold);
            }
            len = left;
        }
        looked
    }
}

#[cfg(test)]
mod tests;
