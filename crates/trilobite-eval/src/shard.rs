//! The items of a task that a run evaluates: a random subset, and parts for several machines.

use sha2::{Digest, Sha256};

/// The choice of items of a task. By default all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection {
    /// Put the items in a random order that depends on this seed and the items' ids only. The first
    /// N are then a random subset, and a larger one contains it.
    pub shuffle: Option<u64>,
    /// Only this many items.
    pub limit: Option<usize>,
    /// Only a part of these.
    pub shard: Option<Shard>,
}

impl Selection {
    /// Number of selected items of a task with `items` items, before the division into parts.
    pub(crate) fn count(&self, items: usize) -> usize {
        items.min(self.limit.unwrap_or(usize::MAX))
    }

    /// The selected items in the order of the data, in which neighbors share prompts: of each the
    /// position in the selection, and the position in `ids`.
    pub(crate) fn choose(&self, ids: &[&str]) -> Vec<(usize, usize)> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        if let Some(seed) = self.shuffle {
            order.sort_by_cached_key(|&index| Sha256::digest(format!("{seed} {}", ids[index])));
        }
        let part = self.shard.unwrap_or(Shard::WHOLE);
        let first = order.into_iter().take(self.count(ids.len())).enumerate();
        let mut chosen: Vec<_> = first.filter(|&(position, _)| part.holds(position)).collect();
        chosen.sort_unstable_by_key(|&(_, index)| index);
        chosen
    }
}

/// Every `count`-th item, from item `index` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    /// The index of the part.
    pub index: usize,
    /// The number of parts.
    pub count: usize,
}

impl Shard {
    /// An undivided task.
    pub(crate) const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether an item belongs to this part.
    pub(crate) fn holds(self, item: usize) -> bool {
        item % self.count == self.index
    }
}

impl std::fmt::Display for Shard {
    /// Writes the form that `from_str` parses.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    /// Parses `i/n`, where `i` counts from 1.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, count)| {
            Some((index.parse::<usize>().ok()?, count.parse::<usize>().ok()?))
        });
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => {
                Ok(Shard { index: index - 1, count })
            }
            _ => Err(format!("{text:?} is not a part such as 1/4")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_selects_the_same_random_items_whatever_the_limit_and_the_parts() {
        let names: Vec<String> = (0..100).map(|number| format!("item {number}")).collect();
        let ids: Vec<&str> = names.iter().map(String::as_str).collect();
        let chosen = |shuffle, limit, shard: Option<&str>| {
            let shard = shard.map(|text| text.parse().unwrap());
            Selection { shuffle, limit, shard }.choose(&ids)
        };
        assert_eq!(chosen(None, Some(3), None), [(0, 0), (1, 1), (2, 2)]);
        let ten = chosen(Some(1), Some(10), None);
        assert!(ten.is_sorted_by_key(|&(_, index)| index) && ten.last().unwrap().1 > 50, "{ten:?}");
        let mut positions: Vec<usize> = ten.iter().map(|&(position, _)| position).collect();
        positions.sort_unstable();
        assert!(positions.into_iter().eq(0..10));
        assert_ne!(chosen(Some(2), Some(10), None), ten);
        let twenty = chosen(Some(1), Some(20), None);
        assert!(ten.iter().all(|item| twenty.contains(item)));
        let parts =
            [chosen(Some(1), Some(10), Some("1/2")), chosen(Some(1), Some(10), Some("2/2"))];
        let mut joined = parts.concat();
        joined.sort_unstable_by_key(|&(_, index)| index);
        assert_eq!(joined, ten);
    }
}
