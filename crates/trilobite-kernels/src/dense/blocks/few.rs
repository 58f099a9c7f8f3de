//! Products with a few tokens: weights are decoded in registers.

use super::codes::{BlockCodes, CodeRow, GROUPS};
use super::form::{Form, code_type, start};
use super::format::{Factors, Format};
use super::simd::{Half, Integers};
use super::source::{PANEL, PanelBytes, Source};
use super::sums::{add_product, scaled, sum_lanes};
use crate::dense::types::DenseMatrix;

/// The largest number of tokens for which decoding weights in registers is faster than keeping widened
/// ones.
pub(super) const FEW_TOKENS: usize = 8;

/// The products of rows with a few tokens, or with `ONE`, without a widened copy of the weights.
#[inline(always)]
pub(super) fn few_tokens<
    S: Integers,
    G: Form,
    F: Format<N, B>,
    const N: usize,
    const B: usize,
    const ONE: bool,
>(
    simd: S,
    w: DenseMatrix<'_>,
    x: &BlockCodes<G>,
    out: &mut [f32],
) {
    let mut tokens = [x.row(0); FEW_TOKENS];
    for (t, token) in tokens.iter_mut().enumerate().take(x.tokens()) {
        *token = x.row(t);
    }
    let tokens = &tokens[..x.tokens()];
    let source = Source::new(w, PANEL);
    let mut last = [0; size_of::<PanelBytes>()];
    let mut steps = [[Half::ZERO; 2]; GROUPS];
    let mut minimums = [Half::ZERO; GROUPS];
    let mut sums = [[Half::ZERO; GROUPS]; FEW_TOKENS];
    let sums = &mut sums[..tokens.len()];
    for row in (0..w.rows).step_by(PANEL) {
        sums.fill([Half::ZERO; GROUPS]);
        for i in 0..tokens[0].steps.len() {
            let chunk = source.chunk(row, i);
            let rows = chunk.panel(&mut last);
            let valid = chunk.len / N * (GROUPS / B);
            let factors = Factors { steps: &mut steps, minimums: &mut minimums };
            F::factors(simd, rows, valid, factors);
            for g in 0..valid {
                chunk.prefetch::<N, B>(simd, g);
                let group = Group {
                    codes: F::codes(simd, rows, g),
                    steps: &steps[g],
                    minimums: &minimums[g],
                    place: (i, g),
                };
                if ONE {
                    group.multiply::<G, F, N, B, 1>(simd, tokens, sums);
                    continue;
                }
                let mut first = 0;
                while first < tokens.len() {
                    let (tokens, sums) = (&tokens[first..], &mut sums[first..]);
                    first += group.multiply_some::<G, F, N, B>(simd, tokens, sums);
                }
            }
            // Columns behind the row count as zeros, as in panels.
            for g in valid..GROUPS {
                for (x, sums) in tokens.iter().zip(&mut *sums) {
                    add_product(simd, simd.splat_half(0.0), x.steps[i], &mut sums[g]);
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

/// A group of sixteen rows.
struct Group<'a, S: Integers> {
    codes: [S::Rows; 8],
    steps: &'a [Half; 2],
    minimums: &'a Half,
    /// Index of the chunk, and of the group in it.
    place: (usize, usize),
}

impl<S: Integers> Group<'_, S> {
    /// Adds the products with as many of the tokens as are multiplied together. Returns their number.
    #[inline(always)]
    fn multiply_some<G: Form, F: Format<N, B>, const N: usize, const B: usize>(
        &self,
        simd: S,
        tokens: &[CodeRow<'_, G>],
        sums: &mut [[Half; GROUPS]],
    ) -> usize {
        let n = 1 << tokens.len().min(S::TOKENS_AT_ONCE).ilog2();
        match n {
            1 => self.multiply::<G, F, N, B, 1>(simd, tokens, sums),
            2 if const { S::TOKENS_AT_ONCE >= 2 } => {
                self.multiply::<G, F, N, B, 2>(simd, tokens, sums)
            }
            4 if const { S::TOKENS_AT_ONCE >= 4 } => {
                self.multiply::<G, F, N, B, 4>(simd, tokens, sums)
            }
            _ if const { S::TOKENS_AT_ONCE >= 8 } => {
                self.multiply::<G, F, N, B, 8>(simd, tokens, sums)
            }
            _ => unreachable!("more tokens than at once"),
        }
        n
    }

    /// Adds the products with the first `T` tokens.
    #[inline(always)]
    fn multiply<G: Form, F: Format<N, B>, const N: usize, const B: usize, const T: usize>(
        &self,
        simd: S,
        tokens: &[CodeRow<'_, G>],
        sums: &mut [[Half; GROUPS]],
    ) {
        let (tokens, sums) = (&tokens[..T], &mut sums[..T]);
        let (i, g) = self.place;
        let code_type = code_type::<S, G, F, N, B>();
        let quads = code_type.quads;
        let mut acc = [[simd.zero_sums(); 2]; T];
        let mut products = [simd.zero_sums(); T];
        unroll!(TOKEN < T => acc[TOKEN] = start(simd, code_type, F::HALVES, tokens[TOKEN].sums[i][g]));
        unroll!(I < 8 => {
            let half = if F::HALVES { I / 4 } else { 0 };
            let quad = G::quad(simd, code_type.signed, self.codes[I]);
            unroll!(TOKEN < T => {
                let x = &tokens[TOKEN].codes[i][g];
                if I % quads == 0 {
                    products[TOKEN] = G::begin(simd, acc[TOKEN][half]);
                }
                products[TOKEN] = x.dot(simd, code_type.signed, quad, I, products[TOKEN]);
                if I % quads == quads - 1 {
                    acc[TOKEN][half] = G::end(simd, products[TOKEN], acc[TOKEN][half]);
                }
            });
        });
        unroll!(TOKEN < T => {
            let x = tokens[TOKEN];
            let form = (F::HALVES, F::MINIMUMS);
            let factors = (self.steps, self.minimums);
            let product = scaled(simd, form, acc[TOKEN], factors, x.sums[i][g].total());
            add_product(simd, product, x.steps[i], &mut sums[TOKEN][g]);
        });
    }
}
