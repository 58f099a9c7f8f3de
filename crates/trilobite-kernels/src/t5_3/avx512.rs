//! AVX-512: the 32 i16 lanes of a register hold all 27 sums of three activations, and `vpermw`
//! looks up those of 32 rows at once. Several tokens are multiplied in [`batch`].
//!
//! One look-up and one addition replace 96 products, whereas a multiply-add instruction does 64.

mod batch;

use super::{BLOCK_COLS, INVALID, PLANES, Plane, Product, TILE, TRIPLES, WEIGHTS, planes};
use crate::codes::MARGIN;
use crate::simd::prefetch::Prefetch;
use std::arch::x86_64::*;
use std::ops::Range;

/// Maximum number of tokens at a time, so that their sums stay in registers.
const TOKENS: usize = 8;
/// Number of tokens from which multiply-adds are as fast as look-ups, or faster.
const BATCH: usize = 3;
/// Number of blocks whose tables are held, for one or two tokens: 32 KB.
const BLOCKS: usize = 32;
/// Number of blocks that can be summed in i16: 10 * 8 sums of at most 384.
const NARROW: usize = 10;

/// The sum of three activations for every index without a sign, then for every index with a sign.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Table([i16; TILE]);

/// The sums of a tile in i32.
type Sums = [__m512i; 2];

/// Fills `out` with the sums of a [`Product`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn gemm(product: &Product<'_>, out: &mut [i32]) {
    out.fill(0);
    let (tokens, stride) = (product.tokens.clone(), product.rows.len());
    if tokens.len() < BATCH {
        let mut tables = [Table([0; TILE]); 2 * BLOCKS * TRIPLES];
        for part in parts(product, if tokens.len() == 1 { 2 * BLOCKS } else { BLOCKS }) {
            match tokens.len() {
                1 => add_tokens::<1>(&part, tokens.start, &mut tables, out),
                _ => add_tokens::<2>(&part, tokens.start, &mut tables, out),
            }
        }
        return;
    }
    let mut buffer: batch::Buffer<TOKENS> = [[[[0; 3]; 2]; TOKENS]; batch::BLOCKS];
    let buffer = buffer.as_flattened_mut();
    // The minimum number of passes, with numbers of tokens as equal as possible.
    let most = tokens.len().div_ceil(tokens.len().div_ceil(TOKENS));
    // All tokens pass a part of the columns before the next part, because the weights come from
    // memory.
    for part in parts(product, batch::BLOCKS) {
        for t in tokens.clone().step_by(most) {
            let out = &mut out[(t - tokens.start) * stride..];
            match most.min(tokens.end - t) {
                1 => batch::add_tokens::<1>(&part, t, buffer, out),
                2 => batch::add_tokens::<2>(&part, t, buffer, out),
                3 => batch::add_tokens::<3>(&part, t, buffer, out),
                4 => batch::add_tokens::<4>(&part, t, buffer, out),
                5 => batch::add_tokens::<5>(&part, t, buffer, out),
                6 => batch::add_tokens::<6>(&part, t, buffer, out),
                7 => batch::add_tokens::<7>(&part, t, buffer, out),
                _ => batch::add_tokens::<TOKENS>(&part, t, buffer, out),
            }
        }
    }
}

/// A range of blocks of columns of a product.
struct Part<'a> {
    product: &'a Product<'a>,
    blocks: Range<usize>,
}

/// Cuts a product into parts of about equal size and at most `most` blocks.
fn parts<'a>(product: &'a Product<'a>, most: usize) -> impl Iterator<Item = Part<'a>> {
    let blocks = planes(product.matrix.cols).div_ceil(PLANES);
    let step = blocks.div_ceil(blocks.div_ceil(most));
    let ranges = (0..blocks).step_by(step).map(move |start| start..blocks.min(start + step));
    ranges.map(|blocks| Part { product, blocks })
}

