//! I2_S of a transposed matrix: a padded row holds the weights of one activation.
//!
//! Rows whose activations are all zero need not be read. Rows are scaled by their activations and
//! added up, unlike the rows of other layouts, which give one number each; a kernel therefore takes
//! a list of rows.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512_vnni;
#[cfg(target_arch = "x86_64")]
mod indices;
mod repack;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
mod simd;

#[cfg(target_arch = "x86_64")]
pub(crate) use repack::avx2 as repack_avx2;
pub(crate) use repack::{RepackColumns, portable as repack_portable};

use super::{BLOCK, BLOCK_BYTES, Rows};
use crate::codes::Codes;
use crate::packing::Packing;
use std::ops::Range;

/// Maximum number of rows added up before the sums are taken from the kernel. Sums 64 times as
/// large would still fit in 32 bits: 2^15 * 3 * 128 * 64 < 2^31.
const MAX_ROWS: usize = 1 << 15;
/// The number of rows in a list is a multiple of this.
const GROUP: usize = 4;
/// The number of blocks with sums is a multiple of this.
const PAIR: usize = 2;

/// Size in bytes of the columns that stay in the second-level cache while tokens are multiplied one
/// by one.
const CACHED: usize = 256 * 1024;
/// Tokens are multiplied one by one if each needs at most this fraction of the columns that they need
/// together, on average. A token alone takes about 1.6 times as long per column as one of eight.
const ALONE: (usize, usize) = (5, 8);

/// A matrix packed transposed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    /// The blocks. Those of a column are adjacent.
    pub(crate) blocks: &'a [[u8; BLOCK_BYTES]],
    pub(crate) cols: usize,
}

/// The product of rows of a transposed matrix with the codes of some tokens.
pub(crate) type Product<'a> = crate::product::Product<'a, Matrix<'a>>;

/// Buffers for the columns of a multiplication and their activations.
#[derive(Debug, Default)]
pub(crate) struct ColumnList {
    /// Rows of the transposed matrix, a multiple of [`GROUP`] of them.
    rows: Vec<u32>,
    /// The activations of each token, `[tokens][rows]`.
    codes: Vec<i8>,
    /// The sum of each token's activations.
    totals: Vec<i32>,
    /// The sums: see [`Add`].
    sums: Vec<i32>,
}

/// A range of blocks in every stored row, that is, in every column of the matrix.
#[derive(Clone)]
pub(crate) struct Weights<'a> {
    packed: &'a [[u8; BLOCK_BYTES]],
    /// Number of blocks from one row to the next.
    stride: usize,
    blocks: Range<usize>,
    /// Blocks to prefetch for later calls, besides the listed rows.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only x86-64 prefetches"))]
    ahead: Range<usize>,
}

/// Fills `sums` with the sums of activations times codes over the listed rows. The activations are
/// `[tokens][rows]`. The sums cover whole [`PAIR`]s of blocks for each token; those beyond the last
/// block are unspecified.
pub(crate) type Add = unsafe fn(&Weights<'_>, &[u32], &[i8], &mut [i32]);

/// Whether to read rows whose activations are all zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    Nothing,
    Zeros,
}

impl Matrix<'_> {
    /// The number of blocks of a column.
    fn stride(&self) -> usize {
        self.blocks.len() / self.cols
    }
}

/// The layout: [`Rows::Padded`] of the transposed matrix.
pub(crate) struct Columns;

impl Packing for Columns {
    fn packed_len(&self, rows: usize, cols: usize) -> Option<usize> {
        Rows::Padded.packed_len(cols, rows)
    }

