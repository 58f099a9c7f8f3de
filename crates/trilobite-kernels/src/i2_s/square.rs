//! AVX2: transposing squares of bytes, for layouts that are repacked as I2_S.

use super::BLOCK_BYTES as SIDE;
use std::arch::x86_64::*;

/// Transposes 32 x 32 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn transpose(v: [__m256i; SIDE]) -> [__m256i; SIDE] {
    let mut halves = [[v[0]; SIDE / 2]; 2];
    halves.as_flattened_mut().copy_from_slice(&v);
    for half in &mut halves {
        // Four rounds that interleave the first 16 vectors with the second 16 transpose the square.
        for _ in 0..4 {
            let v = *half;
            for i in 0..8 {
                half[2 * i] = _mm256_unpacklo_epi8(v[i], v[i + 8]);
                half[2 * i + 1] = _mm256_unpackhi_epi8(v[i], v[i + 8]);
            }
        }
    }
    let [left, right] = halves;
    std::array::from_fn(|r| {
        let (left, right) = (left[r % 16], right[r % 16]);
        if r < 16 {
            _mm256_permute2x128_si256::<0x20>(left, right)
        } else {
            _mm256_permute2x128_si256::<0x31>(left, right)
        }
    })
}
