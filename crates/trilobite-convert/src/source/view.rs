//! Dense tensors in source files.

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;
use trilobite_format::TensorType;
use trilobite_kernels::source::Element;

use crate::Error;

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    F16,
    Bf16,
    U8,
    I8,
    /// A type that is not supported for weights, with its name and element size.
    Other(&'static str, usize),
}

impl Dtype {
    pub(crate) fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::U8 | Dtype::I8 => 1,
            Dtype::Other(_, size) => size,
        }
    }

    /// The elements as the kernels read them, for supported types.
    fn element(self) -> Option<Element> {
        match self {
            Dtype::F32 => Some(Element::F32),
            Dtype::F16 => Some(Element::F16),
            Dtype::Bf16 => Some(Element::Bf16),
            Dtype::U8 => Some(Element::U8),
            Dtype::I8 => Some(Element::I8),
            Dtype::Other(..) => None,
        }
    }

    /// The GGUF type with the same elements, for float types.
    pub(crate) fn float_type(self) -> Option<TensorType> {
        match self {
            Dtype::F32 => Some(TensorType::F32),
            Dtype::F16 => Some(TensorType::F16),
            Dtype::Bf16 => Some(TensorType::Bf16),
            Dtype::U8 | Dtype::I8 | Dtype::Other(..) => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::U8 => "U8",
            Dtype::I8 => "I8",
            Dtype::Other(name, _) => name,
        })
    }
}

/// A tensor in a file. `bytes` holds exactly `shape` elements of `dtype`.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub(crate) file: &'a str,
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: &'a [u8],
}

impl View<'_> {
    pub(crate) fn count(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Row length: the last dimension, or 1 for a scalar.
    pub(crate) fn cols(&self) -> usize {
        self.shape.last().map_or(1, |&n| n as usize)
    }

    /// Converts the elements of `range` to f32 exactly, into `out`.
    pub(crate) fn widen(&self, range: Range<usize>, out: &mut Vec<f32>) {
        let size = self.dtype.size();
        let bytes = &self.bytes[range.start * size..range.end * size];
        match self.dtype.element() {
            Some(element) => element.widen(bytes, out),
            None => out.clear(),
        }
    }

    /// All elements as f32.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.count());
        self.widen(0..self.count(), &mut values);
        values
    }

    /// Checks that no element is NaN or infinite.
    pub(crate) fn require_finite(&self) -> Result<(), Error> {
        const PIECE: usize = 1 << 20;
        let bad = self.bytes.par_chunks(PIECE).enumerate().find_map_first(|(i, piece)| {
            let at = self.dtype.element()?.first_not_finite(piece)?;
            Some(i * (PIECE / self.dtype.size()) + at)
        });
        match bad {
            None => Ok(()),
            Some(element) => {
                let mut found = Vec::new();
                self.widen(element..element + 1, &mut found);
                Err(Error::NotFinite {
                    file: self.file.to_owned(),
                    tensor: self.name.clone(),
                    element: element as u64,
                    found: found[0],
                })
            }
        }
    }

    pub(crate) fn dtype_error(&self, expected: &str) -> Error {
        Error::Dtype {
            file: self.file.to_owned(),
            tensor: self.name.clone(),
            expected: expected.to_owned(),
            found: self.dtype.to_string(),
        }
    }
}
