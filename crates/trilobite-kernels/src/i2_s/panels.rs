//! AVX-512 VNNI, many tokens: the codes of a panel of rows are unpacked once for all tokens.
//!
//! Lanes are rows. A lane of `vpdpbusd` multiplies four codes of its row with four activations that
//! all lanes share. So no sums are added across lanes, and codes are loaded once for a tile of tokens.

use super::{BLOCK, BLOCK_BYTES, Product, avx2};
use crate::codes::MARGIN;
use std::arch::x86_64::*;

/// Number of rows in a panel.
const ROWS: usize = 32;
/// Number of lanes of a register.
const LANES: usize = 16;
/// Number of registers for the rows of a panel.
const REGISTERS: usize = ROWS / LANES;
/// Number of tokens whose sums stay in registers. They take 24 of the 32.
const TOKENS: usize = 12;
/// Number of columns in a lane.
const QUAD: usize = 4;
/// Number of quads in a block.
const QUADS: usize = BLOCK / QUAD;
/// Number of blocks that are unpacked together: 16 KiB of codes, which stay in the first-level cache
/// while the tokens pass.
const PART: usize = 4;
/// Number of rows that are unpacked together.
const SIDE: usize = 8;
/// Bytes of activations that stay in the second-level cache while the panels pass.
const ACTIVATIONS: usize = 1024 * 1024;

/// The sum, or the codes of four columns, of each row of a panel.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Panel([i32; ROWS]);

/// Buffers for codes and sums.
#[derive(Debug, Default)]
pub(crate) struct PanelBuffers {
    /// The codes of a part of the columns, `[columns / QUAD]`.
    codes: Vec<Panel>,
    /// The sums, for each token.
    sums: Vec<Panel>,
}

/// Fills `out` with the sums of a [`Product`] of a matrix whose rows start at blocks.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
pub(crate) fn gemm(product: &Product<'_>, buffers: &mut PanelBuffers, out: &mut [i32]) {
    let stride = product.rows.len();
    let tiles = (ACTIVATIONS / product.matrix.cols / TOKENS).max(1);
    let first = product.tokens.start;
    for start in product.tokens.clone().step_by(tiles * TOKENS) {
        let tokens = start..product.tokens.end.min(start + tiles * TOKENS);
        let out = &mut out[(start - first) * stride..(tokens.end - first) * stride];
        gemm_tokens(&Product { tokens, ..product.clone() }, buffers, out);
    }
}

/// [`gemm`] for tokens whose activations stay in the second-level cache.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
fn gemm_tokens(product: &Product<'_>, buffers: &mut PanelBuffers, out: &mut [i32]) {
    let Product { matrix, ref rows, x, ref tokens } = *product;
    let blocks = matrix.cols.div_ceil(BLOCK);
    let PanelBuffers { codes, sums } = buffers;
    codes.resize(PART * QUADS, Panel([0; ROWS]));
    sums.resize(tokens.len().next_multiple_of(TOKENS), Panel([0; ROWS]));
    for first in rows.clone().step_by(ROWS) {
        for (sums, t) in sums.iter_mut().zip(tokens.clone()) {
            // sum(trit * x) = sum(code * x) - sum(x), because a code is a trit + 1.
            sums.0.fill(-x.sums()[t]);
        }
        for block in (0..blocks).step_by(PART) {
            let part = block..blocks.min(block + PART);
            let codes = &mut codes[..part.len() * QUADS];
            for lane in (0..ROWS).step_by(SIDE) {
                let mut side = [[].as_slice(); SIDE];
                for (i, row) in side.iter_mut().enumerate() {
                    // Lanes beyond the last row repeat it.
                    let start = (rows.end - 1).min(first + lane + i) * blocks;
                    *row = &matrix.blocks[start + part.start..start + part.end];
                }
                unpack(side, lane, codes);
            }
            for (i, sums) in sums.as_chunks_mut().0.iter_mut().enumerate() {
                let mut tile = [[].as_slice(); TOKENS];
                for (t, x_part) in tile.iter_mut().enumerate() {
                    // Sums beyond the last token are not used.
                    let t = (tokens.end - 1).min(tokens.start + i * TOKENS + t);
                    let quads = x.padded(t)[MARGIN..].as_chunks().0;
                    *x_part = &quads[part.start * QUADS..part.end * QUADS];
                }
                multiply(codes, tile, sums);
            }
        }
        let count = ROWS.min(rows.end - first);
        let outs = out.chunks_exact_mut(rows.len());
        for (sums, out) in sums.iter().zip(outs) {
            let out = &mut out[first - rows.start..];
            match out.first_chunk_mut() {
                Some(out) => *out = sums.0,
                None => out.copy_from_slice(&sums.0[..count]),
            }
        }
    }
}

