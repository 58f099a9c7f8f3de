//! f16 to and from f32, by the processor or in software with the same bits.

use half::f16;

/// A way to convert eight f16 (as bits) at once. Narrowing rounds to nearest, ties to even.
pub(crate) trait Half: Copy {
    /// Exact.
    fn widen(self, h: [u16; 8]) -> [f32; 8];
    /// Values beyond the range of f16 become infinities.
    fn narrow(self, x: [f32; 8]) -> [u16; 8];
}

/// Conversions with integer instructions.
#[derive(Clone, Copy)]
pub(crate) struct Software;

impl Half for Software {
    #[inline(always)]
    fn widen(self, h: [u16; 8]) -> [f32; 8] {
        // The const functions are those of `half` that never look for an instruction.
        h.map(|h| f16::from_bits(h).to_f32_const())
    }

    #[inline(always)]
    fn narrow(self, x: [f32; 8]) -> [u16; 8] {
        x.map(|x| f16::from_f32_const(x).to_bits())
    }
}

/// Conversions with the F16C instructions; a value of this type is the proof that they exist.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct F16c(());

#[cfg(target_arch = "x86_64")]
impl F16c {
    #[target_feature(enable = "avx,f16c")]
    pub(crate) fn new() -> F16c {
        F16c(())
    }
}

#[cfg(target_arch = "x86_64")]
impl Half for F16c {
    #[inline(always)]
    fn widen(self, h: [u16; 8]) -> [f32; 8] {
        use std::arch::x86_64::*;
        // SAFETY: `self` was made by `new`, which only code compiled for avx and f16c can call
        // safely. The transmuted types are plain numbers of equal size.
        unsafe { std::mem::transmute(_mm256_cvtph_ps(std::mem::transmute::<[u16; 8], __m128i>(h))) }
    }

    #[inline(always)]
    fn narrow(self, x: [f32; 8]) -> [u16; 8] {
        use std::arch::x86_64::*;
        // SAFETY: as in `widen`.
        unsafe {
            let x = std::mem::transmute::<[f32; 8], __m256>(x);
            std::mem::transmute(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x))
        }
    }
}
