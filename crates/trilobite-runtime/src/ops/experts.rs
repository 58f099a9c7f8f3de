//! Mixtures of experts.
//!
//! A token uses a few experts, and only their weights are read, in place. The tokens of a batch are
//! gathered by expert, so each expert is read once. What the experts add to a token is added in the
//! order of the experts, so its bits do not depend on the other tokens.

use std::cmp::Ordering;
use std::ops::Range;

use trilobite_kernels::{ColumnOrder, DenseMatrix, Kernels, Workspace};

use super::{ALIGN, BlockInput, Input, Inputs, MIN_MULTIPLY_ADDS, Ops, PIECE_BYTES, dense_product};
use crate::model::Model;
use crate::scratch::{Gathered, Scratch, grown};
use crate::team::Pieces;
use crate::weights::{Matrix, MatrixView};

/// Added to the sum of the weights of a token's experts before the division by it.
const LEAST_SUM: f32 = 1e-20;

/// A use of an expert by a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Use {
    expert: usize,
    token: usize,
    /// The factor of the expert's output.
    weight: f32,
}

/// The experts that the tokens of a batch use.
#[derive(Default)]
pub(crate) struct Routing {
    /// The probabilities of all experts, `[T][experts]`.
    probabilities: Vec<f32>,
    /// The uses, `[T][used]` by falling weight at first, then sorted by expert and token.
    uses: Vec<Use>,
    /// The uses of each expert that is used.
    groups: Vec<Range<usize>>,
}

impl Ops<'_> {
    /// Finds the experts of every token of a batch: those with the largest probability, `used` each.
    pub(crate) fn route(
        &mut self,
        input: Input<'_>,
        router: &Matrix,
        used: usize,
        routing: &mut Routing,
    ) {
        let Routing { probabilities, uses, groups } = routing;
        let experts = router.rows;
        let probabilities = grown(probabilities, input.count * experts);
        self.linear(input, [(router, &mut *probabilities)]);
        uses.clear();
        uses.resize(input.count * used, Use::default());
        let kernels = self.workers.kernels;
        let (rows, chosen, none) =
            ((probabilities, experts), (&mut uses[..], used), (&mut [(); 0][..], 0));
        self.workers.team.rows3(rows, chosen, none, |_, token, probabilities, chosen, _| {
            kernels.softmax(probabilities);
            choose(token, probabilities, chosen);
        });
        uses.sort_unstable_by_key(|each| (each.expert, each.token));
        groups.clear();
        for group in uses.chunk_by(|a, b| a.expert == b.expert) {
            let start = groups.last().map_or(0, |last: &Range<usize>| last.end);
            groups.push(start..start + group.len());
        }
    }

    /// `out[use] = silu(min(input * gate^T, clamp)) * clamp(input * up^T, -clamp, clamp)` for every
    /// use of an expert.
    pub(crate) fn gated_experts(
        &mut self,
        input: Input<'_>,
        (gate, up): (&Matrix, &Matrix),
        clamp: f32,
        routing: &Routing,
        out: &mut [f32],
    ) {
        let kernels = self.workers.kernels;
        let width = out.len() / routing.uses.len();
        let [gate, up] =
            [gate, up].map(|matrix| ExpertProjection::new(kernels, self.model, matrix, width));
        let split = gate.split(routing, input.count);
        let matrices = [gate, up];
        self.workers.team.columns([(out, width)], ALIGN, split, |scratch, _, rows, strip| {
            let Scratch { floats, row, workspace, gathered, .. } = scratch;
            for group in &routing.groups {
                let uses = &routing.uses[group.clone()];
                let tokens = uses.iter().map(|each| each.token);
                let inputs = gathered.gather(input, &matrices, tokens);
                let expert = uses[0].expert;
                let gates = gate.product(expert, rows.clone(), inputs, workspace, floats);
                let ups = up.product(expert, rows.clone(), inputs, workspace, row);
                // Comparisons keep NaN.
                gates.iter_mut().filter(|gate| **gate > clamp).for_each(|gate| *gate = clamp);
                for up in &mut *ups {
                    *up = if *up > clamp {
                        clamp
                    } else if *up < -clamp {
                        -clamp
                    } else {
                        *up
                    };
                }
                kernels.silu_mul(gates, ups);
                for (at, gated) in group.clone().zip(gates.chunks_exact(rows.len())) {
                    strip.row(at).copy_from_slice(gated);
                }
            }
        });
    }

    /// `x[token] += weight * input[use] * matrix^T` for every use of an expert, in the order of the
    /// experts.
    pub(crate) fn add_experts(
        &mut self,
        input: Input<'_>,
        matrix: &Matrix,
        routing: &Routing,
        x: &mut [f32],
    ) {
        let kernels = self.workers.kernels;
        let width = self.model.config().hidden;
        let matrix = ExpertProjection::new(kernels, self.model, matrix, width);
        let split = matrix.split(routing, x.len() / width);
        self.workers.team.columns([(x, width)], ALIGN, split, |scratch, _, rows, strip| {
            let Scratch { floats, workspace, gathered, .. } = scratch;
            for group in &routing.groups {
                let uses = &routing.uses[group.clone()];
                let inputs = gathered.gather(input, &[matrix], group.clone());
                let expert = uses[0].expert;
                let values = matrix.product(expert, rows.clone(), inputs, workspace, floats);
                for (each, values) in uses.iter().zip(values.chunks_exact(rows.len())) {
                    for (x, value) in strip.row(each.token).iter_mut().zip(values) {
                        *x += each.weight * value;
                    }
                }
            }
        });
    }
}

