//! Products of float weights with float activations.
//!
//! With one token, weights are in registers only. With several, a block of rows is widened to f32
//! once. Tiles of some rows and tokens are then multiplied one register's width of lanes at a time:
//! this width is a part, and allows larger tiles. Weights and activations are stored in the order
//! of their use, so that they stream from the second-level cache and fill whole cache lines.

use super::types::{DenseMatrix, DenseType};
use crate::simd::{AHEAD, LANES, Simd, pad};

/// Number of columns of a block. A part of a panel's weights and of a tile's activations, at most
/// 40 KB, stays in the first-level cache.
const DEPTH: usize = 32 * LANES;
/// Number of rows of a block, whose weights, 384 KB, stay in the second-level cache.
const BLOCK: usize = 96;
/// Number of floats in a cache line, the alignment of buffers.
const LINE: usize = 16;

/// The sums of the rows of a block with one token.
type TokenSums = [[f32; LANES]; BLOCK];

/// A buffer for the weights of a block, the activations of a tile, and sums.
#[derive(Debug, Default)]
pub(crate) struct FloatBuffer(Vec<f32>);

/// A float type with `N` bytes for 32 weights.
trait FloatFormat<const N: usize> {
    fn load<S: Simd>(simd: S, bytes: &[u8; N]) -> S::Lanes;
}

struct F32;
impl FloatFormat<128> for F32 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8; 128]) -> S::Lanes {
        let mut values = [0.0; LANES];
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        simd.load(&values)
    }
}

struct F16;
impl FloatFormat<64> for F16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8; 64]) -> S::Lanes {
        simd.load_f16(&halves(bytes))
    }
}

struct BF16;
impl FloatFormat<64> for BF16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8; 64]) -> S::Lanes {
        simd.load_bf16(&halves(bytes))
    }
}

#[inline(always)]
fn halves(bytes: &[u8; 64]) -> [u16; LANES] {
    let mut values = [0; LANES];
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        *value = u16::from_le_bytes(*bytes);
    }
    values
}

/// Calls a function for the format of a type.
macro_rules! dispatch {
    ($ty:expr, $f:ident($($arg:expr),*)) => {
        match $ty {
            DenseType::F32 => $f::<_, F32, 128>($($arg),*),
            DenseType::F16 => $f::<_, F16, 64>($($arg),*),
            DenseType::BF16 => $f::<_, BF16, 64>($($arg),*),
            _ => unreachable!("a type of floats"),
        }
    };
}

/// The products of all rows with at least one token. `x` is `[tokens][cols]` and `out`
/// `[tokens][rows]`; neither is empty.
#[inline(always)]
pub(crate) fn gemm<S: Simd>(
    simd: S,
    w: DenseMatrix<'_>,
    x: &[f32],
    buffer: &mut FloatBuffer,
    out: &mut [f32],
) {
    match (x.len() == w.cols, S::REGISTERS) {
        (true, _) => dispatch!(w.ty, gemv(simd, w.bytes, x, out)),
        (false, 32..) => blocks::<S, 4, 6>(simd, w, x, buffer, out),
        (false, _) => blocks::<S, 3, 4>(simd, w, x, buffer, out),
    }
}

/// The products of rows with one token.
#[inline(always)]
fn gemv<S: Simd, F: FloatFormat<N>, const N: usize>(simd: S, w: &[u8], x: &[f32], out: &mut [f32]) {
    let row_len = w.len() / out.len();
    let (x, x_tail) = x.as_chunks();
    for (out, row) in out.iter_mut().zip(w.chunks_exact(row_len)) {
        let (blocks, tail) = row.as_chunks();
        let mut acc = simd.splat(0.0);
        for (block, x) in blocks.iter().zip(x) {
            simd.prefetch(block.as_ptr().wrapping_add(AHEAD), block.len());
            acc = simd.mul_add(F::load(simd, block), simd.load(x), acc);
        }
        if !tail.is_empty() {
            acc = simd.mul_add(F::load(simd, &pad(tail)), simd.load(&pad(x_tail)), acc);
        }
        *out = simd.sum(acc);
    }
}

