//! Dense matrices, in the types of checkpoints and GGUF files.
//!
//! A row is a whole number of blocks. The value of a weight is that of ggml's reference
//! dequantisation, computed in f32: the exact product of the stored integers and scales, plus one
//! rounded addition in types with minimums. Each weight thus has exactly one right value.
//!
//! Float weights are multiplied with float activations (`floats`). Weights in blocks are small
//! integers, and are multiplied with 16-bit activations (`blocks`).

pub(crate) mod blocks;
mod floats;
mod pack;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
mod trits;
mod types;

pub(crate) use blocks::Buffers as BlockBuffers;
pub use blocks::{WideCodes, WideGroup, WideParts, wide_rest};
pub(crate) use floats::{Buffer as FloatBuffer, gemm};
pub use pack::pack_tq2_0;
pub use types::{DenseMatrix, DenseType};

use blocks::simd::Integers;

/// Widens a matrix of one row.
#[inline(always)]
pub(crate) fn row(simd: impl Integers, w: DenseMatrix<'_>, out: &mut [f32]) {
    match w.ty {
        DenseType::F32 | DenseType::F16 | DenseType::BF16 => floats::row(simd, w, out),
        _ => blocks::row(simd, w, out),
    }
}
