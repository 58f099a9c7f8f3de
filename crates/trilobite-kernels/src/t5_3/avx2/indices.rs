//! The indices of quads for look-up.

use super::super::{BLOCK_COLS, Matrix, PLANES, Plane, TILE, TRIPLE, TRIPLES};
use super::{load, triples, weights};
use crate::lookup::{GROUP, Groups, Indexed, QUAD, STEP, store_quads};
use std::arch::x86_64::*;

/// Number of triples that form whole quads: each of the first three with a weight of the last.
const SET: usize = 4;
/// Number of blocks of whole groups of quads.
const BLOCKS: usize = 4;
const QUADS: usize = BLOCKS * BLOCK_COLS / QUAD;
const _: () = assert!(STEP == TILE);

impl Indexed for Matrix<'_> {
    const COLUMNS: usize = BLOCKS * BLOCK_COLS;

    fn cols(&self) -> usize {
        self.cols
    }

    #[inline(always)]
    fn quad(index: usize) -> [usize; QUAD] {
        let (set, i) = (index / TRIPLE * TRIPLE * SET, index % TRIPLE);
        [set + 3 * i, set + 3 * i + 1, set + 3 * i + 2, set + 9 + i]
    }

    #[inline(always)]
    unsafe fn offsets(&self, first: usize, start: usize, groups: Groups<'_>) {
        // SAFETY: the caller guarantees AVX2.
        unsafe { offsets(self, first, start, groups) }
    }
}

#[target_feature(enable = "avx2")]
fn offsets(matrix: &Matrix<'_>, first: usize, start: usize, mut groups: Groups<'_>) {
    let planes = &matrix.tile(first / TILE)[start / BLOCK_COLS * PLANES..];
    let mut quads = [_mm256_setzero_si256(); QUADS];
    for (planes, quads) in planes.chunks(PLANES).zip(quads.as_chunks_mut().0) {
        match planes.first_chunk() {
            Some(block) => of_block(block, quads),
            None => {
                let mut block = [[0; TILE]; PLANES];
                block[..planes.len()].copy_from_slice(planes);
                of_block(&block, quads);
            }
        }
    }
    for (quads, out) in quads.as_chunks::<GROUP>().0.iter().zip(groups.iter_mut()) {
        store_quads(*quads, out);
    }
}

/// The indices of the quads of a block.
#[target_feature(enable = "avx2")]
#[inline]
fn of_block(block: &[Plane; PLANES], quads: &mut [__m256i; BLOCK_COLS / QUAD]) {
    const TABLES: [[i8; TILE]; TRIPLE] = weights(27);
    let (one, bias) = (_mm256_set1_epi8(1), _mm256_set1_epi8(1 + 3 + 9 + 27));
    let triples: [_; TRIPLES] = triples(block);
    for (set, quads) in triples.as_chunks::<SET>().0.iter().zip(quads.as_chunks_mut::<TRIPLE>().0) {
        let (single, single_sign) = set[TRIPLE];
        for (((index, sign), table), quad) in set.iter().zip(&TABLES).zip(quads) {
            let triple = _mm256_sign_epi8(_mm256_sub_epi8(*index, one), *sign);
            let weight = _mm256_shuffle_epi8(load(table), single);
            let weight = _mm256_sign_epi8(weight, single_sign);
            *quad = _mm256_add_epi8(_mm256_add_epi8(triple, weight), bias);
        }
    }
}
