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
    /// Makes the columns of a ternary matrix the rows of a tensor of this name.
    pub(crate) fn transpose(&mut self, name: String) {
        let data = std::mem::replace(&mut self.data, Data::Values(Vec::new()));
        self.data = match data {
            Data::Ternary(ternary) => {
                self.name = name;
                self.ty = TensorType::I2R;
                self.shape.reverse();
                Data::Transposed(ternary)
            }
            other => other,
        };
    }
}

/// Where a tensor's weights come from.
pub(crate) enum Data<'a> {
    Ternary(Ternary<'a>),
    /// A ternary matrix whose columns are stored as rows.
    Transposed(Ternary<'a>),
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
        matches!(self, Data::Ternary(_) | Data::Transposed(_))
    }

    /// The bytes of the source.
    pub(crate) fn source(&self) -> &'a [u8] {
        match self {
            Data::Ternary(ternary) | Data::Transposed(ternary) => match &ternary.encoding {
                Encoding::Packed { view, .. } | Encoding::Plain { view, .. } => view.bytes,
                Encoding::Master { view } | Encoding::Dense { view } => view.bytes,
                Encoding::Gguf { bytes, .. } | Encoding::Transposed { bytes, .. } => bytes,
            },
            Data::Dense(dense) => dense.view.bytes,
            Data::Blocks(bytes) => bytes,
            Data::Values(_) => &[],
            Data::Scan(scan) => scan.view.bytes,
        }
    }
}
