//! I2_S of a transposed matrix: a padded row holds what one activation is multiplied with.
//!
//! Where many activations are zero, as many rows of such a matrix need not be read. Rows are not
//! reduced to a number but added up, each times its activation, so a kernel takes a list of rows.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512_vnni;
mod repack;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub(crate) use repack::avx2 as avx2_repack;
pub(crate) use repack::{Repack, portable};

use super::{BLOCK, BLOCK_BYTES, Rows};
use crate::Codes;
use std::cell::RefCell;
use std::ops::Range;

/// Tokens from which on a transposed matrix is faster repacked.
pub(crate) const MANY: usize = 12;
/// Rows that are added up before their sums are fetched from the kernel. 64 times as large sums
/// would fit in 32 bits: 2^15 * 3 * 128 * 64 < 2^31.
const MOST: usize = 1 << 15;
/// The number of rows in a list is a multiple of this.
const GROUP: usize = 4;
/// The number of blocks that sums are kept for is a multiple of this.
const PAIR: usize = 2;

thread_local! {
    /// The list of this thread, kept so that a multiplication does not allocate.
    static LIST: RefCell<ColumnList> = const { RefCell::new(ColumnList::new()) };
}

/// Columns of a matrix that is stored transposed, and what they are multiplied with: room that a
/// multiplication needs.
#[derive(Debug)]
pub struct ColumnList {
    /// Rows of the transposed matrix, a multiple of [`GROUP`] of them.
    rows: Vec<u32>,
    /// The activations of each token, `[tokens][rows]`.
    codes: Vec<i8>,
    /// The sum of each token's activations.
    totals: Vec<i32>,
    /// See [`Add`].
    sums: Vec<i32>,
}

/// Some blocks of every row of a transposed matrix.
#[derive(Clone)]
pub(crate) struct Weights<'a> {
    packed: &'a [[u8; BLOCK_BYTES]],
    /// Blocks of a row.
    stride: usize,
    blocks: Range<usize>,
}

/// Fills `sums` with the sums of activations times codes over the listed rows. The activations are
/// `[tokens][rows]`, the sums those of whole [`PAIR`]s of blocks for each token. What they are
/// beyond the last block is unspecified.
pub(crate) type Add = unsafe fn(&Weights<'_>, &[u32], &[i8], &mut [i32]);

/// Whether rows that are multiplied with zeros alone are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    Nothing,
    Zeros,
}

/// Columns for which a packed matrix of `rows` rows has room.
pub(crate) fn columns(packed: &[u8], rows: usize) -> usize {
    packed.len() / BLOCK_BYTES / rows.max(1) * BLOCK
}

/// Packs row-major trits of rows of `cols` weights: the columns become rows.
pub(crate) fn pack(trits: &[i8], cols: usize, out: &mut [u8]) {
    let rows = trits.len() / cols.max(1);
    let mut transposed = vec![0; trits.len()];
    for (c, column) in transposed.chunks_exact_mut(rows.max(1)).enumerate() {
        column.iter_mut().zip(trits[c..].iter().step_by(cols)).for_each(|(to, from)| *to = *from);
    }
    super::pack(&transposed, rows, Rows::Padded, out);
}

/// The inverse of [`pack`].
pub(crate) fn unpack(packed: &[u8], cols: usize, trits: &mut [i8]) {
    let rows = trits.len() / cols.max(1);
    let mut transposed = vec![0; trits.len()];
    super::unpack(packed, rows, Rows::Padded, &mut transposed);
    for (c, column) in transposed.chunks_exact(rows.max(1)).enumerate() {
        trits[c..].iter_mut().step_by(cols).zip(column).for_each(|(to, from)| *to = *from);
    }
}

