//! AVX2: 32 codes times 32 activations by one `vpmaddubsw`.
//!
//! Products are summed in i16 and widened every [`CHUNK`] weights. A lane then holds 64 sums of two
//! products of a code in 0..=2 and an activation in -128..=127, so it lies in -32768..=32512.

use super::{BLOCK, BLOCK_BYTES, Rows};
use crate::Codes;
use std::arch::x86_64::*;
use std::array::from_fn;
use std::ops::Range;

/// Bytes in a vector.
const VECTOR: usize = 32;
/// Blocks whose products a lane of i16 can hold, and their weights.
const CHUNK_BLOCKS: usize = 16;
const CHUNK: usize = CHUNK_BLOCKS * BLOCK;
/// Largest batch whose weights are unpacked anew for every few tokens instead of kept in a panel.
const FEW_TOKENS: usize = 4;
/// Rows of a panel of unpacked codes: with the activations of a tile it fits the first-level cache.
const PANEL_ROWS: usize = 8;
/// Tokens that share an unpacked panel: their activations fit the second-level cache.
const PANEL_TOKENS: usize = 64;
/// A row's chunk may begin within a block, and so touch one block more.
const PANEL_BLOCKS: usize = CHUNK_BLOCKS + 1;

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
    let weights = Weights { layout, blocks: packed.as_chunks().0, cols, rows };
    let stride = weights.rows.len();
    if tokens.len() > FEW_TOKENS {
        let mut t = tokens.start;
        for out in out.chunks_mut(stride * PANEL_TOKENS) {
            let end = tokens.end.min(t + PANEL_TOKENS);
            gemm_panels(&weights, x, t..end, out);
            t = end;
        }
    } else {
        match tokens.len() {
            1 => gemm_few::<4, 1>(&weights, x, tokens.start, out),
            2 => gemm_few::<2, 2>(&weights, x, tokens.start, out),
            3 => gemm_few::<1, 3>(&weights, x, tokens.start, out),
            _ => gemm_few::<1, 4>(&weights, x, tokens.start, out),
        }
    }
    for (out, t) in out.chunks_exact_mut(stride).zip(tokens) {
        let sum = x.sums()[t];
        out.iter_mut().for_each(|out| *out -= sum);
    }
}

/// Rows of a packed matrix.
struct Weights<'a> {
    layout: Rows,
    blocks: &'a [[u8; BLOCK_BYTES]],
    cols: usize,
    rows: Range<usize>,
}

impl Weights<'_> {
    /// The blocks of row `r` of the range, and the row's first element within them.
    #[inline(always)]
    fn row(&self, r: usize) -> (&[[u8; BLOCK_BYTES]], usize) {
        let (blocks, offset) = self.layout.blocks(self.rows.start + r, self.cols);
        (&self.blocks[blocks], offset)
    }
}

/// Sums of codes times activations for `T` tokens from `t` on, decoding in registers.
#[target_feature(enable = "avx2")]
fn gemm_few<const R: usize, const T: usize>(
    weights: &Weights<'_>,
    x: &Codes,
    t: usize,
    out: &mut [i32],
) {
    let rows = weights.rows.len();
    let x: [&[i8]; T] = from_fn(|i| x.padded(t + i));
    let mut r = 0;
    // Rows that begin at the same place within a block can share activations.
    if weights.layout == Rows::Padded || weights.cols.is_multiple_of(BLOCK) {
        while r + R <= rows {
            let sums = tile::<R, T>(from_fn(|i| weights.row(r + i).0), 0, x);
            for (i, sums) in sums.iter().enumerate() {
                for (t, sum) in sums.iter().enumerate() {
                    out[t * rows + r + i] = *sum;
                }
            }
            r += R;
        }
    }
    for r in r..rows {
        let (blocks, offset) = weights.row(r);
        let [sums] = tile::<1, T>([blocks], offset, x);
        for (t, sum) in sums.iter().enumerate() {
            out[t * rows + r] = *sum;
        }
    }
}