/// Chooses the experts of a token, by falling probability and, of equal ones, by rising index. Their
/// weights are their probabilities, divided by the sum of these.
fn choose(token: usize, probabilities: &[f32], chosen: &mut [Use]) {
    let mut sum = 0.0;
    let mut last: Option<(usize, f32)> = None;
    for each in &mut *chosen {
        let follows = |&(expert, p): &(usize, f32)| {
            last.is_none_or(|(last, q)| match p.total_cmp(&q) {
                Ordering::Less => true,
                Ordering::Equal => expert > last,
                Ordering::Greater => false,
            })
        };
        let rest = probabilities.iter().copied().enumerate().filter(follows);
        let larger =
            |a: (usize, f32), b: (usize, f32)| if b.1.total_cmp(&a.1).is_gt() { b } else { a };
        let Some((expert, weight)) = rest.reduce(larger) else { break };
        last = Some((expert, weight));
        sum += weight;
        *each = Use { expert, token, weight };
    }
    chosen.iter_mut().for_each(|each| each.weight /= sum + LEAST_SUM);
}

/// A projection of all experts.
#[derive(Clone, Copy)]
struct ExpertProjection<'a> {
    kernels: &'static Kernels,
    matrix: DenseMatrix<'a>,
    /// Rows of an expert.
    rows: usize,
}

impl<'a> ExpertProjection<'a> {
    fn new(kernels: &'static Kernels, model: &'a Model, matrix: &Matrix, rows: usize) -> Self {
        match model.view(matrix) {
            MatrixView::Dense(matrix) => Self { kernels, matrix, rows },
            MatrixView::Ternary(..) => {
                unreachable!("a packed matrix of experts is refused on opening")
            }
        }
    }

    fn has_blocks(self) -> bool {
        self.matrix.ty().has_blocks()
    }

    fn order(self) -> Option<ColumnOrder> {
        self.matrix.ty().column_order()
    }

