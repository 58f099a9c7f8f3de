//! The loop of byte-pair encoding: joins the best pair of neighbours that forms a token, until
//! there is none.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A stretch of text to join with its neighbours. Offsets have 32 bits to save memory: a word of
/// ten megabytes has ten million symbols and twice as many candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// The token. The caller defines the value for a symbol without a token.
    pub(super) id: u32,
    /// The offset of its first byte.
    pub(super) start: u32,
    /// The offset after its last byte.
    pub(super) end: u32,
}

/// A pair of neighbours that can be joined. The lowest priority comes first, then the leftmost
/// pair.
type MergeCandidate = Reverse<(u32, u32, Joint)>;

/// The extents of the left and the right symbol when the candidate was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Joint {
    middle: u32,
    end: u32,
    id: u32,
}

/// The length of a word, or an error if it is too long to merge.
pub(super) fn word_length(word: &str) -> Result<u32, String> {
    let length = u32::try_from(word.len()).ok().filter(|&length| length < u32::MAX);
    length.ok_or_else(|| format!("a word has {} bytes, expected less than 4 GiB", word.len()))
}

/// Joins neighbours until `join` has a token for none. `join` returns the priority (the lowest is
/// joined first) and the token of two neighbours. Symbols must be adjacent and not empty.
pub(super) fn merge(
    symbols: &mut Vec<Symbol>,
    join: impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>,
) {
    // No symbol is empty and their offsets have 32 bits, so the count fits.
    let count = symbols.len() as u32;
    // The left and right neighbour of each symbol; `count` means none.
    let mut left: Vec<u32> = (0..count).map(|i| i.checked_sub(1).unwrap_or(count)).collect();
    let mut right: Vec<u32> = (1..=count).collect();
    let candidate = |symbols: &[Symbol], at: u32, next: u32| -> Option<MergeCandidate> {
        let (a, b) = (symbols.get(at as usize)?, symbols.get(next as usize)?);
        let (priority, id) = join(a, b)?;
        Some(Reverse((priority, at, Joint { middle: a.end, end: b.end, id })))
    };
    let all = (1..count).filter_map(|at| candidate(symbols, at - 1, at));
    let mut queue = BinaryHeap::from(all.collect::<Vec<_>>());
    while let Some(Reverse((_, at, joint))) = queue.pop() {
        let here = at as usize;
        let next = right[here] as usize;
        // A symbol that was joined to its left neighbour is empty. One that has grown has another
        // end.
        let current = symbols[here].start < symbols[here].end
            && symbols[here].end == joint.middle
            && symbols.get(next).is_some_and(|next| next.end == joint.end);
        if !current {
            continue;
        }
        symbols[here] = Symbol { id: joint.id, start: symbols[here].start, end: joint.end };
        symbols[next].start = symbols[next].end;
        right[here] = right[next];
        if let Some(after) = left.get_mut(right[here] as usize) {
            *after = at;
        }
        queue.extend(candidate(symbols, left[here], at));
        queue.extend(candidate(symbols, at, right[here]));
    }
    symbols.retain(|symbol| symbol.start < symbol.end);
}
