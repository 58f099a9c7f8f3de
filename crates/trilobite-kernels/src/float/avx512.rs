//! For x86-64 processors with AVX-512: the 32 lanes are two registers of sixteen.

use super::simd::{LANES, Simd};
use std::arch::x86_64::*;

compile! { [#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw")]] Avx512::new() }

/// The proof that the processor has the features: only code compiled for them can safely make one.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw")]
    fn new() -> Avx512 {
        Avx512(())
    }
}

/// Evaluates an expression for each of the two registers.
macro_rules! each {
    ($i:ident => $register:expr) => {
        // SAFETY: `self` proves that the processor has the instructions. Pointers come from array
        // references of 32 elements, of which a register covers the sixteen from `16 * $i` on.
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

impl Simd for Avx512 {
    type Lanes = [__m512; 2];

    #[inline(always)]
    fn prefetch(self, bytes: &[u8]) {
        // The distance that measured fastest when the weights come from memory.
        let ahead = bytes.as_ptr().wrapping_add(8192);
        // SAFETY: `self` proves that the processor has the instruction, a hint that never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.cast()) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Lanes {
        each!(I => { let _ = I; _mm512_set1_ps(x) })
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::Lanes {
        each!(I => _mm512_loadu_ps(x.as_ptr().add(16 * I)))
    }

    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::Lanes {
        each!(I => _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().add(16 * I).cast())))
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::Lanes {
        each!(I => {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().add(16 * I).cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        })
    }

    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::Lanes {
        each!(I => {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().add(16 * I).cast())))
        })
    }

    #[inline(always)]
    fn store(self, x: Self::Lanes, out: &mut [f32; LANES]) {
        each!(I => _mm512_storeu_ps(out.as_mut_ptr().add(16 * I), x[I]));
    }

    #[inline(always)]
    fn store_f16(self, x: Self::Lanes, out: &mut [u16; LANES]) {
        each!(I => {
            let bits = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[I]);
            _mm256_storeu_si256(out.as_mut_ptr().add(16 * I).cast(), bits)
        });
    }

    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each!(I => _mm512_mul_ps(a[I], b[I]))
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        each!(I => _mm512_fmadd_ps(a[I], b[I], c[I]))
    }

    #[inline(always)]
    fn sum(self, [a, b]: Self::Lanes) -> f32 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let x = _mm512_add_ps(a, b);
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x)));
            let x = _mm256_add_ps(_mm512_castps512_ps256(x), high);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            let x = _mm_add_ss(x, _mm_movehdup_ps(x));
            _mm_cvtss_f32(x)
        }
    }
}
