//! The integer operations of an instruction set, on 32 columns.

use super::codes::{GROUP, GROUPS, WideGroup};
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
    /// Partial sums of four groups.
    type Four: Copy;
    /// Eight floats, one for each group of a chunk.
    type Eight: Copy;

    /// The largest number of tokens for which it is faster to use weights as they are stored than to
    /// widen and transpose them first.
    const FEW_TOKENS: usize;
    /// Number of tokens that a product of more multiplies together, up to 8.
    const TOKENS_AT_ONCE: usize;
    /// Number of panels that it multiplies together: 1 or 2.
    const PANELS_AT_ONCE: usize;

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
    fn zero_sums(self) -> Self::Sums;
    /// The sum of each lane's two products.
    fn products(self, a: Self::Words, b: Self::Words) -> Self::Sums;
    /// The sum of each lane's two products, plus `c`.
    fn dot(self, a: Self::Words, b: Self::Words, c: Self::Sums) -> Self::Sums;
    fn floats(self, x: Self::Sums) -> Self::Half;

    /// Words `2 i` and `2 i + 1` of a group in column order, in all lanes. `i` is below 16.
    fn pair(self, x: &WideGroup, i: usize) -> Self::Words;
    /// Transposes pairs of words: pair `i` of group `j` becomes pair `j` of group `i`.
    #[inline(always)]
    fn transpose(self, x: &mut [WideGroup; LANES]) {
        for i in 0..LANES {
            for j in 0..i {
                for word in 0..2 {
                    let (a, b) = (x[i].0[2 * j + word], x[j].0[2 * i + word]);
                    (x[i].0[2 * j + word], x[j].0[2 * i + word]) = (b, a);
                }
            }
        }
    }

    /// The sums of the lanes of four groups, of each half of the lanes if `HALVES`.
    fn sum_four<const HALVES: bool>(self, x: [Self::Sums; 4]) -> Self::Four;
    /// The sums of eight groups, from two parts without halves.
    fn eight(self, x: [Self::Four; 2]) -> Self::Eight;
    /// The sums of the lower and the upper halves of eight groups, from two parts with halves.
    fn eight_halves(self, x: [Self::Four; 2]) -> [Self::Eight; 2];
    fn splat_eight(self, x: f32) -> Self::Eight;
    fn load_eight(self, x: &[f32; GROUPS]) -> Self::Eight;
    fn mul_eight(self, a: Self::Eight, b: Self::Eight) -> Self::Eight;
    /// `a * b + c`, rounded once.
    fn mul_add_eight(self, a: Self::Eight, b: Self::Eight, c: Self::Eight) -> Self::Eight;
    /// The first `n` lanes, and zeros in the others. `n` is at most 8.
    fn keep_eight(self, x: Self::Eight, n: usize) -> Self::Eight;
    /// The pairwise sum.
    fn sum_eight(self, x: Self::Eight) -> f32;

    fn splat_half(self, x: f32) -> Self::Half;
    fn load_half(self, x: &Half) -> Self::Half;
    fn store_half(self, x: Self::Half, out: &mut Half);
    /// `a * b + c`, rounded once.
    fn mul_add_half(self, a: Self::Half, b: Self::Half, c: Self::Half) -> Self::Half;
    fn mul_half(self, a: Self::Half, b: Self::Half) -> Self::Half;
    fn add_half(self, a: Self::Half, b: Self::Half) -> Self::Half;
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
