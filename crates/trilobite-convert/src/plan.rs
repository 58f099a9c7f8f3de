//! Decisions that do not depend on the kind of source.

use trilobite_format::model::{Architecture, DENSE_PROJECTIONS, is_projection};
use trilobite_format::{Metadata, TensorType};

use crate::Error;
use crate::model::{Data, Dense, Planned};
use crate::options::{Head, HeadScan, Layout, Options, Type};
use crate::scan::{Part, Scan};
use crate::source::View;

/// The version that is stated in written files.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The metadata keys that say what the file is.
pub(crate) fn general(
    metadata: &mut Metadata,
    arch: Architecture,
    name: &str,
    file_type: Option<u32>,
) {
    metadata.insert("general.architecture", arch.name());
    metadata.insert("general.name", name);
    metadata.insert("general.alignment", trilobite_format::DEFAULT_ALIGNMENT as u32);
    if let Some(file_type) = file_type {
        metadata.insert("general.file_type", file_type);
    }
    // The version of ggml's block formats.
    metadata.insert("general.quantization_version", 2u32);
    metadata.insert("trilobite.version", VERSION);
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

/// Bytes of ternary matrices, at two bits a weight, that no cache holds: from there on decoding
/// waits for memory, and fewer bytes are faster.
const LARGE: u64 = 64 << 20;

/// Gives every ternary matrix the type that suits its use, where the layout leaves a choice.
fn arrange(tensors: &mut [Planned<'_>], arch: Architecture, layout: Layout) -> Result<(), Error> {
    let ternary = |tensor: &&mut Planned<'_>| matches!(tensor.data, Data::Ternary(_));
    let bytes: u64 = tensors.iter_mut().filter(ternary).map(|tensor| tensor.byte_len()).sum();
    let sparse = match layout {
        Layout::I2S | Layout::T5_3 => return Ok(()),
        Layout::Auto if bytes < LARGE => return Ok(()),
        Layout::Auto => arch.squared_relu(),
        Layout::Sparse if arch.squared_relu() => true,
        Layout::Sparse => return Err(Error::Sparse { architecture: arch.name() }),
    };
    for tensor in tensors.iter_mut().filter(ternary) {
        if sparse && tensor.name.ends_with("ffn_down.weight") {
            tensor.transpose();
        } else if sparse && tensor.name.ends_with("ffn_up.weight") {
            // Its rows are chosen one by one.
        } else {
            tensor.ty = TensorType::T5_3;
        }
    }
    Ok(())
}

/// Names the projections that a model with ternary ones keeps dense, so that a reader does not take
/// them for a mistake.
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

/// llama.cpp's number for what most of a file is stored as, which is what its first projection is
/// stored as. `None` for types whose mixtures have several numbers.
pub(crate) fn file_type(tensors: &[Planned<'_>]) -> Option<u32> {
    let first = tensors.iter().find(|tensor| is_projection(&tensor.name))?;
    match first.ty {
        TensorType::F32 => Some(0),
        TensorType::F16 => Some(1),
        TensorType::Q4_0 => Some(2),
        TensorType::Q8_0 => Some(7),
        TensorType::Bf16 => Some(32),
        ty if ty.is_ternary() => Some(40),
        _ => None,
    }
}

/// Gives every tensor the type that was asked for, and adds the coarse copy of the head.
pub(crate) fn choose_types(
    tensors: &mut Vec<Planned<'_>>,
    arch: Architecture,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let ternary = tensors.iter().any(|tensor| tensor.data.is_ternary());
    match options.ty {
        Some(ty) if ternary => return Err(Error::TypeOfTernary(ty.name())),
        Some(ty) => choose_dense(tensors, ty, notes)?,
        None if !ternary && options.layout != Layout::Auto => {
            return Err(Error::LayoutOfDense(options.layout.name()));
        }
        None => {}
    }
    arrange(tensors, arch, options.layout)?;
    choose_head(tensors, options.head, notes)?;
    add_scan(tensors, options, ternary);
    Ok(())
}

/// Gives the matrices of a dense model a type. Norms and biases stay F32.
fn choose_dense(
    tensors: &mut [Planned<'_>],
    ty: Type,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let head = head_index(tensors);
    let mut wider = 0;
    for (i, tensor) in tensors.iter_mut().enumerate().filter(|(_, t)| t.shape.len() == 2) {
        let mut chosen = if i == head { ty.of_head() } else { ty.tensor_type() };
        if chosen.byte_len(&tensor.shape).is_none() {
            // As llama.cpp does with rows that are no whole blocks.
            chosen = TensorType::F16;
            wider += 1;
        }
        if chosen != tensor.ty && !matches!(tensor.data, Data::Dense(_)) {
            return Err(Error::Quantised {
                tensor: tensor.name.clone(),
                found: tensor.ty,
                asked: chosen,
            });
        }
        tensor.ty = chosen;
    }
    if wider > 0 {
        notes.push(format!(
            "{wider} matrices whose rows are no whole blocks of {ty} are F16",
            ty = ty.name()
        ));
    }
    Ok(())
}

/// Where the head is: `output.weight`, which comes last, or else the embedding, which comes first.
fn head_index(tensors: &[Planned<'_>]) -> usize {
    tensors.iter().position(|tensor| tensor.name == "output.weight").unwrap_or(0)
}

/// Gives the head the type that was asked for.
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
    if matches!(tensor.data, Data::Blocks(_)) && ty != tensor.ty {
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

/// Fewest rows of a head that is worth a coarse copy.
const SCAN_ROWS: u64 = 32_768;

/// Adds the coarse copy of the head, once the head's type is chosen, where there is to be one.
fn add_scan(tensors: &mut Vec<Planned<'_>>, options: &Options, ternary: bool) {
    let Some(head) = tensors.get(head_index(tensors)) else { return };
    let (Data::Dense(Dense { view, head_dim: None }), &[rows, cols]) =
        (&head.data, head.shape.as_slice())
    else {
        return;
    };
    let wanted = match options.head_scan {
        // Files of dense models are for other programs too.
        HeadScan::Auto => ternary && rows >= SCAN_ROWS && options.layout != Layout::I2S,
        HeadScan::Always => true,
        HeadScan::None => false,
    };
    let float = matches!(head.ty, TensorType::F32 | TensorType::F16 | TensorType::Bf16);
    if wanted && float {
        let (view, head) = (view.clone(), head.ty);
        for part in Part::ALL {
            let (ty, columns) = part.columns(cols as usize);
            let shape = vec![rows, columns as u64];
            let data = Data::Scan(Scan { view: view.clone(), head, part });
            tensors.push(Planned { name: part.name().to_owned(), ty, shape, data });
        }
    }
}

/// Whether two tensors hold the same numbers, whatever their types.
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
        wide_a == wide_b
    })
}
