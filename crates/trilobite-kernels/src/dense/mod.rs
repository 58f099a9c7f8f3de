//! Dense matrices, in the types of checkpoints and GGUF files.
//!
//! A row is a whole number of blocks. The value of a weight is that of ggml's reference
//! dequantisation, computed in f32: the exact product of the stored integers and scales, plus one
//! rounded addition in types with minimums. Each weight thus has exactly one right value.
//!
//! Float weights are multiplied with float activations (`floats`). Weights in blocks are small
//! integers, and are multiplied with 16-bit activations (`blocks`), which are split into bytes if
//! the weights have at most two bits (`low_bit`).

/// Evaluates an expression for each constant below `$end`, at most 8, as straight code. A loop that
/// the compiler does not unroll would keep the registers of its arrays in memory.
macro_rules! unroll {
    ($i:ident < $end:expr => $body:expr) => {
        unroll! { $i < $end => $body; 0 1 2 3 4 5 6 7 }
    };
    ($i:ident < $end:expr => $body:expr; $($value:literal)*) => {
        $({
            const $i: usize = $value;
            if const { $i < $end } {
                $body
            }
        })*
    };
}

pub(crate) mod blocks;
mod floats;
pub(crate) mod low_bit;
mod pack;
mod trits;
mod types;

pub(crate) use blocks::BlockBuffers;
pub use blocks::{
    BlockCodes, CodeGroup, CodeParts, NarrowCodes, NarrowGroup, WideCodes, WideGroup, wide_rest,
};
pub(crate) use floats::{FloatBuffer, gemm};
pub use low_bit::{ColumnOrder, SplitChunk, SplitCodes, SplitForm, SplitParts};
pub use pack::pack_tq2_0;
pub use types::{DenseMatrix, DenseType};

use low_bit::simd::BytePlanes;

/// Widens a matrix of one row.
#[inline(always)]
pub(crate) fn row(simd: impl BytePlanes, w: DenseMatrix<'_>, out: &mut [f32]) {
    match w.ty {
        DenseType::F32 | DenseType::F16 | DenseType::BF16 => floats::row(simd, w, out),
        _ if w.ty.is_low_bit() => low_bit::row(simd, w, out),
        _ => blocks::row(simd, w, out),
    }
}
