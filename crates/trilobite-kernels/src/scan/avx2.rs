//! AVX2: 16 codes, widened to i16, times 16 codes of the vector by one `vpmaddwd`.

use std::arch::x86_64::*;

/// Codes that are multiplied at once.
const CHUNK: usize = 16;
/// Rows that share the codes of the vector.
const ROWS: usize = 4;

/// See [`Kernels::scan`](crate::Kernels::scan), which checks the lengths.
#[target_feature(enable = "avx2")]
pub(crate) fn gemv(codes: &[u8], x: &[i16], out: &mut [i32]) {
    let cols = x.len();
    let mut tiles = out.chunks_exact_mut(ROWS);
    let mut rows = codes.chunks_exact(cols);
    for out in &mut tiles {
        let mut w = [[].as_slice(); ROWS];
        for w in &mut w {
            *w = rows.next().unwrap_or_default();
        }
        out.copy_from_slice(&dots(w, x));
    }
    for (out, row) in tiles.into_remainder().iter_mut().zip(rows) {
        [*out] = dots([row], x);
    }
}

/// The products of `R` rows with the vector.
#[target_feature(enable = "avx2")]
#[inline]
fn dots<const R: usize>(rows: [&[u8]; R], x: &[i16]) -> [i32; R] {
    let (x, x_tail) = x.as_chunks::<CHUNK>();
    let mut chunks = [[].as_slice(); R];
    let mut totals = [0; R];
    for r in 0..R {
        let (whole, tail) = rows[r].as_chunks::<CHUNK>();
        chunks[r] = &whole[..x.len()];
        totals[r] = tail.iter().zip(x_tail).map(|(&c, &x)| i32::from(c as i8) * i32::from(x)).sum();
    }
    let mut sums = [_mm256_setzero_si256(); R];
    for (i, x) in x.iter().enumerate() {
        let x = load(x);
        for r in 0..R {
            prefetch(&chunks[r][i]);
            let products = _mm256_madd_epi16(widen(&chunks[r][i]), x);
            sums[r] = _mm256_add_epi32(sums[r], products);
        }
    }
    for r in 0..R {
        totals[r] += sum_lanes(sums[r]);
    }
    totals
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
fn load(x: &[i16; CHUNK]) -> __m256i {
    // SAFETY: the reference is valid for reading the 32 bytes that an unaligned load reads.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

/// 16 codes as i16.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(codes: &[u8; CHUNK]) -> __m256i {
    // SAFETY: the reference is valid for reading the 16 bytes that an unaligned load reads.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) })
}

/// Asks for the codes some way behind a chunk.
#[target_feature(enable = "avx2")]
#[inline]
fn prefetch(codes: &[u8; CHUNK]) {
    /// The distance that measured fastest when the codes come from memory.
    const AHEAD: usize = 8192;
    let ahead = codes.as_ptr().wrapping_add(AHEAD);
    _mm_prefetch::<_MM_HINT_T0>(ahead.cast())
}
