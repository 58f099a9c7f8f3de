//! The buffers of a thread, and its count of what sparsity skips.

use trilobite_kernels::{ColumnOrder, NarrowCodes, SplitCodes, WideCodes, Workspace};

/// The buffers of one thread.
pub(crate) struct Scratch {
    pub(crate) sums: Vec<i32>,
    pub(crate) floats: Vec<f32>,
    /// The activations of one token.
    pub(crate) row: Vec<f32>,
    /// The rows that are not skipped.
    pub(crate) rows: Vec<u32>,
    pub(crate) workspace: Workspace,
    /// The inputs of one expert.
    pub(crate) gathered: Gathered,
    pub(crate) live: Live,
}

impl Scratch {
    /// Allocates buffers for decoding: `len` outputs of a product, or the attention of one token.
    /// Pages that are not written to take no memory.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            sums: Vec::with_capacity(len),
            floats: Vec::with_capacity(len),
            row: Vec::with_capacity(len),
            rows: Vec::with_capacity(len),
            workspace: Workspace::with_capacity(1, len),
            gathered: Gathered::default(),
            live: Live::default(),
        }
    }

    /// Returns the counts since the last call.
    pub(crate) fn take_live(&mut self) -> Live {
        std::mem::take(&mut self.live)
    }
}

/// Codes that are split into bytes, for each order of columns.
pub(crate) type AllSplitCodes = [SplitCodes; ColumnOrder::ALL.len()];

/// The inputs of one expert.
#[derive(Default)]
pub(crate) struct Gathered {
    /// `[tokens][cols]`
    pub(crate) floats: Vec<f32>,
    pub(crate) wide: WideCodes,
    pub(crate) narrow: NarrowCodes,
    pub(crate) split: AllSplitCodes,
}

/// Rows and columns read of the projections that sparsity can skip. Only small batches are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Rows read of the up projections.
    pub rows: u64,
    /// Total rows of these projections.
    pub of_rows: u64,
    /// Columns read of the down projections.
    pub columns: u64,
    /// Total columns of these projections.
    pub of_columns: u64,
}

impl std::ops::AddAssign for Live {
    fn add_assign(&mut self, other: Live) {
        self.rows += other.rows;
        self.of_rows += other.of_rows;
        self.columns += other.columns;
        self.of_columns += other.of_columns;
    }
}

impl Live {
    /// The fraction of the rows that was read, or `None` if there are none.
    pub fn row_fraction(&self) -> Option<f64> {
        (self.of_rows > 0).then(|| self.rows as f64 / self.of_rows as f64)
    }

    /// The fraction of the columns that was read, or `None` if there are none.
    pub fn column_fraction(&self) -> Option<f64> {
        (self.of_columns > 0).then(|| self.columns as f64 / self.of_columns as f64)
    }
}

/// The first `len` elements of a buffer, which grows if necessary.
pub(crate) fn grown<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}
