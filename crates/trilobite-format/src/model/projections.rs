//! How projections are stored, and which of them must be ternary.

use std::collections::{HashMap, HashSet};

use super::architecture::Architecture;
use super::tensors::{Role, scale_name};
use crate::keys::DENSE_PROJECTIONS;
use crate::{Error, Gguf, TensorInfo, TensorType};

/// How a projection or the head is stored. It decides the type of the activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Packed trits with one scale (I2_S, I2_R, T5_3), multiplied with int8 activations.
    Packed,
    /// Trits with one scale that are packed before use: TQ1_0 and TQ2_0 whose blocks share a scale,
    /// and any type with a `.scale` tensor beside it.
    Unpacked,
    /// Dense weights, multiplied with activations that are not quantised. TQ1_0 and TQ2_0 whose
    /// blocks have different scales are dense.
    Dense,
}

/// How the projections and the head of a model are stored.
///
/// A model is a BitNet model if its architecture is one, or if a projection is stored as only
/// BitNet models do: as I2_S, I2_R or T5_3, or with a `.scale` tensor. All projections of a BitNet
/// model are ternary with one scale each, except those listed in [`DENSE_PROJECTIONS`]. In other
/// models a projection is what its tensor type says.
#[derive(Clone, Debug)]
pub struct Projections {
    /// The storage by tensor name.
    storage: HashMap<String, Storage>,
    /// The names in [`DENSE_PROJECTIONS`].
    kept_dense: HashSet<String>,
    /// The projections whose input has a norm in some layer.
    normed: HashSet<Role>,
}

impl Projections {
    /// Finds the projections of a model. `files` are the bytes of its parts.
    ///
    /// # Errors
    /// A projection of a BitNet model is dense and not listed in [`DENSE_PROJECTIONS`].
    pub fn of(arch: Architecture, gguf: &Gguf, files: &[&[u8]]) -> Result<Self, Error> {
        let mut found = Self::to_quantise(gguf, files)?;
        if arch.has_experts() {
            // Its ternary matrices are multiplied as they are, even one with a single scale.
            for storage in found.storage.values_mut().filter(|s| **s == Storage::Unpacked) {
                *storage = Storage::Dense;
            }
            return Ok(found);
        }
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

    /// Finds the projections of a model that is about to be quantised. Dense projections are
    /// accepted in any model.
    ///
    /// # Errors
    /// [`DENSE_PROJECTIONS`] is not a list of names.
    pub fn to_quantise(gguf: &Gguf, files: &[&[u8]]) -> Result<Self, Error> {
        let kept_dense = gguf.metadata().strings(DENSE_PROJECTIONS)?.unwrap_or_default();
        let is_head = |name: &str| Role::of(name).is_some_and(|(role, _)| role == Role::Head);
        let tensors =
            gguf.tensors().iter().filter(|info| is_projection(&info.name) || is_head(&info.name));
        let storage = tensors.map(|info| {
            let bytes = info.bytes(files.get(info.part).copied().unwrap_or_default());
            (info.name.clone(), storage(info.ty, bytes, has_scale(gguf, info)))
        });
        let roles = gguf.tensors().iter().filter_map(|info| Role::of(&info.name));
        Ok(Self {
            storage: storage.collect(),
            kept_dense: kept_dense.iter().cloned().collect(),
            normed: roles.filter_map(|(role, _)| role.normed_projection()).collect(),
        })
    }

    /// How a projection or the head is stored. `None` if there is no such tensor.
    pub fn storage(&self, tensor: &str) -> Option<Storage> {
        self.storage.get(tensor).copied()
    }

    /// The first tensor of the file with this storage.
    pub fn first<'a>(&self, storage: Storage, gguf: &'a Gguf) -> Option<&'a TensorInfo> {
        gguf.tensors().iter().find(|info| self.storage(&info.name) == Some(storage))
    }

    /// Whether a model has an optional tensor in a layer, given which tensors are there. The first layer
    /// decides for all of them, except that the input of a dense projection may lack a norm that those
    /// of other layers have.
    pub fn have(&self, role: Role, layer: u64, there: impl Fn(&str) -> bool) -> bool {
        let Some(projection) = role.normed_projection() else { return there(&role.name(0)) };
        let required =
            self.normed.contains(&projection) && !self.keeps_dense(&projection.name(layer));
        required || there(&role.name(layer))
    }

    /// Whether the model lists this projection in [`DENSE_PROJECTIONS`].
    pub fn keeps_dense(&self, tensor: &str) -> bool {
        self.kept_dense.contains(tensor)
    }
}

/// Whether a tensor of this name is a projection of a layer.
pub fn is_projection(tensor: &str) -> bool {
    Role::of(tensor).is_some_and(|(role, _)| role.is_projection())
}

/// Whether only BitNet models have projections of this type.
fn is_bitnet_type(ty: TensorType) -> bool {
    matches!(ty, TensorType::I2S | TensorType::I2R | TensorType::I2T | TensorType::T5_3)
}

/// Whether the scale of a tensor is stored in a tensor of its own.
fn has_scale(gguf: &Gguf, info: &TensorInfo) -> bool {
    scale_name(&info.name).is_some_and(|name| gguf.tensor(&name).is_some())
}

fn storage(ty: TensorType, bytes: &[u8], has_scale: bool) -> Storage {
    match ty {
        TensorType::Tq1_0 | TensorType::Tq2_0 => match ty.one_scale(bytes) {
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