/// Sums of codes times activations for equally many blocks of `R` rows that begin at `offset`
/// within their first block.
#[target_feature(enable = "avx2")]
#[inline]
fn tile<const R: usize, const T: usize>(
    mut w: [&[[u8; BLOCK_BYTES]]; R],
    offset: usize,
    x: [&[i8]; T],
) -> [[i32; T]; R] {
    let blocks = w[0].len();
    // Loops and not closures, because closures here are not always inlined, and then the compiler
    // does not see that the slices are equally long.
    for w in &mut w {
        *w = &w[..blocks];
    }
    let mut x_blocks = [[].as_slice(); T];
    for (blocks_of, x) in x_blocks.iter_mut().zip(x) {
        *blocks_of = &x[BLOCK - offset..].as_chunks::<BLOCK>().0[..blocks];
    }
    let x = x_blocks;
    let mut sums = [[_mm256_setzero_si256(); T]; R];
    for start in (0..blocks).step_by(CHUNK_BLOCKS) {
        let mut chunk = [[_mm256_setzero_si256(); T]; R];
        for b in start..blocks.min(start + CHUNK_BLOCKS) {
            for r in 0..R {
                prefetch(&w[r][b]);
                let planes = unpack(&w[r][b]);
                for t in 0..T {
                    let x = x[t][b].as_chunks::<VECTOR>().0;
                    for (plane, x) in planes.iter().zip(x) {
                        let products = _mm256_maddubs_epi16(*plane, load(x));
                        chunk[r][t] = _mm256_add_epi16(chunk[r][t], products);
                    }
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                sums[r][t] = _mm256_add_epi32(sums[r][t], widen(chunk[r][t]));
            }
        }
    }
    sum_tile(sums)
}

/// Sums of codes times activations for any number of tokens, decoding a panel of rows into the
/// cache and multiplying it by all of them.
#[target_feature(enable = "avx2")]
fn gemm_panels(weights: &Weights<'_>, x: &Codes, tokens: Range<usize>, out: &mut [i32]) {
    let rows = weights.rows.len();
    let mut panel = [[0; PANEL_BLOCKS * BLOCK]; PANEL_ROWS];
    out.fill(0);
    for first in (0..rows).step_by(PANEL_ROWS) {
        let panel_rows = PANEL_ROWS.min(rows - first);
        for col in (0..weights.cols).step_by(CHUNK) {
            let len = CHUNK.min(weights.cols - col).next_multiple_of(VECTOR);
            let mut codes = [[].as_slice(); PANEL_ROWS];
            for (r, (panel, codes)) in panel.iter_mut().zip(&mut codes).take(panel_rows).enumerate()
            {
                let (blocks, offset) = weights.row(first + r);
                let blocks = blocks[col / BLOCK..].iter().take(PANEL_BLOCKS);
                for (block, panel) in blocks.zip(panel.as_chunks_mut::<BLOCK>().0) {
                    for (plane, panel) in unpack(block).iter().zip(panel.as_chunks_mut().0) {
                        store(panel, *plane);
                    }
                }
                // Whatever follows the row's end here meets the zeros after the activations.
                *codes = panel[offset..][..len].as_chunks::<VECTOR>().0;
            }
            let mut t = tokens.start;
            while t < tokens.end {
                let out = &mut out[(t - tokens.start) * rows + first..];
                let codes = &codes[..panel_rows];
                t += match tokens.end - t {
                    1 => multiply_panel::<1>(codes, x, t, col, out, rows),
                    2 => multiply_panel::<2>(codes, x, t, col, out, rows),
                    3 => multiply_panel::<3>(codes, x, t, col, out, rows),
                    _ => multiply_panel::<4>(codes, x, t, col, out, rows),
                };
            }
        }
    }
}

/// Adds to `out` the products of a panel's rows with `T` tokens' activations from `col` on; returns
/// `T`.
#[target_feature(enable = "avx2")]
fn multiply_panel<const T: usize>(
    codes: &[&[[u8; VECTOR]]],
    x: &Codes,
    t: usize,
    col: usize,
    out: &mut [i32],
    stride: usize,
) -> usize {
    let x: [_; T] = from_fn(|i| x.padded(t + i)[BLOCK + col..].as_chunks().0);
    let (pairs, last) = codes.as_chunks::<2>();
    for (r, pair) in pairs.iter().enumerate() {
        add(panel_tile(*pair, x), out, stride, 2 * r);
    }
    if let [row] = last {
        add(panel_tile([*row], x), out, stride, codes.len() - 1);
    }
    fn add<const R: usize, const T: usize>(
        sums: [[i32; T]; R],
        out: &mut [i32],
        stride: usize,
        r: usize,
    ) {
        for (i, sums) in sums.iter().enumerate() {
            for (t, sum) in sums.iter().enumerate() {
                out[t * stride + r + i] += sum;
            }
        }
    }
    T
}

/// The products of at most [`CHUNK`] unpacked codes of `R` rows with the activations of `T` tokens.
#[target_feature(enable = "avx2")]
#[inline]
fn panel_tile<const R: usize, const T: usize>(
    mut w: [&[[u8; VECTOR]]; R],
    mut x: [&[[i8; VECTOR]]; T],
) -> [[i32; T]; R] {
    let len = w[0].len().min(CHUNK / VECTOR);
    for w in &mut w {
        *w = &w[..len];
    }
    for x in &mut x {
        *x = &x[..len];
    }
    let mut sums = [[_mm256_setzero_si256(); T]; R];
    for i in 0..len {
        let mut codes = [_mm256_setzero_si256(); R];
        for r in 0..R {
            codes[r] = load(&w[r][i]);
        }
        for t in 0..T {
            let x = load(&x[t][i]);
            for r in 0..R {
                sums[r][t] = _mm256_add_epi16(sums[r][t], _mm256_maddubs_epi16(codes[r], x));
            }
        }
    }
    for sums in sums.as_flattened_mut() {
        *sums = widen(*sums);
    }
    sum_tile(sums)
}

/// The four bit planes of a block, one code a byte.
#[target_feature(enable = "avx2")]
#[inline]
fn unpack(block: &[u8; BLOCK_BYTES]) -> [__m256i; 4] {
    let mask = _mm256_set1_epi8(3);
    let block = load(block);
    [
        _mm256_and_si256(_mm256_srli_epi16::<6>(block), mask),
        _mm256_and_si256(_mm256_srli_epi16::<4>(block), mask),
        _mm256_and_si256(_mm256_srli_epi16::<2>(block), mask),
        _mm256_and_si256(block, mask),
    ]
}

/// Sixteen i16 as eight i32, neighbours added.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(sums: __m256i) -> __m256i {
    _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
}

/// The sum of eight i32, for each in a tile.
#[target_feature(enable = "avx2")]
#[inline]
fn sum_tile<const R: usize, const T: usize>(tile: [[__m256i; T]; R]) -> [[i32; T]; R] {
    let mut sums = [[0; T]; R];
    for (sum, v) in sums.as_flattened_mut().iter_mut().zip(tile.as_flattened()) {
        *sum = sum_lanes(*v);
    }
    sums
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

#[target_feature(enable = "avx2")]
#[inline]
fn store(bytes: &mut [u8; VECTOR], v: __m256i) {
    // SAFETY: the reference is valid for writing the 32 bytes that an unaligned store writes.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), v) }
}

/// Asks for the weights some way behind a block.
#[target_feature(enable = "avx2")]
#[inline]
fn prefetch(block: &[u8; BLOCK_BYTES]) {
    const AHEAD: usize = 2048;
    let ahead = block.as_ptr().wrapping_add(AHEAD);
    _mm_prefetch::<_MM_HINT_T0>(ahead.cast())
}
