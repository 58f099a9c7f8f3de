//! The loop of byte-pair encoding: of all neighbours that form a token, join the best, again and
//! again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A stretch of text, to be joined with its neighbours. Its places are 32 bits wide: a word of ten
/// megabytes has ten million symbols and twice as many candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Its token; what the caller makes of it where there is none.
    pub(super) id: u32,
    /// The first byte of its text.
    pub(super) start: u32,
    /// The byte after its text.
    pub(super) end: u32,
}

/// A neighbourhood worth joining. The lowest priority comes first, then the leftmost.
type Candidate = Reverse<(u32, u32, Joint)>;

/// The two stretches that the left and the right symbol had when the candidate was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Joint {
    middle: u32,
    end: u32,
    id: u32,
}

/// The length of a word, if it is one that can be merged.
pub(super) fn word_length(word: &str) -> Result<u32, String> {
    let length = u32::try_from(word.len()).ok().filter(|&length| length < u32::MAX);
    length.ok_or_else(|| format!("a word has {} bytes, expected less than 4 GiB", word.len()))
}

/// Joins neighbours until none is left that `join` has a token for. `join` gives the priority, the
/// lowest first, and the token of two neighbours. The symbols must follow each other without a gap
/// and none may be empty.
pub(super) fn merge(
    symbols: &mut Vec<Symbol>,
    join: impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>,
) {
    // Symbols are not empty, and their ends fit.
    let count = symbols.len() as u32;
    // The neighbours of each symbol; `count` for none.
    let mut left: Vec<u32> = (0..count).map(|i| i.checked_sub(1).unwrap_or(count)).collect();
    let mut right: Vec<u32> = (1..=count).collect();
    let candidate = |symbols: &[Symbol], at: u32, next: u32| -> Option<Candidate> {
        let (a, b) = (symbols.get(at as usize)?, symbols.get(next as usize)?);
        let (priority, id) = join(a, b)?;
        Some(Reverse((priority, at, Joint { middle: a.end, end: b.end, id })))
    };
    let all = (1..count).filter_map(|at| candidate(symbols, at - 1, at));
    let mut queue = BinaryHeap::from(all.collect::<Vec<_>>());
    while let Some(Reverse((_, at, joint))) = queue.pop() {
        let here = at as usize;
        let next = right[here] as usize;
        // A symbol that has been swallowed is empty; one that has grown ends elsewhere.
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