impl Part<'_> {
    /// Calls `sums(planes of the part, planes from one tile to the next)` for every tile, and adds
    /// the sums of `T` tokens to the outputs.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn each_tile<const T: usize>(
        &self,
        out: &mut [i32],
        sums: impl Fn(&[Plane], usize) -> [Sums; T],
    ) {
        let Part { product: &Product { matrix, ref rows, .. }, ref blocks } = *self;
        for index in rows.start / TILE..rows.end.div_ceil(TILE) {
            let weights = matrix.tile(index);
            let end = weights.len().min(blocks.end * PLANES);
            let sums = sums(&weights[blocks.start * PLANES..end], weights.len());
            let first = index * TILE;
            let wanted = rows.start.max(first)..rows.end.min(first + TILE);
            for (sums, out) in sums.iter().zip(out.chunks_mut(rows.len())) {
                let out = &mut out[wanted.start - rows.start..wanted.end - rows.start];
                if let Some(out) = out.first_chunk_mut() {
                    add(*sums, out);
                } else {
                    let mut tile = [0; TILE];
                    add(*sums, &mut tile);
                    for (out, sum) in out.iter_mut().zip(&tile[wanted.start - first..]) {
                        *out += sum;
                    }
                }
            }
        }
    }
}

/// Adds the sums of weights times activations of `T` tokens from `t` on.
#[target_feature(enable = "avx512f,avx512bw")]
fn add_tokens<const T: usize>(part: &Part<'_>, t: usize, tables: &mut [Table], out: &mut [i32]) {
    let Part { product, ref blocks } = *part;
    let tables = &mut tables.as_chunks_mut().0[..blocks.len() * TRIPLES];
    for i in 0..T {
        let x = &product.x.padded(t + i)[MARGIN..];
        let x = &x[blocks.start * BLOCK_COLS..blocks.end * BLOCK_COLS];
        for (tables, x) in tables.iter_mut().zip(x.as_chunks().0) {
            tables[i] = table(x);
        }
    }
    let tables = tables.as_chunks().0;
    part.each_tile(out, |weights, stride| tile_sums::<T>(weights, stride, tables));
}

/// Builds the table of three activations.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn table(x: &[i8; 3]) -> Table {
    /// The sign of each activation in the sum of each index.
    const SIGNS: [Table; 3] = {
        let mut signs = [Table([0; TILE]); 3];
        let mut i = 0;
        while i < 3 * 16 {
            // Invalid indices count as 0.
            if WEIGHTS[i / 3][0] != INVALID {
                let sign = WEIGHTS[i / 3][i % 3] as i16;
                signs[i % 3].0[i / 3] = sign;
                signs[i % 3].0[16 + i / 3] = -sign;
            }
            i += 1;
        }
        signs
    };
    let mut sums = _mm512_setzero_si512();
    for (x, signs) in x.iter().zip(&SIGNS) {
        let product = _mm512_mullo_epi16(_mm512_set1_epi16(i16::from(*x)), load(signs));
        sums = _mm512_add_epi16(sums, product);
    }
    let mut table = Table([0; TILE]);
    // SAFETY: the reference is valid for writing the 64 bytes of an unaligned store.
    unsafe { _mm512_storeu_si512(table.0.as_mut_ptr().cast(), sums) };
    table
}

/// Sums of weights times activations of a tile over some blocks. The next tile is `stride` planes
/// further.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn tile_sums<const T: usize>(
    weights: &[Plane],
    stride: usize,
    tables: &[[[Table; T]; TRIPLES]],
) -> [Sums; T] {
    let mut sums = [[_mm512_setzero_si512(); 2]; T];
    let way = Prefetch::fastest();
    let runs = weights.chunks(NARROW * PLANES).zip(tables.chunks(NARROW));
    for (weights, tables) in runs {
        let mut narrow = [_mm512_setzero_si512(); T];
        let (whole, rest) = weights.as_chunks();
        for (block, tables) in whole.iter().zip(tables) {
            prefetch(way, block, stride);
            add_block(block, tables, &mut narrow);
        }
        if let (false, Some(tables)) = (rest.is_empty(), tables.last()) {
            let mut block = [[0; TILE]; PLANES];
            block[..rest.len()].copy_from_slice(rest);
            add_block(&block, tables, &mut narrow);
        }
        for (sums, narrow) in sums.iter_mut().zip(narrow) {
            let halves = [_mm512_castsi512_si256(narrow), _mm512_extracti64x4_epi64::<1>(narrow)];
            for (sum, half) in sums.iter_mut().zip(halves) {
                *sum = _mm512_add_epi32(*sum, _mm512_cvtepi16_epi32(half));
            }
        }
    }
    sums
}