/// Adds the products of the codes of some columns with the activations of a tile of tokens.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn multiply(codes: &[Panel], mut x: [&[[i8; QUAD]]; TOKENS], sums: &mut [Panel; TOKENS]) {
    x.iter_mut().for_each(|x| *x = &x[..codes.len()]);
    let mut totals = [[_mm512_setzero_si512(); REGISTERS]; TOKENS];
    for t in 0..TOKENS {
        for (r, total) in totals[t].iter_mut().enumerate() {
            *total = load(&sums[t], r);
        }
    }
    for (i, codes) in codes.iter().enumerate() {
        let rows = [load(codes, 0), load(codes, 1)];
        for t in 0..TOKENS {
            let x = _mm512_set1_epi32(i32::from_ne_bytes(x[t][i].map(i8::cast_unsigned)));
            for r in 0..REGISTERS {
                totals[t][r] = _mm512_dpbusd_epi32(totals[t][r], rows[r], x);
            }
        }
    }
    for t in 0..TOKENS {
        let to = sums[t].0.as_chunks_mut::<LANES>().0;
        for (to, total) in to.iter_mut().zip(totals[t]) {
            // SAFETY: the reference is valid for writing the 64 bytes that an unaligned store writes.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), total) }
        }
    }
}

/// Loads the `r`th sixteen numbers of a panel.
#[target_feature(enable = "avx512f")]
#[inline]
fn load(panel: &Panel, r: usize) -> __m512i {
    let from = &panel.0.as_chunks::<LANES>().0[r];
    // SAFETY: the reference is valid for reading the 64 bytes that an unaligned load reads.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// Unpacks the codes of [`SIDE`] rows to the lanes from `lane` on.
#[target_feature(enable = "avx2")]
#[inline]
fn unpack(rows: [&[[u8; BLOCK_BYTES]]; SIDE], lane: usize, codes: &mut [Panel]) {
    let mask = _mm256_set1_epi8(3);
    for (b, quads) in codes.as_chunks_mut::<QUADS>().0.iter_mut().enumerate() {
        let mut square = [_mm256_setzero_si256(); SIDE];
        for (line, row) in square.iter_mut().zip(rows) {
            *line = avx2::load(&row[b]);
        }
        // Four bytes of each row hold a quad of each of the four planes.
        for (i, line) in transpose(square).into_iter().enumerate() {
            let planes = [
                _mm256_srli_epi16::<6>(line),
                _mm256_srli_epi16::<4>(line),
                _mm256_srli_epi16::<2>(line),
                line,
            ];
            for (quads, plane) in quads.as_chunks_mut::<SIDE>().0.iter_mut().zip(planes) {
                let to = &mut quads[i].0.as_chunks_mut::<SIDE>().0[lane / SIDE];
                let codes = _mm256_and_si256(plane, mask);
                // SAFETY: the reference is valid for writing the 32 bytes that an unaligned store
                // writes.
                unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), codes) }
            }
        }
    }
}

/// Transposes a square of numbers of 32 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(mut square: [__m256i; SIDE]) -> [__m256i; SIDE] {
    for half in square.as_chunks_mut::<4>().0 {
        // Two rounds that interleave the first two vectors with the second two transpose squares of
        // four numbers.
        for _ in 0..2 {
            let v = *half;
            for i in 0..2 {
                half[2 * i] = _mm256_unpacklo_epi32(v[i], v[i + 2]);
                half[2 * i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 2]);
            }
        }
    }
    let mut out = square;
    for i in 0..SIDE / 2 {
        let (a, b) = (square[i], square[i + SIDE / 2]);
        out[i] = _mm256_permute2x128_si256::<0x20>(a, b);
        out[i + SIDE / 2] = _mm256_permute2x128_si256::<0x31>(a, b);
    }
    out
}
