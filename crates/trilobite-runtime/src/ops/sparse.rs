//! Products that skip rows and columns whose results are multiplied by zero.
//!
//! Squared ReLU makes half or more of the gate's outputs exactly zero. For these the output of the
//! up projection is not needed, and neither is the column of the down projection, since zeros stay
//! zeros through norm and quantisation. Skipping them changes no bit of the result.

use std::ops::Range;

use trilobite_kernels::{Layout, TernaryMatrix};

use super::{ALIGN, Input, MIN_MULTIPLY_ADDS, Ops, Product};
use crate::config::Activation;
use crate::scratch::{Scratch, grown};
use crate::team::{Pieces, Strip};
use crate::weights::{Matrix, MatrixView};

/// Batches of at least this many tokens skip no row: nearly every row is needed by one of the tokens,
/// and the dense product is faster.
const MIN_DENSE_BATCH: usize = 12;
/// Larger batches skip no column: their dense product is faster, even though each token skips
/// columns of its own.
pub(crate) const MAX_COLUMNS_BATCH: usize = 64;
/// A list of rows is multiplied if at least one in this many rows is not on it. Otherwise the
/// multiplication of all rows is faster.
const ROWS_PER_SKIPPED: usize = 8;

/// An up projection of which only the rows with a nonzero gate are computed.
pub(super) struct UpRows<'a> {
    product: Product<'a>,
    weights: TernaryMatrix<'a>,
    scale: f32,
}

impl<'a> Product<'a> {
    /// Converts to a sparse up projection, if the product allows it.
    pub(super) fn sparse(self, activation: Activation) -> Option<UpRows<'a>> {
        let MatrixView::Ternary(weights, scale) = self.weights else { return None };
        let Input { count, codes, .. } = self.input;
        // Zero times an output is zero unless the output is infinite. Outputs are at most 128 per
        // column.
        let most = 128.0 * self.matrix.cols as f32 * scale;
        let finite = codes.scales().iter().all(|x_scale| (most / x_scale).is_finite());
        let few = !self.plain && count < MIN_DENSE_BATCH && activation == Activation::Relu2;
        let chosen = matches!(weights.layout(), Layout::I2S(_));
        (few && finite && chosen).then_some(UpRows { product: self, weights, scale })
    }
}

/// Whether the squared ReLU of a gate can be nonzero.
fn counts(gate: f32) -> bool {
    gate > 0.0 || gate.is_nan()
}

impl UpRows<'_> {
    /// Multiplies the squared ReLU of the gates in the columns `part` of the strip with the outputs
    /// `rows`. Returns `false` if that needs nearly all rows; then nothing is multiplied.
    pub(super) fn gate(
        &self,
        rows: Range<usize>,
        scratch: &mut Scratch,
        strip: &mut Strip<'_, f32>,
        part: Range<usize>,
    ) -> bool {
        let Product { kernels, input: Input { count, codes, .. }, .. } = self.product;
        let Scratch { sums, floats, rows: live, live: counted, .. } = scratch;
        live.clear();
        live.resize(rows.len(), 0);
        // Whether each row is live for a token, then the list of the live rows.
        for t in 0..count {
            for (live, gate) in live.iter_mut().zip(&strip.row(t)[part.clone()]) {
                *live |= u32::from(counts(*gate));
            }
        }
        let mut len = 0;
        for i in 0..live.len() {
            let counts = live[i] as usize;
            live[len] = (rows.start + i) as u32;
            len += counts;
        }
        let all = (rows.len() - len) * ROWS_PER_SKIPPED < rows.len();
        counted.rows += if all { rows.len() } else { len } as u64;
        counted.of_rows += rows.len() as u64;
        if all {
            return false;
        }

        let live = &live[..len];
        let sums = grown(sums, count * len);
        kernels.ternary_rows(&self.weights, live, codes, sums);
        let (gates, ups) = grown(floats, 2 * len).split_at_mut(len);
        for t in 0..count {
            let scale = self.scale / codes.scales()[t];
            let out = &mut strip.row(t)[part.clone()];
            let place = |row: u32| row as usize - rows.start;
            for ((gate, up), (row, sum)) in
                gates.iter_mut().zip(&mut *ups).zip(live.iter().zip(&sums[t * len..]))
            {
                (*gate, *up) = (out[place(*row)], *sum as f32 * scale);
            }
            kernels.relu2_mul(gates, ups);
            out.fill(0.0);
            for (row, gated) in live.iter().zip(&*gates) {
                out[place(*row)] = *gated;
            }
        }
        true
    }
}

impl Ops<'_> {
    /// `x[T][rows] += input[T][cols] * matrix^T`, skipping columns whose input is zero. Returns
    /// `false` if the matrix or the batch does not allow that.
    ///
    /// Threads divide the columns, so each reads whole rows of the stored layout. Their partial
    /// sums are integers, which can be added in any order.
    pub(super) fn add_columns(&mut self, input: Input<'_>, matrix: &Matrix, x: &mut [f32]) -> bool {
        let MatrixView::Ternary(weights, scale) = self.model.view(matrix) else { return false };
        let Input { count, codes, .. } = input;
        if self.plain || count > MAX_COLUMNS_BATCH || weights.layout() != Layout::I2T {
            return false;
        }
        let kernels = self.workers.kernels;
        let team = &mut self.workers.team;
        let (rows, cols, width) = (matrix.rows, matrix.cols, count * matrix.rows);
        let count_parts = (cols * width / MIN_MULTIPLY_ADDS).clamp(1, team.threads());
        let parts = &mut self.parts[..count_parts * width];
        team.rows(parts, width, |Scratch { workspace, live, .. }, i, out| {
            let part = cols * i / count_parts..cols * (i + 1) / count_parts;
            live.of_columns += part.len() as u64;
            live.columns += kernels.ternary_part(&weights, part, codes, workspace, out) as u64;
        });
        let (parts, x) = (&*parts, (&mut x[..width], rows));
        let pieces =
            Pieces { least: MIN_MULTIPLY_ADDS / (4 * count_parts * count), size: usize::MAX };
        team.columns([x], ALIGN, pieces, |Scratch { sums, .. }, _, range, strip| {
            let sums = grown(sums, range.len());
            for t in 0..count {
                sums.fill(0);
                for part in parts.chunks_exact(width) {
                    let part = &part[t * rows..][range.clone()];
                    sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                }
                let scale = scale / codes.scales()[t];
                for (x, sum) in strip.row(t).iter_mut().zip(&*sums) {
                    *x += *sum as f32 * scale;
                }
            }
        });
        true
    }
}
