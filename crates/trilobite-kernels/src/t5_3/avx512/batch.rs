//! AVX-512 VNNI, several tokens: the weights are unpacked once for all of them, and multiplied.
//!
//! A look-up and a multiply-add both serve one token. The tables of several tokens would fill the
//! first-level cache, so a tile could not be processed from one end to the other.

use super::super::{BLOCK_COLS, INVALID, PLANES, Plane, TILE, TRIPLE, TRIPLES, WEIGHTS};
use super::{Part, Sums, prefetch};
use crate::codes::MARGIN;
use crate::simd::prefetch::Prefetch;
use std::arch::x86_64::*;

/// Number of blocks whose activations are held, for each token: 24 KB for eight tokens.
pub(super) const BLOCKS: usize = 128;

/// The activations of one token in a block, as bytes of an i32: for each half of the triples and
/// each place in a triple, those of the four triples.
type Activations = [[i32; TRIPLE]; 2];

/// The activations of up to `TOKENS` tokens.
pub(super) type Buffer<const TOKENS: usize> = [[Activations; TOKENS]; BLOCKS];

/// Adds the sums of weights times activations of `T` tokens from `t` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn add_tokens<const T: usize>(
    part: &Part<'_>,
    t: usize,
    buffer: &mut [Activations],
    out: &mut [i32],
) {
    let Part { product, ref blocks } = *part;
    let activations = &mut buffer.as_chunks_mut::<T>().0[..blocks.len()];
    let mut totals = [0; T];
    for (i, total) in totals.iter_mut().enumerate() {
        let x = &product.x.padded(t + i)[MARGIN..];
        let x = &x[blocks.start * BLOCK_COLS..blocks.end * BLOCK_COLS];
        for (activations, x) in activations.iter_mut().zip(x.as_chunks().0) {
            activations[i] = group(x);
        }
        *total = x.iter().map(|x| i32::from(*x)).sum();
    }
    part.each_tile(out, |weights, stride| {
        let mut sums = tile_sums::<T>(weights, stride, activations);
        for (sums, total) in sums.iter_mut().zip(totals) {
            for sums in sums {
                // sum(trit * x) = sum(code * x) - sum(x), because a code is a trit + 1.
                *sums = _mm512_sub_epi32(*sums, _mm512_set1_epi32(total));
            }
        }
        sums
    });
}

/// Groups the activations of a block.
fn group(x: &[i8; BLOCK_COLS]) -> Activations {
    let mut groups = [[0; TRIPLE]; 2];
    for (half, groups) in groups.iter_mut().enumerate() {
        for (place, group) in groups.iter_mut().enumerate() {
            let of = |triple: usize| x[(half * TRIPLES / 2 + triple) * TRIPLE + place] as u8;
            *group = i32::from_le_bytes([of(0), of(1), of(2), of(3)]);
        }
    }
    groups
}

/// Sums of codes times activations of a tile over some blocks. The next tile is `stride` planes
/// further.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn tile_sums<const T: usize>(
    weights: &[Plane],
    stride: usize,
    activations: &[[Activations; T]],
) -> [Sums; T] {
    let mut sums = [[_mm512_setzero_si512(); 2]; T];
    let way = Prefetch::fastest();
    let (whole, rest) = weights.as_chunks();
    for (block, activations) in whole.iter().zip(activations) {
        prefetch(way, block, stride);
        add_block(block, activations, &mut sums);
    }
    if let (false, Some(activations)) = (rest.is_empty(), activations.last()) {
        let mut block = [[0; TILE]; PLANES];
        block[..rest.len()].copy_from_slice(rest);
        add_block(&block, activations, &mut sums);
    }
    for sums in &mut sums {
        // Undoes the order of the rows that `unpack` leaves.
        let [a, b] = *sums;
        *sums = [
            _mm512_shuffle_i64x2::<0b10_00_10_00>(a, b),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b),
        ];
    }
    sums
}

