//! Dense matrices in the types that checkpoints and GGUF files store them in.
//!
//! A row is a whole number of blocks; a weight is what ggml's reference dequantises it to. Those
//! values, computed in f32, are exact products of the stored integers and scales, plus one rounded
//! addition in the types that have minimums, so that there is one right value for each weight.
//!
//! Weights in floats are multiplied with float activations (`floats`), and weights in blocks, which are
//! small integers, with activations of 16 bits (`blocks`).

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
pub use blocks::{WideCodes, WideGroup, WideParts};
pub(crate) use floats::{Buffer as FloatBuffer, gemm};
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
