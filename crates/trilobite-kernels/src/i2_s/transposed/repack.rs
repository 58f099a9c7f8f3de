//! Repacking a transposed matrix to rows of outputs, for many tokens.

use super::Matrix;
use crate::i2_s::{BLOCK, BLOCK_BYTES, ZERO_BLOCK};
use std::ops::Range;

/// Repacks the blocks that contain some rows of a matrix as padded I2_S to the start of the buffer,
/// which grows if necessary. Returns the positions of the rows in the buffer.
pub(crate) type RepackColumns = unsafe fn(&Matrix<'_>, Range<usize>, &mut Vec<u8>) -> Range<usize>;

/// One byte for each of 32 columns of 32 rows.
type Square = [[u8; BLOCK_BYTES]; 32];

/// The [`RepackColumns`] function for any processor.
pub(crate) fn portable(matrix: &Matrix<'_>, rows: Range<usize>, out: &mut Vec<u8>) -> Range<usize> {
    repack(matrix, rows, out, |square| {
        std::array::from_fn(|i| std::array::from_fn(|j| square[j][i]))
    })
}

/// The [`RepackColumns`] function for AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(crate) fn avx2(matrix: &Matrix<'_>, rows: Range<usize>, out: &mut Vec<u8>) -> Range<usize> {
    use crate::i2_s::avx2::{load, store};
    use crate::i2_s::square::transpose;
    repack(matrix, rows, out, |square| {
        let mut out = *square;
        for (v, out) in transpose(square.each_ref().map(|v| load(v))).into_iter().zip(&mut out) {
            store(v, out);
        }
        out
    })
}

#[inline(always)]
fn repack(
    matrix: &Matrix<'_>,
    rows: Range<usize>,
    out: &mut Vec<u8>,
    transpose: impl Fn(&Square) -> Square,
) -> Range<usize> {
    let (stride, width) = (matrix.stride(), matrix.cols.div_ceil(BLOCK));
    let blocks = rows.start / BLOCK..rows.end.div_ceil(BLOCK);
    let len = blocks.len() * BLOCK * width * BLOCK_BYTES;
    if out.len() < len {
        out.resize(len, 0);
    }
    let first = blocks.start * BLOCK;
    let outs = out.as_chunks_mut::<BLOCK_BYTES>().0.chunks_exact_mut(BLOCK * width);
    for (block, out) in blocks.zip(outs) {
        for b in 0..width {
            // Padding columns are zeros.
            let mut source = [ZERO_BLOCK; BLOCK];
            let from = matrix.blocks[b * BLOCK * stride..].iter().skip(block).step_by(stride);
            source.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            for plane in 0..4 {
                for (row, bytes) in transpose(&plane_of(&source, plane)).iter().enumerate() {
                    out[(plane * 32 + row) * width + b] = *bytes;
                }
            }
        }
    }
    rows.start - first..rows.end - first
}

/// The codes of one bit plane of the bytes of 128 columns. As in a byte of I2_S, byte `r` of vector
/// `m` holds those of columns `m`, `m + 32` and so on in row `r`.
#[inline(always)]
fn plane_of(source: &[[u8; BLOCK_BYTES]; BLOCK], plane: usize) -> Square {
    let shift = 6 - 2 * plane;
    std::array::from_fn(|m| {
        std::array::from_fn(|r| {
            let code = |column: usize| source[column][r] >> shift & 3;
            code(m) << 6 | code(m + 32) << 4 | code(m + 64) << 2 | code(m + 96)
        })
    })
}
