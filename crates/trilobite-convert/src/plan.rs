//! Decisions that do not depend on the kind of source.

use trilobite_format::{Metadata, TensorType};

use crate::Error;
use crate::model::{Arch, Data, Dense, Planned};
use crate::options::{Head, HeadScan, Layout, Options};
use crate::scan::{Part, Scan};
use crate::source::View;

/// The version that is stated in written files.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The metadata keys that say what the file is.
pub(crate) fn general(metadata: &mut Metadata, arch: Arch, name: &str) {
    metadata.insert("general.architecture", arch.name());
    metadata.insert("general.name", name);
    metadata.insert("general.alignment", trilobite_format::DEFAULT_ALIGNMENT as u32);
    // llama.cpp's number for "mostly I2_S", and the version of its block formats.
    metadata.insert("general.file_type", 40u32);
    metadata.insert("general.quantization_version", 2u32);
    metadata.insert("trilobite.version", VERSION);
}

/// The type in which a ternary matrix is stored.
pub(crate) fn ternary_type(layout: Layout, name: &str, shape: &[u64]) -> Result<TensorType, Error> {
    match layout {
        Layout::T5_3 => Ok(TensorType::T5_3),
        _ if TensorType::I2S.byte_len(shape).is_some() => Ok(TensorType::I2S),
        Layout::Auto => Ok(TensorType::I2R),
        Layout::I2S => Err(Error::Layout { tensor: name.to_owned(), shape: shape.to_vec() }),
    }
}

/// Gives the head the type that was asked for. The head is `output.weight`, which comes last, or
/// else the embedding, which comes first.
pub(crate) fn choose_head(
    tensors: &mut [Planned<'_>],
    head: Head,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let Some(ty) = head.tensor_type() else { return Ok(()) };
    let untied = tensors.iter().position(|tensor| tensor.name == "output.weight");
    let Some(tensor) = tensors.get_mut(untied.unwrap_or(0)) else { return Ok(()) };
    if matches!(tensor.data, Data::Ternary(_)) {
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
        let why = "the source has it as Q8_0".to_owned();
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
pub(crate) fn add_scan(tensors: &mut Vec<Planned<'_>>, options: &Options) {
    let untied = tensors.iter().position(|tensor| tensor.name == "output.weight");
    let Some(head) = tensors.get(untied.unwrap_or(0)) else { return };
    let (Data::Dense(Dense { view, head_dim: None }), &[rows, cols]) =
        (&head.data, head.shape.as_slice())
    else {
        return;
    };
    let wanted = match options.head_scan {
        HeadScan::Auto => rows >= SCAN_ROWS && options.layout != Layout::I2S,
        HeadScan::Int8 => true,
        HeadScan::None => false,
    };
    let float = matches!(head.ty, TensorType::F32 | TensorType::F16 | TensorType::Bf16);
    if wanted && float {
        let (view, head) = (view.clone(), head.ty);
        let scan = |part| Data::Scan(Scan { view: view.clone(), head, part });
        let codes = (SCAN[0], TensorType::I8, vec![rows, cols], scan(Part::Codes));
        let bounds = (SCAN[1], TensorType::F32, vec![rows, 3], scan(Part::Bounds));
        for (name, ty, shape, data) in [codes, bounds] {
            tensors.push(Planned { name: name.to_owned(), ty, shape, data });
        }
    }
}

/// The tensors of the coarse copy of a head.
pub(crate) const SCAN: [&str; 2] = ["output_scan.weight", "output_scan.bounds"];

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
