//! AVX2: the indices of quads for look-up.

use super::Matrix;
use crate::i2_s::avx2::load;
use crate::i2_s::{BLOCK, ZERO_BLOCK};
use crate::lookup::{GROUP, Groups, Indexed, QUAD, STEP, store_quads};
use std::arch::x86_64::*;

impl Indexed for Matrix<'_> {
    const COLUMNS: usize = 128;

    fn cols(&self) -> usize {
        self.cols
    }

    #[inline(always)]
    fn quad(index: usize) -> [usize; QUAD] {
        [QUAD * index, QUAD * index + 1, QUAD * index + 2, QUAD * index + 3]
    }

    #[inline(always)]
    unsafe fn offsets(&self, first: usize, start: usize, groups: Groups<'_>) {
        // SAFETY: the caller guarantees AVX2.
        unsafe {
            match first % BLOCK / STEP {
                0 => offsets::<6>(self, first / BLOCK, start, groups),
                1 => offsets::<4>(self, first / BLOCK, start, groups),
                2 => offsets::<2>(self, first / BLOCK, start, groups),
                _ => offsets::<0>(self, first / BLOCK, start, groups),
            }
        }
    }
}

/// Finds the entries of the rows of a plane of a block.
#[target_feature(enable = "avx2")]
fn offsets<const SHIFT: i32>(
    matrix: &Matrix<'_>,
    block: usize,
    start: usize,
    mut groups: Groups<'_>,
) {
    let stride = matrix.stride();
    let mask = _mm256_set1_epi8(3);
    let mut blocks = matrix.blocks[start * stride + block..].iter().step_by(stride);
    for out in groups.iter_mut() {
        let mut quads = [_mm256_setzero_si256(); GROUP];
        for quad in &mut quads {
            let mut unit = 1;
            for _ in 0..QUAD {
                // The activations of columns beyond the last are zeros.
                let packed = load(blocks.next().unwrap_or(&ZERO_BLOCK));
                let codes = _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(packed), mask);
                // Codes have two bits, so no product leaves its byte.
                let scaled = _mm256_mullo_epi16(codes, _mm256_set1_epi16(unit));
                *quad = _mm256_add_epi8(*quad, scaled);
                unit *= 3;
            }
        }
        store_quads(quads, out);
    }
}
