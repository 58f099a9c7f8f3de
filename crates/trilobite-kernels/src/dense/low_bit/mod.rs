//! Products of weights of at most two bits with activations that are split into bytes.
//!
//! A weight is `d (c - 1)` with a code `c` from 0 to 3, and a scale `d` for every 64 or 128 columns.
//! Columns form chunks of 256. A row of activations is rounded to integers with a step for every
//! chunk: the largest magnitude divided by 4,194,303, so that they are as precise as f32. An integer
//! is three signed bytes. The product of a code and a byte is the cheapest that processors have.
//! On request integers are single bytes, with a step of the largest magnitude divided by 127.
//!
//! For each chunk, lane `i` of 16 sums `(c - 1) a` over the columns of the bytes `4 i` to `4 i + 3` of
//! four planes, an exact integer below 2^28. Then `row[i] = fma(f32(lane[i]) d, step, row[i])`, where the conversion and
//! the product with `d` are rounded to nearest. At the end the 16 lanes are added pairwise: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
//!
//! Codes and bytes are stored in four planes of 64 bytes. The order of columns is that of the type's
//! packed bytes, so a plane is one shift and one mask of them: see [`ColumnOrder`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bits;
pub(super) mod codes;
mod format;
mod lookup;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
pub(crate) mod simd;

pub(crate) use codes::{CHUNK, split_codes};
pub use codes::{ColumnOrder, SplitChunk, SplitCodes, SplitForm, SplitParts};

use self::codes::{PLANE_LEN, PLANES, SplitRow};
use self::format::{LowBitFormat, dispatch};
use self::simd::BytePlanes;
use super::blocks::simd::Half;
use super::types::{DenseMatrix, DenseType};
use crate::simd::AHEAD;

/// Number of chunks that a tile of tokens multiplies at a time. Its activations then stay in the
/// first-level cache.
const DEPTH: usize = 6;

/// Buffers of a product.
#[derive(Debug, Default)]
pub(crate) struct LowBitBuffers {
    /// Sums of a tile of tokens.
    sums: Vec<Half>,
    #[cfg(target_arch = "x86_64")]
    tables: Vec<bits::ChunkTables>,
    lookup: lookup::LookupBuffers,
}

/// The products of all rows with at least one token. `out` is `[tokens][rows]`, and not empty.
#[inline(always)]
pub(crate) fn gemm<S: BytePlanes>(
    simd: S,
    w: DenseMatrix<'_>,
    x: &SplitCodes,
    buffers: &mut LowBitBuffers,
    out: &mut [f32],
) {
    let sums = &mut buffers.sums;
    if x.form().int8 {
        return dispatch!(w.ty, tokens::<S, true>(simd, w, x, 0, sums, out));
    }
    let first = lookup::gemm(simd, w, x, &mut buffers.lookup, out);
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = simd.look_up_bits()
        && bits::fits(&w)
    {
        return bits::gemm(avx2, w, x, first, &mut buffers.tables, out);
    }
    dispatch!(w.ty, tokens::<S, false>(simd, w, x, first, sums, out))
}

/// The products of rows with the tokens from `first` on, a tile of tokens at a time.
#[inline(always)]
fn tokens<
    S: BytePlanes,
    const INT8: bool,
    F: LowBitFormat<N, B>,
    const N: usize,
    const B: usize,
>(
    simd: S,
    w: DenseMatrix<'_>,
    x: &SplitCodes,
    mut first: usize,
    sums: &mut Vec<Half>,
    out: &mut [f32],
) {
    while first < x.tokens() {
        let n = match x.tokens() - first {
            4.. if S::TOKENS == 4 => 4,
            2.. if S::TOKENS >= 2 => 2,
            _ => 1,
        };
        let out = &mut out[first * w.rows..(first + n) * w.rows];
        match n {
            4 if const { S::TOKENS == 4 } => {
                tile::<S, INT8, F, N, B, 4>(simd, w, rows(x, first), sums, out)
            }
            2 if const { S::TOKENS >= 2 } => {
                tile::<S, INT8, F, N, B, 2>(simd, w, rows(x, first), sums, out)
            }
            _ => tile::<S, INT8, F, N, B, 1>(simd, w, rows(x, first), sums, out),
        }
        first += n;
    }
}

/// The activations of `T` tokens.
fn rows<const T: usize>(x: &SplitCodes, first: usize) -> [SplitRow<'_>; T] {
    std::array::from_fn(|t| x.row(first + t))
}

