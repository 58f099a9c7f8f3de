//! How codes of weights are multiplied with codes of activations, of 16 and of 8 bits.
//!
//! Codes of weights without a sign are multiplied with their bias, which is the cheapest: a sum starts
//! at minus the bias times the sum of the activations' codes.

use super::ROUND;
use super::codes::{CodeGroup, GROUP, NarrowGroup, WideGroup};
use super::format::Format;
use super::simd::{Integers, Products, ROWS_LEN};

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
    type Quad<S: Products>: Copy;
    /// A quad or half of it: what is loaded and multiplied at a time.
    type Unit<S: Products>: Copy;

    /// The quads of a group in memory.
    type Lines: Copy;

    /// The largest code.
    const LARGEST: f32;
    /// Number of units of a quad.
    const UNITS: usize;
    /// Whether weights are decoded in registers for a few tokens too, and not only for one.
    const FEW: bool;

    /// Rounds activations to codes, given the inverse of the step, and returns the sum of the codes.
    fn set<S: Integers>(&mut self, simd: S, x: &[f32; GROUP], inverse: f32) -> i32;
    /// The bias, and the number of quads, for codes of weights of `bits` bits. Those of eight are
    /// signed.
    fn bias_and_quads<S: Products>(bias: u8, bits: u32) -> (i32, usize);
    /// A quad of the codes of a format. Words are without `bias`, bytes always with it.
    fn quad<S: Products>(simd: S, signed: bool, bias: u8, codes: S::Rows) -> Self::Quad<S>;
    /// What the sums of the lower and the upper half of a group start with, or that of the whole group,
    /// if weights are multiplied with their bias. `sum` is that of the codes. Words of halves are
    /// multiplied without bias.
    fn start<S: Products>(&self, simd: S, bias: i32, halves: bool, sum: f32) -> [S::Sums; 2];
    /// The groups that lines hold.
    fn lines(lines: &[Line]) -> &[Self::Lines];
    fn lines_mut(lines: &mut [Line]) -> &mut [Self::Lines];
    /// Loads unit `i` of a group.
    fn load<S: Products>(simd: S, i: usize, lines: &Self::Lines) -> Self::Unit<S>;
    fn store<S: Products>(simd: S, quad: Self::Quad<S>, i: usize, lines: &mut Self::Lines);
    /// Makes room for the products of some quads, to be added to `sums`. Those of `signed` bytes are
    /// added at once.
    fn begin<S: Products>(simd: S, signed: bool, sums: S::Sums) -> S::Sums;
    /// Adds the products with quad `i` of the activations to the result of [`begin`](Form::begin).
    fn dot<S: Products>(
        &self,
        simd: S,
        signed: bool,
        quad: Self::Quad<S>,
        i: usize,
        products: S::Sums,
    ) -> S::Sums;
    /// The same with unit `i`.
    fn dot_unit<S: Products>(
        &self,
        simd: S,
        signed: bool,
        unit: Self::Unit<S>,
        i: usize,
        products: S::Sums,
    ) -> S::Sums;
    /// The code of activation `i`, in the order of [`Integers::arrange`].
    fn code(&self, i: usize) -> i32;
    /// The sums with these products.
    fn end<S: Products>(simd: S, signed: bool, products: S::Sums, sums: S::Sums) -> S::Sums;
}

impl Form for WideGroup {
    type Quad<S: Products> = [S::Words; 2];
    type Unit<S: Products> = S::Words;

    type Lines = [Line; 16];

    const LARGEST: f32 = 32_767.0;
    const UNITS: usize = 2;
    const FEW: bool = true;

    #[inline(always)]
    fn set<S: Integers>(&mut self, simd: S, x: &[f32; GROUP], inverse: f32) -> i32 {
        let mut sum = 0;
        for (code, x) in self.0.iter_mut().zip(x) {
            // Leaves the integer in the low bits.
            *code = (x * inverse + ROUND).to_bits() as i16;
            sum += i32::from(*code);
        }
        simd.arrange(self);
        sum
    }

    #[inline(always)]
    fn bias_and_quads<S: Products>(bias: u8, _: u32) -> (i32, usize) {
        (i32::from(bias), 8)
    }

    #[inline(always)]
    fn quad<S: Products>(simd: S, signed: bool, bias: u8, codes: S::Rows) -> Self::Quad<S> {
        match (signed, bias) {
            (false, 0) => simd.words(codes),
            (true, 0) => simd.signed_words(codes),
            _ => simd.signed_words(simd.sub(codes, bias)),
        }
    }

    #[inline(always)]
    fn start<S: Products>(&self, simd: S, bias: i32, halves: bool, sum: f32) -> [S::Sums; 2] {
        let start = if halves { 0 } else { -bias * sum as i32 };
        [simd.splat_sums(start), simd.splat_sums(0)]
    }

    #[inline(always)]
    fn lines(lines: &[Line]) -> &[Self::Lines] {
        lines.as_chunks().0
    }

    #[inline(always)]
    fn lines_mut(lines: &mut [Line]) -> &mut [Self::Lines] {
        lines.as_chunks_mut().0
    }

    #[inline(always)]
    fn load<S: Products>(simd: S, i: usize, lines: &Self::Lines) -> Self::Unit<S> {
        simd.load_words(&lines[i].0)
    }

    #[inline(always)]
    fn store<S: Products>(
        simd: S,
        [first, second]: Self::Quad<S>,
        i: usize,
        lines: &mut Self::Lines,
    ) {
        simd.store_words(first, &mut lines[2 * i].0);
        simd.store_words(second, &mut lines[2 * i + 1].0);
    }

