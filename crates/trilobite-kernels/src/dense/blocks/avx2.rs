//! x86-64 with AVX2, FMA and F16C: four bytes of each row are two registers, and so are 16 sums.

use super::codes::{NarrowGroup, WideGroup};
use super::simd::{Half, Integers, Products, ROWS_LEN};
use crate::simd::avx2::Avx2;
use std::arch::x86_64::*;

/// Evaluates an expression for both registers.
macro_rules! both {
    ($i:ident => $register:expr) => {
        // SAFETY: `self` proves that the processor has the instructions. Pointers come from
        // references to arrays; the two registers, together or each, cover no more than the whole
        // array.
        unsafe {
            [
                {
                    const $i: usize = 0;
                    $register
                },
                {
                    const $i: usize = 1;
                    $register
                },
            ]
        }
    };
}
pub(in crate::dense) use both;

impl<const VNNI: bool> Integers for Avx2<VNNI> {
    type Rows = [__m256i; 2];
    type Sums = [__m256i; 2];
    type Half = [__m256; 2];

    #[inline(always)]
    fn quads(self, x: &[u8], distance: usize) -> [Self::Rows; 4] {
        assert!(x.len() >= 15 * distance + 16, "sixteen rows");
        // The assertion keeps the bytes of each row inside.
        let [first, second] = both!(I => {
            let x = x.as_ptr().add(8 * I * distance);
            let (a, b) = (two_rows(x, distance, 0), two_rows(x, distance, 1));
            let (c, d) = (two_rows(x, distance, 2), two_rows(x, distance, 3));
            let (lower, upper) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            let first = [_mm256_unpacklo_epi64(lower, upper), _mm256_unpackhi_epi64(lower, upper)];
            let (lower, upper) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            let last = [_mm256_unpacklo_epi64(lower, upper), _mm256_unpackhi_epi64(lower, upper)];
            [first[0], first[1], last[0], last[1]]
        });
        [[first[0], second[0]], [first[1], second[1]], [first[2], second[2]], [first[3], second[3]]]
    }

    #[inline(always)]
    fn store_rows(self, x: Self::Rows, out: &mut [u8; ROWS_LEN]) {
        both!(I => _mm256_storeu_si256(out.as_mut_ptr().add(32 * I).cast(), x[I]));
    }

    #[inline(always)]
    fn shift(self, x: Self::Rows, by: usize, mask: u8) -> Self::Rows {
        both!(I => {
            let x = _mm256_srl_epi16(x[I], _mm_cvtsi64_si128(by as i64));
            _mm256_and_si256(x, _mm256_set1_epi8(mask as i8))
        })
    }

    #[inline(always)]
    fn times_16(self, x: Self::Rows) -> Self::Rows {
        both!(I => _mm256_slli_epi16::<4>(x[I]))
    }

    #[inline(always)]
    fn or(self, a: Self::Rows, b: Self::Rows) -> Self::Rows {
        both!(I => _mm256_or_si256(a[I], b[I]))
    }

    #[inline(always)]
    fn bits<const I: usize>(self, x: Self::Rows, value: u8) -> Self::Rows {
        both!(R => {
            // The byte of the four bits, four times.
            let places = _mm256_setr_epi32(
                0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c, 0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c,
            );
            let byte = _mm256_set1_epi8(const { I as i8 / 2 });
            let x = _mm256_shuffle_epi8(x[R], _mm256_or_si256(places, byte));
            let bits = _mm256_set1_epi32(if I.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010_u32 as i32 });
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(x, bits), bits);
            _mm256_and_si256(set, _mm256_set1_epi8(value as i8))
        })
    }

    #[inline(always)]
    fn bytes_of(self, x: Self::Rows) -> [Self::Half; 4] {
        [
            both!(I => _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(x[I])))),
            both!(I => _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<16>(x[I])))),
            both!(I => _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_slli_epi32::<8>(x[I])))),
            both!(I => _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(x[I]))),
        ]
    }

    #[inline(always)]
    fn f16_pairs(self, [a, b]: Self::Rows) -> [Self::Half; 2] {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let low = _mm256_set1_epi32(0xffff);
            let first = _mm256_packus_epi32(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
            let second =
                _mm256_packus_epi32(_mm256_srli_epi32::<16>(a), _mm256_srli_epi32::<16>(b));
            // Both were packed by halves of registers.
            let first = _mm256_permute4x64_epi64::<0b11_01_10_00>(first);
            let second = _mm256_permute4x64_epi64::<0b11_01_10_00>(second);
            let first = [_mm256_castsi256_si128(first), _mm256_extracti128_si256::<1>(first)];
            let second = [_mm256_castsi256_si128(second), _mm256_extracti128_si256::<1>(second)];
            [
                [_mm256_cvtph_ps(first[0]), _mm256_cvtph_ps(first[1])],
                [_mm256_cvtph_ps(second[0]), _mm256_cvtph_ps(second[1])],
            ]
        }
    }

    #[inline(always)]
    fn arrange(self, x: &mut WideGroup) {
        both!(I => {
            let words = _mm256_load_si256(x.0.as_ptr().add(16 * I).cast());
            let words = _mm256_shufflelo_epi16::<0b11_01_10_00>(words);
            let words = _mm256_shufflehi_epi16::<0b11_01_10_00>(words);
            _mm256_store_si256(x.0.as_mut_ptr().add(16 * I).cast(), words);
        });
    }

    #[inline(always)]
    fn splat_sums(self, x: i32) -> Self::Sums {
        both!(I => { let _ = I; _mm256_set1_epi32(x) })
    }

    #[inline(always)]
    fn add_sums(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        both!(I => _mm256_add_epi32(a[I], b[I]))
    }

    #[inline(always)]
    fn floats(self, x: Self::Sums) -> Self::Half {
        both!(I => _mm256_cvtepi32_ps(x[I]))
    }

    #[inline(always)]
    fn splat_half(self, x: f32) -> Self::Half {
        both!(I => { let _ = I; _mm256_set1_ps(x) })
    }

    #[inline(always)]
    fn load_half(self, x: &Half) -> Self::Half {
        both!(I => _mm256_load_ps(x.0.as_ptr().add(8 * I)))
    }

    #[inline(always)]
    fn store_half(self, x: Self::Half, out: &mut Half) {
        both!(I => _mm256_store_ps(out.0.as_mut_ptr().add(8 * I), x[I]));
    }

    #[inline(always)]
    fn mul_add_half(self, a: Self::Half, b: Self::Half, c: Self::Half) -> Self::Half {
        both!(I => _mm256_fmadd_ps(a[I], b[I], c[I]))
    }

    #[inline(always)]
    fn mul_half(self, a: Self::Half, b: Self::Half) -> Self::Half {
        both!(I => _mm256_mul_ps(a[I], b[I]))
    }

    #[inline(always)]
    fn add_half(self, a: Self::Half, b: Self::Half) -> Self::Half {
        both!(I => _mm256_add_ps(a[I], b[I]))
    }

    #[inline(always)]
    fn sum_half(self, [a, b]: Self::Half) -> f32 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let x = _mm256_add_ps(a, b);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }
}

