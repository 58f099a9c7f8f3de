//! How codes of weights are multiplied with codes of activations, of 16 and of 8 bits.
//!
//! Codes of weights without a sign are multiplied without their bias, which is the cheapest: a sum
//! starts at minus the bias times the sum of the activations' codes.

use super::codes::{CodeGroup, CodeSums, NarrowGroup, WideGroup};
use super::format::Format;
use super::simd::{Integers, ROWS_LEN};

/// The codes of four columns of sixteen rows in memory, or half of them if they are words.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Line(pub(super) [u8; ROWS_LEN]);

impl Line {
    pub(super) const ZERO: Line = Line([0; ROWS_LEN]);
}

/// What products depend on in the type of the weights.
#[derive(Clone, Copy)]
pub(super) struct CodeType {
    /// What is subtracted from codes.
    pub(super) bias: i32,
    /// Number of quads between a [`Form::begin`] and its end: a power of two, at most a half of a
    /// group if halves have steps of their own.
    pub(super) quads: usize,
    pub(super) signed: bool,
}

/// Codes of 32 activations, and how they are multiplied with weights.
pub(crate) trait Form: CodeGroup + 'static {
    /// Four columns of sixteen rows of weights, a quad.
    type Quad<S: Integers>: Copy;

    /// Number of lines of a quad.
    const LINES: usize;

    /// The bias, and the number of quads, for codes of weights of `bits` bits. Those of eight are
    /// signed.
    fn bias_and_quads<S: Integers>(bias: u8, bits: u32) -> (i32, usize);
    /// A quad of the codes of a format.
    fn quad<S: Integers>(simd: S, signed: bool, codes: S::Rows) -> Self::Quad<S>;
    fn load<S: Integers>(simd: S, lines: &[Line]) -> Self::Quad<S>;
    fn store<S: Integers>(simd: S, quad: Self::Quad<S>, lines: &mut [Line]);
    /// Makes room for the products of some quads, to be added to `sums`.
    fn begin<S: Integers>(simd: S, sums: S::Sums) -> S::Sums;
    /// Adds the products with quad `i` of the activations to the result of [`begin`](Form::begin).
    fn dot<S: Integers>(
        &self,
        simd: S,
        signed: bool,
        quad: Self::Quad<S>,
        i: usize,
        products: S::Sums,
    ) -> S::Sums;
    /// The sums with these products.
    fn end<S: Integers>(simd: S, products: S::Sums, sums: S::Sums) -> S::Sums;
}

impl Form for WideGroup {
    type Quad<S: Integers> = [S::Words; 2];

    const LINES: usize = 2;

    #[inline(always)]
    fn bias_and_quads<S: Integers>(bias: u8, _: u32) -> (i32, usize) {
        (i32::from(bias), 8)
    }

    #[inline(always)]
    fn quad<S: Integers>(simd: S, signed: bool, codes: S::Rows) -> Self::Quad<S> {
        if signed { simd.signed_words(codes) } else { simd.words(codes) }
    }

    #[inline(always)]
    fn load<S: Integers>(simd: S, lines: &[Line]) -> Self::Quad<S> {
        [simd.load_words(&lines[0].0), simd.load_words(&lines[1].0)]
    }

    #[inline(always)]
    fn store<S: Integers>(simd: S, [first, second]: Self::Quad<S>, lines: &mut [Line]) {
        simd.store_words(first, &mut lines[0].0);
        simd.store_words(second, &mut lines[1].0);
    }

    #[inline(always)]
    fn begin<S: Integers>(_: S, sums: S::Sums) -> S::Sums {
        sums
    }

    #[inline(always)]
    fn dot<S: Integers>(
        &self,
        simd: S,
        _: bool,
        [first, second]: Self::Quad<S>,
        i: usize,
        products: S::Sums,
    ) -> S::Sums {
        let products = simd.dot(first, simd.pair(self, 2 * i), products);
        simd.dot(second, simd.pair(self, 2 * i + 1), products)
    }

    #[inline(always)]
    fn end<S: Integers>(_: S, products: S::Sums, _: S::Sums) -> S::Sums {
        products
    }
}

impl Form for NarrowGroup {
    type Quad<S: Integers> = S::Rows;

    const LINES: usize = 1;

    #[inline(always)]
    fn bias_and_quads<S: Integers>(bias: u8, bits: u32) -> (i32, usize) {
        // The products of a row with a quad are two sums of two products, of at most 2^bits * 127
        // each. That many of them fit in an i16.
        let quads = (128_usize >> bits).clamp(1, 8);
        let bias = if bits == 8 { S::SIGNED_BIAS } else { i32::from(bias) };
        (bias, quads)
    }

    #[inline(always)]
    fn quad<S: Integers>(_: S, _: bool, codes: S::Rows) -> Self::Quad<S> {
        codes
    }

    #[inline(always)]
    fn load<S: Integers>(simd: S, lines: &[Line]) -> Self::Quad<S> {
        simd.load_rows(&lines[0].0)
    }

    #[inline(always)]
    fn store<S: Integers>(simd: S, quad: Self::Quad<S>, lines: &mut [Line]) {
        simd.store_rows(quad, &mut lines[0].0);
    }

    #[inline(always)]
    fn begin<S: Integers>(simd: S, sums: S::Sums) -> S::Sums {
        simd.begin_bytes(sums)
    }

    #[inline(always)]
    fn dot<S: Integers>(
        &self,
        simd: S,
        signed: bool,
        quad: Self::Quad<S>,
        i: usize,
        products: S::Sums,
    ) -> S::Sums {
        let x = simd.four(self, i);
        if signed {
            simd.dot_signed_bytes(quad, x, products)
        } else {
            simd.dot_bytes(quad, x, products)
        }
    }

    #[inline(always)]
    fn end<S: Integers>(simd: S, products: S::Sums, sums: S::Sums) -> S::Sums {
        simd.end_bytes(products, sums)
    }
}

/// The type of the codes of a format.
#[inline(always)]
pub(super) fn code_type<S: Integers, G: Form, F: Format<N, B>, const N: usize, const B: usize>()
-> CodeType {
    let (bias, quads) = G::bias_and_quads::<S>(F::BIAS, F::BITS);
    let quads = if F::HALVES { quads.min(4) } else { quads };
    CodeType { bias, quads, signed: F::BITS == 8 }
}

/// What the sums of the lower and the upper half of a group start with, or that of the whole group.
#[inline(always)]
pub(super) fn start<S: Integers>(
    simd: S,
    CodeType { bias, .. }: CodeType,
    halves: bool,
    CodeSums([lower, upper]): CodeSums,
) -> [S::Sums; 2] {
    match halves {
        true => [simd.splat_sums(-bias * lower), simd.splat_sums(-bias * upper)],
        false => [simd.splat_sums(-bias * (lower + upper)), simd.splat_sums(0)],
    }
}