/// The products of rows with several tokens, in tiles of `R` rows and at most `T` tokens.
#[inline(always)]
fn blocks<S: Simd, const R: usize, const T: usize>(
    simd: S,
    w: DenseMatrix<'_>,
    x: &[f32],
    buffer: &mut FloatBuffer,
    out: &mut [f32],
) {
    let DenseMatrix { ty, bytes: w, rows, cols } = w;
    let tokens = x.len() / cols;
    let row_len = w.len() / rows;
    let bytes = row_len / cols;
    // A single tile takes one panel at a time from the first-level cache.
    let size = if tokens > T { BLOCK } else { R };
    let padded = cols.next_multiple_of(LANES);
    // Sums are kept for the next block of columns, if there is one.
    let kept = if cols > DEPTH { tokens } else { T };
    let lens =
        [size * padded.min(DEPTH), T * padded, kept * size_of::<TokenSums>() / size_of::<f32>()];

    let FloatBuffer(buffer) = buffer;
    buffer.resize(buffer.len().max(lens.iter().sum::<usize>() + LINE), 0.0);
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let (wide, rest) = buffer[start..].split_at_mut(lens[0]);
    let (packed, sums) = rest.split_at_mut(lens[1]);
    let sums: &mut [TokenSums] = sums.as_chunks_mut().0.as_chunks_mut().0;

    for first_row in (0..rows).step_by(size) {
        let count = size.min(rows - first_row);
        for col in (0..cols).step_by(DEPTH) {
            let depth = DEPTH.min(cols - col);
            let groups = depth.div_ceil(LANES);
            for r in 0..count {
                let start = (first_row + r) * row_len + col * bytes;
                let w = &w[start..start + depth * bytes];
                // The panels of R rows are adjacent within a part.
                let place = Destination {
                    start: r / R * groups * R + r % R,
                    group: R,
                    part: count.div_ceil(R) * groups * R,
                };
                dispatch!(ty, widen(simd, w, place, wide));
            }
            let panels = Panels { weights: &*wide, rows: count, groups, new: col == 0 };
            for first in (0..tokens).step_by(T) {
                let n = T.min(tokens - first);
                let packed = &mut packed[T * col..][..n * groups * LANES];
                if tokens > T || first_row == 0 {
                    let x = &x[first * cols + col..];
                    let place = Destination { start: 0, group: n, part: groups * n };
                    pack(simd, x, cols, depth, place, packed);
                }
                let sums = &mut sums[first % kept..];
                match n {
                    1 => panels.multiply::<S, R, 1>(simd, packed, sums),
                    2 => panels.multiply::<S, R, 2>(simd, packed, sums),
                    3 => panels.multiply::<S, R, 3>(simd, packed, sums),
                    4 if T > 4 => panels.multiply::<S, R, 4>(simd, packed, sums),
                    5 if T > 5 => panels.multiply::<S, R, 5>(simd, packed, sums),
                    _ => panels.multiply::<S, R, T>(simd, packed, sums),
                }
                if col + depth == cols {
                    for (t, sums) in sums.iter().enumerate().take(n) {
                        let out = &mut out[(first + t) * rows + first_row..][..count];
                        simd.sums(&sums[..count], out);
                    }
                }
            }
        }
    }
}

/// The destination of the groups of a row, in units of registers. They are stored beside those of
/// the other rows of a panel or tile, one part after another.
#[derive(Clone, Copy)]
struct Destination {
    /// The destination of the first part of the first group.
    start: usize,
    /// Distance from group to group.
    group: usize,
    /// Distance from part to part.
    part: usize,
}

impl Destination {
    #[inline(always)]
    fn put<S: Simd>(self, simd: S, index: usize, lanes: S::Lanes, out: &mut [f32]) {
        let at = self.start + index * self.group;
        unroll!(C < 2 => {
            if C < S::CHUNKS {
                let chunk = simd.chunk::<C>(lanes);
                let first = LANES / S::WIDTH / S::CHUNKS * C;
                for (part, lanes) in (first..).zip(chunk.as_ref()) {
                    simd.store_part(*lanes, &mut out[(at + part * self.part) * S::WIDTH..]);
                }
            }
        });
    }
}

