//! AVX2: the indices of quads for look-up.

use super::{BLOCK, BLOCK_BYTES, Matrix, avx2};
use crate::lookup::{Groups, Indexed, QUAD, STEP, store_four};
use std::arch::x86_64::*;

/// Matrices whose rows start at blocks. The columns of a quad share a byte.
impl Indexed for Matrix<'_> {
    const COLUMNS: usize = BLOCK;

    fn cols(&self) -> usize {
        self.cols
    }

    #[inline(always)]
    fn quad(index: usize) -> [usize; QUAD] {
        [index + 96, index + 64, index + 32, index]
    }

    #[inline(always)]
    unsafe fn offsets(&self, first: usize, start: usize, groups: Groups<'_>) {
        // SAFETY: the caller guarantees AVX2.
        unsafe { offsets(self, first, start / BLOCK, groups) }
    }
}

#[target_feature(enable = "avx2")]
fn offsets(matrix: &Matrix<'_>, first: usize, block: usize, mut groups: Groups<'_>) {
    let stride = matrix.cols.div_ceil(BLOCK);
    let mut rows = matrix.blocks[first * stride + block..].iter().step_by(stride);
    for four in 0..STEP / 4 {
        let mut square = [_mm256_setzero_si256(); 4];
        for (line, block) in square.iter_mut().zip(rows.by_ref()) {
            *line = of_block(block);
        }
        let [a, b, c, d] = square;
        let low = [_mm256_unpacklo_epi64(a, b), _mm256_unpacklo_epi64(c, d)];
        let high = [_mm256_unpackhi_epi64(a, b), _mm256_unpackhi_epi64(c, d)];
        let groups_of_four = [
            _mm256_permute2x128_si256::<0x20>(low[0], low[1]),
            _mm256_permute2x128_si256::<0x20>(high[0], high[1]),
            _mm256_permute2x128_si256::<0x31>(low[0], low[1]),
            _mm256_permute2x128_si256::<0x31>(high[0], high[1]),
        ];
        for (out, group) in groups.iter_mut().zip(groups_of_four) {
            store_four(group, &mut out.as_chunks_mut().0[four]);
        }
    }
}

/// The indices of the bytes of a block.
#[target_feature(enable = "avx2")]
#[inline]
fn of_block(block: &[u8; BLOCK_BYTES]) -> __m256i {
    /// What the two codes of half a byte contribute.
    const fn table(unit: u8) -> [u8; BLOCK_BYTES] {
        let mut table = [0; BLOCK_BYTES];
        let mut i = 0;
        while i < BLOCK_BYTES {
            table[i] = (3 * (i as u8 >> 2 & 3) + (i as u8 & 3)) * unit;
            i += 1;
        }
        table
    }
    let half = _mm256_set1_epi8(15);
    let bytes = avx2::load(block);
    let low = _mm256_and_si256(bytes, half);
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half);
    let low = _mm256_shuffle_epi8(avx2::load(&const { table(1) }), low);
    _mm256_add_epi8(low, _mm256_shuffle_epi8(avx2::load(&const { table(9) }), high))
}
