//! The errors of conversions.

use std::io;
use std::path::PathBuf;

use trilobite_format::TensorType;

/// Why a checkpoint could not be converted. Each message names the file and the tensor or key,
/// with what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The progress listener stopped the conversion.
    #[error("interrupted")]
    Interrupted,

    /// The worker threads could not be started.
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
    /// A source file is a symbolic link to nothing.
    #[error(
        "{} is a symbolic link to {}, which does not exist", path.display(), target.display()
    )]
    BrokenLink {
        /// The link.
        path: PathBuf,
        /// The path in it.
        target: PathBuf,
    },
    /// A source file is a Git LFS pointer: a text that stands for the real file in a repository.
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
    /// The weights are in PyTorch's own format.
    #[error(
        "{path}: the weights are in {file}, which is not read, because such a file can run any \
         program: save them as safetensors, as `save_pretrained` of transformers does"
    )]
    Pickled {
        /// The checkpoint.
        path: String,
        /// The file.
        file: String,
    },
    /// A JSON file is malformed.
    #[error("{file}")]
    Json {
        /// The file.
        file: String,
        /// The cause, with line and column.
        source: serde_json::Error,
    },
    /// A key of a JSON or GGUF file has an invalid value.
    #[error("{file}: `{key}` is {found}, expected {expected}")]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The accepted values.
        expected: String,
        /// The value, or `missing`.
        found: String,
    },
    /// The configuration uses a feature that Trilobite does not have.
    #[error("{file}: {what} is not supported")]
    Unsupported {
        /// The file.
        file: String,
        /// Key and value.
        what: String,
    },
    /// A dense projection in a checkpoint that is not declared a BitNet model.
    #[error("{file}: nothing says that the dense tensor {tensor} ({dtype}) holds BitNet weights")]
    Dense {
        /// The configuration file.
        file: String,
        /// The first dense projection.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// A GGUF file is malformed.
    #[error("{file}")]
    Gguf {
        /// The file.
        file: String,
        /// The cause.
        source: trilobite_format::Error,
    },
    /// A safetensors file has a malformed header.
    #[error("{file} is not a valid safetensors file: {why}")]
    Safetensors {
        /// The file.
        file: String,
        /// The cause.
        why: String,
    },
    /// A file is shorter than its header states.
    #[error("{file} is truncated: tensor {tensor} ends at byte {needed}, the file has {found}")]
    Truncated {
        /// The file.
        file: String,
        /// The first incomplete tensor.
        tensor: String,
        /// The byte at which it ends.
        needed: u64,
        /// Length of the file.
        found: u64,
    },
    /// The index and the shards disagree.
    #[error("{index}: tensor {tensor} {why}")]
    Index {
        /// The index file.
        index: String,
        /// The tensor.
        tensor: String,
        /// The difference, naming the shard.
        why: String,
    },
    /// A tensor that the configuration requires is absent.
    #[error("{file}: tensor {tensor} is missing")]
    Missing {
        /// The file, or the index of the shards.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// The names of tensors have a prefix that is not that of a model with a head.
    #[error(
        "{file}: the names of tensors begin with {prefix:?}, as in {tensor}; expected names without it"
    )]
    Prefix {
        /// The file, or the index of the shards.
        file: String,
        /// The prefix.
        prefix: String,
        /// A tensor.
        tensor: String,
    },
    /// A tensor that the architecture does not have.
    #[error("{file}: unexpected tensor {tensor}")]
    Unexpected {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape than the configuration implies.
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
    /// A tensor has a type that its role does not allow.
    #[error("{file}: tensor {tensor} has type {found}, expected {expected}")]
    Dtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The allowed types.
        expected: String,
        /// The type in the file.
        found: String,
    },
    /// A scale is not a positive finite number, and the weights are not all zero.
    #[error("{file}: scale {tensor} is {found}, expected a positive finite number")]
    Scale {
        /// The file.
        file: String,
        /// The tensor that holds the scale.
        tensor: String,
        /// The value.
        found: f32,
    },
    /// A weight is NaN or infinite.
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
    /// A bias exceeds the range of F32 when it is multiplied by the scale of its weights.
    #[error(
        "{file}: tensor {tensor} holds {found} at element {element}, which times weight_scale {factor} \
         is beyond the range of F32"
    )]
    Bias {
        /// The file.
        file: String,
        /// The bias.
        tensor: String,
        /// Flat index of the element.
        element: u64,
        /// The element.
        found: f32,
        /// The scale.
        factor: f32,
    },
    /// A file that another one names is missing.
    #[error("{by} names {file}, which is missing")]
    NoFile {
        /// The missing file.
        file: String,
        /// The file that names it.
        by: String,
    },
    /// A ternary tensor contains a code that represents no weight.
    #[error(
        "{file}: tensor {tensor} has a code that stands for no weight at row {row}, column {col}"
    )]
    InvalidCode {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Row of the code.
        row: u64,
        /// Its column.
        col: u64,
    },
    /// A weight of a ternary tensor is not -1, 0 or 1.
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
        /// The weight.
        found: f32,
    },
    /// The model has tied weights, but its head differs from its embedding.
    #[error("{file}: {tensor} differs from the embedding, but the model says that they are tied")]
    Untied {
        /// The file.
        file: String,
        /// The head.
        tensor: String,
    },
    /// The chosen type cannot represent a weight of the head.
    #[error("tensor {tensor} cannot be stored as {ty}: {why}")]
    Head {
        /// The tensor.
        tensor: String,
        /// The chosen type.
        ty: TensorType,
        /// The cause.
        why: String,
    },
    /// The chosen layout cannot hold a shape.
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
    /// A dense type was chosen for a ternary model.
    #[error("the model is ternary: its matrices cannot be stored as {0}")]
    TypeOfTernary(&'static str),
    /// A ternary layout was chosen for a dense model.
    #[error("the model is dense: its matrices cannot be stored in the layout {0}")]
    LayoutOfDense(&'static str),
    /// An option has no such value.
    #[error("there is no {what} {found:?}; there are {known}")]
    Choice {
        /// The option, in words.
        what: &'static str,
        /// The value.
        found: String,
        /// The valid values.
        known: String,
    },
    /// A type was chosen for a matrix that is already quantised in blocks.
    #[error("tensor {tensor} is {found}; only F32, F16 and BF16 are stored as {asked}")]
    Quantised {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: TensorType,
        /// The chosen type.
        asked: TensorType,
    },
    /// The layout `sparse` was chosen for a model without squared ReLU.
    #[error("the layout `sparse` is for squared ReLU, which the architecture {architecture} lacks")]
    Sparse {
        /// The architecture.
        architecture: &'static str,
    },
    /// The metadata describe a model that cannot be run.
    #[error("the model cannot be run")]
    Unrunnable {
        /// The cause.
        source: trilobite_format::Error,
    },
    /// The written metadata do not describe the model. This is a defect of this program.
    #[error("the metadata of the output do not describe the model")]
    Undescribed,
    /// The head is missing, and the model does not use the embedding as its head.
    #[error(
        "{file}: tensor {tensor} is missing, and config.json does not say that the head is the \
         embedding (`tie_word_embeddings`)"
    )]
    NoHead {
        /// The file, or the index of the shards.
        file: String,
        /// The head.
        tensor: String,
    },
    /// The output already exists.
    #[error("{} exists", .0.display())]
    Exists(PathBuf),
    /// The output path is not writable.
    #[error("cannot write to {}: {why}", path.display())]
    OutputPath {
        /// The path.
        path: PathBuf,
        /// The cause.
        why: &'static str,
    },
    /// [`convert_file`](crate::convert_file) failed to write the output.
    #[error("cannot write {}", path.display())]
    Output {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// [`convert`](crate::convert) failed to write the output.
    #[error("cannot write the output: {0}")]
    Write(trilobite_format::Error),
    /// Packed trits do not unpack to the originals. This is a defect of this program or of the
    /// machine.
    #[error("{file}: tensor {tensor} changed when it was packed")]
    Changed {
        /// The source file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A group of an MLX matrix whose weights are not multiples of its scale.
    #[error(
        "{file}: group {element} of {tensor} has the scale {scale} and the bias {bias}, expected a \
         scale that F16 can hold and its negative"
    )]
    Affine {
        /// The source file.
        file: String,
        /// The tensor with the scales.
        tensor: String,
        /// Index of the group.
        element: usize,
        /// Its scale.
        scale: f32,
        /// Its bias.
        bias: f32,
    },
    /// A malformed tensor of outliers.
    #[error(
        "{file}: outlier {entry} of {tensor} is not finite, outside the matrix or out of order"
    )]
    Outlier {
        /// The source file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Index of the outlier.
        entry: usize,
    },
    /// The written file cannot be read back, for example because memory is short.
    #[error("{} cannot be verified: it cannot be read back", path.display())]
    ReadBack {
        /// The output path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The written file differs from the source.
    #[error("verification failed: {what} of {} differs from the source", path.display())]
    Verify {
        /// The output path.
        path: PathBuf,
        /// The tensor, or the file's hash.
        what: String,
    },
}
