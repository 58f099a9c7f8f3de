//! The loop of byte-pair encoding: of all neighbours that form a token, join the best, again and
//! again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A stretch of text, to be joined with its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Its token; what the caller makes of it where there is none.
    pub(super) id: u32,
    /// The first byte of its text.
    pub(super) start: usize,
    /// The byte after its text.
    pub(super) end: usize,
}

/// A neighbourhood worth joining. The lowest priority comes first, then the leftmost.
type Candidate = Reverse<(u32, usize, Joint)>;

/// The two stretches that the left and the right symbol had when the candidate was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Joint {
    middle: usize,
    end: usize,
    id: u32,
}

/// Joins neighbours until none is left that `join` has a token for. `join` gives the priority, the
/// lowest first, and the token of two neighbours. The symbols must follow each other without a gap
/// and none may be empty.
pub(super) fn merge(
    symbols: &mut Vec<Symbol>,
    join: impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>,
) {
    let count = symbols.len();
    // The neighbours of each symbol; `count` for none.
    let mut left: Vec<usize> = (0..count).map(|i| i.checked_sub(1).unwrap_or(count)).collect();
    let mut right: Vec<usize> = (1..=count).collect();
    let mut queue: BinaryHeap<Candidate> = BinaryHeap::new();
    let offer = |queue: &mut BinaryHeap<Candidate>, symbols: &[Symbol], at: usize, next: usize| {
        if let (Some(a), Some(b)) = (symbols.get(at), symbols.get(next))
            && let Some((priority, id)) = join(a, b)
        {
            queue.push(Reverse((priority, at, Joint { middle: a.end, end: b.end, id })));
        }
    };
    for at in 1..count {
        offer(&mut queue, symbols, at - 1, at);
    }
    while let Some(Reverse((_, at, joint))) = queue.pop() {
        let next = right[at];
        // A symbol that has been swallowed is empty; one that has grown ends elsewhere.
        let current = symbols[at].start < symbols[at].end
            && symbols[at].end == joint.middle
            && symbols.get(next).is_some_and(|next| next.end == joint.end);
        if !current {
            continue;
        }
        symbols[at] = Symbol { id: joint.id, start: symbols[at].start, end: joint.end };
        symbols[next].start = symbols[next].end;
        right[at] = right[next];
        if let Some(after) = left.get_mut(right[at]) {
            *after = at;
        }
        offer(&mut queue, symbols, left[at], at);
        offer(&mut queue, symbols, at, right[at]);
    }
    symbols.retain(|symbol| symbol.start < symbol.end);
}
