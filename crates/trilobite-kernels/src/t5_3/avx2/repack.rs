//! Repacking T5_3 as I2_S, 32 rows at a time.

use super::super::{BLOCK_COLS, Matrix, PLANES, Plane, TILE, TRIPLE};
use super::{load, store, triples, weights};
use crate::i2_s;
use crate::i2_s::square::transpose;
use std::arch::x86_64::*;
use std::ops::Range;

/// Number of I2_S blocks in the fewest columns that are whole blocks of both layouts.
const WINDOW: usize = 3;
/// Number of columns of these blocks.
const COLUMNS: usize = WINDOW * i2_s::BLOCK;

/// Repacks the tiles that contain `rows` as padded I2_S to the start of `out`, which grows if
/// necessary. Returns the positions of the rows in `out`.
#[target_feature(enable = "avx2")]
pub(crate) fn repack(matrix: &Matrix<'_>, rows: Range<usize>, out: &mut Vec<u8>) -> Range<usize> {
    let blocks = matrix.cols.div_ceil(i2_s::BLOCK);
    let tiles = rows.start / TILE..rows.end.div_ceil(TILE);
    let (first, len) = (tiles.start * TILE, tiles.len() * TILE * blocks * TILE);
    if out.len() < len {
        out.resize(len, 0);
    }
    let out = out.as_chunks_mut().0.chunks_exact_mut(TILE * blocks);
    for (index, out) in tiles.zip(out) {
        repack_tile(matrix.tile(index), blocks, out);
    }
    rows.start - first..rows.end - first
}

/// Repacks a tile. `out` is `[32][blocks]` for rows of `blocks` blocks.
#[target_feature(enable = "avx2")]
fn repack_tile(tile: &[Plane], blocks: usize, out: &mut [Plane]) {
    // The trits of 32 rows, column by column.
    let mut columns = [[0; TILE]; COLUMNS];
    for (window, planes) in tile.chunks(COLUMNS / BLOCK_COLS * PLANES).enumerate() {
        columns.fill([0; TILE]);
        for (planes, columns) in planes.chunks(PLANES).zip(columns.as_chunks_mut().0) {
            let mut block = [[0; TILE]; PLANES];
            block[..planes.len()].copy_from_slice(planes);
            unpack_block(&block, columns);
        }
        let first = window * WINDOW;
        for (b, columns) in (first..blocks).zip(columns.as_chunks().0) {
            for (row, bytes) in transpose(codes(columns)).into_iter().enumerate() {
                store(bytes, &mut out[row * blocks + b]);
            }
        }
    }
}

/// The trits of a block, column by column.
#[target_feature(enable = "avx2")]
#[inline]
fn unpack_block(block: &[Plane; PLANES], columns: &mut [[i8; TILE]; BLOCK_COLS]) {
    const TABLES: [[i8; TILE]; TRIPLE] = weights(1);
    for ((index, sign), columns) in triples(block).into_iter().zip(columns.as_chunks_mut().0) {
        let columns: &mut [[i8; TILE]; TRIPLE] = columns;
        for (column, table) in columns.iter_mut().zip(&TABLES) {
            store(_mm256_sign_epi8(_mm256_shuffle_epi8(load(table), index), sign), column);
        }
    }
}

/// The bytes of an I2_S block: vector `m` holds byte `m` of every row.
#[target_feature(enable = "avx2")]
#[inline]
fn codes(columns: &[[i8; TILE]; i2_s::BLOCK]) -> [__m256i; TILE] {
    let times_4 = |v| {
        let v = _mm256_add_epi8(v, v);
        _mm256_add_epi8(v, v)
    };
    std::array::from_fn(|m| {
        // A code is a trit + 1.
        let mut codes = load(&columns[m]);
        for plane in 1..4 {
            codes = _mm256_add_epi8(times_4(codes), load(&columns[m + TILE * plane]));
        }
        _mm256_add_epi8(codes, _mm256_set1_epi8(0b01_01_01_01))
    })
}
