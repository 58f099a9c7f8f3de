//! The feed-forward network of a layer.

use super::{Ops, Session};
use crate::model::Model;
use crate::profile::Stage;
use crate::weights::Layer;

impl Session {
    /// `x += post_norm(down(sub_norm(act(gate(norm(x))) * up(norm(x)))))`
    pub(super) fn feed_forward(&mut self, model: &Model, layer: &Layer, count: usize) {
        let config = model.config();
        let b = &mut self.buffers;
        let (kernels, scratch) = (self.kernels, &self.scratch[..]);
        let (parts, plain) = (&mut b.parts[..], self.options.plain);
        let mut ops = Ops { kernels, model, team: &mut self.team, scratch, parts, plain };

        let x = &mut b.x[..count * config.hidden];
        let gated = &mut b.gated[..count * config.intermediate];
        let (gate, up) = (&layer.gate, &layer.up);
        let input = ops.prepare(x, Some(&layer.ffn_norm), count, &[gate, up], &mut b.input);
        ops.gated(input, (gate, up), config.activation, gated);
        ops.team.lap(Stage::GateUp);

        let norm = layer.ffn_sub_norm.as_deref();
        let input = ops.prepare(gated, norm, count, &[&layer.down], &mut b.input);
        ops.residual(input, &layer.down, layer.ffn_post_norm.as_deref(), &mut b.added, x);
        ops.team.lap(Stage::Down);
    }
}
