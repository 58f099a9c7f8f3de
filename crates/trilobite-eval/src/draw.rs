//! Random examples, the same as lm-evaluation-harness draws with Python's random numbers.

use rand_mt::Mt;

use crate::error::Result;
use crate::record::Record;
use crate::task::{Sampler, Task};

/// The seed of the harness.
const SEED: u32 = 1234;

/// Selects the examples of a group's items, in the order of the items.
pub(crate) struct Examples<'a> {
    task: &'a Task,
    records: &'a [Record],
    /// Whether the items are among the records.
    shared: bool,
    draw: Draw,
}

impl<'a> Examples<'a> {
    /// Creates a selection from these records.
    pub(crate) fn new(task: &'a Task, records: &'a [Record], shared: bool) -> Self {
        Self { task, records, shared, draw: Draw::new(SEED) }
    }

    /// The indices of the examples for the next item.
    ///
    /// # Errors
    /// There are too few records.
    pub(crate) fn next(&mut self, item: &Record) -> Result<Vec<usize>> {
        let (records, count, shared) = (self.records, self.task.shots, self.shared);
        if count == 0 {
            return Ok(Vec::new());
        }
        let other = |index: &usize| !shared || records[*index].fields != item.fields;
        let first: Vec<usize> = (0..records.len()).filter(other).take(count).collect();
        if first.len() < count {
            let (found, name) = (first.len(), &self.task.name);
            let fault = records.first().unwrap_or(item);
            return Err(fault.error(format!("{found} examples, {name} needs {count}")));
        }
        if self.task.sampler == Sampler::FirstN {
            return Ok(first);
        }
        // One more than needed, since the item itself may be drawn.
        let drawn = self.draw.sample(records.len(), count + usize::from(shared)).into_iter();
        let drawn: Vec<usize> = drawn.filter(other).take(count).collect();
        if drawn.len() == count {
            return Ok(drawn);
        }
        // The item's record occurs more than once.
        let rest: Vec<usize> = (0..records.len()).filter(other).collect();
        Ok(self.draw.sample(rest.len(), count).into_iter().map(|index| rest[index]).collect())
    }
}

/// Python's `random.Random(seed).sample`.
struct Draw(Mt);

impl Draw {
    fn new(seed: u32) -> Self {
        Self(Mt::new_with_key([seed]))
    }

    /// A random number below `n`, by rejection.
    fn below(&mut self, n: usize) -> usize {
        let bits = (usize::BITS - n.leading_zeros()).clamp(1, 32);
        loop {
            let value = (self.0.next_u32() >> (32 - bits)) as usize;
            if value < n {
                return value;
            }
        }
    }

    /// `count` distinct random numbers below `n`, or all of them if there are fewer.
    fn sample(&mut self, n: usize, count: usize) -> Vec<usize> {
        let count = count.min(n);
        // Python samples from a list if that takes less memory than a set of the drawn numbers.
        let set = 21
            + if count > 5 { 4usize.pow(((count * 3) as f64).log(4.0).ceil() as u32) } else { 0 };
        if n <= set {
            let mut pool: Vec<usize> = (0..n).collect();
            return (0..count)
                .map(|done| {
                    let at = self.below(n - done);
                    let value = pool[at];
                    pool[at] = pool[n - done - 1];
                    value
                })
                .collect();
        }
        let mut drawn = Vec::new();
        while drawn.len() < count {
            let value = self.below(n);
            if !drawn.contains(&value) {
                drawn.push(value);
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Python's `random.Random(1234).sample(range(n), count)`. If the list is short,
    /// Python draws from a list of the remaining numbers.
    #[test]
    fn examples_are_drawn_as_python_draws() {
        let mut draw = Draw::new(SEED);
        assert_eq!(draw.sample(20, 5), [14, 3, 0, 2, 1]);
        assert_eq!(draw.sample(20, 5), [2, 3, 11, 7, 0]);
        let long = [6374, 3610, 957, 61, 742, 7462, 6610, 4769];
        assert_eq!(Draw::new(SEED).sample(7473, 8), long);
        assert_eq!(Draw::new(SEED).sample(4, 4), [3, 0, 2, 1]);
        // Up to 85, six are drawn from a list.
        let mut draw = Draw::new(SEED);
        assert_eq!(draw.sample(85, 6), [56, 14, 0, 11, 74, 4]);
        assert_eq!(draw.sample(86, 6), [85, 10, 12, 45, 30, 2]);
        assert_eq!(Draw::new(SEED).sample(60, 8), [49, 28, 7, 0, 5, 51, 37, 2]);
    }
}
