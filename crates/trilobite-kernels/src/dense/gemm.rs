//! Dense matrices times float activations.
//!
//! With one token, weights live in registers only. With several, a panel of rows is widened to f32
//! once, and tiles of some rows and tokens are multiplied one register's width of lanes at a time,
//! which lets a tile be larger; the lanes' sums wait in memory meanwhile.

use super::DenseType;
use super::format::{self, Format, dispatch, unroll};
use crate::float::simd::{LANES, Simd, pad};
use std::cell::RefCell;

/// Rows of narrow weights that are multiplied with one token side by side.
const ROWS: usize = 4;
/// Groups of columns of such a row before it is the next row's turn.
const GROUPS: usize = 8;
/// Groups of columns that a panel has at most, so that one part of it fits in the first-level cache.
const DEPTH: usize = 32;
/// Tokens that are multiplied with one panel after another, for the second-level cache.
const TOKENS: usize = 96;
/// Bytes that weights are asked for before their use: the distance that measured fastest when they come
/// from memory.
const AHEAD: usize = 8192;

/// Thirty-two lanes in memory, as aligned as the widest registers.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Lanes([f32; LANES]);

impl Lanes {
    const ZERO: Lanes = Lanes([0.0; LANES]);
}

thread_local! {
    /// The sums of a panel's rows for some tokens.
    static SUMS: RefCell<Vec<Lanes>> = const { RefCell::new(Vec::new()) };
}

/// See [`Kernels::dense_gemm`](crate::Kernels::dense_gemm), which checks the lengths. `w` holds
/// exactly the rows wanted, and `out` is `[tokens][rows]` for at least one token.
#[inline(always)]
pub(crate) fn gemm<S: Simd>(
    simd: S,
    ty: DenseType,
    w: &[u8],
    cols: usize,
    x: &[f32],
    out: &mut [f32],
) {
    match (x.len() == cols, S::REGISTERS) {
        (true, _) => dispatch!(ty, gemv(simd, w, x, out)),
        (false, 32..) => panels::<S, 6, 4>(simd, ty, w, cols, x, out),
        (false, _) => panels::<S, 4, 3>(simd, ty, w, cols, x, out),
    }
}

/// The products of rows with one token.
///
/// A sum waits for the one before, which takes longer than to unpack narrow weights. So some rows
/// go side by side, a few columns of one and then of the next.
#[inline(always)]
fn gemv<F: Format<N>, const N: usize>(simd: impl Simd, w: &[u8], x: &[f32], out: &mut [f32]) {
    let row_len = w.len() / out.len();
    let (abreast, groups) = if N < 34 * F::GROUPS { (ROWS, GROUPS) } else { (1, usize::MAX) };
    let (x, x_tail) = x.as_chunks();
    for (out, w) in out.chunks_mut(abreast).zip(w.chunks(abreast * row_len)) {
        let mut sums = [Lanes::ZERO; ROWS];
        let mut start = 0;
        for x in x.chunks(groups) {
            let len = x.len() / F::GROUPS * N;
            for (sum, row) in sums.iter_mut().zip(w.chunks_exact(row_len)) {
                let blocks = row[start..start + len].as_chunks().0;
                let mut acc = simd.load(&sum.0);
                for (block, x) in blocks.iter().zip(x.chunks_exact(F::GROUPS)) {
                    for line in block.chunks(64) {
                        simd.prefetch(line.as_ptr().wrapping_add(AHEAD));
                    }
                    let shared = F::shared(simd, block);
                    unroll!(GROUP < F::GROUPS => {
                        let weights = F::load::<_, GROUP>(simd, block, &shared);
                        acc = simd.mul_add(weights, simd.load(&x[GROUP]), acc);
                    });
                }
                simd.store(acc, &mut sum.0);
            }
            start += len;
        }
        for ((out, sum), row) in out.iter_mut().zip(&sums).zip(w.chunks_exact(row_len)) {
            let mut acc = simd.load(&sum.0);
            if F::TAILS && !x_tail.is_empty() {
                let block = pad(&row[start..]);
                let weights = F::load::<_, 0>(simd, &block, &F::shared(simd, &block));
                acc = simd.mul_add(weights, simd.load(&pad(x_tail)), acc);
            }
            *out = simd.sum(acc);
        }
    }
}

/// The products of rows with several tokens, in tiles of `R` rows and `T` tokens.
#[inline(always)]
fn panels<S: Simd, const R: usize, const T: usize>(
    simd: S,
    ty: DenseType,
    w: &[u8],
    cols: usize,
    x: &[f32],
    out: &mut [f32],
) {
    let tokens = x.len() / cols;
    let rows = out.len() / tokens;
    let row_len = w.len() / rows;
    let (block, block_len) = ty.block();
    let mut panel = [[Lanes::ZERO; R]; DEPTH];
    // Not by a closure, which would be compiled without the instruction set.
    let mut sums = SUMS.take();
    for first_token in (0..tokens).step_by(TOKENS) {
        let count = TOKENS.min(tokens - first_token);
        for first_row in (0..rows).step_by(R) {
            sums.clear();
            sums.resize(count * R, Lanes::ZERO);
            for col in (0..cols).step_by(DEPTH * LANES) {
                let depth = (DEPTH * LANES).min(cols - col);
                for r in 0..R.min(rows - first_row) {
                    let start = (first_row + r) * row_len + col / block * block_len;
                    let w = &w[start..start + depth / block * block_len];
                    dispatch!(ty, widen(simd, w, &mut panel.as_flattened_mut()[r..], R));
                }
                let panel = &panel[..depth.div_ceil(LANES)];
                for t in (0..count).step_by(T) {
                    let x = &x[(first_token + t) * cols + col..];
                    let sums = &mut sums[t * R..];
                    match count - t {
                        1 => tiles::<S, R, 1>(simd, panel, x, cols, depth, sums),
                        2 => tiles::<S, R, 2>(simd, panel, x, cols, depth, sums),
                        3 if T > 3 => tiles::<S, R, 3>(simd, panel, x, cols, depth, sums),
                        _ => tiles::<S, R, T>(simd, panel, x, cols, depth, sums),
                    }
                }
            }
            for (t, sums) in sums.chunks_exact(R).enumerate() {
                let out =
                    &mut out[(first_token + t) * rows + first_row..][..R.min(rows - first_row)];
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = simd.sum(simd.load(&sum.0));
                }
            }
        }
    }
    SUMS.set(sums);
}

