//! Bindings of `c/i8mm.c`, for 64-bit ARM with int8 matrix multiplication.

use crate::i2_s::{BLOCK, BLOCK_BYTES};

unsafe extern "C" {
    fn trilobite_i8mm_tile(
        w: *const *const [u8; BLOCK_BYTES],
        ahead: *const *const i8,
        rows: usize,
        x: *const *const [i8; BLOCK],
        tokens: usize,
        blocks: usize,
        sums: *mut i32,
    );
}

/// Maximum number of rows and of tokens of a tile.
const MAX_TILE: (usize, usize) = (4, 8);

/// Sums of codes times activations over the blocks of `R` rows and `T` tokens, which all have the
/// same number of blocks. Prefetches the memory `ahead` of each row.
#[target_feature(enable = "neon,dotprod,i8mm")]
#[inline]
pub(crate) fn tile<const R: usize, const T: usize>(
    w: [&[[u8; BLOCK_BYTES]]; R],
    ahead: [*const i8; R],
    x: [&[[i8; BLOCK]]; T],
) -> [[i32; T]; R] {
    const { assert!(0 < R && R <= MAX_TILE.0 && 0 < T && T <= MAX_TILE.1) };
    let blocks = w[0].len();
    assert!(w.iter().all(|w| w.len() == blocks) && x.iter().all(|x| x.len() == blocks), "blocks");
    let mut sums = [[0; T]; R];
    // SAFETY: the caller has the instructions. The function reads as many blocks as every row and
    // token has, writes `R * T` sums, and only prefetches the addresses `ahead`.
    unsafe {
        trilobite_i8mm_tile(
            w.map(<[_]>::as_ptr).as_ptr(),
            ahead.as_ptr(),
            R,
            x.map(<[_]>::as_ptr).as_ptr(),
            T,
            blocks,
            sums.as_mut_ptr().cast(),
        );
    }
    sums
}
