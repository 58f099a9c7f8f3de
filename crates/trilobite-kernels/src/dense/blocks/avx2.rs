//! x86-64 with AVX2, FMA and F16C: 32 words are two registers, and so are 16 sums.

use super::codes::{GROUP, GROUPS, WideGroup};
use super::simd::{Half, Integers, LANES};
use crate::simd::avx2::Avx2;
use std::arch::x86_64::*;

/// The operations for which AVX2 is enough.
macro_rules! x86_bytes {
    () => {
        type Bytes = __m256i;
        type Eight = __m256;

        #[inline(always)]
        fn bytes(self, x: &[u8; GROUP]) -> Self::Bytes {
            // SAFETY: `self` proves that the processor has the instructions; there are 32 bytes.
            unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
        }

        #[inline(always)]
        fn split(self, x: &[u8; GROUP / 2]) -> Self::Bytes {
            // SAFETY: `self` proves that the processor has the instructions; there are 16 bytes.
            unsafe {
                let x = _mm_loadu_si128(x.as_ptr().cast());
                let x = _mm256_set_m128i(_mm_srli_epi16::<4>(x), x);
                _mm256_and_si256(x, _mm256_set1_epi8(15))
            }
        }

        #[inline(always)]
        fn bits(self, bits: u32, value: u8) -> Self::Bytes {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe {
                // Select the byte of each bit, then the bit.
                let places = _mm256_set_epi64x(
                    0x0303_0303_0303_0303,
                    0x0202_0202_0202_0202,
                    0x0101_0101_0101_0101,
                    0,
                );
                let x = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), places);
                let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(x, bit), bit);
                _mm256_and_si256(set, _mm256_set1_epi8(value as i8))
            }
        }

        #[inline(always)]
        fn shift(self, x: Self::Bytes, by: i32, mask: u8) -> Self::Bytes {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe {
                let count = _mm_cvtsi32_si128(by.abs());
                let x = match by {
                    0 => x,
                    1.. => _mm256_sll_epi16(x, count),
                    _ => _mm256_srl_epi16(x, count),
                };
                _mm256_and_si256(x, _mm256_set1_epi8(mask as i8))
            }
        }

        #[inline(always)]
        fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe { _mm256_or_si256(a, b) }
        }

        #[inline(always)]
        fn sub(self, a: Self::Bytes, b: u8) -> Self::Bytes {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe { _mm256_sub_epi8(a, _mm256_set1_epi8(b as i8)) }
        }

        #[inline(always)]
        fn f16x2(self, bytes: &[u8; 4]) -> [f32; 2] {
            let mut out = [0.0; 4];
            // SAFETY: `self` proves that the processor has the instructions; four floats are stored.
            unsafe {
                let bits = _mm_cvtsi32_si128(i32::from_le_bytes(*bytes));
                _mm_storeu_ps(out.as_mut_ptr(), _mm_cvtph_ps(bits));
            }
            [out[0], out[1]]
        }

        #[inline(always)]
        fn f16x16(self, bytes: [&[u8; 4]; 8]) -> [[f32; 8]; 2] {
            let mut out = [[0.0; 8]; 2];
            // SAFETY: `self` proves that the processor has the instructions; eight floats are stored
            // twice.
            unsafe {
                // Each step makes numbers adjacent that belong together.
                let [a, b, c, d, e, f, g, h] =
                    bytes.map(|bytes| _mm_cvtsi32_si128(i32::from_le_bytes(*bytes)));
                let [a, c] = [_mm_unpacklo_epi16(a, b), _mm_unpacklo_epi16(c, d)];
                let [e, g] = [_mm_unpacklo_epi16(e, f), _mm_unpacklo_epi16(g, h)];
                let [a, e] = [_mm_unpacklo_epi32(a, c), _mm_unpacklo_epi32(e, g)];
                let [first, second] = [_mm_unpacklo_epi64(a, e), _mm_unpackhi_epi64(a, e)];
                _mm256_storeu_ps(out[0].as_mut_ptr(), _mm256_cvtph_ps(first));
                _mm256_storeu_ps(out[1].as_mut_ptr(), _mm256_cvtph_ps(second));
            }
            out
        }

        #[inline(always)]
        fn splat_eight(self, x: f32) -> Self::Eight {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe { _mm256_set1_ps(x) }
        }

        #[inline(always)]
        fn load_eight(self, x: &[f32; GROUPS]) -> Self::Eight {
            // SAFETY: `self` proves that the processor has the instructions; there are eight floats.
            unsafe { _mm256_loadu_ps(x.as_ptr()) }
        }

        #[inline(always)]
        fn mul_eight(self, a: Self::Eight, b: Self::Eight) -> Self::Eight {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe { _mm256_mul_ps(a, b) }
        }

        #[inline(always)]
        fn mul_add_eight(self, a: Self::Eight, b: Self::Eight, c: Self::Eight) -> Self::Eight {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn keep_eight(self, x: Self::Eight, n: usize) -> Self::Eight {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe {
                let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let kept = _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes);
                _mm256_and_ps(x, _mm256_castsi256_ps(kept))
            }
        }

        #[inline(always)]
        fn sum_eight(self, x: Self::Eight) -> f32 {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe {
                let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
                let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
                _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
            }
        }
    };
}
pub(super) use x86_bytes;

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

