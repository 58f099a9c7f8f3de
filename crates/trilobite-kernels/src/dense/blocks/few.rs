//! Products with a few tokens: weights are decoded in registers.

use super::codes::{BlockCodes, CodeChunk, CodeGroup, CodeRow, GROUPS, NarrowGroup};
use super::form::{CodeType, Form, code_type};
use super::format::{Factors, Format, MAX_SET, Quads};
use super::simd::{Half, Products};
use super::source::{PANEL, PanelBytes, Source};
use super::sums::{add_product, scaled, sum_lanes};
use crate::dense::types::DenseMatrix;
use std::marker::PhantomData;

/// The largest number of tokens for which decoding weights in registers is faster than keeping widened
/// ones.
pub(super) const FEW_TOKENS: usize = 8;

/// The products of rows with a few tokens, or with `ONE`, without a widened copy of the weights.
#[inline(always)]
pub(super) fn few_tokens<
    S: Products,
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
    let source = Source::new(simd, w, PANEL);
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
            let token = tokens[0].chunk(i);
            for set in 0..valid / F::SET {
                let groups = set * F::SET..(set + 1) * F::SET;
                for g in groups.clone() {
                    chunk.prefetch::<N, B>(simd, g);
                }
                if ONE {
                    let mut products =
                        SetProducts::<S, G, F, N, B, 1>::new(simd, [token], groups.start);
                    F::codes(simd, rows, set, &mut products);
                    unroll!(K < MAX_SET => if const { K < F::SET } {
                        let g = groups.start + K;
                        products.add(simd, K, (&steps[g], &minimums[g]), sums);
                    });
                    continue;
                }
                let mut codes = Codes([[simd.four(&NarrowGroup::ZERO, 0); 8]; MAX_SET]);
                F::codes(simd, rows, set, &mut codes);
                for (g, codes) in groups.zip(codes.0) {
                    let factors = (&steps[g], &minimums[g]);
                    let group = Group { codes, factors, place: (i, g) };
                    let mut first = 0;
                    while first < tokens.len() {
                        let (tokens, sums) = (&tokens[first..], &mut sums[first..]);
                        first += group.multiply_some::<G, F, N, B>(simd, tokens, sums);
                    }
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

/// The codes of a set of groups.
struct Codes<S: Products>([[S::Rows; 8]; MAX_SET]);

impl<S: Products> Quads<S> for Codes<S> {
    #[inline(always)]
    fn quad(&mut self, _: S, group: usize, i: usize, codes: S::Rows) {
        self.0[group][i] = codes;
    }
}

/// The products of a set of groups with `T` tokens.
struct SetProducts<'a, S: Products, G, F, const N: usize, const B: usize, const T: usize> {
    tokens: [CodeChunk<'a, G>; T],
    /// Index of the first group.
    first: usize,
    /// For each group and token the sums of its halves, or of the whole group.
    sums: [[[S::Sums; 2]; T]; MAX_SET],
    /// Products that are not yet in the sums.
    products: [[S::Sums; T]; MAX_SET],
    format: PhantomData<F>,
}

impl<S: Products, G: Form, F: Format<N, B>, const N: usize, const B: usize, const T: usize> Quads<S>
    for SetProducts<'_, S, G, F, N, B, T>
{
    #[inline(always)]
    fn quad(&mut self, simd: S, group: usize, i: usize, codes: S::Rows) {
        let CodeType { signed, quads, bias } = code_type::<S, G, F, N, B>();
        let half = if F::HALVES { i / 4 } else { 0 };
        let quad = G::quad(simd, signed, if F::HALVES { F::BIAS } else { 0 }, codes);
        unroll!(TOKEN < T => {
            let CodeChunk { codes, sums, .. } = self.tokens[TOKEN];
            let x = &codes[self.first + group];
            if i == 0 {
                let sum = sums[self.first + group];
                self.sums[group][TOKEN] = x.start(simd, bias, F::HALVES, sum);
            }
            let mut products = match i.is_multiple_of(quads) {
                true => G::begin(simd, signed, self.sums[group][TOKEN][half]),
                false => self.products[group][TOKEN],
            };
            products = x.dot(simd, signed, quad, i, products);
            if i % quads == quads - 1 {
                let sum = &mut self.sums[group][TOKEN][half];
                *sum = G::end(simd, signed, products, *sum);
            } else {
                self.products[group][TOKEN] = products;
            }
        });
    }
}

impl<'a, S: Products, G: Form, F: Format<N, B>, const N: usize, const B: usize, const T: usize>
    SetProducts<'a, S, G, F, N, B, T>
{
    #[inline(always)]
    fn new(simd: S, tokens: [CodeChunk<'a, G>; T], first: usize) -> Self {
        let zero = simd.zero_sums();
        let (sums, products) = ([[[zero; 2]; T]; MAX_SET], [[zero; T]; MAX_SET]);
        Self { tokens, first, sums, products, format: PhantomData }
    }

    /// Adds the products of a group to the sums of the tokens.
    #[inline(always)]
    fn add(&self, simd: S, group: usize, factors: (&[Half; 2], &Half), out: &mut [[Half; GROUPS]]) {
        let g = self.first + group;
        unroll!(TOKEN < T => {
            let CodeChunk { step, sums, .. } = self.tokens[TOKEN];
            let form = (F::HALVES, F::MINIMUMS);
            let product = scaled(simd, form, self.sums[group][TOKEN], factors, sums[g]);
            add_product(simd, product, step, &mut out[TOKEN][g]);
        });
    }
}

/// A group of sixteen rows.
struct Group<'a, S: Products> {
    codes: [S::Rows; 8],
    /// The steps and the minimums.
    factors: (&'a [Half; 2], &'a Half),
    /// Index of the chunk, and of the group in it.
    place: (usize, usize),
}

impl<S: Products> Group<'_, S> {
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
        let (i, g) = self.place;
        let mut chunks = [tokens[0].chunk(i); T];
        unroll!(TOKEN < T => chunks[TOKEN] = tokens[TOKEN].chunk(i));
        let mut products = SetProducts::<S, G, F, N, B, T>::new(simd, chunks, g);
        unroll!(I < 8 => products.quad(simd, 0, I, self.codes[I]));
        products.add(simd, 0, self.factors, sums);
    }
}