/// Widens some columns of one row of a panel to every `step`th of `out`.
#[inline(always)]
fn widen<F: Format<N>, const N: usize>(simd: impl Simd, w: &[u8], out: &mut [Lanes], step: usize) {
    let (blocks, tail) = w.as_chunks();
    for (block, out) in blocks.iter().zip(out.chunks_mut(F::GROUPS * step)) {
        let shared = F::shared(simd, block);
        unroll!(GROUP < F::GROUPS => {
            simd.store(F::load::<_, GROUP>(simd, block, &shared), &mut out[GROUP * step].0);
        });
    }
    if F::TAILS && !tail.is_empty() {
        let block = pad(tail);
        let shared = F::shared(simd, &block);
        simd.store(F::load::<_, 0>(simd, &block, &shared), &mut out[blocks.len() * step].0);
    }
}

/// Adds the products of a panel with the first `depth` columns of `T` tokens, part by part.
#[inline(always)]
fn tiles<S: Simd, const R: usize, const T: usize>(
    simd: S,
    panel: &[[Lanes; R]],
    x: &[f32],
    cols: usize,
    depth: usize,
    sums: &mut [Lanes],
) {
    let mut chunks = [[].as_slice(); T];
    let mut tails = [[0.0; LANES]; T];
    for t in 0..T {
        let (whole, tail) = x[t * cols..][..depth].as_chunks();
        (chunks[t], tails[t]) = (whole, pad(tail));
    }
    if let Some(sums) = sums.as_chunks_mut::<R>().0.first_chunk_mut::<T>() {
        unroll!(PART < LANES / S::WIDTH => {
            tile::<S, R, T, PART>(simd, panel, &chunks, &tails, sums);
        });
    }
}

/// Adds the products of part `P` of a panel with `T` tokens.
#[inline(always)]
fn tile<S: Simd, const R: usize, const T: usize, const P: usize>(
    simd: S,
    panel: &[[Lanes; R]],
    x: &[&[[f32; LANES]]; T],
    tails: &[[f32; LANES]; T],
    sums: &mut [[Lanes; R]; T],
) {
    let mut acc = [[simd.load_part::<P>(&[0.0; LANES]); R]; T];
    for t in 0..T {
        for r in 0..R {
            acc[t][r] = simd.load_part::<P>(&sums[t][r].0);
        }
    }
    let (panel, last) = panel.split_at(x[0].len());
    let mut chunks = [[].as_slice(); T];
    for t in 0..T {
        chunks[t] = &x[t][..panel.len()];
    }
    for (i, w) in panel.iter().enumerate() {
        let mut x = [&[0.0; LANES]; T];
        for t in 0..T {
            x[t] = &chunks[t][i];
        }
        multiply::<S, R, T, P>(simd, w, x, &mut acc);
    }
    if let Some(w) = last.first() {
        let mut x = [&[0.0; LANES]; T];
        for t in 0..T {
            x[t] = &tails[t];
        }
        multiply::<S, R, T, P>(simd, w, x, &mut acc);
    }
    for t in 0..T {
        for r in 0..R {
            simd.store_part::<P>(acc[t][r], &mut sums[t][r].0);
        }
    }
}

/// Adds the products of part `P` of one group of columns.
#[inline(always)]
fn multiply<S: Simd, const R: usize, const T: usize, const P: usize>(
    simd: S,
    w: &[Lanes; R],
    x: [&[f32; LANES]; T],
    acc: &mut [[S::Part; R]; T],
) {
    let mut weights = [acc[0][0]; R];
    for r in 0..R {
        weights[r] = simd.load_part::<P>(&w[r].0);
    }
    for t in 0..T {
        let x = simd.load_part::<P>(x[t]);
        for r in 0..R {
            acc[t][r] = simd.mul_add_part(weights[r], x, acc[t][r]);
        }
    }
}

/// See [`Kernels::dense_row`](crate::Kernels::dense_row); `w` is the row.
#[inline(always)]
pub(crate) fn row(simd: impl Simd, ty: DenseType, w: &[u8], out: &mut [f32]) {
    let mut panel = [Lanes::ZERO; DEPTH];
    let (block, block_len) = ty.block();
    for (out, w) in out.chunks_mut(DEPTH * LANES).zip(w.chunks(DEPTH * LANES / block * block_len)) {
        dispatch!(ty, widen(simd, w, &mut panel, 1));
        for (out, lanes) in out.chunks_mut(LANES).zip(&panel) {
            out.copy_from_slice(&lanes.0[..out.len()]);
        }
    }
}
