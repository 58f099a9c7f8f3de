//! x86-64 with AVX-512 and VNNI: four bytes of each row are a register, and so are 16 sums.

use super::avx2::{x86_four, x86_pair};
use super::codes::{NarrowGroup, WideGroup};
use super::simd::{Half, Integers, Products, ROWS_LEN};
use crate::simd::avx512::Avx512;
use std::arch::x86_64::*;

impl Integers for Avx512 {
    type Rows = __m512i;
    type Sums = __m512i;
    type Half = __m512;

    #[inline(always)]
    fn quads(self, x: &[u8], distance: usize) -> [Self::Rows; 4] {
        assert!(x.len() >= 15 * distance + 16, "sixteen rows");
        // SAFETY: `self` proves that the processor has the instructions, and the assertion keeps the
        // bytes of each row inside.
        unsafe {
            let (a, b) = (four_rows(x.as_ptr(), distance, 0), four_rows(x.as_ptr(), distance, 1));
            let (c, d) = (four_rows(x.as_ptr(), distance, 2), four_rows(x.as_ptr(), distance, 3));
            let (lower, upper) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (first, second) =
                (_mm512_unpacklo_epi64(lower, upper), _mm512_unpackhi_epi64(lower, upper));
            let (lower, upper) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            let (third, fourth) =
                (_mm512_unpacklo_epi64(lower, upper), _mm512_unpackhi_epi64(lower, upper));
            [first, second, third, fourth]
        }
    }

    #[inline(always)]
    fn store_rows(self, x: Self::Rows, out: &mut [u8; ROWS_LEN]) {
        // SAFETY: `self` proves that the processor has the instructions; there are 64 bytes.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    fn shift(self, x: Self::Rows, by: usize, mask: u8) -> Self::Rows {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let x = _mm512_srl_epi16(x, _mm_cvtsi64_si128(by as i64));
            _mm512_and_si512(x, _mm512_set1_epi8(mask as i8))
        }
    }

    #[inline(always)]
    fn times_16(self, x: Self::Rows) -> Self::Rows {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_slli_epi16::<4>(x) }
    }

    #[inline(always)]
    fn or(self, a: Self::Rows, b: Self::Rows) -> Self::Rows {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn bits<const I: usize>(self, x: Self::Rows, value: u8) -> Self::Rows {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            // The byte of the four bits, four times.
            let places = _mm512_set4_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0);
            let byte = _mm512_set1_epi8(const { I as i8 / 2 });
            let x = _mm512_shuffle_epi8(x, _mm512_or_si512(places, byte));
            let bits = _mm512_set1_epi32(if I.is_multiple_of(2) {
                0x0804_0201
            } else {
                0x8040_2010_u32 as i32
            });
            _mm512_maskz_set1_epi8(_mm512_test_epi8_mask(x, bits), value as i8)
        }
    }

    #[inline(always)]
    fn bytes_of(self, x: Self::Rows) -> [Self::Half; 4] {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            [
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(x))),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(_mm512_slli_epi32::<16>(x))),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(_mm512_slli_epi32::<8>(x))),
                _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(x)),
            ]
        }
    }

    #[inline(always)]
    fn f16_pairs(self, x: Self::Rows) -> [Self::Half; 2] {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let [first, second] = [x, _mm512_srli_epi32::<16>(x)];
            [
                _mm512_cvtph_ps(_mm512_cvtepi32_epi16(first)),
                _mm512_cvtph_ps(_mm512_cvtepi32_epi16(second)),
            ]
        }
    }

    #[inline(always)]
    fn arrange(self, x: &mut WideGroup) {
        // SAFETY: `self` proves that the processor has the instructions; a group is aligned.
        unsafe {
            let words = _mm512_load_si512(x.0.as_ptr().cast());
            let words = _mm512_shufflelo_epi16::<0b11_01_10_00>(words);
            let words = _mm512_shufflehi_epi16::<0b11_01_10_00>(words);
            _mm512_store_si512(x.0.as_mut_ptr().cast(), words);
        }
    }

    #[inline(always)]
    fn splat_sums(self, x: i32) -> Self::Sums {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    fn add_sums(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_add_epi32(a, b) }
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
}

