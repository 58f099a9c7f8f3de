//! The order in which rows meet tokens, one for all instruction sets with vectors.

/// Compiles the multiplication for the given target features, around the `tile` of the module.
macro_rules! compile {
    ($features:literal, wide: $wide:literal) => {
        /// The proof that the processor has the features: only code compiled for them can safely
        /// make one.
        #[derive(Clone, Copy)]
        struct Features(());

        impl Features {
            #[target_feature(enable = $features)]
            fn new() -> Features {
                Features(())
            }
        }

        impl super::tiles::Tile for Features {
            const WIDE: bool = $wide;

            #[inline(always)]
            fn tile<const R: usize, const T: usize>(
                self,
                w: [&[[u8; BLOCK_BYTES]]; R],
                x: [&[[i8; BLOCK]]; T],
            ) -> [[i32; T]; R] {
                // SAFETY: `self` proves that the processor has the features.
                unsafe { tile(w, x) }
            }
        }

        /// See [`Kernels::ternary_gemm`](crate::Kernels::ternary_gemm), which checks the lengths.
        #[target_feature(enable = $features)]
        pub(crate) fn gemm(
            layout: super::Rows,
            packed: &[u8],
            cols: usize,
            rows: std::ops::Range<usize>,
            x: &crate::Codes,
            tokens: std::ops::Range<usize>,
            out: &mut [i32],
        ) {
            super::tiles::gemm(Features::new(), layout, packed, cols, rows, x, tokens, out)
        }
    };
}
pub(super) use compile;

use super::{BLOCK, BLOCK_BYTES, Rows};
use crate::Codes;
use std::ops::Range;

/// Rows that one batch of tokens after another is multiplied with, for the second-level cache.
const ROWS: usize = 64;
/// Bytes of activations that rows are multiplied with in turn, for the first-level cache.
const ACTIVATIONS: usize = 32 * 1024;

/// An instruction set's inner loop. A value of the type proves that the processor has the
/// instructions.
pub(crate) trait Tile: Copy {
    /// Whether sixteen sums and the codes of two rows fit in the registers.
    const WIDE: bool;

    /// Sums of codes times activations over equally many blocks of `R` rows and `T` tokens.
    fn tile<const R: usize, const T: usize>(
        self,
        w: [&[[u8; BLOCK_BYTES]]; R],
        x: [&[[i8; BLOCK]]; T],
    ) -> [[i32; T]; R];
}

/// How many registers a tile of `sums` should spread each of its sums over, at most `most`, so that
/// one addition need not wait for the one before it.
pub(super) const fn spread(sums: usize, most: usize) -> usize {
    if most * sums <= 8 || most == 1 { most } else { spread(sums, most / 2) }
}

/// See [`Kernels::ternary_gemm`](crate::Kernels::ternary_gemm), which checks the lengths.
#[inline(always)]
pub(crate) fn gemm<S: Tile>(
    simd: S,
    layout: Rows,
    packed: &[u8],
    cols: usize,
    rows: Range<usize>,
    x: &Codes,
    tokens: Range<usize>,
    out: &mut [i32],
) {
    let stride = rows.len();
    for (out, t) in out.chunks_exact_mut(stride).zip(tokens.clone()) {
        // sum(trit * x) = sum(code * x) - sum(x), because a code is a trit + 1.
        out.fill(-x.sums()[t]);
    }
    let packed = packed.as_chunks().0;
    for first in rows.clone().step_by(ROWS) {
        let weights = Weights { layout, packed, cols, rows: first..rows.end.min(first + ROWS) };
        let mut t = tokens.start;
        while t < tokens.end {
            let out = &mut out[(t - tokens.start) * stride + first - rows.start..];
            // The tiles that measured fastest: more sums spill out of registers, and few tokens
            // leave the decoding of several rows to overlap.
            t += match (tokens.end - t, S::WIDE) {
                (1, _) => gemm_tokens::<4, 1>(simd, &weights, x, t, out, stride),
                (2, false) => gemm_tokens::<2, 2>(simd, &weights, x, t, out, stride),
                (2, true) => gemm_tokens::<4, 2>(simd, &weights, x, t, out, stride),
                (3, false) => gemm_tokens::<1, 3>(simd, &weights, x, t, out, stride),
                (3, true) => gemm_tokens::<2, 3>(simd, &weights, x, t, out, stride),
                (4..8, false) => gemm_tokens::<1, 4>(simd, &weights, x, t, out, stride),
                (4..8, true) => gemm_tokens::<2, 4>(simd, &weights, x, t, out, stride),
                (_, false) => gemm_tokens::<1, 8>(simd, &weights, x, t, out, stride),
                (_, true) => gemm_tokens::<2, 8>(simd, &weights, x, t, out, stride),
            };
        }
    }
}

/// Some rows of a packed matrix.
struct Weights<'a> {
    layout: Rows,
    packed: &'a [[u8; BLOCK_BYTES]],
    cols: usize,
    rows: Range<usize>,
}

/// Adds the sums of codes times activations of `T` tokens from `t` on, taking rows in tiles of `R`
/// where possible; returns `T`.
#[inline(always)]
fn gemm_tokens<const R: usize, const T: usize>(
    simd: impl Tile,
    weights: &Weights<'_>,
    x: &Codes,
    t: usize,
    out: &mut [i32],
    stride: usize,
) -> usize {
    let Weights { layout, packed, cols, ref rows } = *weights;
    // Rows that begin at the same place within a block can share activations; others may touch
    // one block more.
    let aligned = layout == Rows::Padded || cols.is_multiple_of(BLOCK);
    let blocks = cols.div_ceil(BLOCK) + usize::from(!aligned);
    let parts = (T * blocks * BLOCK).div_ceil(ACTIVATIONS);
    let step = blocks.div_ceil(parts);
    for start in (0..blocks).step_by(step) {
        let mut r = rows.start;
        while r < rows.end {
            let (blocks, offset) = layout.blocks(r, cols);
            let from = blocks.end.min(blocks.start + start);
            let to = blocks.end.min(from + step);
            let mut x_blocks = [[].as_slice(); T];
            for (i, x_blocks) in x_blocks.iter_mut().enumerate() {
                let x = &x.padded(t + i)[BLOCK - offset + start * BLOCK..];
                *x_blocks = &x.as_chunks().0[..to - from];
            }
            let out = &mut out[r - rows.start..];
            if aligned && r + R <= rows.end {
                let mut w = [[].as_slice(); R];
                for (i, w) in w.iter_mut().enumerate() {
                    *w = &packed[from + i * blocks.len()..to + i * blocks.len()];
                }
                add(simd.tile::<R, T>(w, x_blocks), out, stride);
                r += R;
            } else {
                add(simd.tile::<1, T>([&packed[from..to]], x_blocks), out, stride);
                r += 1;
            }
        }
    }
    T
}

fn add<const R: usize, const T: usize>(sums: [[i32; T]; R], out: &mut [i32], stride: usize) {
    for (r, sums) in sums.iter().enumerate() {
        for (t, sum) in sums.iter().enumerate() {
            out[t * stride + r] += sum;
        }
    }
}