/// Widens a range of columns of a row.
#[inline(always)]
fn widen<S: Simd, F: FloatFormat<N>, const N: usize>(
    simd: S,
    w: &[u8],
    place: Destination,
    out: &mut [f32],
) {
    let (blocks, tail) = w.as_chunks();
    for (i, block) in blocks.iter().enumerate() {
        simd.prefetch(block.as_ptr().wrapping_add(AHEAD), block.len());
        place.put(simd, i, F::load(simd, block), out);
    }
    if !tail.is_empty() {
        place.put(simd, blocks.len(), F::load(simd, &pad(tail)), out);
    }
}

/// Copies the first `depth` columns of the tokens of a tile; their number is the distance from
/// group to group.
#[inline(always)]
fn pack<S: Simd>(
    simd: S,
    x: &[f32],
    cols: usize,
    depth: usize,
    place: Destination,
    out: &mut [f32],
) {
    for (i, col) in (0..depth).step_by(LANES).enumerate() {
        for t in 0..place.group {
            let place = Destination { start: t, ..place };
            let x = &x[t * cols + col..][..LANES.min(depth - col)];
            match x.first_chunk() {
                Some(x) => place.put(simd, i, simd.load(x), out),
                None => place.put(simd, i, simd.load(&pad(x)), out),
            }
        }
    }
}

/// A block of widened weights.
struct Panels<'a> {
    /// `[part][panel][group][R]` registers.
    weights: &'a [f32],
    /// Number of rows in use.
    rows: usize,
    /// Number of groups of columns.
    groups: usize,
    /// Whether these are the first columns.
    new: bool,
}

impl Panels<'_> {
    /// Adds the products with `T` tokens to their `sums`, or sets them if these are the first columns.
    /// `x` is `[part][group][T]` registers.
    #[inline(always)]
    fn multiply<S: Simd, const R: usize, const T: usize>(
        &self,
        simd: S,
        x: &[f32],
        sums: &mut [TokenSums],
    ) {
        let Some(sums) = sums.first_chunk_mut::<T>() else { unreachable!("all tokens have sums") };
        let mut panels = self.weights.chunks_exact(self.groups * R * S::WIDTH);
        for (part, x) in x.chunks_exact(self.groups * T * S::WIDTH).enumerate() {
            for row in (0..self.rows).step_by(R) {
                let Some(w) = panels.next() else { return };
                let lanes = part * S::WIDTH..(part + 1) * S::WIDTH;
                let mut acc = [[simd.load_part(&[0.0; LANES]); R]; T];
                if !self.new {
                    unroll!(TOKEN < T => {
                        unroll!(ROW < R => {
                            acc[TOKEN][ROW] = simd.load_part(&sums[TOKEN][row + ROW][lanes.clone()]);
                        });
                    });
                }
                // A call of an iterator's function would move the sums to memory.
                for group in 0..self.groups {
                    let w = &w[group * R * S::WIDTH..][..R * S::WIDTH];
                    let x = &x[group * T * S::WIDTH..][..T * S::WIDTH];
                    let mut weights = [acc[0][0]; R];
                    for r in 0..R {
                        weights[r] = simd.load_part(&w[r * S::WIDTH..]);
                    }
                    for t in 0..T {
                        let x = simd.load_part(&x[t * S::WIDTH..]);
                        for r in 0..R {
                            acc[t][r] = simd.mul_add_part(weights[r], x, acc[t][r]);
                        }
                    }
                }
                unroll!(TOKEN < T => {
                    unroll!(ROW < R => {
                        simd.store_part(acc[TOKEN][ROW], &mut sums[TOKEN][row + ROW][lanes.clone()]);
                    });
                });
            }
        }
    }
}

/// Widens a matrix of one row.
#[inline(always)]
pub(crate) fn row(simd: impl Simd, w: DenseMatrix<'_>, out: &mut [f32]) {
    dispatch!(w.ty, widen_row(simd, w.bytes, out));
}

#[inline(always)]
fn widen_row<S: Simd, F: FloatFormat<N>, const N: usize>(simd: S, w: &[u8], out: &mut [f32]) {
    let (blocks, tail) = w.as_chunks();
    let (out, out_tail) = out.as_chunks_mut();
    for (block, out) in blocks.iter().zip(out) {
        simd.store(F::load(simd, block), out);
    }
    if !tail.is_empty() {
        let mut lanes = [0.0; LANES];
        simd.store(F::load(simd, &pad(tail)), &mut lanes);
        out_tail.copy_from_slice(&lanes[..out_tail.len()]);
    }
}
