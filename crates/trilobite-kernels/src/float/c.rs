//! For any processor, with fused multiply-add in C.

use super::scalar::{MultiplyAdd, Scalar};
use crate::c::portable;

compile! { [] Scalar(InC) }

/// In vectors, which LLVM makes of no fused multiply-add where the target lacks the instruction.
#[derive(Clone, Copy)]
struct InC;

impl MultiplyAdd for InC {
    #[inline(always)]
    fn multiply_add(self, a: &[f32], b: &[f32], c: &mut [f32]) {
        portable::multiply_add(a, b, c);
    }
}
