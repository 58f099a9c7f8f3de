//! The feed-forward network of a layer.

use super::{Ops, Session};
use crate::config::Activation;
use crate::model::Model;
use crate::weights::Layer;

impl Session {
    /// `x += down(sub_norm(act(gate(norm(x))) * up(norm(x))))`
    pub(super) fn feed_forward(&mut self, model: &Model, layer: &Layer, count: usize) {
        let config = model.config();
        let width = config.intermediate;
        let b = &mut self.buffers;
        let mut ops = Ops { kernels: self.kernels, team: &mut self.team, scratch: &self.scratch };

        ops.norm(&layer.ffn_norm, config.norm_eps, &b.x, &mut b.h, count);
        ops.quantize(&b.h, config.hidden, &mut b.codes, count);
        ops.linear(model, &layer.gate, &b.h, &b.codes, &mut b.gate, count);
        ops.linear(model, &layer.up, &b.h, &b.codes, &mut b.up, count);
        let (kernels, activation, up) = (self.kernels, config.activation, &b.up);
        ops.team.rows(&mut b.gate[..count * width], width, |_, t, gate| {
            let up = &up[t * width..(t + 1) * width];
            match activation {
                Activation::Relu2 => kernels.relu2_mul(gate, up),
                Activation::Silu => kernels.silu_mul(gate, up),
            }
        });
        let input = match &layer.ffn_sub_norm {
            Some(norm) => {
                ops.norm(norm, config.norm_eps, &b.gate, &mut b.up, count);
                &b.up
            }
            None => &b.gate,
        };
        ops.quantize(input, width, &mut b.codes, count);
        ops.linear(model, &layer.down, input, &b.codes, &mut b.y, count);
        ops.add(&b.y, &mut b.x, config.hidden, count);
    }
}