impl Products for Avx512 {
    type Words = __m512i;

    const TOKENS_AT_ONCE: usize = 8;
    const PANELS_AT_ONCE: usize = 2;
    const SIGNED_BIAS: i32 = 128;

    #[inline(always)]
    fn load_rows(self, x: &[u8; ROWS_LEN]) -> Self::Rows {
        // SAFETY: `self` proves that the processor has the instructions; there are 64 bytes.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn sub(self, a: Self::Rows, b: u8) -> Self::Rows {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_sub_epi8(a, _mm512_set1_epi8(b as i8)) }
    }

    #[inline(always)]
    fn load_words(self, x: &[u8; ROWS_LEN]) -> Self::Words {
        self.load_rows(x)
    }

    #[inline(always)]
    fn store_words(self, x: Self::Words, out: &mut [u8; ROWS_LEN]) {
        self.store_rows(x, out);
    }

    #[inline(always)]
    fn words(self, x: Self::Rows) -> [Self::Words; 2] {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { [_mm512_and_si512(x, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(x)] }
    }

    #[inline(always)]
    fn signed_words(self, x: Self::Rows) -> [Self::Words; 2] {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { [_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x)), _mm512_srai_epi16::<8>(x)] }
    }

    #[inline(always)]
    fn dot(self, a: Self::Words, b: Self::Words, c: Self::Sums) -> Self::Sums {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_dpwssd_epi32(c, a, b) }
    }

    #[inline(always)]
    fn four(self, x: &NarrowGroup, i: usize) -> Self::Rows {
        self.splat_sums(x86_four(x, i))
    }

    #[inline(always)]
    fn begin_bytes(self, sums: Self::Sums) -> Self::Sums {
        sums
    }

    #[inline(always)]
    fn dot_bytes(self, w: Self::Rows, x: Self::Rows, products: Self::Sums) -> Self::Sums {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_dpbusd_epi32(products, w, x) }
    }

    #[inline(always)]
    fn dot_signed_bytes(self, w: Self::Rows, x: Self::Rows, products: Self::Sums) -> Self::Sums {
        // SAFETY: `self` proves that the processor has the instructions.
        let biased = unsafe { _mm512_xor_si512(w, _mm512_set1_epi8(-128)) };
        self.dot_bytes(biased, x, products)
    }

    #[inline(always)]
    fn end_bytes(self, products: Self::Sums, _: Self::Sums) -> Self::Sums {
        products
    }

    #[inline(always)]
    fn pair(self, x: &WideGroup, i: usize) -> Self::Words {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_set1_epi32(x86_pair(x, i)) }
    }
}

/// Sixteen bytes of each of the rows `first`, `first + 4`, `first + 8` and `first + 12`. Transposed
/// quarters of four such registers have the rows in order.
///
/// # Safety
/// The processor has AVX-512, and the bytes of these rows can be read.
#[inline(always)]
unsafe fn four_rows(x: *const u8, distance: usize, first: usize) -> __m512i {
    // SAFETY: as the caller promises.
    unsafe {
        let a = _mm512_castsi128_si512(_mm_loadu_si128(x.add(first * distance).cast()));
        let b = _mm_loadu_si128(x.add((first + 4) * distance).cast());
        let c = _mm_loadu_si128(x.add((first + 8) * distance).cast());
        let d = _mm_loadu_si128(x.add((first + 12) * distance).cast());
        let (ab, cd) = (_mm512_inserti32x4::<1>(a, b), _mm512_castsi128_si512(c));
        let cd = _mm512_inserti32x4::<1>(cd, d);
        _mm512_inserti64x4::<1>(ab, _mm512_castsi512_si256(cd))
    }
}
