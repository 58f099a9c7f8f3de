//! The errors of reading and writing GGUF files.

use crate::TensorType;

/// Why a file could not be read or written. Names that come from a file are quoted and escaped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The output could not be written.
    #[error("cannot write GGUF: {0}")]
    Io(#[from] std::io::Error),
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: {}", match found.as_slice() {
        [] => "it is empty".to_owned(),
        found => format!("it starts with {found:02x?}, expected 47 47 55 46 (\"GGUF\")"),
    })]
    Magic {
        /// The bytes at the start of the file (fewer than four when it is shorter).
        found: Vec<u8>,
    },
    /// The file is a Git LFS pointer: a text that stands for the real file in a repository.
    #[error("it is a Git LFS pointer, not the file itself; `git lfs pull` fetches that")]
    LfsPointer,
    /// The file is in big-endian byte order.
    #[error("big-endian GGUF files are not supported; convert it to little-endian")]
    BigEndian,
    /// A container version other than 2 and 3.
    #[error("GGUF version {0} is not supported (2 and 3 are)")]
    Version(u32),
    /// The file ends inside its header.
    #[error("truncated GGUF: {what} at byte {offset} needs {needed} bytes, {available} are left")]
    Truncated {
        /// What was being read.
        what: String,
        /// Where it starts.
        offset: u64,
        /// Minimum number of bytes needed.
        needed: u64,
        /// Bytes that are left in the file.
        available: u64,
    },
    /// A key or tensor name longer than 65,535 bytes, or empty.
    #[error("{what} at byte {offset} has a length of {found}, expected 1 to 65535")]
    NameLength {
        /// What was being read.
        what: String,
        /// Where it starts.
        offset: u64,
        /// Its length in bytes.
        found: u64,
    },
    /// Text that is not UTF-8.
    #[error("{what} at byte {offset} is not UTF-8")]
    Utf8 {
        /// What was being read.
        what: String,
        /// Where the text starts.
        offset: u64,
    },
    /// Two metadata entries of one key.
    #[error("metadata key {0:?} occurs twice")]
    DuplicateKey(String),
    /// A metadata type number that GGUF does not define.
    #[error("metadata key {key:?} has the unknown value type {id}")]
    ValueType {
        /// The metadata key.
        key: String,
        /// The type number in the file.
        id: u32,
    },
    /// An array of arrays.
    #[error("metadata key {0:?} is an array of arrays, which is not supported")]
    NestedArray(String),
    /// A boolean byte other than 0 and 1.
    #[error("metadata key {key:?} holds the byte {found} where a boolean must be 0 or 1")]
    Bool {
        /// The metadata key.
        key: String,
        /// The byte in the file.
        found: u8,
    },
    /// A metadata value of another type than the one asked for.
    #[error("metadata key {key:?} is {found}, expected {expected}")]
    MetadataType {
        /// The metadata key.
        key: String,
        /// The type that the caller asked for.
        expected: &'static str,
        /// The type in the file.
        found: String,
    },
    /// A metadata integer that does not fit the type asked for.
    #[error("metadata key {key:?} is {found}, which does not fit {expected}")]
    MetadataRange {
        /// The metadata key.
        key: String,
        /// The type that the caller asked for.
        expected: &'static str,
        /// The value in the file.
        found: String,
    },
    /// A metadata key that the architecture requires is absent.
    #[error("metadata key {0} is missing")]
    MissingKey(String),
    /// A metadata value outside the range that a model can be run with.
    #[error("metadata key {key} is {found}, expected {expected}")]
    BadValue {
        /// The metadata key.
        key: String,
        /// The accepted values.
        expected: String,
        /// The value in the file.
        found: String,
    },
    /// A key below `{arch}.rope.` that this crate does not know, and that could change what a model
    /// computes.
    #[error("metadata key {0} is not supported")]
    UnknownKey(String),
    /// An architecture that this crate does not know.
    #[error("architecture {found:?} is not supported (supported: {supported})")]
    Architecture {
        /// The value of `general.architecture`.
        found: String,
        /// The known names.
        supported: String,
    },
    /// A divisor of a rotary frequency that is not a positive number.
    #[error("tensor {tensor:?} holds {found} at element {element}, expected a positive number")]
    Divisor {
        /// The tensor.
        tensor: String,
        /// Index of the divisor.
        element: usize,
        /// The divisor.
        found: f32,
    },
    /// `general.alignment` is not a power of two of at least 8.
    #[error("{ALIGNMENT} is {0}, expected a power of two from 8 to 1048576", ALIGNMENT = crate::keys::ALIGNMENT)]
    Alignment(u64),
    /// Two tensors of one name.
    #[error("tensor {0:?} occurs twice")]
    DuplicateTensor(String),
    /// A tensor without dimensions, or with more than four.
    #[error("tensor {tensor:?} has {found} dimensions, expected 1 to 4")]
    Dimensions {
        /// The tensor name.
        tensor: String,
        /// The number of dimensions in the file.
        found: u64,
    },
    /// A tensor type that this crate does not know.
    #[error("tensor {tensor:?} has the unsupported type {id}{}",
        TensorType::foreign_name(*.id).map(|n| format!(" ({n})")).unwrap_or_default())]
    UnknownType {
        /// The tensor name.
        tensor: String,
        /// The type number in the file.
        id: u32,
    },
    /// Tensors of type 42 whose sizes fit none of the three layouts of that number, or several.
    #[error(
        "type 42 of tensor {tensor:?} has three layouts, which only sizes tell apart: it has {} \
         bytes, Q2_0 {}, PQ2_0 {}, STQ1_0 {}",
        or_none(*found), or_none(*q2_0), or_none(*pq2_0), or_none(*stq1_0)
    )]
    Undecided {
        /// The tensor name.
        tensor: String,
        /// The bytes up to the next tensor.
        found: Option<u64>,
        /// The size as Q2_0, if that can hold the shape.
        q2_0: Option<u64>,
        /// The size as PQ2_0, if that can hold the shape.
        pq2_0: Option<u64>,
        /// The size as STQ1_0, if that can hold the shape.
        stq1_0: Option<u64>,
    },
    /// A shape that the tensor's type cannot hold: an empty dimension, a size that overflows, or
    /// rows that are not a multiple of the type's block.
    #[error("tensor {tensor:?} of type {ty} cannot have the shape {shape:?}")]
    Shape {
        /// The tensor name.
        tensor: String,
        /// The tensor type.
        ty: TensorType,
        /// The shape, outermost dimension first.
        shape: Vec<u64>,
    },
    /// A dense projection in a BitNet model that does not declare it dense: see
    /// [`crate::model::Projections`].
    #[error(
        "tensor {tensor:?} is {ty}{}, but the projections of a BitNet model are ternary with one \
         scale, unless `{}` names them",
        if ty.is_ternary() { " with several scales" } else { "" }, crate::keys::DENSE_PROJECTIONS
    )]
    NotTernary {
        /// The tensor name.
        tensor: String,
        /// The tensor type.
        ty: TensorType,
    },
    /// A tensor whose data does not start at a multiple of the alignment.
    #[error("tensor {tensor:?} starts at offset {offset}, no multiple of {alignment}")]
    Misaligned {
        /// The tensor name.
        tensor: String,
        /// Its offset in the data section.
        offset: u64,
        /// The alignment of the file.
        alignment: u64,
    },
    /// A tensor that extends past the end of the file.
    #[error("tensor {tensor:?} needs {needed} bytes at byte {start}, the file has {file} bytes")]
    OutOfFile {
        /// The tensor name.
        tensor: String,
        /// First byte of its data.
        start: u64,
        /// Length of its data.
        needed: u64,
        /// Length of the file.
        file: u64,
    },
    /// Two tensors that share bytes.
    #[error("tensors {first:?} and {second:?} overlap")]
    Overlap {
        /// The tensor that starts first.
        first: String,
        /// The tensor that starts inside it.
        second: String,
    },
    /// A part of a split model whose file name does not have the form that states the part.
    #[error(
        "{name:?} is part {part} of {count} of a model, but is not called NAME-{part:05}-of-{count:05}.gguf"
    )]
    PartName {
        /// The file name.
        name: String,
        /// The part, from 1.
        part: u64,
        /// Number of parts.
        count: u64,
    },
    /// A file of a split model that states another part than its name does.
    #[error("part {part} of {count} says of itself that it is {found}")]
    Part {
        /// The part that the file name states, from 1.
        part: u64,
        /// Number of parts that the first file states.
        count: u64,
        /// The part that the file states.
        found: String,
    },
    /// The total number of tensors differs from the one that the first part states.
    #[error("the parts have {found} tensors, the first part says {expected}")]
    PartTensors {
        /// The number in `split.tensors.count`.
        expected: u64,
        /// Tensors in all parts.
        found: u64,
    },
    /// A tensor was written out of order, or after the last one.
    #[error("tensor {found:?} was written, expected {expected:?}")]
    Order {
        /// The tensor that must come next; empty when all are written.
        expected: String,
        /// The tensor that was given.
        found: String,
    },
    /// A tensor received too many or too few bytes.
    #[error("tensor {tensor:?} was given {found} bytes, expected {expected}")]
    Length {
        /// The tensor name.
        tensor: String,
        /// The length that its type and shape require.
        expected: u64,
        /// The number of bytes received.
        found: u64,
    },
}

/// The number, or the word for its absence.
fn or_none(number: Option<u64>) -> String {
    number.map_or_else(|| "none".to_owned(), |number| number.to_string())
}