impl<const VNNI: bool> Products for Avx2<VNNI> {
    type Words = [__m256i; 2];

    const TOKENS_AT_ONCE: usize = 4;
    const PANELS_AT_ONCE: usize = 1;

    #[inline(always)]
    fn load_rows(self, x: &[u8; ROWS_LEN]) -> Self::Rows {
        both!(I => _mm256_loadu_si256(x.as_ptr().add(32 * I).cast()))
    }

    #[inline(always)]
    fn sub(self, a: Self::Rows, b: u8) -> Self::Rows {
        both!(I => _mm256_sub_epi8(a[I], _mm256_set1_epi8(b as i8)))
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
        [
            both!(I => _mm256_and_si256(x[I], _mm256_set1_epi16(0xff))),
            both!(I => _mm256_srli_epi16::<8>(x[I])),
        ]
    }

    #[inline(always)]
    fn signed_words(self, x: Self::Rows) -> [Self::Words; 2] {
        [
            both!(I => _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x[I]))),
            both!(I => _mm256_srai_epi16::<8>(x[I])),
        ]
    }

    #[inline(always)]
    fn dot(self, a: Self::Words, b: Self::Words, c: Self::Sums) -> Self::Sums {
        both!(I => _mm256_add_epi32(_mm256_madd_epi16(a[I], b[I]), c[I]))
    }

    #[inline(always)]
    fn four(self, x: &NarrowGroup, i: usize) -> Self::Rows {
        both!(I => { let _ = I; _mm256_set1_epi32(x86_four(x, i)) })
    }

    #[inline(always)]
    fn begin_bytes(self, sums: Self::Sums) -> Self::Sums {
        // Without VNNI products are pairs in words.
        if VNNI { sums } else { self.splat_sums(0) }
    }

    #[inline(always)]
    fn dot_bytes(self, w: Self::Rows, x: Self::Rows, products: Self::Sums) -> Self::Sums {
        if VNNI {
            return both!(I => _mm256_dpbusd_avx_epi32(products[I], w[I], x[I]));
        }
        both!(I => _mm256_add_epi16(_mm256_maddubs_epi16(w[I], x[I]), products[I]))
    }

    #[inline(always)]
    fn dot_signed_bytes(self, w: Self::Rows, x: Self::Rows, sums: Self::Sums) -> Self::Sums {
        let signed = both!(I => _mm256_sign_epi8(x[I], w[I]));
        let positive = both!(I => _mm256_abs_epi8(w[I]));
        // Two sums of two products of this size do not fit in a word.
        self.end_bytes(self.dot_bytes(positive, signed, self.begin_bytes(sums)), sums)
    }

    #[inline(always)]
    fn end_bytes(self, products: Self::Sums, sums: Self::Sums) -> Self::Sums {
        if VNNI {
            return products;
        }
        both!(I => {
            _mm256_add_epi32(_mm256_madd_epi16(products[I], _mm256_set1_epi16(1)), sums[I])
        })
    }

    #[inline(always)]
    fn pair(self, x: &WideGroup, i: usize) -> Self::Words {
        both!(I => { let _ = I; _mm256_set1_epi32(x86_pair(x, i)) })
    }
}

/// Sixteen bytes of each of the rows `first` and `first + 4`. Transposed halves of four such
/// registers have the rows in order.
///
/// # Safety
/// The processor has AVX2, and the bytes of these rows can be read.
#[inline(always)]
unsafe fn two_rows(x: *const u8, distance: usize, first: usize) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe {
        let lower = _mm_loadu_si128(x.add(first * distance).cast());
        let upper = _mm_loadu_si128(x.add((first + 4) * distance).cast());
        _mm256_set_m128i(upper, lower)
    }
}

/// Words `2 i` and `2 i + 1` of a group.
#[inline(always)]
pub(super) fn x86_pair(x: &WideGroup, i: usize) -> i32 {
    i32::from(x.0[2 * i] as u16) | i32::from(x.0[2 * i + 1]) << 16
}

/// Bytes `4 i` to `4 i + 3` of a group.
#[inline(always)]
pub(super) fn x86_four(x: &NarrowGroup, i: usize) -> i32 {
    i32::from_le_bytes(x.codes.as_chunks().0[i].map(|code| code as u8))
}
