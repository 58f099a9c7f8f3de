//! x86-64 with AVX-512 and VNNI: 32 words are a register, and so are 16 sums.

use super::avx2::{pairs, x86_bytes};
use super::codes::{GROUP, GROUPS, WideGroup};
use super::simd::{Half, Integers, LANES};
use crate::simd::avx512::Avx512;
use std::arch::x86_64::*;

impl Integers for Avx512 {
    type Words = __m512i;
    type Sums = __m512i;
    type Half = __m512;
    type Four = __m512i;

    const FEW_TOKENS: usize = 4;
    const TOKENS_AT_ONCE: usize = 8;
    const PANELS_AT_ONCE: usize = 2;

    x86_bytes!();

    #[inline(always)]
    fn load_words(self, x: &WideGroup) -> Self::Words {
        // SAFETY: `self` proves that the processor has the instructions; a group is aligned.
        unsafe { _mm512_load_si512(x.0.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_words(self, x: Self::Words, out: &mut WideGroup) {
        // SAFETY: `self` proves that the processor has the instructions; a group is aligned.
        unsafe { _mm512_store_si512(out.0.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    fn words(self, x: Self::Bytes) -> Self::Words {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_cvtepi8_epi16(x) }
    }

    #[inline(always)]
    fn nibbles(self, x: &[u8; GROUP / 2], bias: u8) -> Self::Words {
        // SAFETY: `self` proves that the processor has the instructions; there are 16 bytes.
        unsafe {
            let x = self.spread(_mm512_broadcast_i32x4(_mm_loadu_si128(x.as_ptr().cast())));
            let counts = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(4));
            let x = _mm512_and_si512(_mm512_srlv_epi16(x, counts), _mm512_set1_epi16(15));
            _mm512_sub_epi16(x, _mm512_set1_epi16(i16::from(bias)))
        }
    }

    #[inline(always)]
    fn five_bits(self, x: &[u8; GROUP / 2], bits: &[u8; 4], bias: u8) -> Self::Words {
        let codes = self.nibbles(x, bias);
        let bits = u32::from_le_bytes(*bits);
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_mask_add_epi16(codes, bits, codes, _mm512_set1_epi16(16)) }
    }

    #[inline(always)]
    fn half_bytes(self, x: &[u8; GROUP], upper: bool) -> Self::Words {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let x = _mm512_castsi256_si512(self.bytes(x));
            let x = self.spread(_mm512_shuffle_i32x4::<0b01_01_00_00>(x, x));
            if upper {
                _mm512_srli_epi16::<4>(x)
            } else {
                _mm512_and_si512(x, _mm512_set1_epi16(15))
            }
        }
    }

    #[inline(always)]
    fn zero_sums(self) -> Self::Sums {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn products(self, a: Self::Words, b: Self::Words) -> Self::Sums {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_madd_epi16(a, b) }
    }

    #[inline(always)]
    fn dot(self, a: Self::Words, b: Self::Words, c: Self::Sums) -> Self::Sums {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_dpwssd_epi32(c, a, b) }
    }

    #[inline(always)]
    fn floats(self, x: Self::Sums) -> Self::Half {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn splat_half(self, x: f32) -> Self::Half {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load_half(self, x: &Half) -> Self::Half {
        // SAFETY: `self` proves that the processor has the instructions; a half is aligned.
        unsafe { _mm512_load_ps(x.0.as_ptr()) }
    }

    #[inline(always)]
    fn store_half(self, x: Self::Half, out: &mut Half) {
        // SAFETY: `self` proves that the processor has the instructions; a half is aligned.
        unsafe { _mm512_store_ps(out.0.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn mul_add_half(self, a: Self::Half, b: Self::Half, c: Self::Half) -> Self::Half {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn pair(self, x: &WideGroup, i: usize) -> Self::Words {
        let pair = i32::from(x.0[2 * i] as u16) | i32::from(x.0[2 * i + 1]) << 16;
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_set1_epi32(pair) }
    }

    #[inline(always)]
    fn sum_four<const HALVES: bool>(self, [a, b, c, d]: [Self::Sums; 4]) -> Self::Four {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            // The sums of quarters, each of four lanes.
            let pair =
                |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (a, b) = (pair(a, b), pair(c, d));
            _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
        }
    }

    #[inline(always)]
    fn eight(self, x: [Self::Four; 2]) -> Self::Eight {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let halves = self.halves(x);
            let upper = _mm512_extracti64x4_epi64::<1>(halves);
            _mm256_cvtepi32_ps(_mm256_add_epi32(_mm512_castsi512_si256(halves), upper))
        }
    }

    #[inline(always)]
    fn eight_halves(self, x: [Self::Four; 2]) -> [Self::Eight; 2] {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let halves = _mm512_cvtepi32_ps(self.halves(x));
            let upper = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(halves));
            [_mm512_castps512_ps256(halves), _mm256_castpd_ps(upper)]
        }
    }

    #[inline(always)]
    fn transpose(self, x: &mut [WideGroup; LANES]) {
        let mut rows = [self.zero_sums(); LANES];
        for (row, x) in rows.iter_mut().zip(&*x) {
            *row = self.load_words(x);
        }
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            // Single pairs, then two, within quarters; then quarters, then halves.
            let mut next = rows;
            for i in (0..LANES).step_by(2) {
                next[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
                next[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
            }
            for i in (0..LANES).step_by(4) {
                rows[i] = _mm512_unpacklo_epi64(next[i], next[i + 2]);
                rows[i + 1] = _mm512_unpackhi_epi64(next[i], next[i + 2]);
                rows[i + 2] = _mm512_unpacklo_epi64(next[i + 1], next[i + 3]);
                rows[i + 3] = _mm512_unpackhi_epi64(next[i + 1], next[i + 3]);
            }
            for i in [0, 1, 2, 3, 8, 9, 10, 11] {
                next[i] = _mm512_shuffle_i32x4::<0b10_00_10_00>(rows[i], rows[i + 4]);
                next[i + 4] = _mm512_shuffle_i32x4::<0b11_01_11_01>(rows[i], rows[i + 4]);
            }
            for i in 0..8 {
                rows[i] = _mm512_shuffle_i32x4::<0b10_00_10_00>(next[i], next[i + 8]);
                rows[i + 8] = _mm512_shuffle_i32x4::<0b11_01_11_01>(next[i], next[i + 8]);
            }
        }
        for (x, row) in x.iter_mut().zip(rows) {
            self.store_words(row, x);
        }
    }

    #[inline(always)]
    fn mul_half(self, a: Self::Half, b: Self::Half) -> Self::Half {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn add_half(self, a: Self::Half, b: Self::Half) -> Self::Half {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sum_half(self, x: Self::Half) -> f32 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x)));
            let x = _mm256_add_ps(_mm512_castps512_ps256(x), high);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    fn widen_bytes(self, x: &[u8; 16]) -> [i32; 16] {
        let mut out = [0; 16];
        // SAFETY: `self` proves that the processor has the instructions; there are sixteen bytes and
        // as many integers.
        unsafe {
            let x = _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), x);
        }
        out
    }
}

impl Avx512 {
    /// The sums of the lower halves of eight groups, then those of the upper halves.
    #[inline(always)]
    fn halves(self, [a, b]: [__m512i; 2]) -> __m512i {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let first = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
            let second = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
            let sums = _mm512_add_epi32(first, second);
            _mm512_shuffle_i32x4::<0b11_01_10_00>(sums, sums)
        }
    }

    /// Widens unsigned bytes of the first (or last) eight places of each quarter to words, by a
    /// shuffle. The compiler would move conversions behind the shifts, and two shifted forms could
    /// not share one.
    #[inline(always)]
    fn spread(self, x: __m512i) -> __m512i {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            // The source of words: a byte and a zero.
            let (a, b) = (pairs([0, 1, 2, 3]), pairs([4, 5, 6, 7]));
            let (c, d) = (pairs([8, 9, 10, 11]), pairs([12, 13, 14, 15]));
            _mm512_shuffle_epi8(x, _mm512_setr_epi64(a, b, c, d, a, b, c, d))
        }
    }
}
