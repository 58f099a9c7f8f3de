//! AVX2: 16 codes, widened to i16, times 16 codes of the vector by one `vpmaddwd`.

use std::arch::x86_64::*;

/// Codes that are multiplied at once.
const VECTOR: usize = 16;
/// Codes in a cache line.
const LINE: usize = 64;

/// See [`Kernels::scan`](crate::Kernels::scan), which checks the lengths.
///
/// One row at a time: rows in tiles share the codes of the vector, but from memory their several
/// streams measured a third slower.
#[target_feature(enable = "avx2")]
pub(crate) fn gemv(codes: &[u8], x: &[i16], out: &mut [i32]) {
    let (x_lines, x_tail) = x.as_chunks::<LINE>();
    for (row, out) in codes.chunks_exact(x.len()).zip(out) {
        let (lines, tail) = row.as_chunks::<LINE>();
        let mut sums = [_mm256_setzero_si256(); 2];
        for (line, x) in lines.iter().zip(x_lines) {
            prefetch(line);
            for (i, (codes, x)) in line.as_chunks().0.iter().zip(x.as_chunks().0).enumerate() {
                let products = _mm256_madd_epi16(widen(codes), load(x));
                sums[i % 2] = _mm256_add_epi32(sums[i % 2], products);
            }
        }
        let tail = tail.iter().zip(x_tail).map(|(&c, &x)| i32::from(c as i8) * i32::from(x));
        *out = sum_lanes(_mm256_add_epi32(sums[0], sums[1])) + tail.sum::<i32>();
    }
}

/// The sum of eight i32.
#[target_feature(enable = "avx2")]
#[inline]
fn sum_lanes(v: __m256i) -> i32 {
    let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let v = _mm_add_epi32(v, _mm_unpackhi_epi64(v, v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<1>(v));
    _mm_cvtsi128_si32(v)
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(x: &[i16; VECTOR]) -> __m256i {
    // SAFETY: the reference is valid for reading the 32 bytes that an unaligned load reads.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

/// 16 codes as i16.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(codes: &[u8; VECTOR]) -> __m256i {
    // SAFETY: the reference is valid for reading the 16 bytes that an unaligned load reads.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) })
}

/// Asks for the codes some way behind a line.
#[target_feature(enable = "avx2")]
#[inline]
fn prefetch(line: &[u8; LINE]) {
    /// The distance that measured fastest when the codes come from memory.
    const AHEAD: usize = 16384;
    let ahead = line.as_ptr().wrapping_add(AHEAD);
    _mm_prefetch::<_MM_HINT_T0>(ahead.cast())
}
