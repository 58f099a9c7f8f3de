//! The loops over rows and blocks, shared by all vector instruction sets.

use super::{PAIR, Weights};
use crate::i2_s::{BLOCK, BLOCK_BYTES};

/// Maximum number of rows added up in registers while the next ones are prefetched; both fit in the
/// first-level cache. A 16-bit lane holds the sum of so many products of a code in 0..=3 and an
/// activation in -128..=127.
pub(super) const ROWS: usize = 64;
/// The number of rows for a single token, for which the latency of memory counts more than loads
/// and stores of the sums.
const ROWS_OF_ONE: usize = 32;

/// A range of blocks of some rows.
pub(crate) struct Part<'a> {
    pub(super) packed: &'a [[u8; BLOCK_BYTES]],
    /// Number of blocks of each row, at most [`AddRows::BLOCKS`].
    pub(super) blocks: usize,
    /// Index of the first block in each of up to [`ROWS`] rows, in whole [`GROUP`](super::GROUP)s.
    pub(super) starts: &'a [usize],
}

/// The inner loop of an instruction set. A value of the type proves that the processor has the
/// instructions.
pub(crate) trait AddRows: Copy {
    /// Number of blocks processed at a time: 1 or [`PAIR`].
    const BLOCKS: usize;

    /// Adds the products of `T` tokens with `codes`, `[rows]`, to `sums`, `[blocks * BLOCK]`. The
    /// order of the sums depends on the instruction set.
    fn add<const T: usize>(self, part: &Part<'_>, codes: [&[i8]; T], sums: [&mut [i32]; T]);

    /// Sorts the sums into the order of the columns.
    fn finish(self, sums: &mut [i32]);

    /// Prefetches the cache line at an address, which may be outside the program's memory, for use
    /// `soon` or into the second-level cache.
    fn prefetch(self, address: *const i8, soon: bool);
}

/// The body of an [`Add`](super::Add) function.
#[inline(always)]
pub(super) fn add<S: AddRows>(
    simd: S,
    weights: &Weights<'_>,
    rows: &[u32],
    codes: &[i8],
    sums: &mut [i32],
) {
    sums.fill(0);
    let (packed, width, count) = (weights.packed, weights.width(), rows.len());
    let tokens = sums.len() / width;
    let step = if tokens == 1 { ROWS_OF_ONE } else { ROWS };
    let mut next = [0; ROWS];
    let fill = |starts: &mut [usize; ROWS], first: usize| {
        let rows = &rows[count.min(first)..count.min(first + step)];
        for (start, row) in starts.iter_mut().zip(rows) {
            *start = weights.start(*row);
        }
        rows.len()
    };
    let mut wanted = fill(&mut next, 0);
    // The blocks ahead are prefetched a few at a time.
    let turns = count.div_ceil(step) * weights.blocks.len().div_ceil(PAIR);
    let lines = weights.ahead.len().div_ceil(PAIR).div_ceil(turns.max(1));
    let mut ahead = weights.ahead.clone().step_by(PAIR);
    for first in (0..count).step_by(step) {
        let chunk = first..first + wanted;
        let starts = next;
        wanted = fill(&mut next, chunk.end);
        for b in (0..weights.blocks.len()).step_by(S::BLOCKS) {
            // A pair of blocks is a cache line.
            if b % PAIR == 0 {
                for start in &next[..wanted] {
                    simd.prefetch(packed.as_ptr().wrapping_add(start + b).cast(), true);
                }
                for start in ahead.by_ref().take(lines) {
                    simd.prefetch(packed.as_ptr().wrapping_add(start).cast(), false);
                }
            }
            let blocks = S::BLOCKS.min(weights.blocks.len() - b);
            let part = Part { packed: &packed[b..], blocks, starts: &starts[..chunk.len()] };
            let mut t = 0;
            while t < tokens {
                let sums = sums[t * width + b * BLOCK..].chunks_mut(width);
                let codes = codes[t * count..].chunks_exact(count).map(|row| &row[chunk.clone()]);
                t += match tokens - t {
                    1 => add_tokens::<S, 1>(simd, &part, codes, sums),
                    2 | 3 => add_tokens::<S, 2>(simd, &part, codes, sums),
                    4..8 => add_tokens::<S, 4>(simd, &part, codes, sums),
                    _ => add_tokens::<S, 8>(simd, &part, codes, sums),
                };
            }
        }
    }
    simd.finish(sums);
}

/// Adds the products of `T` tokens. Returns `T`.
#[inline(always)]
fn add_tokens<'a, S: AddRows, const T: usize>(
    simd: S,
    part: &Part<'_>,
    mut codes: impl Iterator<Item = &'a [i8]>,
    mut sums: impl Iterator<Item = &'a mut [i32]>,
) -> usize {
    let codes = std::array::from_fn(|_| codes.next().unwrap_or_default());
    let sums = std::array::from_fn(|_| sums.next().unwrap_or_default());
    simd.add::<T>(part, codes, sums);
    T
}
