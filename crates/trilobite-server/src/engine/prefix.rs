//! The keys and values of texts that were read, for those that begin alike.

use trilobite_runtime::Sequence;

/// Sequences that nothing runs any more. They share pages with each other and with running sequences.
#[derive(Default)]
pub(super) struct PrefixCache {
    entries: Vec<Entry>,
    clock: u64,
}

struct Entry {
    sequence: Sequence,
    /// When it was last used.
    used: u64,
}

/// The number of tokens with which both begin.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl PrefixCache {
    /// Keeps a sequence, in place of those that it continues.
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

    /// The sequence that begins with the most of `tokens`, cut to those, if they are more than `least`.
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

    /// Drops the sequence that has not been used for the longest time; `false` if there is none.
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
