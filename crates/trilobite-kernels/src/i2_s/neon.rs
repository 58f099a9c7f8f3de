//! NEON: one `smlal` multiplies 8 codes with 8 activations.

use super::tiles::Ahead;
use super::{BLOCK, BLOCK_BYTES};
use std::arch::aarch64::*;
use std::arch::asm;

super::tiles::compile! { "neon", wide: false }

/// Number of bytes in a vector.
pub(super) const VECTOR: usize = 16;

/// Sums of codes times activations over the blocks of `R` rows and `T` tokens, which all have the
/// same number of blocks.
#[target_feature(enable = "neon")]
#[inline]
fn tile<const R: usize, const T: usize>(
    mut w: [&[[u8; BLOCK_BYTES]]; R],
    ahead: [Ahead; R],
    mut x: [&[[i8; BLOCK]]; T],
) -> [[i32; T]; R] {
    // Number of blocks that can be summed in i16. A lane then holds 128 products of a code in 0..=2
    // and an activation in -128..=127, which lie in -32768..=32512.
    const NARROW: usize = 8;

    let blocks = w[0].len();
    w.iter_mut().for_each(|w| *w = &w[..blocks]);
    x.iter_mut().for_each(|x| *x = &x[..blocks]);
    let mut sums = [[vdupq_n_s32(0); T]; R];
    for start in (0..blocks).step_by(NARROW) {
        let mut narrow = [[vdupq_n_s16(0); T]; R];
        for b in start..blocks.min(start + NARROW) {
            for r in 0..R {
                prefetch(ahead[r].block(b));
                let planes = planes(&w[r][b]);
                for t in 0..T {
                    for (plane, x) in planes.iter().zip(x[t][b].as_chunks().0) {
                        let x = load(x);
                        let low = (vget_low_s8(*plane), vget_low_s8(x));
                        narrow[r][t] = vmlal_s8(narrow[r][t], low.0, low.1);
                        narrow[r][t] = vmlal_high_s8(narrow[r][t], *plane, x);
                    }
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                sums[r][t] = vpadalq_s16(sums[r][t], narrow[r][t]);
            }
        }
    }
    sums.map(|sums| {
        let mut totals = [0; T];
        for t in 0..T {
            totals[t] = vaddvq_s32(sums[t]);
        }
        totals
    })
}

/// The codes of a block in order, sixteen to a register.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn planes(block: &[u8; BLOCK_BYTES]) -> [int8x16_t; BLOCK / VECTOR] {
    let [low, high] = [0, 1].map(|i| {
        let half = &block.as_chunks::<VECTOR>().0[i];
        // SAFETY: the reference is valid for reading the 16 bytes that a load reads.
        unsafe { vld1q_u8(half.as_ptr()) }
    });
    let mask = vdupq_n_u8(3);
    [
        vshrq_n_u8::<6>(low),
        vshrq_n_u8::<6>(high),
        vandq_u8(vshrq_n_u8::<4>(low), mask),
        vandq_u8(vshrq_n_u8::<4>(high), mask),
        vandq_u8(vshrq_n_u8::<2>(low), mask),
        vandq_u8(vshrq_n_u8::<2>(high), mask),
        vandq_u8(low, mask),
        vandq_u8(high, mask),
    ]
    .map(|plane| vreinterpretq_s8_u8(plane))
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load(codes: &[i8; VECTOR]) -> int8x16_t {
    // SAFETY: the reference is valid for reading the 16 bytes that a load reads.
    unsafe { vld1q_s8(codes.as_ptr()) }
}

/// Prefetches the cache line at an address, which may be outside the program's memory.
#[inline(always)]
pub(super) fn prefetch(address: *const i8) {
    // SAFETY: the instruction is a hint that never faults and changes no register.
    unsafe {
        asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags));
    }
}
