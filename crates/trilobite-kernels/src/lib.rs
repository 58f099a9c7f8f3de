//! Exact ternary matrix kernels and dense dot products with run-time dispatch.
//!
//! ```
//! use trilobite_kernels::{Codes, Kernels, Layout, i2_s};
//!
//! // Two rows of three weights, and one token of three activations.
//! let layout = i2_s::Rows::Padded;
//! let mut packed = vec![0; i2_s::packed_len(2, 3, layout).unwrap()];
//! i2_s::pack(&[1, 0, -1, 1, 1, 1], 3, layout, &mut packed);
//!
//! let kernels = Kernels::detect()?;
//! let mut codes = Codes::new(1, 3);
//! codes.reset(1, 3);
//! for row in codes.rows_mut() {
//!     (*row.scale, *row.sum) = kernels.quantize_row(&[0.5, 0.0, -1.0], row.codes);
//! }
//!
//! let mut out = [0; 2];
//! kernels.ternary_gemm(Layout::I2S(layout), &packed, 3, 0..2, &codes, 0..1, &mut out);
//! assert_eq!(out, [64 + 127, 64 - 127]);
//! # Ok::<(), trilobite_kernels::Error>(())
//! ```

#![allow(clippy::too_many_arguments, reason = "shapes and slices are plainer than structs of them")]

#[cfg(feature = "c-kernels")]
mod c;
mod codes;
mod dense;
mod error;
mod float;
pub mod i2_s;
mod kernels;
pub mod kv;
#[cfg(test)]
mod random;
#[cfg(test)]
mod reference;
pub mod scan;
pub mod t5_3;

pub use codes::{Codes, CodesParts, CodesRow};
pub use dense::{DenseType, WideCodes, WideGroup, WideParts};
pub use error::Error;
pub use i2_s::transposed::ColumnList;
pub use kernels::{Isa, Kernels, Layout, Method};
