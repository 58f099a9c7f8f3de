//! Back to rows of outputs, for many tokens.

use crate::i2_s::{BLOCK, BLOCK_BYTES, ZERO_BLOCK};
use std::ops::Range;

/// Repacks the blocks that hold `columns` of a transposed matrix of `rows` rows as padded I2_S into
/// the beginning of the buffer, which grows if it must. Returns where the columns are in there.
pub(crate) type Repack = unsafe fn(&[u8], usize, Range<usize>, &mut Vec<u8>) -> Range<usize>;

/// A byte for each of 32 rows of 32 columns.
type Square = [[u8; BLOCK_BYTES]; 32];

/// A [`Repack`] for any processor.
pub(crate) fn portable(
    packed: &[u8],
    rows: usize,
    columns: Range<usize>,
    out: &mut Vec<u8>,
) -> Range<usize> {
    repack(packed, rows, columns, out, |square| {
        std::array::from_fn(|i| std::array::from_fn(|j| square[j][i]))
    })
}

/// A [`Repack`] for AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(crate) fn avx2(
    packed: &[u8],
    rows: usize,
    columns: Range<usize>,
    out: &mut Vec<u8>,
) -> Range<usize> {
    use crate::i2_s::avx2::{load, store};
    use crate::t5_3::avx2::transpose;
    repack(packed, rows, columns, out, |square| {
        let mut out = *square;
        for (v, out) in transpose(square.each_ref().map(|v| load(v))).into_iter().zip(&mut out) {
            store(v, out);
        }
        out
    })
}

#[inline(always)]
fn repack(
    packed: &[u8],
    rows: usize,
    columns: Range<usize>,
    out: &mut Vec<u8>,
    transpose: impl Fn(&Square) -> Square,
) -> Range<usize> {
    let packed = packed.as_chunks::<BLOCK_BYTES>().0;
    let (stride, width) = (packed.len() / rows, rows.div_ceil(BLOCK));
    let blocks = columns.start / BLOCK..columns.end.div_ceil(BLOCK);
    let len = blocks.len() * BLOCK * width * BLOCK_BYTES;
    if out.len() < len {
        out.resize(len, 0);
    }
    let first = blocks.start * BLOCK;
    let outs = out.as_chunks_mut::<BLOCK_BYTES>().0.chunks_exact_mut(BLOCK * width);
    for (block, out) in blocks.zip(outs) {
        for b in 0..width {
            // Rows beyond the last are zeros.
            let mut source = [ZERO_BLOCK; BLOCK];
            let from = packed[b * BLOCK * stride..].iter().skip(block).step_by(stride);
            source.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            for plane in 0..4 {
                for (column, bytes) in transpose(&plane_of(&source, plane)).iter().enumerate() {
                    out[(plane * 32 + column) * width + b] = *bytes;
                }
            }
        }
    }
    columns.start - first..columns.end - first
}

/// The codes that a bit plane of the bytes of 128 rows has: byte `c` of vector `m` holds those of
/// rows `m`, `m + 32` and so on in column `c`, as a byte of I2_S holds those of columns.
#[inline(always)]
fn plane_of(source: &[[u8; BLOCK_BYTES]; BLOCK], plane: usize) -> Square {
    let shift = 6 - 2 * plane;
    std::array::from_fn(|m| {
        std::array::from_fn(|c| {
            let code = |row: usize| source[row][c] >> shift & 3;
            code(m) << 6 | code(m + 32) << 4 | code(m + 64) << 2 | code(m + 96)
        })
    })
}
