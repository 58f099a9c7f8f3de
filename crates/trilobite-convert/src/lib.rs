#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod blocks;
mod dense;
mod error;
mod file;
mod gguf;
mod grouped;
mod hf;
mod layouts;
mod model;
mod new_file;
mod options;
mod plan;
mod rows;
mod scan;
mod source;
mod stack;
#[cfg(test)]
mod testing;
mod trits;
mod verify;
mod words;
mod write;

pub use error::Error;
pub use file::{IS_SOURCE, convert_file};
pub use hf::{CheckpointTensor, checkpoint_tensors};
pub use layouts::Layouts;
pub use new_file::NewFile;
pub use options::{
    Head, HeadScan, Layout, Options, Progress, Quantize, Report, Stage, Type, TypeTotal,
    ignore_progress,
};
pub use source::Checkpoint;
pub use write::{convert, is_converted, layouts, start_threads};

/// The version of the conversion. It changes whenever the same checkpoint could give a different
/// file.
pub const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("TRILOBITE_CONVERT_SOURCES"));
