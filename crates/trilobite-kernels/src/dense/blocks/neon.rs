//! aarch64: four bytes of each row are four registers, and so are 16 sums.

use super::codes::{NarrowGroup, WideGroup};
use super::simd::{Half, Integers, Products, ROWS_LEN};
use crate::simd::neon::Neon;
use crate::simd::{LANES, Simd};
use std::arch::aarch64::*;

/// Evaluates an expression for each of the four registers.
macro_rules! each {
    ($i:ident => $register:expr) => {
        each! { $i => $register; 0 1 2 3 }
    };
    ($i:ident => $register:expr; $($value:literal)*) => {
        // SAFETY: `self` proves that the processor has the instructions. Pointers come from references
        // to arrays; the four registers, together or each, cover no more than the whole array.
        unsafe {
            [$({
                const $i: usize = $value;
                $register
            }),*]
        }
    };
}
pub(in crate::dense) use each;

/// The bytes of four rows, one after another: the first byte of each row, the third, the second, and the
/// fourth. A multiplication of four adjacent words then adds to the lanes of four rows.
const ORDER: [u8; 16] = [0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15];

impl Integers for Neon {
    type Rows = [uint8x16_t; 4];
    type Sums = [int32x4_t; 4];
    type Half = [float32x4_t; 4];

