//! Dense matrices times float activations.
//!
//! With one token, weights live in registers only. With several, a block of rows is widened to f32
//! once, and tiles of some rows and tokens are multiplied one register's width of lanes at a time: a
//! part, which lets a tile be larger. Weights and activations lie in the order of their use, so that
//! they stream from the second-level cache and fill whole cache lines.

use super::DenseType;
use super::format::{self, Format, ROWS, dispatch, unroll};
use crate::float::simd::{LANES, Simd, pad};
use std::cell::Cell;

/// Groups of columns of a row of narrow weights before it is the next row's turn.
const GROUPS: usize = 8;
/// Columns of a block, so that a part of a panel's weights and of a tile's activations, at most 40 KB,
/// stays in the first-level cache.
const DEPTH: usize = 64 * LANES;
/// Rows of a block, so that its weights, 384 KB, stay in the second-level cache.
const BLOCK: usize = 48;
/// Tokens of a tile.
const TOKENS: usize = 4;
/// Floats of a cache line, to which buffers are aligned.
const LINE: usize = 16;
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
    /// Weights of a block, activations of a tile, and sums.
    static BUFFER: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
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
    // Whether the sums of some rows leave half of the registers free.
    let room = S::REGISTERS * S::WIDTH >= 2 * ROWS * LANES;
    match (x.len() == cols, S::REGISTERS) {
        (true, _) => dispatch!(ty, gemv(simd, w, x, out, room)),
        (false, 32..) => blocks::<S, 6>(simd, ty, w, cols, x, out),
        (false, _) => blocks::<S, 3>(simd, ty, w, cols, x, out),
    }
}

/// The products of rows with one token.
///
/// A sum waits for the one before, which takes longer than to unpack narrow weights. So rows of them go
/// side by side: block by block if there are registers for all sums, and otherwise in turns.
#[inline(always)]
fn gemv<F: Format<N>, const N: usize>(
    simd: impl Simd,
    w: &[u8],
    x: &[f32],
    out: &mut [f32],
    room: bool,
) {
    let row_len = w.len() / out.len();
    let narrow = N < 34 * F::GROUPS;
    let abreast = if narrow && room { out.len() / ROWS * ROWS } else { 0 };
    let (w, others) = w.split_at(abreast * row_len);
    let (out, out_others) = out.split_at_mut(abreast);
    for (out, w) in out.as_chunks_mut().0.iter_mut().zip(w.chunks_exact(ROWS * row_len)) {
        *out = rows_abreast::<F, N>(simd, w, x.as_chunks().0);
    }
    let (rows, groups) = if narrow { (ROWS, GROUPS) } else { (1, usize::MAX) };
    for (out, w) in out_others.chunks_mut(rows).zip(others.chunks(rows * row_len)) {
        rows_in_turns::<F, N>(simd, w, x, groups, out);
    }
}

/// The products of whole blocks of [`ROWS`] rows.
#[inline(always)]
fn rows_abreast<F: Format<N>, const N: usize>(
    simd: impl Simd,
    w: &[u8],
    x: &[[f32; LANES]],
) -> [f32; ROWS] {
    let row_len = w.len() / ROWS;
    let mut rows: [&[[u8; N]]; ROWS] = [&[]; ROWS];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = w[r * row_len..(r + 1) * row_len].as_chunks().0;
    }
    let mut acc = [simd.splat(0.0); ROWS];
    for (i, x) in x.chunks_exact(F::GROUPS).enumerate() {
        let blocks = [&rows[0][i], &rows[1][i], &rows[2][i], &rows[3][i]];
        let ahead = bytes_ahead(i * N, row_len, ROWS);
        for line in blocks.iter().flat_map(|block| block.chunks(64)) {
            simd.prefetch(line.as_ptr().wrapping_add(ahead));
        }
        let shared = F::shared_abreast(simd, blocks);
        let shared = in_memory(&shared);
        unroll!(GROUP < F::GROUPS => {
            let x = simd.load(&x[GROUP]);
            for r in 0..ROWS {
                let weights = F::load::<_, GROUP>(simd, blocks[r], &shared[r]);
                acc[r] = simd.mul_add(weights, x, acc[r]);
            }
        });
    }
    let mut out = [0.0; ROWS];
    for (out, acc) in out.iter_mut().zip(acc) {
        *out = simd.sum(acc);
    }
    out
}