impl Integers for Avx2 {
    type Words = [__m256i; 2];
    type Sums = [__m256i; 2];
    type Half = [__m256; 2];
    type Four = [__m256i; 2];

    const FEW_TOKENS: usize = 8;
    const TOKENS_AT_ONCE: usize = 4;
    const PANELS_AT_ONCE: usize = 1;

    x86_bytes!();

    #[inline(always)]
    fn load_words(self, x: &WideGroup) -> Self::Words {
        both!(I => _mm256_load_si256(x.0.as_ptr().add(16 * I).cast()))
    }

    #[inline(always)]
    fn store_words(self, x: Self::Words, out: &mut WideGroup) {
        both!(I => _mm256_store_si256(out.0.as_mut_ptr().add(16 * I).cast(), x[I]));
    }

    #[inline(always)]
    fn words(self, x: Self::Bytes) -> Self::Words {
        both!(I => {
            let x = if I == 0 { _mm256_castsi256_si128(x) } else { _mm256_extracti128_si256::<1>(x) };
            _mm256_cvtepi8_epi16(x)
        })
    }

    #[inline(always)]
    fn nibbles(self, x: &[u8; GROUP / 2], bias: u8) -> Self::Words {
        both!(I => {
            let x = self.spread(_mm_loadu_si128(x.as_ptr().cast()));
            let x = if I == 0 {
                _mm256_and_si256(x, _mm256_set1_epi16(15))
            } else {
                _mm256_srli_epi16::<4>(x)
            };
            _mm256_sub_epi16(x, _mm256_set1_epi16(i16::from(bias)))
        })
    }

    #[inline(always)]
    fn five_bits(self, x: &[u8; GROUP / 2], bits: &[u8; 4], bias: u8) -> Self::Words {
        let codes = self.nibbles(x, bias);
        // The bit of each of sixteen words.
        let mut places = [0; GROUP / 2];
        for (i, place) in places.iter_mut().enumerate() {
            *place = (1_u16 << i) as i16;
        }
        both!(I => {
            let places = _mm256_loadu_si256(places.as_ptr().cast());
            let bits = _mm256_set1_epi16(i16::from_le_bytes([bits[2 * I], bits[2 * I + 1]]));
            let set = _mm256_cmpeq_epi16(_mm256_and_si256(bits, places), places);
            _mm256_add_epi16(codes[I], _mm256_and_si256(set, _mm256_set1_epi16(16)))
        })
    }

    #[inline(always)]
    fn half_bytes(self, x: &[u8; GROUP], upper: bool) -> Self::Words {
        both!(I => {
            let x = self.spread(_mm_loadu_si128(x.as_ptr().add(16 * I).cast()));
            if upper { _mm256_srli_epi16::<4>(x) } else { _mm256_and_si256(x, _mm256_set1_epi16(15)) }
        })
    }

    #[inline(always)]
    fn zero_sums(self) -> Self::Sums {
        both!(I => { let _ = I; _mm256_setzero_si256() })
    }

    #[inline(always)]
    fn products(self, a: Self::Words, b: Self::Words) -> Self::Sums {
        both!(I => _mm256_madd_epi16(a[I], b[I]))
    }

    #[inline(always)]
    fn dot(self, a: Self::Words, b: Self::Words, c: Self::Sums) -> Self::Sums {
        both!(I => _mm256_add_epi32(_mm256_madd_epi16(a[I], b[I]), c[I]))
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
    fn pair(self, x: &WideGroup, i: usize) -> Self::Words {
        let pair = i32::from(x.0[2 * i] as u16) | i32::from(x.0[2 * i + 1]) << 16;
        both!(I => { let _ = I; _mm256_set1_epi32(pair) })
    }

    #[inline(always)]
    fn transpose(self, x: &mut [WideGroup; LANES]) {
        // Blocks of eight groups and eight pairs. Two are exchanged.
        for [(group, half), (to_group, to_half)] in
            [[(0, 0), (0, 0)], [(8, 1), (8, 1)], [(0, 1), (8, 0)]]
        {
            let a = self.transposed_block(x, group, half);
            let b = self.transposed_block(x, to_group, to_half);
            for i in 0..8 {
                let to = &mut x[to_group + i].0[16 * to_half..16 * to_half + 16];
                // SAFETY: `self` proves that the processor has the instructions; a half of a group,
                // which is aligned, is a register.
                unsafe { _mm256_store_si256(to.as_mut_ptr().cast(), a[i]) };
                let to = &mut x[group + i].0[16 * half..16 * half + 16];
                // SAFETY: as above.
                unsafe { _mm256_store_si256(to.as_mut_ptr().cast(), b[i]) };
            }
        }
    }

    #[inline(always)]
    fn sum_four<const HALVES: bool>(self, x: [Self::Sums; 4]) -> Self::Four {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let four = |x: [__m256i; 4]| {
                let [a, b] = [_mm256_hadd_epi32(x[0], x[1]), _mm256_hadd_epi32(x[2], x[3])];
                _mm256_hadd_epi32(a, b)
            };
            if HALVES {
                [0, 1].map(|half| four(x.map(|x| x[half])))
            } else {
                [four(x.map(|[a, b]| _mm256_add_epi32(a, b))), _mm256_setzero_si256()]
            }
        }
    }

