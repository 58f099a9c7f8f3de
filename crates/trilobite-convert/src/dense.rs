//! Dense tensors: validated, converted to another type if needed, and written in pieces.

use rayon::prelude::*;
use trilobite_format::TensorType;
use trilobite_kernels::DenseType;

use crate::Error;
use crate::rows::source_row;
use crate::source::View;

/// Maximum bytes in a piece.
pub(crate) const PIECE: usize = 4 << 20;

/// Dense weights. With a `head_dim` the rows are reordered: see [`source_row`].
pub(crate) struct Dense<'a> {
    pub(crate) view: View<'a>,
    pub(crate) head_dim: Option<usize>,
}

impl Dense<'_> {
    /// Passes the bytes of the tensor as type `ty` to `sink`, in order. `name` is the tensor's name
    /// in the output, for errors.
    pub(crate) fn stream(
        &self,
        name: &str,
        ty: TensorType,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.view.require_finite()?;
        if self.view.dtype.float_type() == Some(ty) && self.head_dim.is_none() {
            return self.view.bytes.chunks(PIECE).try_for_each(sink);
        }
        let cols = self.view.cols();
        let rows = self.view.count() / cols;
        let row_bytes =
            ty.byte_len(&[cols as u64]).expect("rows are whole blocks of their type") as usize;
        pieces(rows, row_bytes, |first, piece| {
            let failed = piece
                .par_chunks_mut(row_bytes)
                .enumerate()
                .map_init(Vec::new, |wide, (i, out)| {
                    let row = source_row(first + i, self.head_dim);
                    self.view.widen(row * cols..(row + 1) * cols, wide);
                    encode(ty, wide, out)
                })
                .find_map_first(Result::err);
            match failed {
                Some(value) => Err(beyond_range(name, ty, value)),
                None => sink(piece),
            }
        })
    }
}

/// Passes the index of the first row and a buffer for each piece of a matrix to `fill`, in order.
pub(crate) fn pieces(
    rows: usize,
    row_bytes: usize,
    mut fill: impl FnMut(usize, &mut [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let group = (PIECE / row_bytes.max(1)).clamp(1, rows.max(1));
    let mut out = vec![0; group * row_bytes];
    (0..rows).step_by(group).try_for_each(|first| {
        let last = (first + group).min(rows);
        fill(first, &mut out[..(last - first) * row_bytes])
    })
}

/// The error for a weight that the type cannot represent.
pub(crate) fn beyond_range(name: &str, ty: TensorType, value: f32) -> Error {
    let why = format!("it holds {value}, beyond the range");
    Error::Head { tensor: name.to_owned(), ty, why }
}

/// Encodes a row. The error is a value that the type cannot represent.
pub(crate) fn encode(ty: TensorType, row: &[f32], out: &mut [u8]) -> Result<(), f32> {
    let ty = match ty {
        TensorType::F16 => DenseType::F16,
        TensorType::Bf16 => DenseType::BF16,
        TensorType::Q8_0 => DenseType::Q8_0,
        TensorType::Q4_0 => DenseType::Q4_0,
        _ => DenseType::F32,
    };
    ty.pack_row(row, out)
}
