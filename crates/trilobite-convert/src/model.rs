//! What is written, whatever the source.

use trilobite_format::model::Hyperparameters;
use trilobite_format::{Metadata, TensorType};

use crate::dense::Dense;
use crate::scan::Scan;
use crate::source::SourceFile;
use crate::trits::{Encoding, Ternary};

/// A file to write: everything but the weights themselves.
pub(crate) struct Plan<'a> {
    /// What `metadata` says about the model.
    pub(crate) model: Hyperparameters,
    /// The files of the source.
    pub(crate) files: &'a [SourceFile],
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<Planned<'a>>,
    pub(crate) notes: Vec<String>,
}

/// A tensor to write.
pub(crate) struct Planned<'a> {
    pub(crate) name: String,
    pub(crate) ty: TensorType,
    /// Outermost dimension first.
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Data<'a>,
}

impl Planned<'_> {
    /// Makes the columns of a ternary matrix the rows of the tensor.
    pub(crate) fn transpose(&mut self) {
        self.name = TensorType::transposed(&self.name);
        self.ty = TensorType::I2T;
        self.shape.reverse();
    }
}

/// Where a tensor's weights come from.
pub(crate) enum Data<'a> {
    Ternary(Ternary<'a>),
    Dense(Dense<'a>),
    /// Blocks of a quantised type, passed on as they are.
    Blocks(&'a [u8]),
    /// Computed values, as F32.
    Values(Vec<f32>),
    /// A part of the coarse copy of the head.
    Scan(Scan<'a>),
}

impl<'a> Data<'a> {
    /// Whether these are trits, and not what is multiplied as a dense matrix.
    pub(crate) fn is_ternary(&self) -> bool {
        matches!(self, Data::Ternary(_))
    }

    /// The bytes of the source.
    pub(crate) fn source(&self) -> &'a [u8] {
        match self {
            Data::Ternary(ternary) => match &ternary.encoding {
                Encoding::Packed { view, .. } | Encoding::Plain { view, .. } => view.bytes,
                Encoding::Master { view } | Encoding::Dense { view } => view.bytes,
                Encoding::Gguf { bytes, .. } => bytes,
            },
            Data::Dense(dense) => dense.view.bytes,
            Data::Blocks(bytes) => bytes,
            Data::Values(_) => &[],
            Data::Scan(scan) => scan.view.bytes,
        }
    }
}
