//! Models whose checkpoints are too large to write: the packed file that a conversion makes of them.

use std::io::{self, Write};

use anyhow::{Context, Result};
use half::f16;
use trilobite_convert::checkpoint_tensors;
use trilobite_format::model::{self as planned, Hyperparameters, Role};
use trilobite_format::{Metadata, TensorType, Writer, keys};

use super::tensors::{Dtype, Fill, LOGITS, Tensor, ZEROS};
use super::{config, random, tokenizer};
use crate::models::{Shape, Weights};

/// Bytes of codes in a block of TQ2_0. The scale, an f16, follows them.
const CODES: usize = 64;

/// The tensors of the packed file, with their types.
fn index(model: &Hyperparameters, tied: bool) -> Vec<(planned::Tensor, TensorType)> {
    let ty = |role: Role| match role {
        _ if role.is_projection() => TensorType::Tq2_0,
        _ if role.is_vector() => TensorType::F32,
        _ => TensorType::Bf16,
    };
    let all = planned::tensors(model, |role, _| role == Role::Head && !tied);
    let typed = |tensor: planned::Tensor| {
        let ty = ty(tensor.role);
        (tensor, ty)
    };
    all.into_iter().map(typed).collect()
}

/// Number of bytes of the tensors of the packed file.
pub(super) fn bytes(shape: &Shape) -> Result<u64> {
    let (model, _) = checkpoint_tensors(&config::config(shape, Weights::Rows))?;
    let sizes = index(&model, shape.tie_word_embeddings).into_iter();
    sizes.map(|(tensor, ty)| ty.byte_len(&tensor.shape).context("whole blocks")).sum()
}

/// Writes the packed file.
pub(crate) fn write(out: &mut impl Write, shape: &Shape, seed: u64) -> Result<()> {
    let (model, _) = checkpoint_tensors(&config::config(shape, Weights::Rows))?;
    let mut metadata = Metadata::new();
    metadata.insert(keys::ARCHITECTURE, model.arch.name());
    metadata.insert(keys::NAME, "random weights");
    model.describe(&mut metadata);
    metadata.insert(keys::TOKENIZER_JSON, tokenizer::tokenizer(shape)?.to_string());
    metadata.insert(keys::END_IDS, shape.eos_token_id.clone());
    if let Some(bos) = shape.bos_token_id {
        metadata.insert(keys::token_id("bos"), bos);
    }
    let all = index(&model, shape.tie_word_embeddings);
    let header = all.iter().map(|(tensor, ty)| (tensor.name.clone(), *ty, tensor.shape.clone()));
    let mut writer = Writer::new(out, &metadata, header.collect())?;
    for (number, (tensor, _)) in (0u64..).zip(&all) {
        let cols = *tensor.shape.last().context("a tensor has a shape")? as f32;
        let shape: Vec<usize> = tensor.shape.iter().map(|n| *n as usize).collect();
        let (dtype, shape, fill, scale) = match tensor.role {
            role if role.is_projection() => {
                let scale = f16::from_f32(1.0 / (cols * (1.0 - ZEROS)).sqrt());
                let codes = shape.iter().product::<usize>() / 4;
                (Dtype::U8, vec![codes], Fill::TernaryCodes, Some(scale))
            }
            role if role.is_vector() => (Dtype::F32, shape, Fill::NearOne, None),
            Role::Router => (Dtype::Bf16, shape, Fill::Normal(1.0 / cols.sqrt()), None),
            _ => (Dtype::Bf16, shape, Fill::Normal(LOGITS / cols.sqrt()), None),
        };
        let random = Tensor { name: tensor.name.clone(), dtype, shape, fill };
        let mut pieces = Pieces { writer: &mut writer, name: &tensor.name, scale };
        random::write(&mut pieces, &random, seed, number)
            .with_context(|| format!("tensor {}", tensor.name))?;
    }
    writer.finish()?;
    Ok(())
}

/// Writes the pieces of a tensor. Codes get a scale after every block; pieces are whole blocks.
struct Pieces<'a, W> {
    writer: &'a mut Writer<W>,
    name: &'a str,
    scale: Option<f16>,
}

impl<W: Write> Write for Pieces<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = match self.scale {
            None => self.writer.piece(self.name, bytes),
            Some(scale) => {
                let blocks = bytes.chunks(CODES);
                let packed: Vec<u8> = blocks
                    .flat_map(|codes| codes.iter().copied().chain(scale.to_le_bytes()))
                    .collect();
                self.writer.piece(self.name, &packed)
            }
        };
        piece.map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
