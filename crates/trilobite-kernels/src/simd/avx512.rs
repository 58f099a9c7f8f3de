//! x86-64 with AVX-512: the 32 lanes are two registers of sixteen.

use super::prefetch::Prefetch;
use super::{LANES, Simd};
use std::arch::x86_64::*;

/// The proof that the processor has the features. Only code compiled for them can safely create
/// one.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vnni")]
    pub(crate) fn new() -> Avx512 {
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
    type Part = __m512;
    type Chunk = Self::Lanes;

    const WIDTH: usize = 16;
    const REGISTERS: usize = 32;
    const CHUNKS: usize = 1;

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
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each!(I => _mm512_add_ps(a[I], b[I]))
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

    #[inline(always)]
    fn sums(self, x: &[[f32; LANES]], out: &mut [f32]) {
        let ((eights, x), (out_eights, out)) = (x.as_chunks(), out.as_chunks_mut());
        for (x, out) in eights.iter().zip(out_eights) {
            *out = self.eight_sums(x);
        }
        for (x, out) in x.iter().zip(out) {
            *out = self.sum(self.load(x));
        }
    }

    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::Part {
        // SAFETY: `self` proves that the processor has the instructions; the slice has 16 floats.
        unsafe { _mm512_loadu_ps(x[..16].as_ptr()) }
    }

    #[inline(always)]
    fn store_part(self, x: Self::Part, out: &mut [f32]) {
        // SAFETY: `self` proves that the processor has the instructions; the slice has 16 floats.
        unsafe { _mm512_storeu_ps(out[..16].as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn mul_add_part(self, a: Self::Part, b: Self::Part, c: Self::Part) -> Self::Part {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn add_part(self, a: Self::Part, b: Self::Part) -> Self::Part {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn chunk<const C: usize>(self, x: Self::Lanes) -> Self::Chunk {
        x
    }
}

impl Avx512 {
    /// The pairwise sums of several vectors. From the second addition on, the halves of two vectors
    /// share a register.
    #[inline(always)]
    fn eight_sums(self, x: &[[f32; LANES]; 8]) -> [f32; 8] {
        // SAFETY: `self` proves that the processor has the instructions; eight floats are stored.
        unsafe {
            let mut sums = [_mm512_setzero_ps(); 8];
            for i in 0..8 {
                let [a, b] = self.load(&x[i]);
                sums[i] = _mm512_add_ps(a, b);
            }
            for i in 0..4 {
                let (a, b) = (sums[2 * i], sums[2 * i + 1]);
                let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
                sums[i] = _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b));
            }
            for i in 0..2 {
                let (a, b) = (sums[2 * i], sums[2 * i + 1]);
                let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
                sums[i] = _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b));
            }
            let (a, b) = (sums[0], sums[1]);
            let low = _mm512_shuffle_ps::<0b01_00_01_00>(a, b);
            let two = _mm512_add_ps(low, _mm512_shuffle_ps::<0b11_10_11_10>(a, b));
            let one = _mm512_add_ps(two, _mm512_movehdup_ps(two));
            // The first four sums are at the start of the quarters, the others two lanes further.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
            let one = _mm512_castps512_ps256(_mm512_permutexvar_ps(order, one));
            let mut out = [0.0; 8];
            _mm256_storeu_ps(out.as_mut_ptr(), one);
            out
        }
    }
}
