//! Arrays of three dimensions that a team fills block by block.

use std::marker::PhantomData;
use std::ops::Range;

use super::{SendPtr, Team};

impl Team {
    /// Fills an array `[a][b][c]` in blocks of `size`, smaller ones at the ends: `fill(thread, block)`.
    /// The last blocks of `a`, which of tokens have the most to do, come first.
    pub(crate) fn blocks<T: Send>(
        &mut self,
        out: &mut [T],
        shape: [usize; 3],
        size: [usize; 3],
        fill: impl Fn(usize, Block<'_, T>) + Sync,
    ) {
        let len = shape.iter().try_fold(1usize, |len, &n| len.checked_mul(n));
        assert_eq!(Some(out.len()), len, "an array of {shape:?}");
        let counts: [usize; 3] = std::array::from_fn(|i| shape[i].div_ceil(size[i]));
        let count = counts.iter().product::<usize>();
        let base = SendPtr(out.as_mut_ptr());
        self.items(count, &|thread, item| {
            let (rows, c) = (item / counts[2], item % counts[2]);
            let at = [counts[0] - 1 - rows / counts[1], rows % counts[1], c];
            let ranges = std::array::from_fn(|i| {
                let start = at[i] * size[i];
                start..shape[i].min(start.saturating_add(size[i]))
            });
            // Every item runs once, so no two blocks overlap.
            fill(thread, Block { base: base.get(), shape, ranges, array: PhantomData });
        });
    }
}

/// A block of an array `[a][b][c]`.
pub(crate) struct Block<'a, T> {
    base: *mut T,
    shape: [usize; 3],
    ranges: [Range<usize>; 3],
    array: PhantomData<&'a mut [T]>,
}

impl<T> Block<'_, T> {
    /// The indices that the block covers.
    pub(crate) fn ranges(&self) -> [Range<usize>; 3] {
        self.ranges.clone()
    }

    /// The block's part of row `[a][b]`, by indices of the array.
    pub(crate) fn row(&mut self, a: usize, b: usize) -> &mut [T] {
        let [ra, rb, rc] = &self.ranges;
        assert!(ra.contains(&a) && rb.contains(&b), "row [{a}][{b}] of {:?}", self.ranges);
        // SAFETY: `blocks` keeps the ranges within the array and gives different items disjoint
        // blocks, the row lies in the block, and `&mut self` allows one slice of it at a time.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.base.add((a * self.shape[1] + b) * self.shape[2] + rc.start),
                rc.len(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic = "an array of"]
    fn an_array_of_more_cells_than_there_are_numbers_is_refused() {
        let huge = 1 << (usize::BITS - 1);
        Team::new(1).unwrap().blocks(&mut [0u8; 0], [huge, 2, 1], [huge, 1, 1], |_, mut block| {
            let [a, b, _] = block.ranges();
            block.row(a.start, b.start).fill(0);
        });
    }

    #[test]
    fn blocks_cover_an_array_once() {
        for threads in [1, 2, 7] {
            let mut team = Team::new(threads).unwrap();
            for size in [[1, 1, 1], [2, 3, 4], [5, 1, 7], [9, 9, 9]] {
                let shape = [5, 6, 7];
                let mut out = vec![0; 5 * 6 * 7];
                team.blocks(&mut out, shape, size, |_, mut block| {
                    let [a, b, c] = block.ranges();
                    for (a, b) in a.flat_map(|a| b.clone().map(move |b| (a, b))) {
                        for (cell, c) in block.row(a, b).iter_mut().zip(c.clone()) {
                            *cell += (a * 6 + b) * 7 + c + 1;
                        }
                    }
                });
                assert!(out.iter().enumerate().all(|(i, &v)| v == i + 1));
            }
        }
    }
}
