//! For any processor, in C.

use super::LANES;
use super::scalar::Arithmetic;
use crate::c::portable;

/// In vectors, which LLVM does not make of a function for each lane.
#[derive(Clone, Copy)]
pub(crate) struct InC;

impl Arithmetic for InC {
    #[inline(always)]
    fn multiply_add(self, a: &[f32], b: &[f32], c: &mut [f32]) {
        portable::multiply_add(a, b, c);
    }

    #[inline(always)]
    fn widen(self, x: &[u16; LANES]) -> [f32; LANES] {
        portable::widen(x)
    }
}