    #[inline(always)]
    fn eight(self, [[a, _], [b, _]]: [Self::Four; 2]) -> Self::Eight {
        self.eight_floats(a, b)
    }

    #[inline(always)]
    fn eight_halves(self, [a, b]: [Self::Four; 2]) -> [Self::Eight; 2] {
        [self.eight_floats(a[0], b[0]), self.eight_floats(a[1], b[1])]
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

    #[inline(always)]
    fn widen_bytes(self, x: &[u8; 16]) -> [i32; 16] {
        let mut out = [0; 16];
        // SAFETY: `self` proves that the processor has the instructions; each half has eight bytes
        // and as many integers.
        unsafe {
            for half in 0..2 {
                let x = _mm_loadl_epi64(x[8 * half..8 * half + 8].as_ptr().cast());
                let out = out[8 * half..8 * half + 8].as_mut_ptr();
                _mm256_storeu_si256(out.cast(), _mm256_cvtepu8_epi32(x));
            }
        }
        out
    }
}

impl Avx2 {
    /// The pairs of words in a half, 0 or 1, of eight groups, transposed.
    #[inline(always)]
    fn transposed_block(self, x: &[WideGroup; LANES], first: usize, half: usize) -> [__m256i; 8] {
        // SAFETY: `self` proves that the processor has the instructions; the index is checked, and a
        // half of a group, which is aligned, is a register.
        unsafe {
            let mut rows = [_mm256_setzero_si256(); 8];
            for (row, x) in rows.iter_mut().zip(&x[first..first + 8]) {
                *row = _mm256_load_si256(x.0[16 * half..16 * half + 16].as_ptr().cast());
            }
            // Single pairs, then two, within halves of registers; then halves.
            let mut next = rows;
            for i in [0, 2, 4, 6] {
                next[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
                next[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
            }
            for i in [0, 4] {
                rows[i] = _mm256_unpacklo_epi64(next[i], next[i + 2]);
                rows[i + 1] = _mm256_unpackhi_epi64(next[i], next[i + 2]);
                rows[i + 2] = _mm256_unpacklo_epi64(next[i + 1], next[i + 3]);
                rows[i + 3] = _mm256_unpackhi_epi64(next[i + 1], next[i + 3]);
            }
            for i in 0..4 {
                next[i] = _mm256_permute2x128_si256::<0x20>(rows[i], rows[i + 4]);
                next[i + 4] = _mm256_permute2x128_si256::<0x31>(rows[i], rows[i + 4]);
            }
            next
        }
    }

    /// Adds the halves of two partial sums of four groups.
    #[inline(always)]
    fn eight_floats(self, a: __m256i, b: __m256i) -> __m256 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let lower = _mm256_permute2x128_si256::<0x20>(a, b);
            let upper = _mm256_permute2x128_si256::<0x31>(a, b);
            _mm256_cvtepi32_ps(_mm256_add_epi32(lower, upper))
        }
    }

    /// Widens sixteen unsigned bytes to words, by a shuffle. The compiler would move conversions
    /// behind the shifts, and two shifted forms could not share one.
    #[inline(always)]
    fn spread(self, x: __m128i) -> __m256i {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            // The source of a register's words: a byte and a zero.
            let places = _mm256_setr_epi64x(
                pairs([0, 1, 2, 3]),
                pairs([4, 5, 6, 7]),
                pairs([8, 9, 10, 11]),
                pairs([12, 13, 14, 15]),
            );
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(x), places)
        }
    }
}

/// The shuffle indices of four bytes, each with that of a zero above.
pub(super) const fn pairs([a, b, c, d]: [i64; 4]) -> i64 {
    0x8000_8000_8000_8000_u64 as i64 | a | b << 16 | c << 32 | d << 48
}
