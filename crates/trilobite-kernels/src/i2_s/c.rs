//! The C kernels for any processor.
//!
//! A word of 16 bits holds eight codes. Its multipliers are arranged once for all rows.

use super::{BLOCK, BLOCK_BYTES, Product, scalar};
use crate::c::portable::{self, Activations, Arranged, GROUP, LANES, Lanes, TOKENS, Tables};
use crate::codes::{Codes, MARGIN};
use crate::product::MAX_COLS;
use std::ops::Range;

/// Minimum number of tokens for which building the tables pays.
pub(crate) const MIN_TOKENS: usize = 3;
/// Number of blocks of activations arranged at a time, to fit the first-level cache.
const ARRANGED: usize = 64;
/// Number of groups of bytes in a block.
const GROUPS: usize = BLOCK_BYTES / GROUP;
/// Number of rows that share tables once they are built.
const ROWS: usize = 1280;
/// Number of groups that can be summed in i16: 255 + 7 * 8 bytes * 4 activations * 128 = 28927.
const NARROW: usize = 7;

/// Buffers for the tables and sums of [`lookup`].
#[derive(Debug, Default)]
pub(crate) struct PortableBuffers {
    /// The bytes, for each group of bytes and each row.
    bytes: Vec<[u8; GROUP]>,
    /// The activations, for each group of bytes.
    activations: Vec<Activations>,
    tables: Box<Tables>,
    /// The sums, for each row: `256 * high + low`.
    low: Vec<Lanes>,
    high: Vec<Lanes>,
}

/// Fills `out` with the sums of a [`Product`].
///
/// Rows that start inside a block are computed in Rust, because each would need its own arrangement
/// of activations.
pub(crate) fn gemm(product: &Product<'_>, out: &mut [i32]) {
    let Product { ref matrix, ref rows, .. } = *product;
    if !matrix.is_aligned() {
        return scalar::gemm(product, out);
    }
    let (blocks, stride) = (matrix.cols.div_ceil(BLOCK), rows.len());
    let packed = &matrix.blocks[rows.start * blocks..rows.end * blocks];
    multiply(product, stride, out, |arranged, first, constants, out| {
        portable::i2_s(&packed[first..], blocks, stride, arranged, constants, out, stride);
    });
}

/// Fills `out` with the sums of a [`Product`] of a list of rows.
pub(crate) fn rows(product: &Product<'_, &[u32]>, out: &mut [i32]) {
    let Product { ref matrix, rows, .. } = *product;
    if !matrix.is_aligned() {
        return scalar::rows(product, out);
    }
    let (blocks, stride) = (matrix.cols.div_ceil(BLOCK), rows.len());
    multiply(product, stride, out, |arranged, first, constants, out| {
        for (i, row) in rows.iter().enumerate() {
            let row = &matrix.blocks[*row as usize * blocks + first..];
            portable::i2_s(row, blocks, 1, arranged, constants, &mut out[i..], stride);
        }
    });
}

/// Calls `add` for chunks of blocks and of tokens. Its arguments are the arranged blocks, the
/// index of the first one in a row, the tokens' constants, and the outputs from those of the first
/// token on. It adds the products of all rows and the constants to the outputs.
fn multiply<R>(
    product: &Product<'_, R>,
    stride: usize,
    out: &mut [i32],
    mut add: impl FnMut(&[Arranged], usize, &[i32], &mut [i32]),
) {
    let Product { ref matrix, x, ref tokens, .. } = *product;
    let blocks = matrix.cols.div_ceil(BLOCK);
    let mut arranged = [Arranged::default(); ARRANGED];
    for (t, out) in tokens.clone().step_by(TOKENS).zip(out.chunks_mut(TOKENS * stride)) {
        let count = TOKENS.min(tokens.end - t);
        for (t, out) in (t..).zip(out.chunks_exact_mut(stride)) {
            // sum(trit * x) = sum(code * x) - sum(x), because a code is a trit + 1.
            out.fill(-x.sums()[t]);
        }
        let step = ARRANGED / count;
        for first in (0..blocks).step_by(step) {
            let step = step.min(blocks - first);
            let mut constants = [0; TOKENS];
            for i in 0..count {
                let x = &x.padded(t + i)[MARGIN + first * BLOCK..];
                constants[i] = arrange(x, &mut arranged[i * step..][..step]);
            }
            add(&arranged[..count * step], first, &constants[..count], out);
        }
    }
}