/// Multiplies a part of the rows of a transposed matrix, exactly:
/// `out[t - tokens.start][c - columns.start] = sum of code[t][r] * trit[r][c]` over the rows `r` of
/// the part; the matrix has `rows` rows.
///
/// Returns how many rows are read.
///
/// # Safety
/// The machine has the instruction set of `add`.
pub(crate) unsafe fn gemm(
    add: Add,
    packed: &[u8],
    rows: usize,
    columns: Range<usize>,
    part: Range<usize>,
    skip: Skip,
    x: &Codes,
    tokens: Range<usize>,
    list: &mut ColumnList,
    out: &mut [i32],
) -> usize {
    out.fill(0);
    if columns.is_empty() || tokens.is_empty() || rows == 0 {
        return 0;
    }
    let stride = packed.len() / BLOCK_BYTES / rows;
    let blocks = columns.start / BLOCK..columns.end.div_ceil(BLOCK);
    let first = columns.start - blocks.start * BLOCK;
    let weights = Weights { packed: packed.as_chunks().0, stride, blocks };
    let width = weights.width();
    let mut read = 0;
    for start in part.clone().step_by(MOST) {
        read += list.fill(start..part.end.min(start + MOST), skip, x, tokens.clone());
        let ColumnList { rows, codes, totals, sums } = list;
        sums.resize(tokens.len() * width, 0);
        // SAFETY: as this function requires.
        unsafe { add(&weights, rows, codes, sums) };
        let outs = out.chunks_exact_mut(columns.len());
        for ((out, sums), total) in outs.zip(sums.chunks_exact(width)).zip(totals) {
            // sum(trit * x) = sum(code * x) - sum(x), because a code is a trit + 1.
            for (out, sum) in out.iter_mut().zip(&sums[first..]) {
                *out += sum - *total;
            }
        }
    }
    read
}

/// Does something with a list of this thread.
pub(crate) fn with_list<T>(f: impl FnOnce(&mut ColumnList) -> T) -> T {
    LIST.with_borrow_mut(f)
}

impl ColumnList {
    const fn new() -> ColumnList {
        ColumnList { rows: Vec::new(), codes: Vec::new(), totals: Vec::new(), sums: Vec::new() }
    }

    /// Room for up to `tokens` of up to `width` activations and outputs each. Pages that are not
    /// written to take no memory.
    pub fn with_capacity(tokens: usize, width: usize) -> ColumnList {
        let room = width.next_multiple_of(PAIR * BLOCK) + GROUP;
        ColumnList {
            rows: Vec::with_capacity(room),
            codes: Vec::with_capacity(tokens * room),
            totals: Vec::with_capacity(tokens),
            sums: Vec::with_capacity(tokens * room),
        }
    }

    /// Lists the rows of `part` with the codes of these tokens; returns how many.
    fn fill(&mut self, part: Range<usize>, skip: Skip, x: &Codes, tokens: Range<usize>) -> usize {
        let row = |t: usize| &x.row(t)[part.clone()];
        // Every row is written behind the last one that stays.
        self.rows.resize(part.len() + GROUP, 0);
        let mut count = 0;
        if skip == Skip::Nothing {
            count = part.len();
            self.rows.iter_mut().zip(part.clone()).for_each(|(out, row)| *out = row as u32);
        } else if tokens.len() == 1 {
            for (i, code) in part.clone().zip(row(tokens.start)) {
                self.rows[count] = i as u32;
                count += usize::from(*code != 0);
            }
        } else {
            for i in part.clone() {
                self.rows[count] = i as u32;
                count += usize::from(tokens.clone().any(|t| x.row(t)[i] != 0));
            }
        }
        let padded = count.next_multiple_of(GROUP);
        self.rows.truncate(padded);
        // Rows that fill up the last group are multiplied with 0.
        self.rows[count..].fill(part.start as u32);
        self.codes.resize(tokens.len() * padded, 0);
        self.totals.clear();
        for (t, codes) in tokens.clone().zip(self.codes.chunks_exact_mut(padded.max(1))) {
            let row = x.row(t);
            let mut total = 0;
            for (code, i) in codes.iter_mut().zip(&self.rows[..count]) {
                *code = row[*i as usize];
                total += i32::from(*code);
            }
            codes[count..].fill(0);
            self.totals.push(total);
        }
        // Without rows there are no chunks of codes.
        self.totals.resize(tokens.len(), 0);
        count
    }
}

impl Weights<'_> {
    /// Sums of a token.
    fn width(&self) -> usize {
        self.blocks.len().next_multiple_of(PAIR) * BLOCK
    }

    /// Where a row begins.
    fn start(&self, row: u32) -> usize {
        row as usize * self.stride + self.blocks.start
    }
}
