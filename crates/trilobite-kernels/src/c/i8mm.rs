//! `c/i8mm.c`: for 64-bit ARM with the matrix multiplication of int8.

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

/// Most rows and tokens of a tile.
const MOST: (usize, usize) = (4, 8);

/// Sums of codes times activations over equally many blocks of `R` rows and `T` tokens. The memory
/// `ahead` of each row is asked for.
#[target_feature(enable = "neon,dotprod,i8mm")]
#[inline]
pub(crate) fn tile<const R: usize, const T: usize>(
    w: [&[[u8; BLOCK_BYTES]]; R],
    ahead: [*const i8; R],
    x: [&[[i8; BLOCK]]; T],
) -> [[i32; T]; R] {
    const { assert!(0 < R && R <= MOST.0 && 0 < T && T <= MOST.1) };
    let blocks = w[0].len();
    assert!(w.iter().all(|w| w.len() == blocks) && x.iter().all(|x| x.len() == blocks), "blocks");
    let mut sums = [[0; T]; R];
    // SAFETY: the caller has the instructions. The function reads as many blocks as every row and token
    // has, writes `R * T` sums, and only prefetches what is ahead.
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
