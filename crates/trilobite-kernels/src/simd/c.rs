//! Any processor, with kernels in C.

use super::LANES;
use super::scalar::{Arithmetic, InRust};
use crate::c::portable;

/// Whether the target has an instruction for fused multiply-add, which LLVM then uses.
const FUSED: bool = cfg!(target_feature = "fma")
    || !cfg!(any(target_arch = "x86", target_arch = "x86_64", target_arch = "arm"));

/// Arithmetic in C, with vectors. In Rust, LLVM would call a function for each lane.
#[derive(Clone, Copy)]
pub(crate) struct InC;

impl Arithmetic for InC {
    #[inline(always)]
    fn multiply_add(self, a: &[f32], b: &[f32], c: &mut [f32]) {
        if FUSED {
            InRust.multiply_add(a, b, c);
        } else {
            portable::multiply_add(a, b, c);
        }
    }

    #[inline(always)]
    fn widen(self, x: &[u16; LANES]) -> [f32; LANES] {
        portable::widen(x)
    }
}
