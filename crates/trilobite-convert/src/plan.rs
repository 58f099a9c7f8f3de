//! Decisions shared by all kinds of sources.

use std::sync::Arc;

use trilobite_format::keys::{self, DENSE_PROJECTIONS};
use trilobite_format::model::{Architecture, HeadScanPart, Hyperparameters, Role, is_projection};
use trilobite_format::{Metadata, TensorType};
use trilobite_kernels::source::same;

use crate::Error;
use crate::dense::Dense;
use crate::layouts::Layouts;
use crate::model::{Data, Planned};
use crate::options::{Head, HeadScan, Layout, Options, Type};
use crate::scan::{Scan, form};
use crate::source::View;

/// The version to write into files.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The feature that an error names when a mixture of experts would be quantised.
pub(crate) const QUANTISED_EXPERTS: &str = "quantising a mixture of experts";

/// Inserts the general metadata keys.
pub(crate) fn general(
    metadata: &mut Metadata,
    arch: Architecture,
    name: &str,
    file_type: Option<u32>,
) {
    metadata.insert(keys::ARCHITECTURE, arch.name());
    metadata.insert(keys::NAME, name);
    metadata.insert(keys::ALIGNMENT, trilobite_format::DEFAULT_ALIGNMENT as u32);
    if let Some(file_type) = file_type {
        metadata.insert(keys::FILE_TYPE, file_type);
    }
    // The version of ggml's block formats.
    metadata.insert(keys::QUANTIZATION_VERSION, 2u32);
    metadata.insert(keys::VERSION, VERSION);
}

/// The type in which a ternary matrix is stored.
pub(crate) fn ternary_type(layout: Layout, name: &str, shape: &[u64]) -> Result<TensorType, Error> {
    match layout {
        Layout::T5_3 => Ok(TensorType::T5_3),
        _ if TensorType::I2S.byte_len(shape).is_some() => Ok(TensorType::I2S),
        Layout::Auto | Layout::Sparse => Ok(TensorType::I2R),
        Layout::I2S => Err(Error::Layout { tensor: name.to_owned(), shape: shape.to_vec() }),
    }
}

