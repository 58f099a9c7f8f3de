//! For x86-64 processors with AVX2, FMA and F16C: the 32 lanes are four registers of eight.

use super::simd::{LANES, Simd};
use std::arch::x86_64::*;

compile! { [#[target_feature(enable = "avx2,fma,f16c")]] Avx2::new() }

/// The proof that the processor has AVX2, FMA and F16C: only code compiled for them can safely make
/// one.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new() -> Avx2 {
        Avx2(())
    }
}

/// The operations on bytes that AVX2 is enough for.
macro_rules! x86_bytes {
    () => {
        #[inline(always)]
        fn f16x4(self, bytes: &[u8; 8]) -> [f32; 4] {
            let mut out = [0.0; 4];
            // SAFETY: `self` proves that the processor has the instructions; there are eight bytes
            // and four floats.
            unsafe {
                let wide = _mm_cvtph_ps(_mm_loadl_epi64(bytes.as_ptr().cast()));
                _mm_storeu_ps(out.as_mut_ptr(), wide);
            }
            out
        }

        #[inline(always)]
        fn bytes(self, x: &[u8; LANES]) -> Self::Bytes {
            // SAFETY: `self` proves that the processor has the instructions; there are 32 bytes.
            unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
        }

        #[inline(always)]
        fn split(self, x: &[u8; LANES / 2]) -> Self::Bytes {
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
                // The byte of each bit, then the bit.
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
    };
}
pub(super) use x86_bytes;

/// Evaluates an expression for each of the four registers.
macro_rules! each {
    ($i:ident => $register:expr) => {
        // SAFETY: `self` proves that the processor has the instructions. Pointers come from array
        // references of 32 elements, of which a register covers the eight from `8 * $i` on.
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
                {
                    const $i: usize = 2;
                    $register
                },
                {
                    const $i: usize = 3;
                    $register
                },
            ]
        }
    };
}

impl Simd for Avx2 {
    type Lanes = [__m256; 4];
    type Part = __m256;
    type Bytes = __m256i;

    const WIDTH: usize = 8;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: `self` proves that the processor has the instruction, a hint that never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Lanes {
        each!(I => { let _ = I; _mm256_set1_ps(x) })
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::Lanes {
        each!(I => _mm256_loadu_ps(x.as_ptr().add(8 * I)))
    }

    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::Lanes {
        each!(I => _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().add(8 * I).cast())))
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::Lanes {
        each!(I => {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().add(8 * I).cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        })
    }

    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::Lanes {
        each!(I => {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(x.as_ptr().add(8 * I).cast())))
        })
    }

    #[inline(always)]
    fn store(self, x: Self::Lanes, out: &mut [f32; LANES]) {
        each!(I => _mm256_storeu_ps(out.as_mut_ptr().add(8 * I), x[I]));
    }

    #[inline(always)]
    fn store_f16(self, x: Self::Lanes, out: &mut [u16; LANES]) {
        each!(I => {
            let bits = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[I]);
            _mm_storeu_si128(out.as_mut_ptr().add(8 * I).cast(), bits)
        });
    }

    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each!(I => _mm256_add_ps(a[I], b[I]))
    }

    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each!(I => _mm256_mul_ps(a[I], b[I]))
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        each!(I => _mm256_fmadd_ps(a[I], b[I], c[I]))
    }

    #[inline(always)]
    fn sum(self, [a, b, c, d]: Self::Lanes) -> f32 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let x = _mm256_add_ps(_mm256_add_ps(a, c), _mm256_add_ps(b, d));
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            let x = _mm_add_ss(x, _mm_movehdup_ps(x));
            _mm_cvtss_f32(x)
        }
    }

    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::Part {
        // SAFETY: `self` proves that the processor has the instructions; the slice has eight floats.
        unsafe { _mm256_loadu_ps(x[..8].as_ptr()) }
    }

    #[inline(always)]
    fn store_part(self, x: Self::Part, out: &mut [f32]) {
        // SAFETY: `self` proves that the processor has the instructions; the slice has eight floats.
        unsafe { _mm256_storeu_ps(out[..8].as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn mul_add_part(self, a: Self::Part, b: Self::Part, c: Self::Part) -> Self::Part {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn f16(self, bytes: &[u8; 2]) -> Self::Lanes {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let bits = _mm_set1_epi16(i16::from_le_bytes(*bytes));
            [_mm256_cvtph_ps(bits); 4]
        }
    }

    #[inline(always)]
    fn scaled(self, x: &[u8; 16], a: f32, b: f32) -> [f32; 16] {
        let mut out = [0.0; 16];
        // SAFETY: `self` proves that the processor has the instructions; each half has eight bytes
        // and as many floats.
        unsafe {
            for (i, factor) in [a, b].into_iter().enumerate() {
                let x = _mm256_cvtepi8_epi32(_mm_loadl_epi64(x[8 * i..8 * i + 8].as_ptr().cast()));
                let x = _mm256_mul_ps(_mm256_cvtepi32_ps(x), _mm256_set1_ps(factor));
                _mm256_storeu_ps(out[8 * i..8 * i + 8].as_mut_ptr(), x);
            }
        }
        out
    }

    #[inline(always)]
    fn pair(self, low: f32, high: f32) -> Self::Lanes {
        each!(I => _mm256_set1_ps(if I < 2 { low } else { high }))
    }

    #[inline(always)]
    fn widen(self, x: Self::Bytes) -> Self::Lanes {
        each!(I => {
            let x = if I < 2 { _mm256_castsi256_si128(x) } else { _mm256_extracti128_si256::<1>(x) };
            let x = if I % 2 == 1 { _mm_srli_si128::<8>(x) } else { x };
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x))
        })
    }

    x86_bytes!();

    // Bytes that are spread to whole integers before they are split take half the shuffles.

    #[inline(always)]
    fn nibbles(
        self,
        x: &[u8; LANES / 2],
        bias: u8,
        scale: Self::Lanes,
        offset: Self::Lanes,
    ) -> Self::Lanes {
        each!(I => {
            let x = self.spread(_mm_loadu_si128(x.as_ptr().cast()))[I % 2];
            let x = if I < 2 { x } else { _mm256_srli_epi32::<4>(x) };
            let x = _mm256_and_si256(x, _mm256_set1_epi32(15));
            let x = _mm256_sub_epi32(x, _mm256_set1_epi32(i32::from(bias)));
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(x), scale[I], offset[I])
        })
    }

    #[inline(always)]
    fn half_bytes(self, x: &[u8; LANES], upper: bool, scale: f32, offset: f32) -> Self::Lanes {
        let (scale, offset) = (self.splat(scale), self.splat(offset));
        each!(I => {
            let x = self.spread(_mm_loadu_si128(x.as_ptr().add(I / 2 * 16).cast()))[I % 2];
            let x = if upper { _mm256_srli_epi32::<4>(x) } else { x };
            let x = _mm256_and_si256(x, _mm256_set1_epi32(15));
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(x), scale[I], offset[I])
        })
    }
}

impl Avx2 {
    /// Sixteen bytes as integers of 32 bits.
    #[inline(always)]
    fn spread(self, x: __m128i) -> [__m256i; 2] {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let x = _mm256_broadcastsi128_si256(x);
            let others = _mm256_set1_epi32(0x8080_8000_u32 as i32);
            let first = _mm256_or_si256(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), others);
            let last = _mm256_or_si256(_mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15), others);
            [_mm256_shuffle_epi8(x, first), _mm256_shuffle_epi8(x, last)]
        }
    }
}
