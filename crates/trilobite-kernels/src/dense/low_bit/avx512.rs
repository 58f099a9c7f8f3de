//! x86-64 with AVX-512 and VNNI: a plane is a register, and so are 16 sums.

use super::avx2::four_times;
use super::codes::{LANES, PLANE_LEN, PLANES};
use super::simd::{BytePlanes, Places};
use crate::dense::types::DenseType;
use crate::simd::avx512::Avx512;
use std::arch::x86_64::*;

impl BytePlanes for Avx512 {
    type Plane = __m512i;

    const TOKENS: usize = 4;

    #[inline(always)]
    fn least_look_up(_: DenseType) -> Option<usize> {
        Some(10)
    }

    #[inline(always)]
    fn store_plane(self, x: Self::Plane, out: &mut [u8; PLANE_LEN]) {
        // SAFETY: `self` proves that the processor has the instructions; there are 64 bytes.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    fn halves(self, [a, b]: [&[u8; 32]; 2]) -> Self::Plane {
        // SAFETY: `self` proves that the processor has the instructions; there are 32 bytes each.
        unsafe {
            let a = _mm512_castsi256_si512(_mm256_loadu_si256(a.as_ptr().cast()));
            _mm512_inserti64x4::<1>(a, _mm256_loadu_si256(b.as_ptr().cast()))
        }
    }

    #[inline(always)]
    fn quarters(self, [a, b, c, d]: [&[u8; 16]; 4]) -> Self::Plane {
        // SAFETY: `self` proves that the processor has the instructions; there are 16 bytes each.
        unsafe {
            let a = _mm512_castsi128_si512(_mm_loadu_si128(a.as_ptr().cast()));
            let a = _mm512_inserti32x4::<1>(a, _mm_loadu_si128(b.as_ptr().cast()));
            let a = _mm512_inserti32x4::<2>(a, _mm_loadu_si128(c.as_ptr().cast()));
            _mm512_inserti32x4::<3>(a, _mm_loadu_si128(d.as_ptr().cast()))
        }
    }

    #[inline(always)]
    fn nibbles_to_bytes(self, [a, b]: [&[u8; 16]; 2]) -> Self::Plane {
        // SAFETY: `self` proves that the processor has the instructions; there are 16 bytes each.
        unsafe {
            let (a, b) = (_mm_loadu_si128(a.as_ptr().cast()), _mm_loadu_si128(b.as_ptr().cast()));
            let x = _mm512_cvtepu8_epi16(_mm256_set_m128i(b, a));
            _mm512_or_si512(x, _mm512_slli_epi16::<4>(x))
        }
    }

    #[inline(always)]
    fn trits(self, x: [&[u8; 16]; 4], places: &Places) -> Self::Plane {
        let Places { bytes, powers } = places;
        let x = self.quarters(x);
        // SAFETY: `self` proves that the processor has the instructions; there are 64 bytes.
        unsafe {
            let x = _mm512_shuffle_epi8(x, _mm512_loadu_si512(bytes.as_ptr().cast()));
            let powers = _mm512_loadu_si512(powers.as_ptr().cast());
            // Products of words are right in their lower bytes.
            let low = _mm512_set1_epi16(0xff);
            let even = _mm512_and_si512(_mm512_mullo_epi16(x, powers), low);
            let upper = _mm512_srli_epi16::<8>(powers);
            let odd = _mm512_mullo_epi16(_mm512_andnot_si512(low, x), upper);
            let x = _mm512_or_si512(even, odd);
            // The trit of a fraction is the number of thirds that it reaches.
            let one = _mm512_set1_epi8(1);
            let first = _mm512_cmpge_epu8_mask(x, _mm512_set1_epi8(86));
            let second = _mm512_cmpge_epu8_mask(x, _mm512_set1_epi8(171_u8 as i8));
            let trits = _mm512_maskz_mov_epi8(first, one);
            _mm512_mask_add_epi8(trits, second, trits, one)
        }
    }

    #[inline(always)]
    fn pairs_of_bits(self, x: Self::Plane) -> [Self::Plane; PLANES] {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let mask = _mm512_set1_epi8(3);
            [
                _mm512_and_si512(x, mask),
                _mm512_and_si512(_mm512_srli_epi16::<2>(x), mask),
                _mm512_and_si512(_mm512_srli_epi16::<4>(x), mask),
                _mm512_and_si512(_mm512_srli_epi16::<6>(x), mask),
            ]
        }
    }

    #[inline(always)]
    fn doubled_bits(self, x: Self::Plane) -> [Self::Plane; PLANES] {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let mask = _mm512_set1_epi8(2);
            [
                _mm512_and_si512(_mm512_slli_epi16::<1>(x), mask),
                _mm512_and_si512(x, mask),
                _mm512_and_si512(_mm512_srli_epi16::<1>(x), mask),
                _mm512_and_si512(_mm512_srli_epi16::<2>(x), mask),
            ]
        }
    }

    #[inline(always)]
    fn dot_planes(
        self,
        w: &[Self::Plane; PLANES],
        x: &[[i8; PLANE_LEN]; PLANES],
        mut c: Self::Sums,
    ) -> Self::Sums {
        for (w, x) in w.iter().zip(x) {
            // SAFETY: `self` proves that the processor has the instructions; there are 64 bytes.
            c = unsafe { _mm512_dpbusd_epi32(c, *w, _mm512_loadu_si512(x.as_ptr().cast())) };
        }
        c
    }

    #[inline(always)]
    fn load_sums(self, x: &[i32; LANES]) -> Self::Sums {
        // SAFETY: `self` proves that the processor has the instructions; there are 16 integers.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_sums(self, x: Self::Sums, out: &mut [i32; LANES]) {
        // SAFETY: `self` proves that the processor has the instructions; there are 16 integers.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    fn whole(self, x: Self::Rows) -> Self::Sums {
        x
    }

    #[inline(always)]
    fn sub_sums(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_sub_epi32(a, b) }
    }

    #[inline(always)]
    fn join(self, high: Self::Sums, low: Self::Sums) -> Self::Sums {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low) }
    }

    #[inline(always)]
    fn steps(self, x: [u16; 4]) -> Self::Half {
        let [a, b, c, d] = x;
        let (a, b, c, d) = (four_times(a), four_times(b), four_times(c), four_times(d));
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_cvtph_ps(_mm256_set_epi64x(d, c, b, a)) }
    }
}
