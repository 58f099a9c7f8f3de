//! Everything that can stop a conversion.

use std::io;
use std::path::PathBuf;

use trilobite_format::TensorType;

use crate::options::{Layout, Type};

/// Why a checkpoint could not be converted. Each message names the file and the tensor or key,
/// with what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The listener asked to stop.
    #[error("interrupted")]
    Interrupted,

    /// The threads that convert could not be started.
    #[error("cannot start threads")]
    Threads(#[source] io::Error),
    /// A source file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A source file is the text that stands for it in a Git repository.
    #[error("{} is a Git LFS pointer, not the file itself; `git lfs pull` fetches that", .0.display())]
    LfsPointer(PathBuf),
    /// The source is neither a checkpoint folder nor a GGUF file.
    #[error("{path} is not a checkpoint: {why}")]
    NotACheckpoint {
        /// The source.
        path: String,
        /// What is missing.
        why: String,
    },
    /// A JSON file that does not parse.
    #[error("{file}")]
    Json {
        /// The file.
        file: String,
        /// The cause, with line and column.
        source: serde_json::Error,
    },
    /// A key of a JSON or GGUF file has a value that does not fit.
    #[error("{file}: `{key}` is {found}, expected {expected}")]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What would do.
        expected: String,
        /// The value, or `missing`.
        found: String,
    },
    /// The configuration asks for something that Trilobite does not compute.
    #[error("{file}: {what} is not supported")]
    Unsupported {
        /// The file.
        file: String,
        /// Key and value.
        what: String,
    },
    /// A dense projection in a checkpoint that does not say that it is a BitNet model.
    #[error("{file}: nothing says that the dense tensor {tensor} ({dtype}) holds BitNet weights")]
    Dense {
        /// The configuration file.
        file: String,
        /// The first dense projection.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// A GGUF file that does not parse.
    #[error("{file}")]
    Gguf {
        /// The file.
        file: String,
        /// The cause.
        source: trilobite_format::Error,
    },
    /// A safetensors file whose header is malformed.
    #[error("{file} is not a valid safetensors file: {why}")]
    Safetensors {
        /// The file.
        file: String,
        /// The cause.
        why: String,
    },
    /// A file that is shorter than its header says.
    #[error("{file} is truncated: tensor {tensor} ends at byte {needed}, the file has {found}")]
    Truncated {
        /// The file.
        file: String,
        /// The first tensor that is not complete.
        tensor: String,
        /// Where it ends.
        needed: u64,
        /// Length of the file.
        found: u64,
    },
    /// The shards and the index that lists them disagree.
    #[error("{index}: tensor {tensor} {why}")]
    Index {
        /// The index file.
        index: String,
        /// The tensor.
        tensor: String,
        /// How they disagree, naming the shard.
        why: String,
    },
    /// A tensor that the configuration asks for is not there.
    #[error("{file}: tensor {tensor} is missing")]
    Missing {
        /// The file, or the index.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A tensor that the architecture has no use for.
    #[error("{file}: unexpected tensor {tensor}")]
    Unexpected {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A tensor of another shape than the configuration asks for.
    #[error("{file}: tensor {tensor} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The shape that the configuration implies.
        expected: Vec<u64>,
        /// The shape in the file.
        found: Vec<u64>,
    },
    /// A tensor of another type than its role asks for.
    #[error("{file}: tensor {tensor} has type {found}, expected {expected}")]
    Dtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What would do.
        expected: String,
        /// The type in the file.
        found: String,
    },
    /// A scale that is not a positive finite number, of a tensor whose weights are not all zero.
    #[error("{file}: scale {tensor} is {found}, expected a positive finite number")]
    Scale {
        /// The file.
        file: String,
        /// The tensor that holds the scale.
        tensor: String,
        /// The value.
        found: f32,
    },
    /// A weight that is NaN or infinite.
    #[error("{file}: tensor {tensor} holds {found} at element {element}")]
    NotFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Flat index of the weight.
        element: u64,
        /// The weight.
        found: f32,
    },
    /// A weight of a ternary tensor that is not -1, 0 or 1.
    #[error(
        "{file}: tensor {tensor} is said to be ternary, but holds {found} at row {row}, column {col}"
    )]
    NotTernary {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Row of the weight.
        row: u64,
        /// Column of the weight.
        col: u64,
        /// The weight, or the code that stands for none.
        found: String,
    },
    /// A tied head that differs from the embedding.
    #[error("{file}: {tensor} differs from the embedding, but the model says that they are tied")]
    Untied {
        /// The file.
        file: String,
        /// The head.
        tensor: String,
    },
    /// A weight that the chosen type of the head cannot hold.
    #[error("tensor {tensor} cannot be stored as {ty}: {why}")]
    Head {
        /// The tensor.
        tensor: String,
        /// The chosen type.
        ty: TensorType,
        /// The cause.
        why: String,
    },
    /// A shape that the chosen layout cannot hold.
    #[error(
        "tensor {tensor} of shape {shape:?} cannot be stored as I2_S, whose weights come in blocks \
         of 128; use the layout `auto`"
    )]
    Layout {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A type of dense matrices for a ternary model.
    #[error("the model is ternary: its matrices cannot be stored as {0}")]
    TypeOfTernary(Type),
    /// A layout of ternary matrices for a dense model.
    #[error("the model is dense: its matrices cannot be stored in the layout {0}")]
    LayoutOfDense(Layout),
    /// A value that an option does not have.
    #[error("there is no {what} {found:?}; there are {known}")]
    Choice {
        /// What is chosen.
        what: &'static str,
        /// The value.
        found: String,
        /// The values that there are.
        known: String,
    },
    /// A matrix whose weights are blocks of a type already.
    #[error("tensor {tensor} is {found}; only F32, F16 and BF16 are stored as {asked}")]
    Quantised {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: TensorType,
        /// The type that was asked for.
        asked: TensorType,
    },
    /// The layout for squared ReLU, for another model.
    #[error("the layout `sparse` is for squared ReLU, which the architecture {architecture} lacks")]
    Sparse {
        /// The architecture.
        architecture: &'static str,
    },
    /// Metadata that a file cannot be run with.
    #[error("the model cannot be run")]
    Unrunnable {
        /// The cause.
        source: trilobite_format::Error,
    },
    /// Metadata that do not say what was meant: a defect of this program.
    #[error("the metadata of the output do not describe the model")]
    Undescribed,
    /// The head is neither there nor the embedding.
    #[error(
        "{file}: tensor {tensor} is missing, and config.json does not say that the head is the \
         embedding (`tie_word_embeddings`)"
    )]
    NoHead {
        /// The file, or the index.
        file: String,
        /// The head.
        tensor: String,
    },
    /// The output exists.
    #[error("{} exists", .0.display())]
    Exists(PathBuf),
    /// The output path cannot be written to.
    #[error("cannot write to {}: {why}", path.display())]
    OutputPath {
        /// The path.
        path: PathBuf,
        /// The cause.
        why: &'static str,
    },
    /// The output could not be written, by [`convert_file`](crate::convert_file).
    #[error("cannot write {}", path.display())]
    Output {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The output could not be written, by [`convert`](crate::convert).
    #[error("cannot write the output: {0}")]
    Write(trilobite_format::Error),
    /// Packed trits that do not unpack to themselves: a defect of this program or of the machine.
    #[error("{file}: tensor {tensor} changed when it was packed")]
    Changed {
        /// The source file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// The written file cannot be read back, for want of memory for example.
    #[error("{} cannot be verified: it cannot be read back", path.display())]
    ReadBack {
        /// The output path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The written file is not what was meant to be written.
    #[error("verification failed: {what} of {} differs from the source", path.display())]
    Verify {
        /// The output path.
        path: PathBuf,
        /// The tensor, or the file's hash.
        what: String,
    },
}
