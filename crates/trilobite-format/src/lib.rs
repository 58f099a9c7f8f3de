#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod file;
mod header;
pub mod keys;
mod metadata;
pub mod model;
mod one_scale;
mod outliers;
mod reader;
mod split;
mod tensor_type;
pub mod ternary;
#[cfg(test)]
mod tests;
mod value;
mod writer;

pub use error::Error;
pub use file::{open_regular, read_regular};
pub use header::{DEFAULT_ALIGNMENT, LFS_POINTER, MAGIC, VERSION};
pub use metadata::Metadata;
pub use outliers::Outlier;
pub use reader::{Gguf, TensorInfo};
pub use split::Split;
pub use tensor_type::TensorType;
pub use value::{Array, Value};
pub use writer::Writer;