    /// How the rows are divided among threads. Every piece gathers the inputs of all experts.
    fn split(self, routing: &Routing, tokens: usize) -> Pieces {
        let bytes = self.matrix.ty().row_len(self.matrix.cols()).unwrap_or(1).max(1);
        let size = if tokens == 1 { PIECE_BYTES / bytes } else { usize::MAX };
        let multiply_adds = self.matrix.cols() * routing.uses.len();
        Pieces { least: MIN_MULTIPLY_ADDS / multiply_adds.max(1), size }
    }

    /// `out[count][rows] = inputs * rows of an expert^T`, in a buffer.
    fn product<'b>(
        self,
        expert: usize,
        rows: Range<usize>,
        inputs: Inputs<'_>,
        workspace: &mut Workspace,
        buffer: &'b mut Vec<f32>,
    ) -> &'b mut [f32] {
        let first = expert * self.rows;
        let rows = first + rows.start..first + rows.end;
        dense_product(self.kernels, &self.matrix, rows, inputs, workspace, buffer)
    }
}

impl Gathered {
    /// Some rows of an input, in the forms that the matrices take.
    fn gather<'b>(
        &'b mut self,
        input: Input<'b>,
        matrices: &[ExpertProjection<'_>],
        rows: impl ExactSizeIterator<Item = usize> + Clone,
    ) -> Inputs<'b> {
        let Gathered { floats, wide, narrow, split } = self;
        let count = rows.len();
        if input.count == 1 {
            let Input { floats, blocks, split, .. } = input;
            return Inputs { count, floats, blocks, split };
        }
        let mut blocks = input.blocks;
        if matrices.iter().any(|matrix| matrix.has_blocks() && matrix.order().is_none()) {
            blocks = match blocks {
                BlockInput::Wide(codes) => {
                    wide.gather(codes, 1, rows.clone());
                    BlockInput::Wide(wide)
                }
                BlockInput::Pairs(codes) => {
                    wide.gather(codes, 2, rows.clone());
                    BlockInput::Pairs(wide)
                }
                BlockInput::Narrow(codes) => {
                    narrow.gather(codes, 1, rows.clone());
                    BlockInput::Narrow(narrow)
                }
            };
        }
        for (order, split) in ColumnOrder::ALL.into_iter().zip(&mut *split) {
            if matrices.iter().any(|matrix| matrix.order() == Some(order)) {
                split.gather(&input.split[order as usize], rows.clone());
            }
        }
        floats.clear();
        if matrices.iter().any(|matrix| !matrix.has_blocks()) {
            let cols = input.floats.len() / input.count;
            rows.for_each(|row| floats.extend(&input.floats[row * cols..(row + 1) * cols]));
        }
        Inputs { count, floats, blocks, split }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(probabilities: &[f32], used: usize) -> Vec<(usize, f32)> {
        let mut uses = vec![Use::default(); used];
        choose(3, probabilities, &mut uses);
        assert!(uses.iter().all(|each| each.token == 3));
        uses.iter().map(|each| (each.expert, each.weight)).collect()
    }

    fn experts(probabilities: &[f32], used: usize) -> Vec<usize> {
        chosen(probabilities, used).into_iter().map(|(expert, _)| expert).collect()
    }

    #[test]
    fn the_most_likely_experts_are_chosen_and_of_equal_ones_the_first() {
        assert_eq!(chosen(&[0.125, 0.5, 0.25, 0.125], 2), [(1, 0.5 / 0.75), (2, 0.25 / 0.75)]);
        assert_eq!(chosen(&[0.25; 4], 2), [(0, 0.5), (1, 0.5)]);
        assert_eq!(experts(&[0.1, 0.4, 0.1, 0.4], 3), [1, 3, 0]);
        assert_eq!(chosen(&[0.5, 0.5], 2), [(0, 0.5), (1, 0.5)]);
        // All of a token's probabilities are NaN if its logits are.
        assert_eq!(experts(&[f32::NAN; 3], 2), [0, 1]);
        // No sum of tiny probabilities is a division by zero.
        assert_eq!(chosen(&[0.0, 0.0], 1), [(0, 0.0)]);
    }
}
