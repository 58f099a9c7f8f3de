//! aarch64: 32 words are four registers, and so are 16 sums.

use super::codes::{GROUP, GROUPS, WideGroup};
use super::simd::{Half, Integers, plain_bytes};
use crate::simd::neon::Neon;
use crate::simd::{LANES, Simd, pad};
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

/// The order of eight columns: first one column of each lane of four, then the other, so that a
/// multiplication of four adjacent columns adds to the four lanes.
const ORDER: [u8; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

impl Integers for Neon {
    type Bytes = [u8; GROUP];
    type Words = [int16x8_t; 4];
    type Sums = [int32x4_t; 4];
    type Half = [float32x4_t; 4];
    type Four = [int32x4_t; 2];
    type Eight = [float32x4_t; 2];

    const FEW_TOKENS: usize = 4;
    const TOKENS_AT_ONCE: usize = 4;
    const PANELS_AT_ONCE: usize = 1;

    plain_bytes!(always);

    #[inline(always)]
    fn arrange(self, x: &mut WideGroup) {
        let columns = x.0;
        for (i, word) in x.0.iter_mut().enumerate() {
            *word = columns[i / 8 * 8 + usize::from(ORDER[i % 8])];
        }
    }

    #[inline(always)]
    fn restore(self, x: &mut WideGroup) {
        let words = x.0;
        for (i, word) in words.into_iter().enumerate() {
            x.0[i / 8 * 8 + usize::from(ORDER[i % 8])] = word;
        }
    }

    #[inline(always)]
    fn load_words(self, x: &WideGroup) -> Self::Words {
        each!(I => vld1q_s16(x.0.as_ptr().add(8 * I)))
    }

    #[inline(always)]
    fn store_words(self, x: Self::Words, out: &mut WideGroup) {
        each!(I => vst1q_s16(out.0.as_mut_ptr().add(8 * I), x[I]));
    }

    #[inline(always)]
    fn words(self, x: Self::Bytes) -> Self::Words {
        each!(I => {
            let order = vld1_u8(ORDER.as_ptr());
            vmovl_s8(vreinterpret_s8_u8(vtbl1_u8(vld1_u8(x.as_ptr().add(8 * I)), order)))
        })
    }

    #[inline(always)]
    fn zero_sums(self) -> Self::Sums {
        each!(I => { let _ = I; vdupq_n_s32(0) })
    }

    #[inline(always)]
    fn products(self, a: Self::Words, b: Self::Words) -> Self::Sums {
        each!(I => {
            let c = vmull_s16(vget_low_s16(a[I]), vget_low_s16(b[I]));
            vmlal_high_s16(c, a[I], b[I])
        })
    }

    #[inline(always)]
    fn dot(self, a: Self::Words, b: Self::Words, c: Self::Sums) -> Self::Sums {
        each!(I => {
            let c = vmlal_s16(c[I], vget_low_s16(a[I]), vget_low_s16(b[I]));
            vmlal_high_s16(c, a[I], b[I])
        })
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
    fn pair(self, x: &WideGroup, i: usize) -> Self::Words {
        // The places of both columns: see `ORDER`.
        let first = i / 4 * 8 + i % 4;
        let (a, b) = (x.0[first], x.0[first + 4]);
        each!(I => { let _ = I; vcombine_s16(vdup_n_s16(a), vdup_n_s16(b)) })
    }

    #[inline(always)]
    fn sum_four<const HALVES: bool>(self, x: [Self::Sums; 4]) -> Self::Four {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let four =
                |[a, b, c, d]: [int32x4_t; 4]| vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
            let [lower, upper] = [0, 2].map(|at| x.map(|x| vaddq_s32(x[at], x[at + 1])));
            if HALVES {
                [four(lower), four(upper)]
            } else {
                let mut sums = lower;
                for (sum, upper) in sums.iter_mut().zip(upper) {
                    *sum = vaddq_s32(*sum, upper);
                }
                [four(sums), vdupq_n_s32(0)]
            }
        }
    }

    #[inline(always)]
    fn eight(self, [[a, _], [b, _]]: [Self::Four; 2]) -> Self::Eight {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { [vcvtq_f32_s32(a), vcvtq_f32_s32(b)] }
    }

    #[inline(always)]
    fn eight_halves(self, [a, b]: [Self::Four; 2]) -> [Self::Eight; 2] {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { [0, 1].map(|half| [vcvtq_f32_s32(a[half]), vcvtq_f32_s32(b[half])]) }
    }

    #[inline(always)]
    fn splat_eight(self, x: f32) -> Self::Eight {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { [vdupq_n_f32(x); 2] }
    }

    #[inline(always)]
    fn load_eight(self, x: &[f32; GROUPS]) -> Self::Eight {
        // SAFETY: `self` proves that the processor has the instructions; there are eight floats.
        unsafe { [vld1q_f32(x.as_ptr()), vld1q_f32(x.as_ptr().add(4))] }
    }

    #[inline(always)]
    fn mul_eight(self, a: Self::Eight, b: Self::Eight) -> Self::Eight {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul_add_eight(self, a: Self::Eight, b: Self::Eight, c: Self::Eight) -> Self::Eight {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])] }
    }

    #[inline(always)]
    fn keep_eight(self, mut x: Self::Eight, n: usize) -> Self::Eight {
        for (i, x) in x.iter_mut().enumerate() {
            // SAFETY: `self` proves that the processor has the instructions; there are four integers.
            unsafe {
                let lanes = [0, 1, 2, 3].map(|lane| 4 * i as u32 + lane);
                let kept = vcltq_u32(vld1q_u32(lanes.as_ptr()), vdupq_n_u32(n as u32));
                *x = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(*x), kept));
            }
        }
        x
    }

    #[inline(always)]
    fn sum_eight(self, [a, b]: Self::Eight) -> f32 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let x = vaddq_f32(a, b);
            let x = vadd_f32(vget_low_f32(x), vget_high_f32(x));
            vget_lane_f32::<0>(x) + vget_lane_f32::<1>(x)
        }
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

    #[inline(always)]
    fn f16x2(self, &[a, b, c, d]: &[u8; 4]) -> [f32; 2] {
        let [x, y, ..] = self.f16(&[[a, b], [c, d]].map(u16::from_le_bytes));
        [x, y]
    }

    #[inline(always)]
    fn f16x16(self, bytes: [&[u8; 4]; 8]) -> [[f32; 8]; 2] {
        [0, 2]
            .map(|at| self.f16(&bytes.map(|bytes| u16::from_le_bytes([bytes[at], bytes[at + 1]]))))
    }
}

impl Neon {
    /// Converts up to eight f16.
    #[inline(always)]
    fn f16(self, bits: &[u16]) -> [f32; 8] {
        let mut out = [0.0; LANES];
        self.store(self.load_f16(&pad(bits)), &mut out);
        let [a, b, c, d, e, f, g, h, ..] = out;
        [a, b, c, d, e, f, g, h]
    }
}