/// Adds the sums over one block.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn add_block<const T: usize>(
    block: &[Plane; PLANES],
    activations: &[Activations; T],
    sums: &mut [Sums; T],
) {
    let code = _mm512_set1_epi8(3);
    for (half, [a, b]) in unpack(block).into_iter().enumerate() {
        let codes = [
            [_mm512_and_si512(a, code), _mm512_and_si512(b, code)],
            [
                _mm512_and_si512(_mm512_srli_epi16::<2>(a), code),
                _mm512_and_si512(_mm512_srli_epi16::<2>(b), code),
            ],
            [
                _mm512_and_si512(_mm512_srli_epi16::<4>(a), code),
                _mm512_and_si512(_mm512_srli_epi16::<4>(b), code),
            ],
        ];
        for (place, codes) in codes.into_iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(activations) {
                let x = _mm512_set1_epi32(x[half][place]);
                for (sum, codes) in sums.iter_mut().zip(codes) {
                    *sum = _mm512_dpbusd_epi32(*sum, codes, x);
                }
            }
        }
    }
}

/// The codes of the three weights of a triple, for every index without a sign: two bits each, of
/// which the lowest belong to the first weight.
const CODES: [i8; 16] = {
    let mut codes = [0; 16];
    let mut i = 0;
    while i < 16 {
        let [w0, w1, w2] = WEIGHTS[i];
        if w0 != INVALID {
            codes[i] = (w0 + 1) | (w1 + 1) << 2 | (w2 + 1) << 4;
        }
        i += 1;
    }
    codes
};

/// The codes of three weights of 2: the sum of the codes of any triple and of its opposite.
const BOTH: i8 = 0b10_10_10;

/// The codes of the first and of the last four triples of a block, each in two registers: a lane of
/// 32 bits holds four triples of a row, a byte each. The lanes of 128 bits hold four rows each: those
/// from 0, 16, 4 and 20 on, and in the second register from 8, 24, 12 and 28 on.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn unpack(block: &[Plane; PLANES]) -> [[__m512i; 2]; 2] {
    let [a, b, c, d, e] = block;
    // A register holds the indices of triples i and i + 4.
    let low = halves(0, 4);
    let high = halves(4, 0);
    let indices = [
        _mm512_srlv_epi16(join(a, c), low),
        join(b, d),
        _mm512_srlv_epi16(join(b, e), high),
        _mm512_srlv_epi16(join(c, e), low),
    ];
    let signs = join(a, d);
    let table = _mm512_broadcast_i32x4(load_16(&CODES));
    let mut triples = indices;
    for (i, triple) in triples.iter_mut().enumerate() {
        let index = _mm512_and_si512(*triple, _mm512_set1_epi8(15));
        let codes = _mm512_shuffle_epi8(table, index);
        let negative = _mm512_test_epi8_mask(signs, _mm512_set1_epi8((0x80u8 >> i) as i8));
        *triple = _mm512_mask_sub_epi8(codes, negative, _mm512_set1_epi8(BOTH), codes);
    }
    let [first, second, third, fourth] = triples;
    let (low, high) = (_mm512_unpacklo_epi8(first, second), _mm512_unpackhi_epi8(first, second));
    let (low2, high2) = (_mm512_unpacklo_epi8(third, fourth), _mm512_unpackhi_epi8(third, fourth));
    let rows = [
        _mm512_unpacklo_epi16(low, low2),
        _mm512_unpackhi_epi16(low, low2),
        _mm512_unpacklo_epi16(high, high2),
        _mm512_unpackhi_epi16(high, high2),
    ];
    let lower = |a, b| _mm512_inserti64x4::<1>(a, _mm512_castsi512_si256(b));
    let upper = |a, b| _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b);
    [
        [lower(rows[0], rows[1]), lower(rows[2], rows[3])],
        [upper(rows[0], rows[1]), upper(rows[2], rows[3])],
    ]
}

/// Two planes side by side.
#[target_feature(enable = "avx512f")]
#[inline]
fn join(lower: &Plane, upper: &Plane) -> __m512i {
    // SAFETY: the references are valid for reading the 32 bytes that an unaligned load reads.
    let load = |plane: &Plane| unsafe { _mm256_loadu_si256(plane.as_ptr().cast()) };
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load(lower)), load(upper))
}

/// A number for all lanes of 16 bits of the lower half of a register, and one for the upper half.
#[target_feature(enable = "avx512f")]
#[inline]
fn halves(lower: i16, upper: i16) -> __m512i {
    let lower = _mm512_castsi256_si512(_mm256_set1_epi16(lower));
    _mm512_inserti64x4::<1>(lower, _mm256_set1_epi16(upper))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_16(bytes: &[i8; 16]) -> __m128i {
    // SAFETY: the reference is valid for reading the 16 bytes that an unaligned load reads.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
