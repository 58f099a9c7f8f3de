//! The kernels in C for any processor.
//!
//! A word of 16 bits has eight codes. What it is multiplied with is arranged once for all rows.

use super::{BLOCK, BLOCK_BYTES, Rows, scalar};
use crate::Codes;
use crate::c::portable::{self, Activations, Arranged, GROUP, Lanes, TOKENS, Tables};
use std::cell::RefCell;
use std::ops::Range;

pub(crate) use portable::LANES;

/// Groups of bytes in a block.
const GROUPS: usize = BLOCK_BYTES / GROUP;
/// Rows that look up in tables once they are built.
const ROWS: usize = 1280;
/// Groups that can be summed in i16: 255 + 7 * 8 bytes * 4 activations * 128 = 28927.
const NARROW: usize = 7;
/// Columns whose sums fit in the 24 bits that are kept of a sum.
const MAX_COLS: usize = 1 << 16;

/// Buffers, kept so that a multiplication does not allocate.
#[derive(Default)]
struct Scratch {
    arranged: Vec<Arranged>,
    /// For each group of bytes and each row, the bytes.
    bytes: Vec<[u8; GROUP]>,
    /// For each group of bytes.
    activations: Vec<Activations>,
    tables: Box<Tables>,
    /// For each row, the sum is `256 * high + low`.
    low: Vec<Lanes>,
    high: Vec<Lanes>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Whether rows all begin at the beginning of a block.
fn aligned(layout: Rows, cols: usize) -> bool {
    layout == Rows::Padded || cols.is_multiple_of(BLOCK)
}

/// Whether rows all begin at the beginning of a block, and are short enough.
pub(crate) fn applies(layout: Rows, cols: usize) -> bool {
    aligned(layout, cols) && cols < MAX_COLS
}

/// See [`Kernels::ternary_gemm`](crate::Kernels::ternary_gemm), which checks the lengths.
pub(crate) fn gemm(
    layout: Rows,
    packed: &[u8],
    cols: usize,
    rows: Range<usize>,
    x: &Codes,
    tokens: Range<usize>,
    out: &mut [i32],
) {
    if !aligned(layout, cols) {
        return scalar::gemm(layout, packed, cols, rows, x, tokens, out);
    }
    let (blocks, stride) = (cols.div_ceil(BLOCK), rows.len());
    let packed = &packed.as_chunks().0[rows.start * blocks..rows.end * blocks];
    each_batch(blocks, x, tokens, stride, out, |arranged, constants, out| {
        portable::i2_s(packed, blocks, arranged, constants, out, stride);
    });
}

/// See [`Kernels::ternary_rows`](crate::Kernels::ternary_rows), which checks the lengths.
pub(crate) fn rows(
    layout: Rows,
    packed: &[u8],
    cols: usize,
    rows: &[u32],
    x: &Codes,
    tokens: Range<usize>,
    out: &mut [i32],
) {
    if !aligned(layout, cols) {
        return scalar::rows(layout, packed, cols, rows, x, tokens, out);
    }
    let (blocks, stride) = (cols.div_ceil(BLOCK), rows.len());
    let packed = packed.as_chunks().0;
    each_batch(blocks, x, tokens, stride, out, |arranged, constants, out| {
        for (i, row) in rows.iter().enumerate() {
            let row = &packed[*row as usize * blocks..][..blocks];
            portable::i2_s(row, blocks, arranged, constants, &mut out[i..], stride);
        }
    });
}

/// Does something with a few tokens' activations and constants, and the outputs from theirs on.
fn each_batch(
    blocks: usize,
    x: &Codes,
    tokens: Range<usize>,
    stride: usize,
    out: &mut [i32],
    mut multiply: impl FnMut(&[Arranged], &[i32], &mut [i32]),
) {
    SCRATCH.with_borrow_mut(|Scratch { arranged, .. }| {
        for (first, out) in tokens.clone().step_by(TOKENS).zip(out.chunks_mut(TOKENS * stride)) {
            let mut constants = [0; TOKENS];
            arranged.clear();
            for (t, constant) in (first..tokens.end).zip(&mut constants) {
                // sum(trit * x) = sum(code * x) - sum(x), because a code is a trit + 1.
                *constant = arrange(&x.padded(t)[BLOCK..], blocks, arranged) - x.sums()[t];
            }
            let constants = &constants[..TOKENS.min(tokens.end - first)];
            multiply(arranged, constants, out);
        }
    });
}

/// Appends what the words of `blocks` blocks are multiplied with: `x[k] - 4 x[k - 1]` for field `k`,
/// where `x[k]` is the activation of its code.
///
/// Returns what the products lack, as the uppermost field counts as its code - 2.
fn arrange(x: &[i8], blocks: usize, arranged: &mut Vec<Arranged>) -> i32 {
    let mut lacking = 0;
    for x in &x.as_chunks::<BLOCK>().0[..blocks] {
        let mut block = Arranged([[[0; 8]; 8]; 2]);
        // The uppermost field of a byte belongs to the first plane. Packed bytes and activations make
        // words in the same order, whatever it is.
        let planes = x.as_chunks::<BLOCK_BYTES>().0;
        for (v, fields) in block.0.iter_mut().enumerate() {
            for i in 0..8 {
                let at = 16 * v + 2 * i;
                let mut last = 0;
                for (k, field) in fields.iter_mut().enumerate() {
                    let plane = &planes[3 - k % 4];
                    let word = i16::from_ne_bytes([plane[at] as u8, plane[at + 1] as u8]);
                    let x = if k < 4 { word << 8 >> 8 } else { word >> 8 };
                    field[i] = x - 4 * last;
                    last = x;
                }
                lacking += 2 * i32::from(last);
            }
        }
        arranged.push(block);
    }
    lacking
}

/// See [`Kernels::ternary_gemm`](crate::Kernels::ternary_gemm), which checks the lengths, for
/// matrices that this [`applies`] to and a multiple of [`LANES`] tokens.
///
/// Tokens lie in the lanes. For the four weights of a byte all signed sums of their activations are
/// tabulated; every row then costs one addition per byte.
pub(crate) fn lookup(
    layout: Rows,
    packed: &[u8],
    cols: usize,
    rows: Range<usize>,
    x: &Codes,
    tokens: Range<usize>,
    out: &mut [i32],
) {
    debug_assert!(applies(layout, cols) && tokens.len().is_multiple_of(LANES));
    let packed = packed.as_chunks().0;
    let (blocks, stride) = (cols.div_ceil(BLOCK), rows.len());
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { bytes, activations, tables, low, high, .. } = scratch;
        for first in rows.clone().step_by(ROWS) {
            let count = ROWS.min(rows.end - first);
            bytes.resize(blocks * GROUPS * count, [0; GROUP]);
            gather(&packed[first * blocks..][..count * blocks], blocks, bytes);
            for (t, out) in tokens.clone().step_by(LANES).zip(out.chunks_mut(LANES * stride)) {
                transpose(x, t, blocks, activations);
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
                    for t in 0..LANES {
                        out[t * stride + r] = 256 * i32::from(high.0[t]) + i32::from(low.0[t]);
                    }
                }
            }
        }
    });
}

/// Puts the same groups of all rows of `blocks` blocks beside each other.
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

/// Widens the activations of [`LANES`] tokens from `t` on, in the order of the packed bytes.
fn transpose(x: &Codes, t: usize, blocks: usize, activations: &mut Vec<Activations>) {
    let tokens: [_; LANES] =
        std::array::from_fn(|i| x.padded(t + i)[BLOCK..].as_chunks::<BLOCK>().0);
    activations.clear();
    for b in 0..blocks {
        for group in (0..BLOCK_BYTES).step_by(GROUP) {
            activations.push(std::array::from_fn(|i| {
                std::array::from_fn(|plane| {
                    let column = plane * BLOCK_BYTES + group + i;
                    Lanes(tokens.map(|token| i16::from(token[b][column])))
                })
            }));
        }
    }
}
