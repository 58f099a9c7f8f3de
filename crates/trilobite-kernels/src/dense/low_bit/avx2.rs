//! x86-64 with AVX2, FMA and F16C: a plane is two registers, and so are 16 sums.

use super::codes::{LANES, PLANE_LEN, PLANES};
use super::simd::{BytePlanes, Places};
use crate::dense::blocks::avx2::both;
use crate::dense::types::DenseType;
use crate::simd::avx2::Avx2;
use std::arch::x86_64::*;

impl<const VNNI: bool> BytePlanes for Avx2<VNNI> {
    type Plane = [__m256i; 2];

    const TOKENS: usize = 4;

    #[inline(always)]
    fn least_look_up(ty: DenseType) -> Option<usize> {
        match ty {
            // Look-up of bits is faster for fewer tokens than lanes.
            DenseType::Q1_0 => Some(16),
            _ if VNNI => Some(10),
            _ => Some(8),
        }
    }

    #[inline(always)]
    fn look_up_bits(self) -> Option<Avx2<false>> {
        Some(self.without_vnni())
    }

    #[inline(always)]
    fn store_plane(self, x: Self::Plane, out: &mut [u8; PLANE_LEN]) {
        both!(I => _mm256_storeu_si256(out.as_mut_ptr().add(32 * I).cast(), x[I]));
    }

    #[inline(always)]
    fn halves(self, x: [&[u8; 32]; 2]) -> Self::Plane {
        both!(I => _mm256_loadu_si256(x[I].as_ptr().cast()))
    }

    #[inline(always)]
    fn quarters(self, x: [&[u8; 16]; 4]) -> Self::Plane {
        both!(I => _mm256_set_m128i(
            _mm_loadu_si128(x[2 * I + 1].as_ptr().cast()),
            _mm_loadu_si128(x[2 * I].as_ptr().cast()),
        ))
    }

    #[inline(always)]
    fn nibbles_to_bytes(self, x: [&[u8; 16]; 2]) -> Self::Plane {
        both!(I => {
            let x = _mm256_cvtepu8_epi16(_mm_loadu_si128(x[I].as_ptr().cast()));
            _mm256_or_si256(x, _mm256_slli_epi16::<4>(x))
        })
    }

    #[inline(always)]
    fn trits(self, x: [&[u8; 16]; 4], places: &Places) -> Self::Plane {
        let Places { bytes, powers } = places;
        both!(I => {
            let x = _mm256_set_m128i(
                _mm_loadu_si128(x[2 * I + 1].as_ptr().cast()),
                _mm_loadu_si128(x[2 * I].as_ptr().cast()),
            );
            let x = _mm256_shuffle_epi8(x, _mm256_loadu_si256(bytes[2 * I].as_ptr().cast()));
            let powers = _mm256_loadu_si256(powers[2 * I].as_ptr().cast());
            // Products of words are right in their lower bytes.
            let low = _mm256_set1_epi16(0xff);
            let even = _mm256_and_si256(_mm256_mullo_epi16(x, powers), low);
            let upper = _mm256_srli_epi16::<8>(powers);
            let odd = _mm256_mullo_epi16(_mm256_andnot_si256(low, x), upper);
            let x = _mm256_or_si256(even, odd);
            // The trit of a fraction is the number of thirds that it reaches.
            let reaches = |third: i8| {
                _mm256_cmpeq_epi8(_mm256_max_epu8(x, _mm256_set1_epi8(third)), x)
            };
            let trits = _mm256_add_epi8(reaches(86), reaches(171_u8 as i8));
            _mm256_sub_epi8(_mm256_setzero_si256(), trits)
        })
    }

    #[inline(always)]
    fn pairs_of_bits(self, x: Self::Plane) -> [Self::Plane; PLANES] {
        let mask = both!(I => { let _ = I; _mm256_set1_epi8(3) });
        [
            both!(I => _mm256_and_si256(x[I], mask[I])),
            both!(I => _mm256_and_si256(_mm256_srli_epi16::<2>(x[I]), mask[I])),
            both!(I => _mm256_and_si256(_mm256_srli_epi16::<4>(x[I]), mask[I])),
            both!(I => _mm256_and_si256(_mm256_srli_epi16::<6>(x[I]), mask[I])),
        ]
    }

    #[inline(always)]
    fn doubled_bits(self, x: Self::Plane) -> [Self::Plane; PLANES] {
        let mask = both!(I => { let _ = I; _mm256_set1_epi8(2) });
        [
            both!(I => _mm256_and_si256(_mm256_slli_epi16::<1>(x[I]), mask[I])),
            both!(I => _mm256_and_si256(x[I], mask[I])),
            both!(I => _mm256_and_si256(_mm256_srli_epi16::<1>(x[I]), mask[I])),
            both!(I => _mm256_and_si256(_mm256_srli_epi16::<2>(x[I]), mask[I])),
        ]
    }

    #[inline(always)]
    fn dot_planes(
        self,
        w: &[Self::Plane; PLANES],
        x: &[[i8; PLANE_LEN]; PLANES],
        c: Self::Sums,
    ) -> Self::Sums {
        if VNNI {
            return both!(I => {
                let mut c = c[I];
                for (w, x) in w.iter().zip(x) {
                    let x = _mm256_loadu_si256(x.as_ptr().add(32 * I).cast());
                    c = _mm256_dpbusd_avx_epi32(c, w[I], x);
                }
                c
            });
        }
        both!(I => {
            // The sum of eight products of at most 3 * 128 fits in a word.
            // Not `map` of an array, which would be a call without these instructions.
            let x = |p: usize| _mm256_loadu_si256(x[p].as_ptr().add(32 * I).cast());
            let words = _mm256_add_epi16(
                _mm256_add_epi16(
                    _mm256_maddubs_epi16(w[0][I], x(0)),
                    _mm256_maddubs_epi16(w[1][I], x(1)),
                ),
                _mm256_add_epi16(
                    _mm256_maddubs_epi16(w[2][I], x(2)),
                    _mm256_maddubs_epi16(w[3][I], x(3)),
                ),
            );
            _mm256_add_epi32(_mm256_madd_epi16(words, _mm256_set1_epi16(1)), c[I])
        })
    }

    #[inline(always)]
    fn load_sums(self, x: &[i32; LANES]) -> Self::Sums {
        both!(I => _mm256_loadu_si256(x.as_ptr().add(8 * I).cast()))
    }

    #[inline(always)]
    fn store_sums(self, x: Self::Sums, out: &mut [i32; LANES]) {
        both!(I => _mm256_storeu_si256(out.as_mut_ptr().add(8 * I).cast(), x[I]));
    }

    #[inline(always)]
    fn whole(self, x: Self::Rows) -> Self::Sums {
        x
    }

    #[inline(always)]
    fn sub_sums(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        both!(I => _mm256_sub_epi32(a[I], b[I]))
    }

    #[inline(always)]
    fn join(self, high: Self::Sums, low: Self::Sums) -> Self::Sums {
        both!(I => _mm256_add_epi32(_mm256_slli_epi32::<8>(high[I]), low[I]))
    }

    #[inline(always)]
    fn steps(self, x: [u16; 4]) -> Self::Half {
        both!(I => {
            _mm256_cvtph_ps(_mm_set_epi64x(four_times(x[2 * I + 1]), four_times(x[2 * I])))
        })
    }
}

/// Four copies of the bits.
#[inline(always)]
pub(super) fn four_times(x: u16) -> i64 {
    u64::from(x).wrapping_mul(0x0001_0001_0001_0001) as i64
}
