//! AVX2: 32 codes times 32 activations by one `vpmaddubsw`.

use super::{BLOCK, BLOCK_BYTES, Rows};
use crate::Codes;
use std::arch::x86_64::*;
use std::ops::Range;

/// Bytes in a vector.
const VECTOR: usize = 32;
/// Rows that one batch of tokens after another is multiplied with, for the second-level cache.
const ROWS: usize = 64;
/// Bytes of activations that rows are multiplied with in turn, for the first-level cache.
const ACTIVATIONS: usize = 32 * 1024;

/// See [`Kernels::ternary_gemm`](crate::Kernels::ternary_gemm), which checks the lengths.
#[target_feature(enable = "avx2")]
pub(crate) fn gemm(
    layout: Rows,
    packed: &[u8],
    cols: usize,
    rows: Range<usize>,
    x: &Codes,
    tokens: Range<usize>,
    out: &mut [i32],
) {
    let stride = rows.len();
    for (out, t) in out.chunks_exact_mut(stride).zip(tokens.clone()) {
        // sum(trit * x) = sum(code * x) - sum(x), because a code is a trit + 1.
        out.fill(-x.sums()[t]);
    }
    let packed = packed.as_chunks().0;
    for first in rows.clone().step_by(ROWS) {
        let weights = Weights { layout, packed, cols, rows: first..rows.end.min(first + ROWS) };
        let mut t = tokens.start;
        while t < tokens.end {
            let out = &mut out[(t - tokens.start) * stride + first - rows.start..];
            // The tiles that measured fastest: more than eight sums spill out of registers, and
            // a single token leaves the decoding of several rows to overlap.
            t += match tokens.end - t {
                1 => gemm_tokens::<4, 1>(&weights, x, t, out, stride),
                2 => gemm_tokens::<2, 2>(&weights, x, t, out, stride),
                3 => gemm_tokens::<1, 3>(&weights, x, t, out, stride),
                4..8 => gemm_tokens::<1, 4>(&weights, x, t, out, stride),
                _ => gemm_tokens::<1, 8>(&weights, x, t, out, stride),
            };
        }
    }
}

/// Some rows of a packed matrix.
struct Weights<'a> {
    layout: Rows,
    packed: &'a [[u8; BLOCK_BYTES]],
    cols: usize,
    rows: Range<usize>,
}

/// Adds the sums of codes times activations of `T` tokens from `t` on, taking rows in tiles of `R`
/// where possible; returns `T`.
#[target_feature(enable = "avx2")]
fn gemm_tokens<const R: usize, const T: usize>(
    weights: &Weights<'_>,
    x: &Codes,
    t: usize,
    out: &mut [i32],
    stride: usize,
) -> usize {
    let Weights { layout, packed, cols, ref rows } = *weights;
    // Rows that begin at the same place within a block can share activations; others may touch
    // one block more.
    let aligned = layout == Rows::Padded || cols.is_multiple_of(BLOCK);
    let blocks = cols.div_ceil(BLOCK) + usize::from(!aligned);
    let parts = (T * blocks * BLOCK).div_ceil(ACTIVATIONS);
    let step = blocks.div_ceil(parts);
    for start in (0..blocks).step_by(step) {
        let mut r = rows.start;
        while r < rows.end {
            let (blocks, offset) = layout.blocks(r, cols);
            let from = blocks.end.min(blocks.start + start);
            let to = blocks.end.min(from + step);
            let mut x_blocks = [[].as_slice(); T];
            for (i, x_blocks) in x_blocks.iter_mut().enumerate() {
                let x = &x.padded(t + i)[BLOCK - offset + start * BLOCK..];
                *x_blocks = &x.as_chunks().0[..to - from];
            }
            let out = &mut out[r - rows.start..];
            if aligned && r + R <= rows.end {
                let mut w = [[].as_slice(); R];
                for (i, w) in w.iter_mut().enumerate() {
                    *w = &packed[from + i * blocks.len()..to + i * blocks.len()];
                }
                add(tile::<R, T>(w, x_blocks), out, stride);
                r += R;
            } else {
                add(tile::<1, T>([&packed[from..to]], x_blocks), out, stride);
                r += 1;
            }
        }
    }
    T
}

fn add<const R: usize, const T: usize>(sums: [[i32; T]; R], out: &mut [i32], stride: usize) {
    for (r, sums) in sums.iter().enumerate() {
        for (t, sum) in sums.iter().enumerate() {
            out[t * stride + r] += sum;
        }
    }
}

/// Sums of codes times activations over equally many blocks of `R` rows and `T` tokens.
#[target_feature(enable = "avx2")]
#[inline]
fn tile<const R: usize, const T: usize>(
    mut w: [&[[u8; BLOCK_BYTES]]; R],
    mut x: [&[[i8; BLOCK]]; T],
) -> [[i32; T]; R] {
    // Blocks that can be summed in i16. A lane then holds 64 sums of two products of a code in
    // 0..=2 and an activation in -128..=127, and so lies in -32768..=32512.
    const NARROW: usize = 16;

    let blocks = w[0].len();
    w.iter_mut().for_each(|w| *w = &w[..blocks]);
    x.iter_mut().for_each(|x| *x = &x[..blocks]);
    let mask = _mm256_set1_epi8(3);
    let mut sums = [[_mm256_setzero_si256(); T]; R];
    for start in (0..blocks).step_by(NARROW) {
        let mut narrow = [[_mm256_setzero_si256(); T]; R];
        for b in start..blocks.min(start + NARROW) {
            for r in 0..R {
                prefetch(&w[r][b]);
                let block = load(&w[r][b]);
                let planes = [
                    _mm256_and_si256(_mm256_srli_epi16::<6>(block), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(block), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<2>(block), mask),
                    _mm256_and_si256(block, mask),
                ];
                for t in 0..T {
                    for (plane, x) in planes.iter().zip(x[t][b].as_chunks().0) {
                        let products = _mm256_maddubs_epi16(*plane, load(x));
                        narrow[r][t] = _mm256_add_epi16(narrow[r][t], products);
                    }
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                let wide = _mm256_madd_epi16(narrow[r][t], _mm256_set1_epi16(1));
                sums[r][t] = _mm256_add_epi32(sums[r][t], wide);
            }
        }
    }
    let mut totals = [[0; T]; R];
    for r in 0..R {
        for t in 0..T {
            totals[r][t] = sum_lanes(sums[r][t]);
        }
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

/// A number of one byte.
trait Byte {}
impl Byte for u8 {}
impl Byte for i8 {}

#[target_feature(enable = "avx2")]
#[inline]
fn load<T: Byte>(bytes: &[T; VECTOR]) -> __m256i {
    // SAFETY: the reference is valid for reading the 32 bytes that an unaligned load reads.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Asks for the weights some way behind a block.
#[target_feature(enable = "avx2")]
#[inline]
fn prefetch(block: &[u8; BLOCK_BYTES]) {
    /// The distance that measured fastest when the weights come from memory.
    const AHEAD: usize = 8192;
    let ahead = block.as_ptr().wrapping_add(AHEAD);
    _mm_prefetch::<_MM_HINT_T0>(ahead.cast())
}
