//! The integer operations of an instruction set, on sixteen rows.

use super::codes::{GROUP, NarrowGroup, WideGroup};
use crate::simd::Simd;

/// Number of lanes of a sum: rows of a panel.
pub(crate) const LANES: usize = GROUP / 2;
/// Number of bytes of a [`Integers::Rows`].
pub(crate) const ROWS_LEN: usize = 4 * LANES;

/// Sixteen floats in memory, aligned for the widest registers.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Half(pub(crate) [f32; LANES]);

impl Half {
    pub(crate) const ZERO: Half = Half([0.0; LANES]);
}

/// Decoding weights, and the float operations of products, with an instruction set. All
/// implementations give the same results.
pub(crate) trait Integers: Simd {
    /// Four bytes of each of sixteen rows.
    type Rows: Copy;
    /// Sixteen i32, one for each row.
    type Sums: Copy;
    /// Sixteen floats, one for each row.
    type Half: Copy;

    /// Sixteen bytes of each of sixteen rows, which begin `distance` bytes apart: the first four
    /// bytes of all rows, then the next four, and so on.
    ///
    /// # Panics
    /// `x` ends before the last byte.
    fn quads(self, x: &[u8], distance: usize) -> [Self::Rows; 4];
    fn store_rows(self, x: Self::Rows, out: &mut [u8; ROWS_LEN]);
    /// Shifts each byte right by `by`, below 8, and masks it: `mask` is below `2^(8 - by)`.
    fn shift(self, x: Self::Rows, by: usize, mask: u8) -> Self::Rows;
    /// Each byte times 16. Bytes are below 16.
    fn times_16(self, x: Self::Rows) -> Self::Rows;
    fn or(self, a: Self::Rows, b: Self::Rows) -> Self::Rows;
    /// In each row, byte `j` is `value` if bit `4 I + j` of the row's four bytes is set, and else 0.
    /// `I` is at most 7, and `value` has one bit.
    fn bits<const I: usize>(self, x: Self::Rows, value: u8) -> Self::Rows;
    /// The first byte of each row as a signed integer, the second, and so on.
    fn bytes_of(self, x: Self::Rows) -> [Self::Half; 4];
    /// The first two bytes of each row as f16, and the last two.
    fn f16_pairs(self, x: Self::Rows) -> [Self::Half; 2];

    /// Reorders every four words of activations to the order in which they are multiplied: for
    /// [`Products::words`] the first, the third, the second and the fourth.
    fn arrange(self, x: &mut WideGroup);
    fn splat_sums(self, x: i32) -> Self::Sums;
    #[inline(always)]
    fn zero_sums(self) -> Self::Sums {
        self.splat_sums(0)
    }
    fn add_sums(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    fn floats(self, x: Self::Sums) -> Self::Half;

    fn splat_half(self, x: f32) -> Self::Half;
    fn load_half(self, x: &Half) -> Self::Half;
    fn store_half(self, x: Self::Half, out: &mut Half);
    /// `a * b + c`, rounded once.
    fn mul_add_half(self, a: Self::Half, b: Self::Half, c: Self::Half) -> Self::Half;
    fn mul_half(self, a: Self::Half, b: Self::Half) -> Self::Half;
    fn add_half(self, a: Self::Half, b: Self::Half) -> Self::Half;
    /// The pairwise sum of the lanes.
    fn sum_half(self, x: Self::Half) -> f32;
}

/// Products of integers in the vectors of an instruction set.
pub(crate) trait Products: Integers {
    /// Two i16 of each of sixteen rows. Their order depends on the instruction set.
    type Words: Copy;

    /// Number of tokens that are multiplied together, up to 8.
    const TOKENS_AT_ONCE: usize;
    /// What [`dot_signed_bytes`](Products::dot_signed_bytes) adds to bytes `w`.
    const SIGNED_BIAS: i32 = 0;
    /// Number of panels that a product of many tokens multiplies together: 1 or 2.
    const PANELS_AT_ONCE: usize;

    fn load_rows(self, x: &[u8; ROWS_LEN]) -> Self::Rows;
    fn sub(self, a: Self::Rows, b: u8) -> Self::Rows;
    fn load_words(self, x: &[u8; ROWS_LEN]) -> Self::Words;
    fn store_words(self, x: Self::Words, out: &mut [u8; ROWS_LEN]);
    /// The bytes as unsigned integers: the first and third byte of each row, then the second and
    /// fourth.
    fn words(self, x: Self::Rows) -> [Self::Words; 2];
    /// The bytes as signed integers, in the same order.
    fn signed_words(self, x: Self::Rows) -> [Self::Words; 2];
    /// Words `2 i` and `2 i + 1` of a group, for all rows. `i` is below 16.
    fn pair(self, x: &WideGroup, i: usize) -> Self::Words;
    /// The sum of each row's two products, plus `c`.
    fn dot(self, a: Self::Words, b: Self::Words, c: Self::Sums) -> Self::Sums;
    /// Bytes `4 i` to `4 i + 3` of a group, for all rows. `i` is below 8.
    fn four(self, x: &NarrowGroup, i: usize) -> Self::Rows;
    /// Makes room for products of bytes, to be added to `sums`.
    fn begin_bytes(self, sums: Self::Sums) -> Self::Sums;
    /// Adds each row's four products of unsigned bytes `w` and signed bytes `x`. Pairs of adjacent
    /// products add up to at most 2^15 - 1 in magnitude, in all calls up to
    /// [`end_bytes`](Products::end_bytes).
    fn dot_bytes(self, w: Self::Rows, x: Self::Rows, products: Self::Sums) -> Self::Sums;
    /// Adds each row's four products of signed bytes to `sums`, of `w` plus
    /// [`SIGNED_BIAS`](Products::SIGNED_BIAS) and `x`. No byte `x` is -128.
    fn dot_signed_bytes(self, w: Self::Rows, x: Self::Rows, sums: Self::Sums) -> Self::Sums;
    /// Adds the products to the `sums` of [`begin_bytes`](Products::begin_bytes).
    fn end_bytes(self, products: Self::Sums, sums: Self::Sums) -> Self::Sums;
}
