//! The kernels in C for the matrix multiplication of int8: 16 codes of two rows times 16 activations of
//! two tokens by two `smmla`.

use super::tiles::Ahead;
use super::{BLOCK, BLOCK_BYTES};
use crate::c::i8mm;

super::tiles::compile! { "neon,dotprod,i8mm", wide: true }

/// Sums of codes times activations over equally many blocks of `R` rows and `T` tokens.
#[target_feature(enable = "neon,dotprod,i8mm")]
#[inline]
fn tile<const R: usize, const T: usize>(
    w: [&[[u8; BLOCK_BYTES]]; R],
    ahead: [Ahead; R],
    x: [&[[i8; BLOCK]]; T],
) -> [[i32; T]; R] {
    i8mm::tile(w, ahead.map(|ahead| ahead.block(0)), x)
}
