//! How projections are stored, and which of them have to be ternary.

use std::collections::{HashMap, HashSet};

use super::Architecture;
use crate::{Error, Gguf, TensorInfo, TensorType, ternary};

/// The metadata key that names the projections which a BitNet model keeps dense, as
/// `blk.0.attn_v.weight`.
pub const DENSE_PROJECTIONS: &str = "trilobite.dense_projections";

/// The projections of a block: NAME in `blk.N.NAME.weight`. The last one has columns for rows.
const PROJECTIONS: [&str; 8] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "ffn_down_t"];

/// The head, which may be ternary too.
const HEAD: &str = "output.weight";

/// How a projection or the head is stored, which decides what it is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Trits with one scale, multiplied with int8 activations as they are: I2_S, I2_R, T5_3.
    Packed,
    /// Trits with one scale that are packed first: TQ1_0 and TQ2_0 whose blocks agree, and whatever
    /// has a `.scale` tensor beside it.
    Unpacked,
    /// Other weights, multiplied with activations that are not rounded to int8. TQ1_0 and TQ2_0
    /// whose blocks have scales of their own are among them.
    Dense,
}

/// How the projections of a model are stored, and its head.
///
/// A model is BitNet's if its architecture is, or if a projection is stored in a way that only BitNet
/// models use: as I2_S, I2_R or T5_3, or with a `.scale` tensor. All projections of such a model
/// are ternary, each with one scale, but for those that [`DENSE_PROJECTIONS`] names. A projection of
/// another model is what it is stored as.
#[derive(Clone, Debug)]
pub struct Projections {
    /// By the names of the tensors.
    storage: HashMap<String, Storage>,
    /// What [`DENSE_PROJECTIONS`] names.
    kept_dense: HashSet<String>,
}

impl Projections {
    /// Finds the projections of a model in `files`, its parts.
    ///
    /// # Errors
    /// A projection of a BitNet model that has to be ternary and is not.
    pub fn of(arch: Architecture, gguf: &Gguf, files: &[&[u8]]) -> Result<Self, Error> {
        let found = Self::to_quantise(gguf, files)?;
        let mut projections = gguf.tensors().iter().filter(|info| is_projection(&info.name));
        let bitnet = arch.is_bitnet()
            || projections.clone().any(|info| is_bitnet_type(info.ty) || has_scale(gguf, info));
        let is_dense = |info: &&TensorInfo| {
            found.storage(&info.name) == Some(Storage::Dense) && !found.keeps_dense(&info.name)
        };
        match projections.find(is_dense) {
            Some(info) if bitnet => {
                Err(Error::NotTernary { tensor: info.name.clone(), ty: info.ty })
            }
            _ => Ok(found),
        }
    }

    /// The same where what has to be ternary is about to be made so: nothing is refused.
    ///
    /// # Errors
    /// A [`DENSE_PROJECTIONS`] that is no list of names.
    pub fn to_quantise(gguf: &Gguf, files: &[&[u8]]) -> Result<Self, Error> {
        let kept_dense = gguf.metadata().strings(DENSE_PROJECTIONS)?.unwrap_or_default();
        let tensors =
            gguf.tensors().iter().filter(|info| is_projection(&info.name) || info.name == HEAD);
        let storage = tensors.map(|info| {
            let bytes = info.bytes(files.get(info.part).copied().unwrap_or_default());
            (info.name.clone(), storage(info.ty, bytes, has_scale(gguf, info)))
        });
        Ok(Self { storage: storage.collect(), kept_dense: kept_dense.iter().cloned().collect() })
    }

    /// How a projection or the head is stored; `None` if there is no such tensor.
    pub fn storage(&self, tensor: &str) -> Option<Storage> {
        self.storage.get(tensor).copied()
    }

    /// The first tensor of the file that is stored in a certain way.
    pub fn first<'a>(&self, storage: Storage, gguf: &'a Gguf) -> Option<&'a TensorInfo> {
        gguf.tensors().iter().find(|info| self.storage(&info.name) == Some(storage))
    }

    /// Whether the model says that a projection is dense.
    pub fn keeps_dense(&self, tensor: &str) -> bool {
        self.kept_dense.contains(tensor)
    }
}

/// Whether a tensor of this name is a projection of a block.
pub fn is_projection(tensor: &str) -> bool {
    let block = tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let part = block.and_then(|(_, part)| part.strip_suffix(".weight"));
    part.is_some_and(|part| PROJECTIONS.contains(&part))
}

/// Whether only BitNet models have projections of a type.
fn is_bitnet_type(ty: TensorType) -> bool {
    matches!(ty, TensorType::I2S | TensorType::I2R | TensorType::I2T | TensorType::T5_3)
}

/// Whether a tensor has its scale in a tensor of its own.
fn has_scale(gguf: &Gguf, info: &TensorInfo) -> bool {
    let name = info.name.strip_suffix(".weight");
    name.is_some_and(|name| gguf.tensor(&format!("{name}.scale")).is_some())
}

fn storage(ty: TensorType, bytes: &[u8], has_scale: bool) -> Storage {
    match ty {
        TensorType::Tq1_0 | TensorType::Tq2_0 => match ternary::one_scale(ty, bytes) {
            Some(_) => Storage::Unpacked,
            None => Storage::Dense,
        },
        _ if has_scale => Storage::Unpacked,
        ty if is_bitnet_type(ty) => Storage::Packed,
        _ => Storage::Dense,
    }
}

#[cfg(test)]
mod tests;