/// Adds the sums of a tile to the outputs.
#[target_feature(enable = "avx512f")]
#[inline]
fn add(sums: Sums, out: &mut [i32; TILE]) {
    for (sums, out) in sums.into_iter().zip(out.as_chunks_mut::<{ TILE / 2 }>().0) {
        let out = out.as_mut_ptr().cast();
        // SAFETY: the reference is valid for reading and writing the 64 bytes that an unaligned
        // load reads and a store writes.
        unsafe { _mm512_storeu_si512(out, _mm512_add_epi32(_mm512_loadu_si512(out), sums)) };
    }
}

/// Adds the sums over one block.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn add_block<const T: usize>(
    block: &[Plane; PLANES],
    tables: &[[Table; T]; TRIPLES],
    sums: &mut [__m512i; T],
) {
    for (index, tables) in indices(block).into_iter().zip(tables) {
        for (sum, table) in sums.iter_mut().zip(tables) {
            *sum = _mm512_add_epi16(*sum, _mm512_permutexvar_epi16(index, load(table)));
        }
    }
}

/// For each triple of a block, the index of every row with its sign as the bit above. `vpermw`
/// ignores the higher bits.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn indices(block: &[Plane; PLANES]) -> [__m512i; TRIPLES] {
    let [a, b, c, d, e] =
        [widen(&block[0]), widen(&block[1]), widen(&block[2]), widen(&block[3]), widen(&block[4])];
    let nibble = _mm512_set1_epi16(15);
    // The lower four bits of `index`, and the bits of `sign` above them.
    let join = |index, sign| _mm512_ternarylogic_epi32::<0xCA>(nibble, index, sign);
    [
        join(a, _mm512_srli_epi16::<3>(a)),
        join(b, _mm512_srli_epi16::<2>(a)),
        join(_mm512_srli_epi16::<4>(b), _mm512_srli_epi16::<1>(a)),
        join(c, a),
        join(_mm512_srli_epi16::<4>(c), _mm512_srli_epi16::<3>(d)),
        join(d, _mm512_srli_epi16::<2>(d)),
        join(e, _mm512_srli_epi16::<1>(d)),
        join(_mm512_srli_epi16::<4>(e), d),
    ]
}

/// Widens the bytes of a plane to i16 lanes.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn widen(plane: &Plane) -> __m512i {
    // SAFETY: the reference is valid for reading the 32 bytes that an unaligned load reads.
    _mm512_cvtepu8_epi16(unsafe { _mm256_loadu_si256(plane.as_ptr().cast()) })
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(table: &Table) -> __m512i {
    // SAFETY: the reference is valid for reading the 64 bytes that an unaligned load reads.
    unsafe { _mm512_loadu_si512(table.0.as_ptr().cast()) }
}

/// Prefetches the same block of the next tile, `stride` planes further. The planes that follow the
/// block in memory may belong to columns that are needed much later.
#[target_feature(enable = "avx512f")]
#[inline]
fn prefetch(way: Prefetch, block: &[Plane; PLANES], stride: usize) {
    let ahead = block.as_ptr().cast::<i8>().wrapping_add(stride * TILE);
    way.lines([0, 64, 128].map(|line| ahead.wrapping_add(line)));
}
