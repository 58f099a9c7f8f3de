//! aarch64: a plane is four registers, and so are 16 sums.

use super::codes::{LANES, PLANE_LEN, PLANES};
use super::simd::{BytePlanes, Places};
use crate::dense::blocks::neon::each;
use crate::simd::neon::Neon;
use crate::simd::{Simd, pad};
use std::arch::aarch64::*;

impl BytePlanes for Neon {
    type Plane = [uint8x16_t; 4];

    #[inline(always)]
    fn store_plane(self, x: Self::Plane, out: &mut [u8; PLANE_LEN]) {
        each!(I => vst1q_u8(out.as_mut_ptr().add(16 * I), x[I]));
    }

    #[inline(always)]
    fn halves(self, x: [&[u8; 32]; 2]) -> Self::Plane {
        each!(I => vld1q_u8(x[I / 2].as_ptr().add(I % 2 * 16)))
    }

    #[inline(always)]
    fn quarters(self, x: [&[u8; 16]; 4]) -> Self::Plane {
        each!(I => vld1q_u8(x[I].as_ptr()))
    }

    #[inline(always)]
    fn nibbles_to_bytes(self, x: [&[u8; 16]; 2]) -> Self::Plane {
        each!(I => {
            let x = vld1q_u8(x[I / 2].as_ptr());
            let upper = vshrq_n_u8::<4>(x);
            if I % 2 == 0 { vzip1q_u8(x, upper) } else { vzip2q_u8(x, upper) }
        })
    }

    #[inline(always)]
    fn trits(self, x: [&[u8; 16]; 4], places: &Places) -> Self::Plane {
        let Places { bytes, powers } = places;
        each!(I => {
            let x = vqtbl1q_u8(vld1q_u8(x[I].as_ptr()), vld1q_u8(bytes[I].as_ptr()));
            let x = vmulq_u8(x, vld1q_u8(powers[I].as_ptr()));
            // The trit of a fraction is the number of thirds that it reaches.
            let trits = vaddq_u8(vcgeq_u8(x, vdupq_n_u8(86)), vcgeq_u8(x, vdupq_n_u8(171)));
            vsubq_u8(vdupq_n_u8(0), trits)
        })
    }

    #[inline(always)]
    fn pairs_of_bits(self, x: Self::Plane) -> [Self::Plane; PLANES] {
        let mask = each!(I => { let _ = I; vdupq_n_u8(3) });
        [
            each!(I => vandq_u8(x[I], mask[I])),
            each!(I => vandq_u8(vshrq_n_u8::<2>(x[I]), mask[I])),
            each!(I => vandq_u8(vshrq_n_u8::<4>(x[I]), mask[I])),
            each!(I => vshrq_n_u8::<6>(x[I])),
        ]
    }

    #[inline(always)]
    fn doubled_bits(self, x: Self::Plane) -> [Self::Plane; PLANES] {
        let mask = each!(I => { let _ = I; vdupq_n_u8(2) });
        [
            each!(I => vandq_u8(vshlq_n_u8::<1>(x[I]), mask[I])),
            each!(I => vandq_u8(x[I], mask[I])),
            each!(I => vandq_u8(vshrq_n_u8::<1>(x[I]), mask[I])),
            each!(I => vandq_u8(vshrq_n_u8::<2>(x[I]), mask[I])),
        ]
    }

    #[inline(always)]
    fn dot_planes(
        self,
        w: &[Self::Plane; PLANES],
        x: &[[i8; PLANE_LEN]; PLANES],
        c: Self::Sums,
    ) -> Self::Sums {
        each!(I => {
            // The sum of four products of at most 3 * 128 fits in a word.
            let (mut first, mut second) = (vdupq_n_s16(0), vdupq_n_s16(0));
            for (w, x) in w.iter().zip(x) {
                let (w, x) = (vreinterpretq_s8_u8(w[I]), vld1q_s8(x.as_ptr().add(16 * I)));
                first = vmlal_s8(first, vget_low_s8(w), vget_low_s8(x));
                second = vmlal_high_s8(second, w, x);
            }
            // A sum of four adjacent bytes.
            vaddq_s32(c[I], vpaddlq_s16(vpaddq_s16(first, second)))
        })
    }

    #[inline(always)]
    fn load_sums(self, x: &[i32; LANES]) -> Self::Sums {
        each!(I => vld1q_s32(x.as_ptr().add(4 * I)))
    }

    #[inline(always)]
    fn store_sums(self, x: Self::Sums, out: &mut [i32; LANES]) {
        each!(I => vst1q_s32(out.as_mut_ptr().add(4 * I), x[I]));
    }

    #[inline(always)]
    fn whole(self, x: Self::Rows) -> Self::Sums {
        each!(I => vreinterpretq_s32_u8(x[I]))
    }

    #[inline(always)]
    fn sub_sums(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        each!(I => vsubq_s32(a[I], b[I]))
    }

    #[inline(always)]
    fn join(self, high: Self::Sums, low: Self::Sums) -> Self::Sums {
        each!(I => vaddq_s32(vshlq_n_s32::<8>(high[I]), low[I]))
    }

    #[inline(always)]
    fn steps(self, x: [u16; 4]) -> Self::Half {
        let mut steps = [0.0; crate::simd::LANES];
        self.store(self.load_f16(&pad(&x)), &mut steps);
        each!(I => vdupq_n_f32(steps[I]))
    }
}
