//! Scratch memory for products.

use crate::dense::low_bit::LowBitBuffers;
use crate::dense::{BlockBuffers, FloatBuffer};
use crate::i2_s::transposed::ColumnList;

/// Buffers for multiplication with many tokens, for each instruction set that has a kernel for it.
#[derive(Debug, Default)]
pub(crate) struct ManyBuffers {
    #[cfg(target_arch = "x86_64")]
    pub(crate) lookup: crate::lookup::LookupBuffers,
    #[cfg(target_arch = "x86_64")]
    pub(crate) panels: crate::i2_s::panels::PanelBuffers,
    #[cfg(feature = "c-kernels")]
    pub(crate) c: crate::i2_s::c::PortableBuffers,
}

/// Buffers for the intermediate data of products: repacked rows, tables, lists of columns, widened
/// weights. Every thread has its own and reuses it, because fresh memory for every product would
/// cost time.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Rows repacked to another layout.
    pub(crate) repacked: Vec<u8>,
    pub(crate) many: ManyBuffers,
    pub(crate) columns: ColumnList,
    pub(crate) floats: FloatBuffer,
    pub(crate) blocks: BlockBuffers,
    pub(crate) low_bit: LowBitBuffers,
}

impl Workspace {
    /// Creates a workspace in which products of up to `tokens` tokens with
    /// [`Layout::I2T`](crate::Layout::I2T) matrices of up to `width` rows and columns allocate
    /// nothing. Pages that are never written take no physical memory.
    pub fn with_capacity(tokens: usize, width: usize) -> Workspace {
        Workspace { columns: ColumnList::with_capacity(tokens, width), ..Workspace::default() }
    }
}