/// The products of rows with `T` tokens.
#[inline(always)]
fn tile<
    S: BytePlanes,
    const INT8: bool,
    F: LowBitFormat<N, B>,
    const N: usize,
    const B: usize,
    const T: usize,
>(
    simd: S,
    w: DenseMatrix<'_>,
    x: [SplitRow<'_>; T],
    sums: &mut Vec<Half>,
    out: &mut [f32],
) {
    let row_len = w.bytes.len() / w.rows;
    let chunks = x[0].steps.len();
    let depth = if T == 1 { chunks } else { DEPTH.min(chunks) };
    if depth < chunks {
        sums.resize(sums.len().max(w.rows * T), Half::ZERO);
    }
    for start in (0..chunks).step_by(depth) {
        let end = chunks.min(start + depth);
        let x = x.map(|x| x.chunks(start..end));
        for (r, row) in w.bytes.chunks_exact(row_len).enumerate() {
            let mut acc = [simd.splat_half(0.0); T];
            if start > 0 {
                unroll!(TOKEN < T => acc[TOKEN] = simd.load_half(&sums[r * T + TOKEN]));
            }
            let (whole, tail) = row.as_chunks::<N>().0.as_chunks::<B>();
            let mut last = [[[0; N]; B]];
            last[0][..tail.len()].copy_from_slice(tail);
            let last = if tail.is_empty() || end < chunks { &last[..0] } else { &last[..] };
            let mut i = 0;
            for part in [&whole[start.min(whole.len())..end.min(whole.len())], last] {
                for chunk in part {
                    let bytes = chunk.as_flattened();
                    simd.prefetch(bytes.as_ptr().wrapping_add(AHEAD), bytes.len());
                    add::<S, INT8, F, N, B, T>(simd, chunk, &x, i, &mut acc);
                    i += 1;
                }
            }
            unroll!(TOKEN < T => {
                if end == chunks {
                    out[TOKEN * w.rows + r] = simd.sum_half(acc[TOKEN]);
                } else {
                    simd.store_half(acc[TOKEN], &mut sums[r * T + TOKEN]);
                }
            });
        }
    }
}

/// Adds the products of a chunk of a row with chunk `i` of `T` tokens.
#[inline(always)]
fn add<
    S: BytePlanes,
    const INT8: bool,
    F: LowBitFormat<N, B>,
    const N: usize,
    const B: usize,
    const T: usize,
>(
    simd: S,
    chunk: &[[u8; N]; B],
    x: &[SplitRow<'_>; T],
    i: usize,
    acc: &mut [S::Half; T],
) {
    let codes = F::planes(simd, chunk);
    let steps = simd.steps(F::steps(chunk));
    unroll!(TOKEN < T => {
        let x = x[TOKEN];
        let SplitChunk { high, middle, low, less } = &x.chunks[i];
        let mut dot = simd.dot_planes(&codes, low, simd.load_sums(less));
        if const { !INT8 } {
            let high = simd.dot_planes(&codes, high, simd.zero_sums());
            let middle = simd.dot_planes(&codes, middle, simd.zero_sums());
            dot = simd.join(simd.join(high, middle), dot);
        }
        let scaled = simd.mul_half(simd.floats(dot), steps);
        acc[TOKEN] = simd.mul_add_half(scaled, simd.splat_half(x.steps[i]), acc[TOKEN]);
    });
}

/// Widens a matrix of one row.
#[inline(always)]
pub(crate) fn row<S: BytePlanes>(simd: S, w: DenseMatrix<'_>, out: &mut [f32]) {
    dispatch!(w.ty, widen::<S>(simd, w.bytes, out))
}

#[inline(always)]
fn widen<S: BytePlanes, F: LowBitFormat<N, B>, const N: usize, const B: usize>(
    simd: S,
    row: &[u8],
    out: &mut [f32],
) {
    let blocks = row.as_chunks::<N>().0.chunks(B);
    for (out, blocks) in out.chunks_mut(CHUNK).zip(blocks) {
        let mut chunk = [[0; N]; B];
        chunk[..blocks.len()].copy_from_slice(blocks);
        let mut codes = [[0; PLANE_LEN]; PLANES];
        for (out, plane) in codes.iter_mut().zip(F::planes(simd, &chunk)) {
            simd.store_plane(plane, out);
        }
        let mut steps = Half::ZERO;
        simd.store_half(simd.steps(F::steps(&chunk)), &mut steps);
        for (i, out) in out.iter_mut().enumerate() {
            let (plane, byte) = F::ORDER.place(i);
            *out = (f32::from(codes[plane][byte]) - 1.0) * steps.0[byte / 4];
        }
    }
}
