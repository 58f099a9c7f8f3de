//! The plan of an output file, independent of the kind of source.

use trilobite_format::model::Hyperparameters;
use trilobite_format::{Metadata, TensorType};

use crate::dense::Dense;
use crate::grouped::{Grouped, Mlx};
use crate::scan::Scan;
use crate::source::SourceFile;
use crate::stack::{Matrix, Stack};
use crate::trits::{Encoding, Ternary};

/// The plan of a file: everything except the weights themselves.
pub(crate) struct Plan<'a> {
    /// The hyperparameters that `metadata` describe.
    pub(crate) model: Hyperparameters,
    /// The files of the source.
    pub(crate) files: &'a [SourceFile],
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<Planned<'a>>,
    pub(crate) notes: Vec<String>,
}

/// A tensor of the plan.
pub(crate) struct Planned<'a> {
    pub(crate) name: String,
    pub(crate) ty: TensorType,
    /// The shape, outermost dimension first.
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Data<'a>,
}

impl Planned<'_> {
    /// Stores the transpose of a ternary matrix.
    pub(crate) fn transpose(&mut self) {
        self.name = TensorType::transposed(&self.name);
        self.ty = TensorType::I2T;
        self.shape.reverse();
    }
}

/// The source of a tensor's weights.
pub(crate) enum Data<'a> {
    Ternary(Ternary<'a>),
    Dense(Dense<'a>),
    Stack(Stack<'a>),
    /// Blocks of a quantised type, copied unchanged.
    Blocks(&'a [u8]),
    /// A matrix with a scale for each group of columns.
    Grouped(Grouped<'a>),
    /// A matrix of MLX.
    Mlx(Mlx<'a>),
    /// Computed bytes.
    Bytes(Vec<u8>),
    /// Computed values, as F32.
    Values(Vec<f32>),
    /// A part of the coarse copy of the head.
    Scan(Scan<'a>),
}

impl<'a> Data<'a> {
    /// Whether the weights are trits, as opposed to a dense matrix.
    pub(crate) fn is_ternary(&self) -> bool {
        matches!(self, Data::Ternary(_))
    }

    /// The bytes in the source, in one or more places.
    pub(crate) fn sources(&self) -> Vec<&'a [u8]> {
        match self {
            Data::Stack(stack) => stack.matrices.iter().flat_map(Matrix::sources).collect(),
            _ => vec![self.source()],
        }
    }

    fn source(&self) -> &'a [u8] {
        match self {
            Data::Ternary(ternary) => match &ternary.encoding {
                Encoding::Packed { view, .. } | Encoding::Plain { view, .. } => view.bytes,
                Encoding::Master { view } | Encoding::Dense { view } => view.bytes,
                Encoding::Gguf { bytes, .. } => bytes,
            },
            Data::Dense(dense) => dense.view.bytes,
            Data::Blocks(bytes) => bytes,
            Data::Grouped(grouped) => grouped.view.bytes,
            Data::Mlx(mlx) => mlx.words.bytes,
            Data::Values(_) | Data::Bytes(_) | Data::Stack(_) => &[],
            Data::Scan(scan) => scan.view.bytes,
        }
    }
}
