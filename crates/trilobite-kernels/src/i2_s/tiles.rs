//! The loops over rows and tokens, shared by all vector instruction sets.

/// Compiles the multiplication for the given target features, around the `tile` function of the
/// module.
macro_rules! compile {
    ($features:literal, wide: $wide:literal) => {
        /// The proof that the processor has the features. Only code compiled for them can safely
        /// create one.
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
                ahead: [Ahead; R],
                x: [&[[i8; BLOCK]]; T],
            ) -> [[i32; T]; R] {
                // SAFETY: `self` proves that the processor has the features.
                unsafe { tile(w, ahead, x) }
            }
        }

        /// Fills `out` with the sums of a [`Product`](super::Product).
        #[target_feature(enable = $features)]
        pub(crate) fn gemm(product: &super::Product<'_>, out: &mut [i32]) {
            super::tiles::gemm(Features::new(), product, out)
        }

        /// Fills `out` with the sums of a [`Product`](super::Product) of a list of rows.
        #[target_feature(enable = $features)]
        pub(crate) fn rows(product: &super::Product<'_, &[u32]>, out: &mut [i32]) {
            super::tiles::gemm(Features::new(), product, out)
        }
    };
}
pub(super) use compile;

use super::{BLOCK, BLOCK_BYTES, Matrix, Product};
use crate::codes::{Codes, MARGIN};
use crate::simd::{AHEAD, ahead};
use std::ops::Range;

/// Number of rows that stay in the second-level cache while batches of tokens pass.
const ROWS: usize = 64;
/// Bytes of activations that stay in the first-level cache while rows pass.
const ACTIVATIONS: usize = 32 * 1024;

/// A selection of rows of a matrix, in any order.
pub(crate) trait Select: Clone {
    fn count(&self) -> usize;

    /// The `i`th row of the selection.
    fn row(&self, i: usize) -> usize;

    /// The index of the block to prefetch: the one [`ahead`] bytes after `block`, which belongs to
    /// the `i`th row or follows it.
    fn ahead(&self, i: usize, block: usize, matrix: &Matrix<'_>) -> usize;
}

impl Select for Range<usize> {
    fn count(&self) -> usize {
        self.len()
    }

    fn row(&self, i: usize) -> usize {
        self.start + i
    }

    fn ahead(&self, _: usize, block: usize, _: &Matrix<'_>) -> usize {
        block + ahead() / BLOCK_BYTES
    }
}

impl Select for &[u32] {
    fn count(&self) -> usize {
        self.len()
    }

    fn row(&self, i: usize) -> usize {
        self[i] as usize
    }

    /// Prefetches only rows of the selection. Twice [`AHEAD`] measured fastest, because the hardware
    /// prefetches less by itself.
    fn ahead(&self, i: usize, block: usize, matrix: &Matrix<'_>) -> usize {
        let rows = (2 * AHEAD * 4).div_ceil(matrix.cols);
        let later = self.get(i + rows).map_or(self.row(i), |row| *row as usize);
        block - matrix.row(self.row(i)).0.start + matrix.row(later).0.start
    }
}

/// The addresses to prefetch while a row is processed.
#[derive(Clone, Copy)]
pub(crate) struct Ahead(*const [u8; BLOCK_BYTES]);

impl Ahead {
    /// The address for block `b` of the row. It may lie beyond the matrix.
    pub(super) fn block(self, b: usize) -> *const i8 {
        self.0.wrapping_add(b).cast()
    }
}

/// The inner loop of an instruction set. A value of the type proves that the processor has the
/// instructions.
pub(crate) trait Tile: Copy {
    /// Whether sixteen sums and the codes of two rows fit in the registers.
    const WIDE: bool;

