//! Tensors of Maple that hold several matrices, as MLX stores them.

use trilobite_format::model::{Architecture, Hyperparameters, Role};

use super::names::{expert, module};
use crate::Error;
use crate::source::{Shards, View};

/// The suffixes of the tensors of a module, all with a row for each row of the matrix.
const SUFFIXES: [&str; 4] = ["weight", "row_alpha", "scales", "biases"];

/// The modules of the experts of a layer, and the matrices that each expert has in them, one below
/// the other.
const EXPERTS: [(&str, &[Role]); 4] = [
    ("up_gate_proj", &[Role::UpExperts, Role::GateExperts]),
    ("up_proj", &[Role::UpExperts]),
    ("gate_proj", &[Role::GateExperts]),
    ("down_proj", &[Role::DownExperts]),
];

/// Divides such tensors into the matrices that deepgrove's own checkpoints have, under their names.
pub(super) fn divide(shards: &mut Shards<'_>, model: &Hyperparameters) -> Result<(), Error> {
    let Some(experts) = &model.experts else { return Ok(()) };
    for layer in 0..model.layers {
        let heads = [Role::Q, Role::K, Role::V];
        let parts = heads.map(|role| {
            let module = module(role, layer, Architecture::Maple, false);
            (module.expect("a projection has a module"), rows(role, model))
        });
        let fused = format!("model.layers.{layer}.self_attn.qkv_proj");
        for suffix in SUFFIXES {
            let name = format!("{fused}.{suffix}");
            if let Some(view) = shards.take(&name) {
                require(&view, &[parts.iter().map(|(_, rows)| rows).sum()])?;
                place(shards, &view, &parts, 1, suffix)?;
            }
        }
        for (name, roles) in EXPERTS {
            let name = format!("model.layers.{layer}.mlp.switch_mlp.{name}");
            for suffix in SUFFIXES {
                let Some(view) = shards.take(&format!("{name}.{suffix}")) else { continue };
                let height = roles.iter().map(|role| rows(*role, model)).sum();
                require(&view, &[experts.count, height])?;
                let of_expert = |at| {
                    roles.iter().map(move |role| {
                        let module = expert(*role, layer, at);
                        (module.expect("these are roles of experts"), rows(*role, model))
                    })
                };
                let parts: Vec<_> = (0..experts.count).flat_map(of_expert).collect();
                place(shards, &view, &parts, 2, suffix)?;
            }
        }
    }
    Ok(())
}

/// Number of rows of a matrix.
fn rows(role: Role, model: &Hyperparameters) -> u64 {
    let shape = role.shape(model);
    shape[shape.len() - 2]
}

/// Checks the first dimensions of a tensor.
fn require(view: &View<'_>, first: &[u64]) -> Result<(), Error> {
    if view.shape.starts_with(first) {
        return Ok(());
    }
    let others = view.shape.iter().skip(first.len());
    Err(Error::Shape {
        file: view.file.to_owned(),
        tensor: view.name.clone(),
        expected: first.iter().chain(others).copied().collect(),
        found: view.shape.clone(),
    })
}

/// Adds the parts of a tensor, one below the other, to the tensors of the checkpoint. The rows are
/// its `first` dimensions.
fn place<'a>(
    shards: &mut Shards<'a>,
    view: &View<'a>,
    parts: &[(String, u64)],
    first: usize,
    suffix: &str,
) -> Result<(), Error> {
    let all: u64 = parts.iter().map(|(_, rows)| rows).sum();
    let row_len = view.bytes.len() / all.max(1) as usize;
    let mut rest = view.bytes;
    for (module, rows) in parts {
        let (bytes, others) = rest.split_at(row_len * *rows as usize);
        rest = others;
        let mut shape = vec![*rows];
        shape.extend(view.shape.iter().skip(first));
        let part = View { shape, bytes, ..view.clone() };
        shards.insert(format!("{module}.{suffix}"), part)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