    #[inline(always)]
    fn quads(self, x: &[u8], distance: usize) -> [Self::Rows; 4] {
        assert!(x.len() >= 15 * distance + 16, "sixteen rows");
        // The assertion keeps the bytes of each row inside.
        let [a, b, c, d] = each!(I => {
            let x = x.as_ptr().add(4 * I * distance);
            let (a, b) = (vld1q_u8(x), vld1q_u8(x.add(distance)));
            let (c, d) = (vld1q_u8(x.add(2 * distance)), vld1q_u8(x.add(3 * distance)));
            let (a, b) = (vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b));
            let (c, d) = (vreinterpretq_u32_u8(c), vreinterpretq_u32_u8(d));
            let even = [
                vreinterpretq_u64_u32(vtrn1q_u32(a, b)),
                vreinterpretq_u64_u32(vtrn1q_u32(c, d)),
            ];
            let odd = [
                vreinterpretq_u64_u32(vtrn2q_u32(a, b)),
                vreinterpretq_u64_u32(vtrn2q_u32(c, d)),
            ];
            [
                vreinterpretq_u8_u64(vzip1q_u64(even[0], even[1])),
                vreinterpretq_u8_u64(vzip1q_u64(odd[0], odd[1])),
                vreinterpretq_u8_u64(vzip2q_u64(even[0], even[1])),
                vreinterpretq_u8_u64(vzip2q_u64(odd[0], odd[1])),
            ]
        });
        [
            [a[0], b[0], c[0], d[0]],
            [a[1], b[1], c[1], d[1]],
            [a[2], b[2], c[2], d[2]],
            [a[3], b[3], c[3], d[3]],
        ]
    }

    #[inline(always)]
    fn store_rows(self, x: Self::Rows, out: &mut [u8; ROWS_LEN]) {
        each!(I => vst1q_u8(out.as_mut_ptr().add(16 * I), x[I]));
    }

    #[inline(always)]
    fn shift(self, x: Self::Rows, by: usize, mask: u8) -> Self::Rows {
        // A negative count shifts right.
        each!(I => vandq_u8(vshlq_u8(x[I], vdupq_n_s8(-(by as i8))), vdupq_n_u8(mask)))
    }

    #[inline(always)]
    fn times_16(self, x: Self::Rows) -> Self::Rows {
        each!(I => vshlq_n_u8::<4>(x[I]))
    }

    #[inline(always)]
    fn or(self, a: Self::Rows, b: Self::Rows) -> Self::Rows {
        each!(I => vorrq_u8(a[I], b[I]))
    }

    #[inline(always)]
    fn bits<const I: usize>(self, x: Self::Rows, value: u8) -> Self::Rows {
        each!(R => {
            // The byte of the four bits, four times.
            let places = [0_u8, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12];
            let places = vaddq_u8(vld1q_u8(places.as_ptr()), vdupq_n_u8(const { I as u8 / 2 }));
            let bits: u32 = if I.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010 };
            let set = vtstq_u8(vqtbl1q_u8(x[R], places), vreinterpretq_u8_u32(vdupq_n_u32(bits)));
            vandq_u8(set, vdupq_n_u8(value))
        })
    }

    #[inline(always)]
    fn bytes_of(self, x: Self::Rows) -> [Self::Half; 4] {
        [
            each!(I => vcvtq_f32_s32(vshrq_n_s32::<24>(vshlq_n_s32::<24>(vreinterpretq_s32_u8(x[I]))))),
            each!(I => vcvtq_f32_s32(vshrq_n_s32::<24>(vshlq_n_s32::<16>(vreinterpretq_s32_u8(x[I]))))),
            each!(I => vcvtq_f32_s32(vshrq_n_s32::<24>(vshlq_n_s32::<8>(vreinterpretq_s32_u8(x[I]))))),
            each!(I => vcvtq_f32_s32(vshrq_n_s32::<24>(vreinterpretq_s32_u8(x[I])))),
        ]
    }

    #[inline(always)]
    fn f16_pairs(self, x: Self::Rows) -> [Self::Half; 2] {
        let mut bytes = [0; ROWS_LEN];
        self.store_rows(x, &mut bytes);
        let (mut bits, mut floats) = ([0; LANES], [0.0; LANES]);
        for (i, bytes) in bytes.as_chunks().0.iter().enumerate() {
            bits[i % 2 * 16 + i / 2] = u16::from_le_bytes(*bytes);
        }
        self.store(self.load_f16(&bits), &mut floats);
        [
            each!(I => vld1q_f32(floats.as_ptr().add(4 * I))),
            each!(I => vld1q_f32(floats.as_ptr().add(16 + 4 * I))),
        ]
    }

    #[inline(always)]
    fn arrange(self, x: &mut WideGroup) {
        for words in x.0.as_chunks_mut::<4>().0 {
            words.swap(1, 2);
        }
    }

    #[inline(always)]
    fn splat_sums(self, x: i32) -> Self::Sums {
        each!(I => { let _ = I; vdupq_n_s32(x) })
    }

    #[inline(always)]
    fn add_sums(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        each!(I => vaddq_s32(a[I], b[I]))
    }

    #[inline(always)]
    fn floats(self, x: Self::Sums) -> Self::Half {
        each!(I => vcvtq_f32_s32(x[I]))
    }

    #[inline(always)]
    fn splat_half(self, x: f32) -> Self::Half {
        each!(I => { let _ = I; vdupq_n_f32(x) })
    }

    #[inline(always)]
    fn load_half(self, x: &Half) -> Self::Half {
        each!(I => vld1q_f32(x.0.as_ptr().add(4 * I)))
    }

    #[inline(always)]
    fn store_half(self, x: Self::Half, out: &mut Half) {
        each!(I => vst1q_f32(out.0.as_mut_ptr().add(4 * I), x[I]));
    }

    #[inline(always)]
    fn mul_add_half(self, a: Self::Half, b: Self::Half, c: Self::Half) -> Self::Half {
        each!(I => vfmaq_f32(c[I], a[I], b[I]))
    }

    #[inline(always)]
    fn mul_half(self, a: Self::Half, b: Self::Half) -> Self::Half {
        each!(I => vmulq_f32(a[I], b[I]))
    }

    #[inline(always)]
    fn add_half(self, a: Self::Half, b: Self::Half) -> Self::Half {
        each!(I => vaddq_f32(a[I], b[I]))
    }

    #[inline(always)]
    fn sum_half(self, [a, b, c, d]: Self::Half) -> f32 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let x = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            let x = vadd_f32(vget_low_f32(x), vget_high_f32(x));
            vget_lane_f32::<0>(x) + vget_lane_f32::<1>(x)
        }
    }
}

