//! x86-64 with AVX2, FMA and F16C: the 32 lanes are four registers of eight.

use super::prefetch::Prefetch;
use super::{LANES, Simd};
use std::arch::x86_64::*;

/// The proof that the processor has AVX2, FMA and F16C, and AVX-VNNI if `VNNI` is true. Only code
/// compiled for them can safely create one.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool>(());

impl Avx2<false> {
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn new() -> Self {
        Avx2(())
    }
}

impl Avx2<true> {
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    pub(crate) fn new() -> Self {
        Avx2(())
    }
}

impl<const VNNI: bool> Avx2<VNNI> {
    /// The proof of AVX2, FMA and F16C alone.
    pub(crate) fn without_vnni(self) -> Avx2<false> {
        Avx2(())
    }
}

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

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type Lanes = [__m256; 4];
    type Part = __m256;
    type Chunk = [__m256; 2];

    const WIDTH: usize = 8;
    const REGISTERS: usize = 16;
    const CHUNKS: usize = 2;

    #[inline(always)]
    fn prefetch(self, address: *const u8, bytes: usize) {
        Prefetch::All.bytes(address, bytes);
    }

    #[inline(always)]
    fn prefers_second_level(self) -> bool {
        Prefetch::fastest() == Prefetch::Second
    }

    #[inline(always)]
    fn prefetch_second(self, address: *const u8, bytes: usize) {
        Prefetch::Second.bytes(address, bytes);
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
    fn add_part(self, a: Self::Part, b: Self::Part) -> Self::Part {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn chunk<const C: usize>(self, x: Self::Lanes) -> Self::Chunk {
        [x[2 * C], x[2 * C + 1]]
    }
}
