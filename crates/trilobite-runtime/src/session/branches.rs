//! Several continuations of one beginning, read as one batch.

use super::Session;
use crate::error::Result;

/// Tokens to read, and whose logits are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Branch<'a> {
    /// The tokens.
    pub tokens: &'a [u32],
    /// The first of them after which logits are wanted; they are after all that follow.
    pub from: usize,
}

/// A token of a batch.
struct Entry {
    token: u32,
    position: usize,
    /// The branch, none for the trunk, and the token's index there, if its logits are wanted.
    wanted: Option<(Option<usize>, usize)>,
}

impl Session {
    /// Reads `trunk` and after it each of `branches` as if there were no other, and shows the logits
    /// that are wanted: `sink(branch, index of the token in it, logits)`, in order, the trunk's first.
    /// The trunk stays read, the branches do not.
    ///
    /// Products with weights are computed for tokens of all branches at once. In the attention, each
    /// branch's keys and values take the place of those of the branch before it.
    ///
    /// # Errors
    /// A token outside the vocabulary, or more tokens than the context holds; nothing is read then.
    pub fn branch_logits(
        &mut self,
        trunk: Branch<'_>,
        branches: &[Branch<'_>],
        mut sink: impl FnMut(Option<usize>, usize, &mut [f32]),
    ) -> Result<()> {
        let start = self.position;
        let end = start + trunk.tokens.len();
        self.check(trunk.tokens, start)?;
        for branch in branches {
            self.check(branch.tokens, end)?;
        }
        let entries = |branch: Option<usize>, part: Branch<'_>, start: usize| {
            let wanted = move |index| (index >= part.from).then_some((branch, index));
            let entry = move |(index, &token)| Entry {
                token,
                position: start + index,
                wanted: wanted(index),
            };
            part.tokens.iter().enumerate().map(entry).collect::<Vec<_>>()
        };
        let mut all = entries(None, trunk, start);
        for (number, branch) in branches.iter().enumerate() {
            all.extend(entries(Some(number), *branch, end));
        }

        // A branch may be cut: nothing is stored between its parts, which are neighbours.
        self.team.start();
        for batch in all.chunks(self.options.batch) {
            let tokens: Vec<u32> = batch.iter().map(|entry| entry.token).collect();
            self.buffers.positions.clear();
            self.buffers.positions.extend(batch.iter().map(|entry| entry.position));
            self.layers(&tokens);

            // What is wanted moves together, so that the head is read as few times as possible.
            let hidden = self.model.config().hidden;
            let mut places = Vec::new();
            for (row, entry) in batch.iter().enumerate() {
                let Some(place) = entry.wanted else { continue };
                let to = places.len() * hidden;
                self.buffers.x.copy_within(row * hidden..(row + 1) * hidden, to);
                places.push(place);
            }
            self.head(0..places.len(), |index, logits| {
                let (branch, index) = places[index];
                sink(branch, index, logits);
            });
        }
        self.position = end;
        self.tokens.extend_from_slice(trunk.tokens);
        Ok(())
    }
}