/// Arranges the multipliers of the words of some blocks: `x[k] - 4 x[k - 1]` for field `k`, where
/// `x[k]` is the activation of its code.
///
/// Returns the amount to add to the products, because the highest field counts as its code - 2.
fn arrange(x: &[i8], arranged: &mut [Arranged]) -> i32 {
    let mut lacking = 0;
    for (x, block) in x.as_chunks::<BLOCK>().0.iter().zip(arranged) {
        // The highest field of a byte belongs to the first plane. Packed bytes and activations form
        // words in the same byte order, so either endianness is right.
        let planes = x.as_chunks::<BLOCK_BYTES>().0;
        for (v, fields) in block.0.iter_mut().enumerate() {
            let mut last = [0; 8];
            for (k, field) in fields.iter_mut().enumerate() {
                let bytes = planes[3 - k % 4].as_chunks::<16>().0[v];
                for (i, bytes) in bytes.map(|byte| byte as u8).as_chunks().0.iter().enumerate() {
                    let word = i16::from_ne_bytes(*bytes);
                    let x = if k < 4 { word << 8 >> 8 } else { word >> 8 };
                    field[i] = x - 4 * last[i];
                    last[i] = x;
                }
            }
            lacking += 2 * last.iter().map(|x| i32::from(*x)).sum::<i32>();
        }
    }
    lacking
}

/// Fills `out` with the sums of a [`Product`] of a matrix whose rows start at blocks, with fewer than
/// [`MAX_COLS`] columns.
///
/// Lanes are tokens. All signed sums of the activations of the four weights of a byte are
/// tabulated; every row then costs one addition per byte.
pub(crate) fn lookup(product: &Product<'_>, buffers: &mut PortableBuffers, out: &mut [i32]) {
    let Product { matrix, ref rows, x, ref tokens } = *product;
    assert!(matrix.is_aligned() && matrix.cols < MAX_COLS, "{matrix:?}");
    let (blocks, stride) = (matrix.cols.div_ceil(BLOCK), rows.len());
    let few = tokens.len() % LANES;
    let few = if few < MIN_TOKENS { few } else { 0 };
    let tokens = tokens.start..tokens.end - few;
    let (out, rest) = out.split_at_mut(tokens.len() * stride);
    let PortableBuffers { bytes, activations, tables, low, high } = buffers;
    for first in rows.clone().step_by(ROWS) {
        let count = ROWS.min(rows.end - first);
        bytes.resize(blocks * GROUPS * count, [0; GROUP]);
        gather(&matrix.blocks[first * blocks..][..count * blocks], blocks, bytes);
        for (t, out) in tokens.clone().step_by(LANES).zip(out.chunks_mut(LANES * stride)) {
            let tokens = t..tokens.end.min(t + LANES);
            transpose(x, tokens.clone(), blocks, activations);
            for sums in [&mut *low, &mut *high] {
                sums.clear();
                sums.resize(count, Lanes::default());
            }
            let groups = activations.iter().zip(bytes.chunks_exact(count));
            for (g, (activations, bytes)) in groups.enumerate() {
                let carry = g % NARROW == NARROW - 1;
                portable::i2_s_lookup(activations, bytes, tables, low, high, carry);
            }
            let out = &mut out[first - rows.start..];
            for (r, (low, high)) in low.iter().zip(&*high).enumerate() {
                for t in 0..tokens.len() {
                    out[t * stride + r] = 256 * i32::from(high.0[t]) + i32::from(low.0[t]);
                }
            }
        }
    }
    gemm(&Product { tokens: tokens.end..tokens.end + few, rows: rows.clone(), ..*product }, rest);
}

/// Groups the bytes of all rows of `blocks` blocks: the same groups of all rows become adjacent.
fn gather(packed: &[[u8; BLOCK_BYTES]], blocks: usize, bytes: &mut [[u8; GROUP]]) {
    let rows = packed.len() / blocks;
    for (b, bytes) in bytes.chunks_exact_mut(GROUPS * rows).enumerate() {
        for (r, block) in packed.iter().skip(b).step_by(blocks).enumerate() {
            for (g, group) in block.as_chunks().0.iter().enumerate() {
                bytes[g * rows + r] = *group;
            }
        }
    }
}

/// Widens the activations of up to [`LANES`] tokens, in the order of the packed bytes.
fn transpose(x: &Codes, tokens: Range<usize>, blocks: usize, activations: &mut Vec<Activations>) {
    // Unused lanes repeat the last token.
    let tokens: [_; LANES] = std::array::from_fn(|i| {
        x.padded((tokens.start + i).min(tokens.end - 1))[MARGIN..].as_chunks::<BLOCK>().0
    });
    activations.clear();
    for b in 0..blocks {
        let tokens = tokens.map(|token| &token[b]);
        for group in (0..BLOCK_BYTES).step_by(GROUP) {
            activations.push(std::array::from_fn(|i| {
                std::array::from_fn(|plane| {
                    let column = plane * BLOCK_BYTES + group + i;
                    Lanes(tokens.map(|token| i16::from(token[column])))
                })
            }));
        }
    }
}
