//! Rows and products of weights that are decoded to memory, a chunk of sixteen rows at a time.

use super::codes::{BlockCodes, CHUNK, GROUP, GROUPS};
use super::form::Form;
use super::format::{self, Factors, Format, Quads, RowBytes, dispatch};
use super::simd::{Half, Integers, LANES, ROWS_LEN};
use super::source::{PANEL, PanelBytes, Source};
use super::sums::{add_product, scaled, sum_lanes};
use crate::dense::types::{DenseMatrix, DenseType};

/// The quads of a group.
type GroupBytes = [[u8; ROWS_LEN]; 8];

/// A chunk of sixteen rows in memory.
struct Decoded {
    codes: [GroupBytes; GROUPS],
    steps: [[Half; 2]; GROUPS],
    minimums: [Half; GROUPS],
    /// Number of groups that the rows have in this chunk.
    valid: usize,
    form: WeightForm,
}

/// What a format's weights have besides codes and steps.
#[derive(Clone, Copy)]
struct WeightForm {
    /// Whether halves of groups have steps of their own, and whether there are minimums.
    factors: (bool, bool),
    /// What is subtracted from codes.
    bias: u8,
}

/// The form of a format's weights.
fn weight_form<F: Format<N, B>, const N: usize, const B: usize>() -> WeightForm {
    WeightForm { factors: (F::HALVES, F::MINIMUMS), bias: F::BIAS }
}

impl Decoded {
    /// A chunk without groups.
    #[inline(always)]
    fn of(ty: DenseType) -> Self {
        Self {
            codes: [[[0; ROWS_LEN]; 8]; GROUPS],
            steps: [[Half::ZERO; 2]; GROUPS],
            minimums: [Half::ZERO; GROUPS],
            valid: 0,
            form: dispatch!(ty, weight_form()),
        }
    }

    /// The sums of the products of group `g` of every row with the codes of activations: of both
    /// halves, or of the whole group.
    fn dots(&self, g: usize, x: &impl Form) -> [[i32; LANES]; 2] {
        let WeightForm { factors: (halves, _), bias } = self.form;
        let mut sums = [[0; LANES]; 2];
        for (i, quad) in self.codes[g].iter().enumerate() {
            let half = usize::from(halves && i >= 4);
            let x: [i32; 4] = std::array::from_fn(|at| x.code(4 * i + at));
            for (sum, codes) in sums[half].iter_mut().zip(quad.as_chunks::<4>().0) {
                for (code, x) in codes.iter().zip(x) {
                    *sum += value(*code, bias) * x;
                }
            }
        }
        sums
    }
}

/// Decodes a chunk that has `len` bytes in each row.
#[inline(always)]
fn decode<F: Format<N, B>, const N: usize, const B: usize>(
    simd: impl Integers,
    rows: RowBytes<'_>,
    len: usize,
    out: &mut Decoded,
) {
    out.valid = len / N * (GROUPS / B);
    let factors = Factors { steps: &mut out.steps, minimums: &mut out.minimums };
    F::factors(simd, rows, out.valid, factors);
    for (set, codes) in out.codes[..out.valid].chunks_exact_mut(F::SET).enumerate() {
        F::codes(simd, rows, set, &mut Stored(codes));
    }
}

/// The integer that a code stands for. Only codes of eight bits can be negative; others are below 64.
fn value(code: u8, bias: u8) -> i32 {
    i32::from(code.wrapping_sub(bias) as i8)
}

/// Stores the codes of a set of groups.
struct Stored<'a>(&'a mut [GroupBytes]);

impl<S: Integers> Quads<S> for Stored<'_> {
    #[inline(always)]
    fn quad(&mut self, simd: S, group: usize, i: usize, codes: S::Rows) {
        simd.store_rows(codes, &mut self.0[group][i]);
    }
}

/// Widens a matrix of one row.
#[inline(always)]
pub(crate) fn row<S: Integers>(simd: S, w: DenseMatrix<'_>, out: &mut [f32]) {
    let DenseMatrix { ty, bytes: w, .. } = w;
    let (weights, bytes) = ty.block();
    let mut chunk = Decoded::of(ty);
    let WeightForm { factors: (halves, minimums), bias } = chunk.form;
    for (out, w) in out.chunks_mut(CHUNK).zip(w.chunks(CHUNK / weights * bytes)) {
        // Every lane has the same row.
        let rows = RowBytes { bytes: w, distance: 0 };
        dispatch!(ty, decode(simd, rows, w.len(), &mut chunk));
        for (g, out) in out.chunks_exact_mut(GROUP).enumerate() {
            for (i, out) in out.iter_mut().enumerate() {
                let half = usize::from(halves && i >= GROUP / 2);
                *out = value(chunk.codes[g][i / 4][i % 4], bias) as f32 * chunk.steps[g][half].0[0];
                if minimums {
                    *out += chunk.minimums[g].0[0];
                }
            }
        }
    }
}

/// The products of all rows with at least one token, without vectors of integers.
pub(super) fn gemm<S: Integers<Sums = [i32; LANES]>, G: Form>(
    simd: S,
    w: DenseMatrix<'_>,
    x: &BlockCodes<G>,
    out: &mut [f32],
) {
    let (source, mut last) = (Source::new(simd, w, PANEL), [0; size_of::<PanelBytes>()]);
    let mut weights = Decoded::of(w.ty);
    let mut sums = vec![[Half::ZERO; GROUPS]; x.tokens()];
    for row in (0..w.rows).step_by(PANEL) {
        sums.fill([Half::ZERO; GROUPS]);
        for i in 0..x.row(0).steps.len() {
            let chunk = source.chunk(row, i);
            let rows = chunk.panel(&mut last);
            dispatch!(w.ty, decode(simd, rows, chunk.len, &mut weights));
            for (t, sums) in sums.iter_mut().enumerate() {
                let token = x.row(t).chunk(i);
                for (g, sum) in sums.iter_mut().enumerate() {
                    // Columns behind the row count as zeros.
                    let mut product = simd.splat_half(0.0);
                    if g < weights.valid {
                        let factors = (&weights.steps[g], &weights.minimums[g]);
                        let dots = weights.dots(g, &token.codes[g]);
                        product = scaled(simd, weights.form.factors, dots, factors, token.sums[g]);
                    }
                    add_product(simd, product, token.step, sum);
                }
            }
        }
        let count = PANEL.min(w.rows - row);
        for (t, sums) in sums.iter().enumerate() {
            let whole = sum_lanes(simd, sums);
            out[t * w.rows + row..][..count].copy_from_slice(&whole.0[..count]);
        }
    }
}
