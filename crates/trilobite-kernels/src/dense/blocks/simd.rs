//! The integer operations of an instruction set, on 32 columns.

use super::codes::{GROUP, WideGroup};
use crate::simd::Simd;

/// Number of lanes of a sum of 32 columns: every lane sums two adjacent columns.
pub(crate) const LANES: usize = GROUP / 2;

/// Sixteen floats in memory, aligned for the widest registers.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Half(pub(crate) [f32; LANES]);

impl Half {
    pub(crate) const ZERO: Half = Half([0.0; LANES]);
}

/// The integer operations of an instruction set. All implementations give the same results.
pub(crate) trait Integers: Simd {
    /// Thirty-two bytes.
    type Bytes: Copy;
    /// Thirty-two i16. Their order depends on the instruction set.
    type Words: Copy;
    /// Sixteen i32. Lane `i` belongs to columns `2 i` and `2 i + 1`.
    type Sums: Copy;
    /// Sixteen floats.
    type Half: Copy;

    fn bytes(self, x: &[u8; GROUP]) -> Self::Bytes;
    /// The lower halves of the bytes, then the upper halves.
    fn split(self, x: &[u8; GROUP / 2]) -> Self::Bytes;
    /// `value` for each set bit, lowest first, and 0 for the others.
    fn bits(self, bits: u32, value: u8) -> Self::Bytes;
    /// Shifts each byte left by a constant, or right if `by` is negative, and masks it.
    fn shift(self, x: Self::Bytes, by: i32, mask: u8) -> Self::Bytes;
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    fn sub(self, a: Self::Bytes, b: u8) -> Self::Bytes;

    /// Reorders words from column order to the order of the instruction set.
    #[inline(always)]
    fn arrange(self, _: &mut WideGroup) {}
    /// Reorders words back to column order: the inverse of [`arrange`](Integers::arrange).
    #[inline(always)]
    fn restore(self, _: &mut WideGroup) {}
    fn load_words(self, x: &WideGroup) -> Self::Words;
    fn store_words(self, x: Self::Words, out: &mut WideGroup);
    /// The bytes as signed integers.
    fn words(self, x: Self::Bytes) -> Self::Words;
    /// `q - bias` for the lower halves `q` of the bytes, then for the upper halves.
    #[inline(always)]
    fn nibbles(self, x: &[u8; GROUP / 2], bias: u8) -> Self::Words {
        self.words(self.sub(self.split(x), bias))
    }
    /// The codes of `nibbles` with a fifth bit each, lowest first.
    #[inline(always)]
    fn five_bits(self, x: &[u8; GROUP / 2], bits: &[u8; 4], bias: u8) -> Self::Words {
        let bits = self.bits(u32::from_le_bytes(*bits), 16);
        self.words(self.sub(self.or(self.split(x), bits), bias))
    }
    /// The lower halves of the bytes, or the upper halves.
    #[inline(always)]
    fn half_bytes(self, x: &[u8; GROUP], upper: bool) -> Self::Words {
        self.words(self.shift(self.bytes(x), if upper { -4 } else { 0 }, 15))
    }
    /// Each word of the lower sixteen columns times `low`, of the others times `high`. The products
    /// fit.
    fn mul_words(self, x: Self::Words, low: i16, high: i16) -> Self::Words;

    fn zero_sums(self) -> Self::Sums;
    /// The sum of each lane's two products.
    fn products(self, a: Self::Words, b: Self::Words) -> Self::Sums;
    /// The sum of each lane's two products, plus `c`.
    fn dot(self, a: Self::Words, b: Self::Words, c: Self::Sums) -> Self::Sums;
    /// `a * factor + c`
    fn scale(self, a: Self::Sums, factor: &i32, c: Self::Sums) -> Self::Sums;
    /// `a * factors + c`, with one factor for the lower eight lanes and one for the others.
    fn scale_halves(self, a: Self::Sums, factors: &[i32; 2], c: Self::Sums) -> Self::Sums;
    fn floats(self, x: Self::Sums) -> Self::Half;

    fn splat_half(self, x: f32) -> Self::Half;
    fn load_half(self, x: &Half) -> Self::Half;
    fn store_half(self, x: Self::Half, out: &mut Half);
    /// `a * b + c`, rounded once.
    fn mul_add_half(self, a: Self::Half, b: Self::Half, c: Self::Half) -> Self::Half;
    /// `a * b + c`, rounded once, in the lower eight lanes, and `c` in the others.
    fn mul_add_lower(self, a: &[f32; 8], b: &[f32; 8], c: Self::Half) -> Self::Half;
    /// The pairwise sum of the lanes.
    fn sum_half(self, x: Self::Half) -> f32;

    /// Converts two f16.
    fn f16x2(self, bytes: &[u8; 4]) -> [f32; 2];
    /// Converts two f16 at each of eight places. Returns all the first ones, and all the second
    /// ones.
    fn f16x16(self, bytes: [&[u8; 4]; 8]) -> [[f32; 8]; 2];
    /// Converts unsigned bytes to integers.
    fn widen_bytes(self, x: &[u8; 16]) -> [i32; 16];
}

/// Implements the operations on bytes in plain Rust, for a type whose `Bytes` are an array.
macro_rules! plain_bytes {
    ($inline:ident) => {
        #[inline($inline)]
        fn bytes(self, x: &[u8; GROUP]) -> Self::Bytes {
            *x
        }

        #[inline($inline)]
        fn split(self, x: &[u8; GROUP / 2]) -> Self::Bytes {
            let mut out = [0; GROUP];
            for (i, byte) in x.iter().enumerate() {
                (out[i], out[i + GROUP / 2]) = (byte & 15, byte >> 4);
            }
            out
        }

        #[inline($inline)]
        fn bits(self, bits: u32, value: u8) -> Self::Bytes {
            let mut out = [0; GROUP];
            for (i, out) in out.iter_mut().enumerate() {
                *out = (bits >> i & 1) as u8 * value;
            }
            out
        }

        #[inline($inline)]
        fn shift(self, x: Self::Bytes, by: i32, mask: u8) -> Self::Bytes {
            x.map(|x| if by < 0 { x >> -by & mask } else { x << by & mask })
        }

        #[inline($inline)]
        fn or(self, mut a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
            for i in 0..GROUP {
                a[i] |= b[i];
            }
            a
        }

        #[inline($inline)]
        fn sub(self, a: Self::Bytes, b: u8) -> Self::Bytes {
            a.map(|a| a.wrapping_sub(b))
        }

        #[inline($inline)]
        fn widen_bytes(self, x: &[u8; 16]) -> [i32; 16] {
            x.map(i32::from)
        }
    };
}
pub(super) use plain_bytes;
