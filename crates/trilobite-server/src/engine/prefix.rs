//! A cache of keys and values for prompts with a common prefix.

use trilobite_runtime::Sequence;

/// Finished sequences. They share pages with each other and with running sequences.
#[derive(Default)]
pub(super) struct PrefixCache {
    entries: Vec<Entry>,
    clock: u64,
}

struct Entry {
    sequence: Sequence,
    /// Clock of the last use.
    used: u64,
}

/// Length of the common prefix.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl PrefixCache {
    /// Adds a sequence and removes its prefixes.
    pub(super) fn insert(&mut self, sequence: Sequence) {
        self.clock += 1;
        if sequence.is_empty() {
            return;
        }
        let tokens = sequence.tokens();
        if let Some(longer) =
            self.entries.iter_mut().find(|entry| entry.sequence.tokens().starts_with(tokens))
        {
            longer.used = self.clock;
            return;
        }
        self.entries.retain(|entry| !tokens.starts_with(entry.sequence.tokens()));
        self.entries.push(Entry { sequence, used: self.clock });
    }

    /// The longest cached prefix of `tokens`, if it is longer than `least`.
    pub(super) fn find(&mut self, tokens: &[u32], least: usize) -> Option<Sequence> {
        self.clock += 1;
        let lengths = self.entries.iter_mut().map(|e| (common(e.sequence.tokens(), tokens), e));
        let (length, entry) = lengths.max_by_key(|(length, _)| *length)?;
        if length <= least {
            return None;
        }
        entry.used = self.clock;
        let mut sequence = entry.sequence.fork();
        sequence.truncate(length);
        Some(sequence)
    }

    /// Drops the least recently used sequence. Returns `false` if there is none.
    pub(super) fn evict(&mut self) -> bool {
        let oldest = (0..self.entries.len()).min_by_key(|&index| self.entries[index].used);
        oldest.map(|index| self.entries.swap_remove(index)).is_some()
    }

    /// Drops all sequences.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Number of sequences.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
