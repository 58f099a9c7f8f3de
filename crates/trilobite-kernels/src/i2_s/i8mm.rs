//! The C kernels for int8 matrix multiplication: two `smmla` multiply 16 codes of two rows with 16
//! activations of two tokens.

use super::tiles::Ahead;
use super::{BLOCK, BLOCK_BYTES};
use crate::c::i8mm;

super::tiles::compile! { "neon,dotprod,i8mm", wide: true }

/// Sums of codes times activations over the blocks of `R` rows and `T` tokens, which all have the
/// same number of blocks.
#[target_feature(enable = "neon,dotprod,i8mm")]
#[inline]
fn tile<const R: usize, const T: usize>(
    w: [&[[u8; BLOCK_BYTES]]; R],
    ahead: [Ahead; R],
    x: [&[[i8; BLOCK]]; T],
) -> [[i32; T]; R] {
    i8mm::tile(w, ahead.map(|ahead| ahead.block(0)), x)
}