    #[inline(always)]
    fn begin<S: Products>(_: S, _: bool, sums: S::Sums) -> S::Sums {
        sums
    }

    #[inline(always)]
    fn dot<S: Products>(
        &self,
        simd: S,
        signed: bool,
        [first, second]: Self::Quad<S>,
        i: usize,
        products: S::Sums,
    ) -> S::Sums {
        let products = self.dot_unit(simd, signed, first, 2 * i, products);
        self.dot_unit(simd, signed, second, 2 * i + 1, products)
    }

    #[inline(always)]
    fn dot_unit<S: Products>(
        &self,
        simd: S,
        // Words have been extended with their signs.
        _: bool,
        unit: Self::Unit<S>,
        i: usize,
        products: S::Sums,
    ) -> S::Sums {
        simd.dot(unit, simd.pair(self, i), products)
    }

    #[inline(always)]
    fn code(&self, i: usize) -> i32 {
        i32::from(self.0[i])
    }

    #[inline(always)]
    fn end<S: Products>(_: S, _: bool, products: S::Sums, _: S::Sums) -> S::Sums {
        products
    }
}

impl Form for NarrowGroup {
    type Quad<S: Products> = S::Rows;
    type Unit<S: Products> = S::Rows;

    type Lines = [Line; 8];

    const LARGEST: f32 = 127.0;
    const UNITS: usize = 1;
    // It would take as much compile time as all other products with these codes.
    const FEW: bool = false;

    #[inline(always)]
    fn set<S: Integers>(&mut self, _: S, x: &[f32; GROUP], inverse: f32) -> i32 {
        for (code, x) in self.codes.iter_mut().zip(x) {
            *code = (x * inverse + ROUND).to_bits() as i8;
        }
        for (sum, codes) in self.sums.iter_mut().zip(self.codes.as_chunks::<{ GROUP / 2 }>().0) {
            *sum = codes.iter().map(|code| i32::from(*code)).sum();
        }
        self.sums[0] + self.sums[1]
    }

    #[inline(always)]
    fn bias_and_quads<S: Products>(bias: u8, bits: u32) -> (i32, usize) {
        if bits == 8 {
            return (S::SIGNED_BIAS, 8);
        }
        // The products of a row with a quad are two sums of two products, of at most 2^bits * 127
        // each. That many of them fit in an i16.
        (i32::from(bias), (128_usize >> bits).clamp(1, 8))
    }

    #[inline(always)]
    fn quad<S: Products>(_: S, _: bool, _: u8, codes: S::Rows) -> Self::Quad<S> {
        codes
    }

    #[inline(always)]
    fn start<S: Products>(&self, simd: S, bias: i32, halves: bool, _: f32) -> [S::Sums; 2] {
        let [lower, upper] = self.sums;
        match halves {
            true => [simd.splat_sums(-bias * lower), simd.splat_sums(-bias * upper)],
            false => [simd.splat_sums(-bias * (lower + upper)), simd.splat_sums(0)],
        }
    }

    #[inline(always)]
    fn lines(lines: &[Line]) -> &[Self::Lines] {
        lines.as_chunks().0
    }

    #[inline(always)]
    fn lines_mut(lines: &mut [Line]) -> &mut [Self::Lines] {
        lines.as_chunks_mut().0
    }

    #[inline(always)]
    fn load<S: Products>(simd: S, i: usize, lines: &Self::Lines) -> Self::Unit<S> {
        simd.load_rows(&lines[i].0)
    }

    #[inline(always)]
    fn store<S: Products>(simd: S, quad: Self::Quad<S>, i: usize, lines: &mut Self::Lines) {
        simd.store_rows(quad, &mut lines[i].0);
    }

    #[inline(always)]
    fn begin<S: Products>(simd: S, signed: bool, sums: S::Sums) -> S::Sums {
        if signed { sums } else { simd.begin_bytes(sums) }
    }

    #[inline(always)]
    fn dot<S: Products>(
        &self,
        simd: S,
        signed: bool,
        quad: Self::Quad<S>,
        i: usize,
        products: S::Sums,
    ) -> S::Sums {
        self.dot_unit(simd, signed, quad, i, products)
    }

    #[inline(always)]
    fn dot_unit<S: Products>(
        &self,
        simd: S,
        signed: bool,
        unit: Self::Unit<S>,
        i: usize,
        products: S::Sums,
    ) -> S::Sums {
        let x = simd.four(self, i);
        if signed {
            simd.dot_signed_bytes(unit, x, products)
        } else {
            simd.dot_bytes(unit, x, products)
        }
    }

    #[inline(always)]
    fn code(&self, i: usize) -> i32 {
        i32::from(self.codes[i])
    }

    #[inline(always)]
    fn end<S: Products>(simd: S, signed: bool, products: S::Sums, sums: S::Sums) -> S::Sums {
        if signed { products } else { simd.end_bytes(products, sums) }
    }
}

/// The type of the codes of a format.
#[inline(always)]
pub(super) fn code_type<S: Products, G: Form, F: Format<N, B>, const N: usize, const B: usize>()
-> CodeType {
    let (bias, quads) = G::bias_and_quads::<S>(F::BIAS, F::BITS);
    let quads = if F::HALVES { quads.min(4) } else { quads };
    CodeType { bias, quads, signed: F::BITS == 8 }
}