/// Chooses the types of ternary matrices where the layout leaves a choice.
fn arrange(
    tensors: &mut [Planned<'_>],
    model: &Hyperparameters,
    layout: Layout,
) -> Result<(), Error> {
    let arch = model.arch;
    let layout = match layout {
        Layout::Auto => Layouts::of(tensors, model).auto,
        layout => layout,
    };
    let sparse = match layout {
        Layout::Auto | Layout::I2S => return Ok(()),
        Layout::T5_3 => false,
        Layout::Sparse if arch.squared_relu() => true,
        Layout::Sparse => return Err(Error::Sparse { architecture: arch.name() }),
    };
    for tensor in tensors.iter_mut().filter(|tensor| tensor.data.is_ternary()) {
        match Role::of(&tensor.name) {
            Some((Role::Down, _)) if sparse => tensor.transpose(),
            // Stays I2_S or I2_R, of which single rows can be read.
            Some((Role::Up, _)) if sparse => {}
            _ => tensor.ty = TensorType::T5_3,
        }
    }
    Ok(())
}

/// Lists the dense projections of a model that has ternary ones. Without the list a reader would
/// refuse them.
pub(crate) fn name_dense(tensors: &[Planned<'_>], arch: Architecture, metadata: &mut Metadata) {
    let projections = tensors.iter().filter(|tensor| is_projection(&tensor.name));
    let (ternary, dense): (Vec<_>, Vec<_>) =
        projections.partition(|tensor| tensor.data.is_ternary());
    if dense.is_empty() || ternary.is_empty() && !arch.is_bitnet() {
        return metadata.remove(DENSE_PROJECTIONS);
    }
    let names: Vec<String> = dense.into_iter().map(|tensor| tensor.name.clone()).collect();
    metadata.insert(DENSE_PROJECTIONS, names);
}

/// llama.cpp's number of the type of most weights, taken from the first projection. `None` for
/// types that occur in several mixtures.
pub(crate) fn file_type(tensors: &[Planned<'_>]) -> Option<u32> {
    let first = tensors.iter().find(|tensor| is_projection(&tensor.name))?;
    match first.ty {
        TensorType::F32 => Some(0),
        TensorType::F16 => Some(1),
        TensorType::Q4_0 => Some(2),
        TensorType::Q8_0 => Some(7),
        TensorType::Bf16 => Some(32),
        TensorType::Tq1_0 => Some(36),
        TensorType::Tq2_0 => Some(37),
        TensorType::Q1_0 => Some(40),
        TensorType::Q2_0 => Some(41),
        TensorType::Pq2_0 => Some(141),
        ty if ty.is_ternary() => Some(40),
        _ => None,
    }
}

/// Applies the type options to all tensors, and adds the coarse copy of the head.
pub(crate) fn choose_types(
    tensors: &mut Vec<Planned<'_>>,
    model: &Hyperparameters,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let ternary = tensors.iter().any(|tensor| tensor.data.is_ternary());
    match options.ty {
        Some(ty) if ternary => return Err(Error::TypeOfTernary(ty.name())),
        Some(ty) => choose_dense(tensors, ty, options.head, notes)?,
        None if !ternary && options.layout != Layout::Auto => {
            return Err(Error::LayoutOfDense(options.layout.name()));
        }
        None => {}
    }
    arrange(tensors, model, options.layout)?;
    choose_head(tensors, options.head, notes)?;
    add_scan(tensors, options, ternary || model.arch.has_experts());
    Ok(())
}

/// Sets the type of the matrices of a dense model. Norms and biases stay F32. The `head` is left to
/// [`choose_head`] if a type was chosen for it.
fn choose_dense(
    tensors: &mut [Planned<'_>],
    ty: Type,
    chosen_head: Head,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let head = head_index(tensors);
    let mut wider = 0;
    let is_matrix = |tensor: &Planned<'_>| {
        let router = Role::of(&tensor.name).is_some_and(|(role, _)| role == Role::Router);
        tensor.shape.len() >= 2 && !router
    };
    for (i, tensor) in tensors.iter_mut().enumerate().filter(|(_, t)| is_matrix(t)) {
        if i == head && chosen_head != Head::Auto {
            continue;
        }
        let mut chosen = if i == head { ty.of_head() } else { ty.tensor_type() };
        if chosen.byte_len(&tensor.shape).is_none() {
            // llama.cpp also falls back to F16 for rows that are not whole blocks.
            chosen = TensorType::F16;
            wider += 1;
        }
        let float = matches!(tensor.ty, TensorType::F32 | TensorType::F16 | TensorType::Bf16)
            && matches!(tensor.data, Data::Dense(_) | Data::Stack(_));
        if chosen != tensor.ty && !float {
            return Err(Error::Quantised {
                tensor: tensor.name.clone(),
                found: tensor.ty,
                asked: chosen,
            });
        }
        tensor.ty = chosen;
    }
    if wider > 0 {
        notes.push(format!("{wider} matrices whose rows are no whole blocks of {ty} are F16"));
    }
    Ok(())
}

/// Index of the head. It is the last tensor; otherwise the embedding, the first tensor, serves as
/// the head.
fn head_index(tensors: &[Planned<'_>]) -> usize {
    let is_head = |tensor: &Planned<'_>| tensor.name == Role::Head.name(0);
    tensors.iter().position(is_head).unwrap_or(0)
}

/// Sets the type of the head.
fn choose_head(
    tensors: &mut [Planned<'_>],
    head: Head,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let Some(ty) = head.tensor_type() else { return Ok(()) };
    let Some(tensor) = tensors.get_mut(head_index(tensors)) else { return Ok(()) };
    if tensor.data.is_ternary() {
        notes.push(format!("{} is ternary and stays so", tensor.name));
        return Ok(());
    }
    if ty.byte_len(&tensor.shape).is_none() {
        return Err(Error::Head {
            tensor: tensor.name.clone(),
            ty,
            why: format!("its shape is {:?}", tensor.shape),
        });
    }
    if !matches!(tensor.data, Data::Dense(_)) && ty != tensor.ty {
        let why = format!("the source has it as {}", tensor.ty);
        return Err(Error::Head { tensor: tensor.name.clone(), ty, why });
    }
    if ty != tensor.ty {
        let rounds = if ty == TensorType::F32 { "exactly" } else { "with rounding" };
        notes.push(format!("{} was stored as {ty} {rounds}; it was {}", tensor.name, tensor.ty));
    }
    tensor.ty = ty;
    Ok(())
}

/// Minimum number of rows for a coarse copy.
const SCAN_ROWS: u64 = 32_768;

/// Adds the coarse copy of the head if the options ask for it, or if `ternary` weights leave most
/// of a token's bytes to the head. The head's type must already be
/// chosen.
fn add_scan(tensors: &mut Vec<Planned<'_>>, options: &Options, ternary: bool) {
    let Some(head) = tensors.get(head_index(tensors)) else { return };
    let (Data::Dense(Dense { view, head_dim: None }), &[rows, cols]) =
        (&head.data, head.shape.as_slice())
    else {
        return;
    };
    let wanted = match options.head_scan {
        // Other dense models have none, because other programs read their files too.
        HeadScan::Auto => ternary && rows >= SCAN_ROWS && options.layout != Layout::I2S,
        HeadScan::Always => true,
        HeadScan::None => false,
    };
    let float = matches!(head.ty, TensorType::F32 | TensorType::F16 | TensorType::Bf16);
    if wanted && float {
        let (view, head, bounds) = (view.clone(), head.ty, Arc::default());
        for part in HeadScanPart::ALL {
            let (ty, shape) = form(part, rows, cols);
            let bounds = Arc::clone(&bounds);
            let data = Data::Scan(Scan { view: view.clone(), head, part, bounds });
            tensors.push(Planned { name: part.name().to_owned(), ty, shape, data });
        }
    }
}

/// Whether two tensors hold the same numbers, regardless of type.
pub(crate) fn same_values(a: &View<'_>, b: &View<'_>) -> bool {
    const PIECE: usize = 1 << 16;
    if a.shape != b.shape {
        return false;
    }
    if a.dtype == b.dtype {
        return a.bytes == b.bytes;
    }
    let (mut wide_a, mut wide_b) = (Vec::new(), Vec::new());
    (0..a.count()).step_by(PIECE).all(|start| {
        let piece = start..(start + PIECE).min(a.count());
        a.widen(piece.clone(), &mut wide_a);
        b.widen(piece, &mut wide_b);
        same(&wide_a, &wide_b)
    })
}