/// The products of up to [`ROWS`] rows, some groups of columns of one and then of the next.
#[inline(always)]
fn rows_in_turns<F: Format<N>, const N: usize>(
    simd: impl Simd,
    w: &[u8],
    x: &[f32],
    groups: usize,
    out: &mut [f32],
) {
    let row_len = w.len() / out.len();
    let (x, x_tail) = x.as_chunks();
    let mut sums = [Lanes::ZERO; ROWS];
    let mut start = 0;
    for x in x.chunks(groups) {
        let len = x.len() / F::GROUPS * N;
        let ahead = bytes_ahead(start, row_len, out.len());
        for (sum, row) in sums.iter_mut().zip(w.chunks_exact(row_len)) {
            let blocks = row[start..start + len].as_chunks().0;
            let mut acc = simd.load(&sum.0);
            for (block, x) in blocks.iter().zip(x.chunks_exact(F::GROUPS)) {
                for line in block.chunks(64) {
                    simd.prefetch(line.as_ptr().wrapping_add(ahead));
                }
                let shared = F::shared(simd, block);
                let shared = in_memory(&shared);
                unroll!(GROUP < F::GROUPS => {
                    let weights = F::load::<_, GROUP>(simd, block, shared);
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

/// Bytes from a place in one of some rows that are read side by side to what is read of that row, or of
/// the one that follows in its stead, [`AHEAD`] bytes later.
#[inline(always)]
fn bytes_ahead(start: usize, row_len: usize, rows: usize) -> usize {
    let ahead = AHEAD / rows;
    if start + ahead < row_len { ahead } else { (rows - 1) * row_len + ahead }
}

/// Factors that are taken from memory one by one, into every lane, which costs no more than a load.
/// If the compiler saw where they are, it would load some at once, and each would cost a shuffle.
#[inline(always)]
fn in_memory<T>(factors: &T) -> &T {
    if size_of::<T>() > 0 { std::hint::black_box(factors) } else { factors }
}

/// The products of rows with several tokens, in tiles of `R` rows and [`TOKENS`] tokens.
#[inline(always)]
fn blocks<S: Simd, const R: usize>(
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
    let (weights, bytes) = ty.block();
    // A single tile takes one panel after another from the first-level cache.
    let size = if tokens > TOKENS { BLOCK } else { R };
    let padded = cols.next_multiple_of(LANES);
    // Sums wait for the columns of the next block where there is one.
    let kept = if cols > DEPTH { tokens } else { TOKENS };
    let lens = [size * padded.min(DEPTH), TOKENS * padded, kept * size * LANES];

    let mut buffer = BUFFER.take();
    buffer.resize(buffer.len().max(lens.iter().sum::<usize>() + LINE), 0.0);
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let (wide, rest) = buffer[start..].split_at_mut(lens[0]);
    let (packed, sums) = rest.split_at_mut(lens[1]);

    for first_row in (0..rows).step_by(size) {
        let count = size.min(rows - first_row);
        for col in (0..cols).step_by(DEPTH) {
            let depth = DEPTH.min(cols - col);
            let groups = depth.div_ceil(LANES);
            for r in 0..count {
                let start = (first_row + r) * row_len + col / weights * bytes;
                let w = &w[start..start + depth / weights * bytes];
                // Panels of R rows follow each other within a part.
                let place = Place {
                    start: r / R * groups * R + r % R,
                    group: R,
                    part: count.div_ceil(R) * groups * R,
                    width: S::WIDTH,
                };
                dispatch!(ty, widen(simd, w, place, wide));
            }
            let panels = Panels { weights: &*wide, rows: count, size, groups, new: col == 0 };
            for first in (0..tokens).step_by(TOKENS) {
                let n = TOKENS.min(tokens - first);
                let packed = &mut packed[TOKENS * col..][..n * groups * LANES];
                if tokens > TOKENS || first_row == 0 {
                    let x = &x[first * cols + col..];
                    let place = Place { start: 0, group: n, part: groups * n, width: S::WIDTH };
                    pack(simd, x, cols, depth, place, packed);
                }
                let sums = &mut sums[first % kept * size * LANES..];
                match n {
                    1 => panels.multiply::<S, R, 1>(simd, packed, sums),
                    2 => panels.multiply::<S, R, 2>(simd, packed, sums),
                    3 => panels.multiply::<S, R, 3>(simd, packed, sums),
                    _ => panels.multiply::<S, R, TOKENS>(simd, packed, sums),
                }
                if col + depth == cols {
                    for t in 0..n {
                        let out = &mut out[(first + t) * rows + first_row..][..count];
                        let sums = &sums[t * size * LANES..][..count * LANES];
                        simd.sums(sums.as_chunks().0, out);
                    }
                }
            }
        }
    }
    BUFFER.set(buffer);
}

/// Where the groups of a row go, counted in registers: beside those of the other rows of a panel or
/// tile, and part after part.
#[derive(Clone, Copy)]
struct Place {
    /// The first group's first part.
    start: usize,
    /// From group to group.
    group: usize,
    /// From part to part.
    part: usize,
    /// Lanes of a register.
    width: usize,
}

impl Place {
    #[inline(always)]
    fn put(self, index: usize, lanes: &[f32; LANES], out: &mut [f32]) {
        for (part, lanes) in lanes.chunks_exact(self.width).enumerate() {
            let at = self.start + index * self.group + part * self.part;
            out[at * self.width..][..self.width].copy_from_slice(lanes);
        }
    }
}

/// Widens some columns of a row.
#[inline(always)]
fn widen<F: Format<N>, const N: usize>(simd: impl Simd, w: &[u8], place: Place, out: &mut [f32]) {
    let mut lanes = [0.0; LANES];
    let (blocks, tail) = w.as_chunks();
    for (i, block) in blocks.iter().enumerate() {
        for line in block.chunks(64) {
            simd.prefetch(line.as_ptr().wrapping_add(AHEAD));
        }
        let shared = F::shared(simd, block);
        unroll!(GROUP < F::GROUPS => {
            simd.store(F::load::<_, GROUP>(simd, block, &shared), &mut lanes);
            place.put(i * F::GROUPS + GROUP, &lanes, out);
        });
    }
    if F::TAILS && !tail.is_empty() {
        let block = pad(tail);
        let shared = F::shared(simd, &block);
        simd.store(F::load::<_, 0>(simd, &block, &shared), &mut lanes);
        place.put(blocks.len(), &lanes, out);
    }
}

/// Copies the first `depth` columns of as many tokens as a place has from group to group.
#[inline(always)]
fn pack(_: impl Simd, x: &[f32], cols: usize, depth: usize, place: Place, out: &mut [f32]) {
    for (i, col) in (0..depth).step_by(LANES).enumerate() {
        for t in 0..place.group {
            let place = Place { start: t, ..place };
            let x = &x[t * cols + col..][..LANES.min(depth - col)];
            match x.first_chunk() {
                Some(x) => place.put(i, x, out),
                None => place.put(i, &pad(x), out),
            }
        }
    }
}

/// A block of widened weights.
struct Panels<'a> {
    /// `[part][panel][group][R]` registers.
    weights: &'a [f32],
    /// Rows in use.
    rows: usize,
    /// Rows there is room for.
    size: usize,
    /// Groups of columns.
    groups: usize,
    /// Whether these are the first columns.
    new: bool,
}

impl Panels<'_> {
    /// Adds the products with `T` tokens to `sums`, `[T][size][LANES]`, or makes them if they are new.
    /// `x` is `[part][group][T]` registers.
    #[inline(always)]
    fn multiply<S: Simd, const R: usize, const T: usize>(
        &self,
        simd: S,
        x: &[f32],
        sums: &mut [f32],
    ) {
        let mut panels = self.weights.chunks_exact(self.groups * R * S::WIDTH);
        for (part, x) in x.chunks_exact(self.groups * T * S::WIDTH).enumerate() {
            for row in (0..self.rows).step_by(R) {
                let Some(w) = panels.next() else { return };
                let at = row * LANES + part * S::WIDTH;
                let mut acc = [[simd.load_part(&[0.0; LANES]); R]; T];
                if !self.new {
                    for (t, acc) in acc.iter_mut().enumerate() {
                        for (r, acc) in acc.iter_mut().enumerate() {
                            let at = at + (t * self.size + r) * LANES;
                            *acc = simd.load_part(&sums[at..]);
                        }
                    }
                }
                for (w, x) in w.chunks_exact(R * S::WIDTH).zip(x.chunks_exact(T * S::WIDTH)) {
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
                for (t, acc) in acc.into_iter().enumerate() {
                    for (r, acc) in acc.into_iter().enumerate() {
                        simd.store_part(acc, &mut sums[at + (t * self.size + r) * LANES..]);
                    }
                }
            }
        }
    }
}

/// See [`Kernels::dense_row`](crate::Kernels::dense_row); `w` is the row.
#[inline(always)]
pub(crate) fn row(simd: impl Simd, ty: DenseType, w: &[u8], out: &mut [f32]) {
    // All parts of a group side by side: the row as it is.
    let place = Place { start: 0, group: 1, part: 0, width: LANES };
    let mut wide = [0.0; DEPTH];
    let (block, block_len) = ty.block();
    for (out, w) in out.chunks_mut(DEPTH).zip(w.chunks(DEPTH / block * block_len)) {
        dispatch!(ty, widen(simd, w, place, &mut wide));
        out.copy_from_slice(&wide[..out.len()]);
    }
}
