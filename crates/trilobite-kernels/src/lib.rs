//! Exact ternary matrix kernels and dense dot products with run-time dispatch.
//!
//! ```
//! use trilobite_kernels::{Codes, Kernels, Layout, TernaryMatrix, Workspace, i2_s};
//!
//! // Two rows of three weights, and one token of three activations.
//! let layout = Layout::I2S(i2_s::Rows::Padded);
//! let mut packed = vec![0; layout.packed_len(2, 3).unwrap()];
//! layout.pack(&[1, 0, -1, 1, 1, 1], 3, &mut packed);
//! let matrix = TernaryMatrix::new(layout, &packed, 2, 3).unwrap();
//!
//! let kernels = Kernels::detect()?;
//! let mut codes = Codes::new(1, 3);
//! codes.reset(1, 3);
//! for row in codes.rows_mut() {
//!     (*row.scale, *row.sum) = kernels.quantize_row(&[0.5, 0.0, -1.0], row.codes);
//! }
//!
//! let mut out = [0; 2];
//! kernels.ternary_gemm(&matrix, 0..2, &codes, &mut Workspace::default(), &mut out);
//! assert_eq!(out, [64 + 127, 64 - 127]);
//! # Ok::<(), trilobite_kernels::Error>(())
//! ```

#[cfg(feature = "c-kernels")]
mod c;
mod codes;
mod dense;
mod error;
mod float;
pub mod i2_s;
mod kernels;
pub mod kv;
mod layout;
#[cfg(target_arch = "x86_64")]
mod lookup;
mod packing;
#[cfg(target_arch = "x86_64")]
mod processor;
mod product;
pub mod scan;
mod simd;
pub mod source;
mod stream;
pub mod t5_3;
mod workspace;

pub use codes::{Codes, CodesParts, CodesRow};
pub use dense::{
    BlockCodes, CodeGroup, CodeParts, ColumnOrder, DenseMatrix, DenseType, NarrowCodes,
    NarrowGroup, SplitChunk, SplitCodes, SplitForm, SplitParts, WideCodes, WideGroup, pack_tq2_0,
    wide_rest,
};
pub use error::Error;
pub use kernels::{Isa, Kernels, Method};
pub use layout::{Layout, TernaryMatrix};
pub use stream::read_all;
pub use workspace::Workspace;

/// For the tests of this crate; not part of its interface.
#[doc(hidden)]
pub mod internals {
    #[cfg(feature = "c-kernels")]
    pub use crate::c::portable::multiply_add;
    pub use crate::float::exp::exp;
    pub use crate::kernels::{SCALAR_FINGERPRINT, choose, detected, faulty, fingerprint, passing};
}