impl Products for Neon {
    type Words = [int16x8_t; 4];

    const TOKENS_AT_ONCE: usize = 4;
    const PANELS_AT_ONCE: usize = 1;

    #[inline(always)]
    fn load_rows(self, x: &[u8; ROWS_LEN]) -> Self::Rows {
        each!(I => vld1q_u8(x.as_ptr().add(16 * I)))
    }

    #[inline(always)]
    fn sub(self, a: Self::Rows, b: u8) -> Self::Rows {
        each!(I => vsubq_u8(a[I], vdupq_n_u8(b)))
    }

    #[inline(always)]
    fn load_words(self, x: &[u8; ROWS_LEN]) -> Self::Words {
        each!(I => vreinterpretq_s16_u8(vld1q_u8(x.as_ptr().add(16 * I))))
    }

    #[inline(always)]
    fn store_words(self, x: Self::Words, out: &mut [u8; ROWS_LEN]) {
        each!(I => vst1q_u8(out.as_mut_ptr().add(16 * I), vreinterpretq_u8_s16(x[I])));
    }

    #[inline(always)]
    fn words(self, x: Self::Rows) -> [Self::Words; 2] {
        let x = each!(I => vqtbl1q_u8(x[I], vld1q_u8(ORDER.as_ptr())));
        [
            each!(I => vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x[I])))),
            each!(I => vreinterpretq_s16_u16(vmovl_high_u8(x[I]))),
        ]
    }

    #[inline(always)]
    fn signed_words(self, x: Self::Rows) -> [Self::Words; 2] {
        let x = each!(I => vreinterpretq_s8_u8(vqtbl1q_u8(x[I], vld1q_u8(ORDER.as_ptr()))));
        [each!(I => vmovl_s8(vget_low_s8(x[I]))), each!(I => vmovl_high_s8(x[I]))]
    }

    #[inline(always)]
    fn dot(self, a: Self::Words, b: Self::Words, c: Self::Sums) -> Self::Sums {
        each!(I => {
            let c = vmlal_s16(c[I], vget_low_s16(a[I]), vget_low_s16(b[I]));
            vmlal_high_s16(c, a[I], b[I])
        })
    }

    #[inline(always)]
    fn four(self, x: &NarrowGroup, i: usize) -> Self::Rows {
        let four = u32::from_le_bytes(x.codes.as_chunks().0[i].map(|code| code as u8));
        each!(I => { let _ = I; vreinterpretq_u8_u32(vdupq_n_u32(four)) })
    }

    #[inline(always)]
    fn begin_bytes(self, sums: Self::Sums) -> Self::Sums {
        sums
    }

    #[inline(always)]
    fn dot_bytes(self, w: Self::Rows, x: Self::Rows, products: Self::Sums) -> Self::Sums {
        // Codes without a sign have at most six bits, so they are positive as signed bytes too.
        self.dot_signed_bytes(w, x, products)
    }

    #[inline(always)]
    fn dot_signed_bytes(self, w: Self::Rows, x: Self::Rows, products: Self::Sums) -> Self::Sums {
        each!(I => {
            let (w, x) = (vreinterpretq_s8_u8(w[I]), vreinterpretq_s8_u8(x[I]));
            let pairs = vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x));
            vpadalq_s16(products[I], pairs)
        })
    }

    #[inline(always)]
    fn end_bytes(self, products: Self::Sums, _: Self::Sums) -> Self::Sums {
        products
    }

    #[inline(always)]
    fn pair(self, x: &WideGroup, i: usize) -> Self::Words {
        let (a, b) = (x.0[2 * i], x.0[2 * i + 1]);
        each!(I => { let _ = I; vcombine_s16(vdup_n_s16(a), vdup_n_s16(b)) })
    }
}