    /// Sums of codes times activations over the blocks of `R` rows and `T` tokens, which all have
    /// the same number of blocks.
    fn tile<const R: usize, const T: usize>(
        self,
        w: [&[[u8; BLOCK_BYTES]]; R],
        ahead: [Ahead; R],
        x: [&[[i8; BLOCK]]; T],
    ) -> [[i32; T]; R];
}

/// The number of registers for each of the `sums` of a tile, at most `most`. With several, an
/// addition need not wait for the one before it.
pub(crate) const fn spread(sums: usize, most: usize) -> usize {
    if most * sums <= 8 || most == 1 { most } else { spread(sums, most / 2) }
}

/// Fills `out` with the sums of a [`Product`].
#[inline(always)]
pub(crate) fn gemm<S: Tile>(simd: S, product: &Product<'_, impl Select>, out: &mut [i32]) {
    let Product { matrix, ref rows, x, ref tokens } = *product;
    let stride = rows.count();
    for (out, t) in out.chunks_exact_mut(stride).zip(tokens.clone()) {
        // sum(trit * x) = sum(code * x) - sum(x), because a code is a trit + 1.
        out.fill(-x.sums()[t]);
    }
    for first in (0..stride).step_by(ROWS) {
        let part = first..stride.min(first + ROWS);
        let weights = SelectedRows { matrix, rows: rows.clone(), part };
        let mut t = tokens.start;
        while t < tokens.end {
            let out = &mut out[(t - tokens.start) * stride + first..];
            // The tile sizes that measured fastest. More sums spill registers; with few tokens,
            // decoding several rows overlaps.
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

/// The selected rows of a packed matrix.
struct SelectedRows<'a, S> {
    matrix: Matrix<'a>,
    rows: S,
    /// The range of the selection.
    part: Range<usize>,
}

/// Adds the sums of codes times activations of `T` tokens from `t` on, in tiles of `R` rows where
/// possible. Returns `T`.
#[inline(always)]
fn gemm_tokens<const R: usize, const T: usize>(
    simd: impl Tile,
    weights: &SelectedRows<'_, impl Select>,
    x: &Codes,
    t: usize,
    out: &mut [i32],
    stride: usize,
) -> usize {
    let SelectedRows { matrix, ref rows, ref part } = *weights;
    // Rows with the same start within a block can share activations. Others may extend over one
    // more block.
    let aligned = matrix.is_aligned();
    let blocks = matrix.cols.div_ceil(BLOCK) + usize::from(!aligned);
    let parts = (T * blocks * BLOCK).div_ceil(ACTIVATIONS);
    let step = blocks.div_ceil(parts);
    for start in (0..blocks).step_by(step) {
        let mut r = part.start;
        while r < part.end {
            // The first row's first block, and its range in this part of the columns.
            let (first, offset) = matrix.row(rows.row(r));
            let len = first.len().min(start + step).saturating_sub(start);
            let mut x_blocks = [[].as_slice(); T];
            for (i, x_blocks) in x_blocks.iter_mut().enumerate() {
                let x = &x.padded(t + i)[MARGIN - offset + start * BLOCK..];
                *x_blocks = &x.as_chunks().0[..len];
            }
            let blocks = |i| {
                let all = matrix.row(rows.row(i)).0;
                let from = all.end.min(all.start + start);
                let ahead = matrix.blocks.as_ptr().wrapping_add(rows.ahead(i, from, &matrix));
                (&matrix.blocks[from..from + len], Ahead(ahead))
            };
            let out = &mut out[r - part.start..];
            if aligned && r + R <= part.end {
                let (first_row, first_ahead) = blocks(r);
                let (mut w, mut ahead) = ([first_row; R], [first_ahead; R]);
                for i in 1..R {
                    (w[i], ahead[i]) = blocks(r + i);
                }
                add(simd.tile::<R, T>(w, ahead, x_blocks), out, stride);
                r += R;
            } else {
                let (w, ahead) = blocks(r);
                add(simd.tile::<1, T>([w], [ahead], x_blocks), out, stride);
                r += 1;
            }
        }
    }
    T
}

#[inline(always)]
fn add<const R: usize, const T: usize>(sums: [[i32; T]; R], out: &mut [i32], stride: usize) {
    for (r, sums) in sums.iter().enumerate() {
        for (t, sum) in sums.iter().enumerate() {
            out[t * stride + r] += sum;
        }
    }
}
