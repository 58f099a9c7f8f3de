//! Parts of a task, for running it on several machines.

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
