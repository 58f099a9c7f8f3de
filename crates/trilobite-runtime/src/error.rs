use std::path::PathBuf;

/// Everything that can go wrong between a model file and its tokens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or mapped.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a valid GGUF file.
    #[error(transparent)]
    Format(#[from] trilobite_format::Error),
    /// `TRILOBITE_ISA` asks for what this machine or this build does not have.
    #[error(transparent)]
    Isa(#[from] trilobite_kernels::Error),
    /// A tensor that the architecture needs is absent.
    #[error("tensor {0} is missing")]
    MissingTensor(String),
    /// A tensor that the architecture does not know: it would be silently ignored.
    #[error("tensor {0} is not part of this architecture")]
    UnexpectedTensor(String),
    /// A tensor has the wrong shape.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape in the file.
        found: Vec<u64>,
        /// The shape that the metadata implies.
        expected: Vec<u64>,
    },
    /// A tensor has a type that cannot be used in its place.
    #[error("tensor {name} has type {found}, which cannot be used as {role}")]
    TensorType {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
        /// What the tensor is for.
        role: &'static str,
    },
    /// A ternary tensor that is converted before it is run.
    #[error("tensor {name} is {found}, which is converted before it is run")]
    Unpacked {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A code of a ternary tensor that stands for no weight.
    #[error("tensor {name} has a code that stands for no weight at row {row}, column {col}")]
    UnusedCode {
        /// The tensor.
        name: String,
        /// Row of the code.
        row: usize,
        /// Its column.
        col: usize,
    },
    /// A ternary tensor's scale is not a positive finite number, and its weights are not all zero.
    #[error("tensor {name} has the scale {scale}, expected a positive finite number")]
    Scale {
        /// The tensor.
        name: String,
        /// Its scale.
        scale: f32,
    },
    /// The coarse copy of the head has bounds that no row can have.
    #[error("tensor {name} is not usable: row {row} is not a scale and norms")]
    HeadScan {
        /// The tensor.
        name: &'static str,
        /// The row.
        row: usize,
    },
    /// The coarse copy of the head is not of the form that this version writes.
    #[error(
        "tensor {name} is missing or has another shape than this version gives it: the coarse copy of \
         the head is of another version's form, convert the model again"
    )]
    HeadScanForm {
        /// The tensor.
        name: &'static str,
    },
    /// A tokenizer.json, or the tokenizer in a model file, cannot be used.
    #[error("{place}: {fault}")]
    TokenizerFile {
        /// The file, or the metadata key.
        place: String,
        /// What is wrong, with the key.
        fault: String,
    },
    /// A text cannot be tokenized, or tokens are no text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The file carries no tokenizer but text was given or asked for.
    #[error("the model file carries no tokenizer")]
    NoTokenizer,
    /// The chat template could not be rendered.
    #[error("chat template: {0}")]
    Template(String),
    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    TokenId {
        /// The id.
        id: u32,
        /// Number of ids in the vocabulary.
        vocab: usize,
    },
    /// The tokens do not fit in the context.
    #[error("{needed} tokens do not fit in the context of {context}")]
    Context {
        /// Tokens that would have to be held.
        needed: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// There is no memory for more keys and values.
    #[error("there is no memory for {bytes} more bytes of keys and values")]
    Memory {
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// A type that caches do not have.
    #[error("there is no type of cache {found:?}; there are {known}")]
    CacheType {
        /// The name.
        found: String,
        /// The names that there are.
        known: String,
    },
    /// The threads could not be started.
    #[error("cannot start {threads} threads")]
    Threads {
        /// The number of threads.
        threads: usize,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// Nothing to compute from.
    #[error("the prompt is empty: at least one token is needed")]
    EmptyPrompt,
    /// A sequence that another model, or a cache of another type, was made for.
    #[error("the sequence was made for another model or another type of cache")]
    ForeignSequence,
    /// Nothing to be scored.
    #[error("the continuation adds no token to the context's {context}")]
    EmptyContinuation {
        /// Tokens of the context.
        context: usize,
    },
    /// Nothing to predict a first token from.
    #[error("an empty context needs a beginning-of-text or end-of-text token, and there is none")]
    NoPrefix,
    /// The model computed no usable logits.
    #[error("the largest logit is not a finite number: the weights cannot be sound")]
    NotFinite,
    /// A constraint allows no token, or cannot tell which.
    #[error("constraint: {0}")]
    Constraint(String),
    /// A sampling parameter is out of range.
    #[error("{name} is {value}, expected {expected}")]
    Sampling {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: f32,
        /// What is accepted.
        expected: &'static str,
    },
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;
