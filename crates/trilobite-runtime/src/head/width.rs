//! How many bits of the coarse copy a scan reads for every row.
//!
//! A scan with few bits leaves rows whose next bit is read one row at a time, which takes longer than
//! reading it for all rows in order. Which is faster depends on the head, on what anchors leave of the
//! hidden states and on what is searched for. A sample of the rows of each search tells how many would
//! have been left with each number of bits.

use trilobite_kernels::scan::{FIRST_BITS, REFINEMENTS, RowBounds, SCANNED};

/// What a bit of a row costs that is read apart from others, as a multiple of one that is read in order.
const APART: f64 = 5.0;
/// Number of groups of rows of a sample.
const GROUPS: usize = 64;
/// Number of rows of a group. Their bounds are beside each other in a cache line.
const GROUP: usize = 16;
/// The share of the last search in the mean.
const LAST: f64 = 0.25;

/// The fractions of rows that no bound excludes after the first bits and 0, 1, ... refinements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left([f64; REFINEMENTS]);

impl Default for Left {
    /// Without bounds all rows are left, except after the bits that a scan can read.
    fn default() -> Self {
        Self(std::array::from_fn(|refinements| if refinements < SCANNED { 1.0 } else { 0.0 }))
    }
}

impl Left {
    /// Counts rows of a sample whose products with a vector of norm `radius` may reach the threshold,
    /// given the coarse value of the product of each row.
    pub(super) fn count(
        coarse: impl Fn(usize) -> f32,
        bounds: RowBounds<'_>,
        threshold: f32,
        radius: f64,
    ) -> Self {
        let (rows, mut sample) = (bounds.rows(), 0);
        let step = rows.div_ceil(GROUPS).max(GROUP);
        let mut counts = [0u32; REFINEMENTS];
        for first in (0..rows).step_by(step) {
            let group = first..rows.min(first + GROUP);
            sample += group.len();
            for (refinements, count) in counts.iter_mut().enumerate() {
                for row in group.clone() {
                    let residual = f64::from(bounds.residual(row, refinements));
                    let upper = f64::from(coarse(row)) + residual * radius;
                    *count += u32::from(upper >= f64::from(threshold));
                }
            }
        }
        Self(counts.map(|count| f64::from(count) / sample.max(1) as f64))
    }

    /// The fastest number of refinements to scan, and the number of bits of a weight that would take as
    /// long.
    pub(super) fn best(&self) -> (usize, f64) {
        let cost = |refinements: usize| {
            let apart: f64 = self.0[refinements..].iter().sum();
            (FIRST_BITS + refinements) as f64 + APART * apart
        };
        let costs = (0..=SCANNED).map(|refinements| (refinements, cost(refinements)));
        costs.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((SCANNED, f64::MAX))
    }

    /// Takes another search into a mean.
    pub(super) fn note(&mut self, other: Left) {
        for (mean, new) in self.0.iter_mut().zip(other.0) {
            *mean += LAST * (new - *mean);
        }
    }
}
