//! Dense tensors: checked, converted where their type changes, passed on in pieces.

use half::{bf16, f16};
use rayon::prelude::*;
use trilobite_format::TensorType;

use crate::Error;
use crate::model::{Dense, source_row};

/// Bytes that are passed on at once.
pub(crate) const PIECE: usize = 4 << 20;

impl Dense<'_> {
    /// Passes the bytes of the tensor as type `ty` to `sink`, in order.
    ///
    /// `name` is the tensor's name in the output, for errors.
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
        let row_bytes = ty.byte_len(&[cols as u64]).unwrap_or(0) as usize;
        let group = (PIECE / row_bytes.max(1)).clamp(1, rows.max(1));
        let mut out = vec![0; group * row_bytes];
        for first in (0..rows).step_by(group) {
            let last = (first + group).min(rows);
            let piece = out.get_mut(..(last - first) * row_bytes).unwrap_or_default();
            let failed = piece
                .par_chunks_mut(row_bytes)
                .enumerate()
                .map_init(Vec::new, |wide, (i, out)| {
                    let row = source_row(first + i, self.head_dim);
                    self.view.widen(row * cols..(row + 1) * cols, wide);
                    encode(ty, wide, out)
                })
                .find_map_first(Result::err);
            if let Some(value) = failed {
                return Err(beyond_range(name, ty, value));
            }
            sink(piece)?;
        }
        Ok(())
    }
}

/// A weight cannot be stored in a type.
pub(crate) fn beyond_range(name: &str, ty: TensorType, value: f32) -> Error {
    let why = format!("it holds {value}, beyond the range");
    Error::Head { tensor: name.to_owned(), ty, why }
}

/// Encodes a row, or returns a value that the type cannot hold.
pub(crate) fn encode(ty: TensorType, row: &[f32], out: &mut [u8]) -> Result<(), f32> {
    match ty {
        TensorType::F16 => {
            for (out, &x) in out.as_chunks_mut().0.iter_mut().zip(row) {
                let rounded = f16::from_f32(x);
                if rounded.is_infinite() {
                    return Err(x);
                }
                *out = rounded.to_le_bytes();
            }
        }
        TensorType::Bf16 => {
            for (out, &x) in out.as_chunks_mut().0.iter_mut().zip(row) {
                let rounded = bf16::from_f32(x);
                if rounded.is_infinite() {
                    return Err(x);
                }
                *out = rounded.to_le_bytes();
            }
        }
        TensorType::Q8_0 => {
            for (out, block) in out.as_chunks_mut::<34>().0.iter_mut().zip(row.as_chunks::<32>().0)
            {
                q8_0(block, out)?;
            }
        }
        _ => {
            for (out, &x) in out.as_chunks_mut().0.iter_mut().zip(row) {
                *out = x.to_le_bytes();
            }
        }
    }
    Ok(())
}

/// A Q8_0 block as ggml's reference writes it: the scale is the largest magnitude divided by 127,
/// stored as F16, while the codes are rounded with the scale before that.
fn q8_0(block: &[f32; 32], out: &mut [u8; 34]) -> Result<(), f32> {
    let largest = block.iter().fold(0f32, |max, x| max.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let stored = f16::from_f32(scale);
    if stored.is_infinite() {
        return Err(largest);
    }
    let (head, codes) = out.split_at_mut(2);
    head.copy_from_slice(&stored.to_le_bytes());
    for (code, x) in codes.iter_mut().zip(block) {
        *code = (x * inverse).round() as i8 as u8;
    }
    Ok(())
}