    fn pack(&self, trits: &[i8], cols: usize, out: &mut [u8]) {
        let rows = trits.len() / cols.max(1);
        let mut transposed = vec![0; trits.len()];
        for (c, column) in transposed.chunks_exact_mut(rows.max(1)).enumerate() {
            let from = trits[c..].iter().step_by(cols);
            column.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
        Rows::Padded.pack(&transposed, rows, out);
    }

    fn unpack(&self, packed: &[u8], cols: usize, trits: &mut [i8]) {
        let rows = trits.len() / cols.max(1);
        let mut transposed = vec![0; trits.len()];
        Rows::Padded.unpack(packed, rows, &mut transposed);
        for (c, column) in transposed.chunks_exact(rows.max(1)).enumerate() {
            let to = trits[c..].iter_mut().step_by(cols);
            to.zip(column).for_each(|(to, from)| *to = *from);
        }
    }

    fn find_invalid(&self, packed: &[u8], rows: usize, cols: usize) -> Option<(usize, usize)> {
        Rows::Padded.find_invalid(packed, cols, rows).map(|(col, row)| (row, col))
    }

    fn is_zero(&self, packed: &[u8], cols: usize) -> bool {
        Rows::Padded.is_zero(packed, cols)
    }
}

/// Fills `out` with the sums of a [`Product`] over a part of the columns only.
///
/// Tokens that have few columns in common are multiplied one by one, a few columns at a time: each
/// column is read from memory once, and each token skips the columns that it does not need.
///
/// Returns the number of columns read.
///
/// # Safety
/// The machine must have the instruction set of `add`.
pub(crate) unsafe fn gemm(
    add: Add,
    product: &Product<'_>,
    part: Range<usize>,
    skip: Skip,
    list: &mut ColumnList,
    out: &mut [i32],
) -> usize {
    out.fill(0);
    let Product { matrix, ref rows, ref tokens, .. } = *product;
    if skip == Skip::Zeros && tokens.len() > 1 {
        let (columns, activations) = live(product, part.clone());
        if activations * ALONE.1 <= columns * tokens.len() * ALONE.0 {
            let stride = matrix.stride();
            let step = (CACHED / (stride * BLOCK_BYTES)).max(1);
            for start in part.clone().step_by(step) {
                let end = part.end.min(start + step);
                // Each token prefetches its share of the next columns.
                let next = end..part.end.min(end + step);
                let share = |i: usize| (next.start + next.len() * i / tokens.len()) * stride;
                for (i, out) in out.chunks_exact_mut(rows.len()).enumerate() {
                    let token = tokens.start + i..tokens.start + i + 1;
                    let one = Product { rows: rows.clone(), tokens: token, ..*product };
                    let ahead = share(i)..share(i + 1);
                    // SAFETY: the caller guarantees it, as this function requires.
                    unsafe { add_part(add, &one, start..end, skip, ahead, list, out) };
                }
            }
            return columns;
        }
    }
    // SAFETY: the caller guarantees it, as this function requires.
    unsafe { add_part(add, product, part, skip, 0..0, list, out) }
}

/// The number of columns of `part` that have an activation that is not 0, and the number of such
/// activations.
fn live(product: &Product<'_>, part: Range<usize>) -> (usize, usize) {
    /// Number of columns looked at together.
    const COLUMNS: usize = 64;
    let (mut columns, mut activations) = (0, 0);
    for start in part.clone().step_by(COLUMNS) {
        let some = start..part.end.min(start + COLUMNS);
        let mut any = [0; COLUMNS];
        for t in product.tokens.clone() {
            let mut count = 0;
            for (any, code) in any.iter_mut().zip(&product.x.row(t)[some.clone()]) {
                let live = u8::from(*code != 0);
                *any |= live;
                count += live;
            }
            activations += usize::from(count);
        }
        columns += usize::from(any.iter().sum::<u8>());
    }
    (columns, activations)
}

/// Adds the sums of a [`Product`] over a part of the columns to `out`, and prefetches the blocks
/// `ahead`.
///
/// Returns the number of columns read.
///
/// # Safety
/// The machine must have the instruction set of `add`.
unsafe fn add_part(
    add: Add,
    product: &Product<'_>,
    part: Range<usize>,
    skip: Skip,
    ahead: Range<usize>,
    list: &mut ColumnList,
    out: &mut [i32],
) -> usize {
    let Product { matrix, rows: ref wanted, x, ref tokens } = *product;
    let blocks = wanted.start / BLOCK..wanted.end.div_ceil(BLOCK);
    let first = wanted.start - blocks.start * BLOCK;
    let weights = Weights { packed: matrix.blocks, stride: matrix.stride(), blocks, ahead };
    let width = weights.width();
    let mut read = 0;
    for start in part.clone().step_by(MAX_ROWS) {
        read += list.fill(start..part.end.min(start + MAX_ROWS), skip, x, tokens.clone());
        let ColumnList { rows, codes, totals, sums } = list;
        sums.resize(tokens.len() * width, 0);
        // SAFETY: the caller guarantees it, as this function requires.
        unsafe { add(&weights, rows, codes, sums) };
        let outs = out.chunks_exact_mut(wanted.len());
        for ((out, sums), total) in outs.zip(sums.chunks_exact(width)).zip(totals) {
            // sum(trit * x) = sum(code * x) - sum(x), because a code is a trit + 1.
            for (out, sum) in out.iter_mut().zip(&sums[first..]) {
                *out += sum - *total;
            }
        }
    }
    read
}

impl ColumnList {
    /// Creates buffers for up to `tokens` tokens of up to `width` activations and outputs each.
    /// Pages that are never written take no physical memory.
    pub(crate) fn with_capacity(tokens: usize, width: usize) -> ColumnList {
        let room = width.next_multiple_of(PAIR * BLOCK) + GROUP;
        ColumnList {
            rows: Vec::with_capacity(room),
            codes: Vec::with_capacity(tokens * room),
            totals: Vec::with_capacity(tokens),
            sums: Vec::with_capacity(tokens * room),
        }
    }

