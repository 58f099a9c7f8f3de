#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod file;
pub mod keys;
mod metadata;
pub mod model;
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
pub use metadata::Metadata;
pub use outliers::Outlier;
pub use reader::{Gguf, TensorInfo};
pub use split::Split;
pub use tensor_type::TensorType;
pub use value::{Array, Value};
pub use writer::Writer;

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// The first bytes of a Git LFS pointer: the text that a repository cloned without LFS holds in
/// place of each large file.
pub const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The container version that [`Writer`] writes.
pub const VERSION: u32 = 3;

/// Alignment of tensor data where `general.alignment` does not say otherwise.
pub const DEFAULT_ALIGNMENT: u64 = 32;
