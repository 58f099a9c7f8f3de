//! NEON with dotprod: one `sdot` multiplies 16 codes with 16 activations and sums in i32.

use super::neon::{load, planes, prefetch};
use super::tiles::{Ahead, spread};
use super::{BLOCK, BLOCK_BYTES};
use std::arch::aarch64::*;
use std::arch::asm;

super::tiles::compile! { "neon,dotprod", wide: false }

/// Sums of codes times activations over the blocks of `R` rows and `T` tokens, which all have the
/// same number of blocks.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn tile<const R: usize, const T: usize>(
    mut w: [&[[u8; BLOCK_BYTES]]; R],
    ahead: [Ahead; R],
    mut x: [&[[i8; BLOCK]]; T],
) -> [[i32; T]; R] {
    let blocks = w[0].len();
    w.iter_mut().for_each(|w| *w = &w[..blocks]);
    x.iter_mut().for_each(|x| *x = &x[..blocks]);
    let mut sums = [[[vdupq_n_s32(0); 4]; T]; R];
    for b in 0..blocks {
        for r in 0..R {
            prefetch(ahead[r].block(b));
            let planes = planes(&w[r][b]);
            for t in 0..T {
                for (p, x) in x[t][b].as_chunks().0.iter().enumerate() {
                    let sum = &mut sums[r][t][p % const { spread(R * T, 4) }];
                    *sum = sdot(*sum, planes[p], load(x));
                }
            }
        }
    }
    let mut totals = [[0; T]; R];
    for r in 0..R {
        for t in 0..T {
            let [a, b, c, d] = sums[r][t];
            totals[r][t] = vaddvq_s32(vaddq_s32(vaddq_s32(a, b), vaddq_s32(c, d)));
        }
    }
    totals
}

/// Adds four products to each of four sums. The intrinsic is not stable yet.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn sdot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction belongs to the target features and touches only the registers named.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
