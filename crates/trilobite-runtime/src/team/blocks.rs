//! Three-dimensional arrays that a team fills block by block.

use std::marker::PhantomData;
use std::ops::Range;

use super::{SendPtr, Team};

impl<S: Send + 'static> Team<S> {
    /// Fills an array `[a][b][c]` block by block: `fill(scratch, index of the part, block)`.
    ///
    /// `parts` are ascending ranges of `a` that do not overlap. Within a part, blocks have `size`,
    /// `[b, c]`, and are smaller at the ends. The last parts run first, since within a text they
    /// have the most work.
    pub(crate) fn blocks<T: Send>(
        &mut self,
        out: &mut [T],
        shape: [usize; 3],
        parts: &[Range<usize>],
        size: [usize; 2],
        fill: impl Fn(&mut S, usize, Block<'_, T>) + Sync,
    ) {
        let len = shape.iter().try_fold(1usize, |len, &n| len.checked_mul(n));
        assert_eq!(Some(out.len()), len, "an array of {shape:?}");
        let apart = parts.windows(2).all(|pair| pair[0].end <= pair[1].start);
        let within = parts.iter().all(|part| part.start <= part.end && part.end <= shape[0]);
        assert!(apart && within, "parts {parts:?} of {shape:?}");
        let counts = [shape[1].div_ceil(size[0]), shape[2].div_ceil(size[1])];
        let base = SendPtr(out.as_mut_ptr());
        self.items(parts.len() * counts[0] * counts[1], &|scratch, item| {
            let (rows, c) = (item / counts[1], item % counts[1]);
            let (part, b) = (parts.len() - 1 - rows / counts[0], rows % counts[0]);
            let range = |at: usize, i: usize| {
                let start = at * size[i];
                start..shape[i + 1].min(start.saturating_add(size[i]))
            };
            let ranges = [parts[part].clone(), range(b, 0), range(c, 1)];
            // Every item runs once, so no two blocks overlap.
            fill(scratch, part, Block { base: base.get(), shape, ranges, array: PhantomData });
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
        let all = 0..huge;
        let all = std::slice::from_ref(&all);
        let mut team = Team::new(1, || ()).unwrap();
        team.blocks(&mut [0u8; 0], [huge, 2, 1], all, [1, 1], |(), _, mut block| {
            let [a, b, _] = block.ranges();
            block.row(a.start, b.start).fill(0);
        });
    }

    #[test]
    fn blocks_cover_an_array_once() {
        for threads in [1, 2, 7] {
            let mut team = Team::new(threads, || ()).unwrap();
            for (parts, size) in [
                (std::slice::from_ref(&(0..5)), [1, 1]),
                (&[0..2, 2..4, 4..5], [3, 4]),
                (&[0..1, 1..5], [1, 7]),
                (&[0..0, 0..5, 5..5], [9, 9]),
            ] {
                let shape = [5, 6, 7];
                let mut out = vec![0; 5 * 6 * 7];
                team.blocks(&mut out, shape, parts, size, |(), _, mut block| {
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