    /// Lists the rows of `part` with the codes of these tokens. Returns the number of rows.
    fn fill(&mut self, part: Range<usize>, skip: Skip, x: &Codes, tokens: Range<usize>) -> usize {
        let row = |t: usize| &x.row(t)[part.clone()];
        self.rows.clear();
        self.rows.resize(part.len() + GROUP, u32::from(skip == Skip::Nothing));
        if skip == Skip::Zeros {
            for t in tokens.clone() {
                let needed = self.rows.iter_mut().zip(row(t));
                needed.for_each(|(needed, code)| *needed |= u32::from(*code != 0));
            }
        }
        // Each row is written after the last kept one, which overwrites skipped rows.
        let mut count = 0;
        for (i, row) in part.clone().enumerate() {
            let needed = self.rows[i] as usize;
            self.rows[count] = row as u32;
            count += needed;
        }
        let padded = count.next_multiple_of(GROUP);
        self.rows.truncate(padded);
        // Padding rows of the last group are multiplied with 0.
        self.rows[count..].fill(part.start as u32);
        self.codes.resize(tokens.len() * padded, 0);
        self.totals.clear();
        for (t, codes) in tokens.clone().zip(self.codes.chunks_exact_mut(padded.max(1))) {
            let all = row(t);
            if count == part.len() {
                codes[..count].copy_from_slice(all);
            } else {
                for (code, i) in codes.iter_mut().zip(&self.rows[..count]) {
                    *code = all[*i as usize - part.start];
                }
            }
            let total = codes[..count].iter().map(|code| i32::from(*code)).sum();
            codes[count..].fill(0);
            self.totals.push(total);
        }
        // Without rows there are no chunks of codes.
        self.totals.resize(tokens.len(), 0);
        count
    }
}

impl Weights<'_> {
    /// Number of sums of a token.
    fn width(&self) -> usize {
        self.blocks.len().next_multiple_of(PAIR) * BLOCK
    }

    /// Index of the first block of a row.
    fn start(&self, row: u32) -> usize {
        row as usize * self.stride + self.blocks.start
    }
}
