use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A malformed tensor of outliers.
    #[error("outlier {entry} of {name} is not finite, outside the matrix or out of order")]
    Outlier {
        /// The tensor.
        name: String,
        /// Index of the outlier.
        entry: usize,
    },
    /// The file could not be opened or mapped.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// A file of a split model is not a valid GGUF file.
    #[error("{}", .path.display())]
    Part {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: trilobite_format::Error,
    },
    /// The file is not a valid GGUF file.
    #[error(transparent)]
    Format(#[from] trilobite_format::Error),
    /// `TRILOBITE_ISA` names an instruction set that this machine or this build does not have.
    #[error(transparent)]
    Isa(#[from] trilobite_kernels::Error),
    /// A tensor that the architecture needs is absent.
    #[error("tensor {0} is missing")]
    MissingTensor(String),
    /// A tensor that the architecture does not have. Running the model would ignore it.
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
    /// A tensor has a type that its role does not allow.
    #[error("tensor {name} has type {found}, which cannot be used as {role}")]
    TensorType {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
        /// The role of the tensor.
        role: &'static str,
    },
    /// A ternary tensor has a type that can be converted but not run.
    #[error("tensor {name} is {found}, which is converted before it is run")]
    Unpacked {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A ternary tensor contains a code that represents no weight.
    #[error("tensor {name} has a code that stands for no weight at row {row}, column {col}")]
    InvalidCode {
        /// The tensor.
        name: String,
        /// Row of the code.
        row: usize,
        /// Its column.
        col: usize,
    },
    /// The scale of a ternary tensor is not a positive finite number although some weights are not
    /// 0.
    #[error("tensor {name} has the scale {scale}, expected a positive finite number")]
    Scale {
        /// The tensor.
        name: String,
        /// Its scale.
        scale: f32,
    },
    /// The bounds of a row in the coarse copy of the head are invalid.
    #[error("tensor {name} is not usable: row {row} is not a scale and norms")]
    HeadScan {
        /// The tensor.
        name: &'static str,
        /// The row.
        row: usize,
    },
    /// The coarse copy of the head has a format that this version cannot read.
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
        /// What is wrong, and the key it concerns.
        fault: String,
    },
    /// A text cannot be tokenized, or tokens cannot be decoded.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The operation needs a tokenizer and the file has none.
    #[error("the model file carries no tokenizer")]
    NoTokenizer,
    /// The chat template cannot be rendered.
    #[error("chat template: {0}")]
    Template(String),
    /// A token id is outside the vocabulary.
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
        /// Number of tokens that the call needs to hold.
        needed: usize,
        /// Number of tokens that the context holds.
        context: usize,
    },
    /// Memory for more keys and values cannot be allocated.
    #[error("there is no memory for {bytes} more bytes of keys and values")]
    Memory {
        /// The size of the failed allocation in bytes.
        bytes: usize,
    },
    /// A file of keys and values cannot be used.
    #[error("the prompt cache {path} cannot be used: {fault}")]
    CacheFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// A file of keys and values cannot be written.
    #[error("cannot write the prompt cache {path}")]
    CacheWrite {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// A model cannot draft the tokens of another one, because its vocabulary differs.
    #[error("the drafting model has another vocabulary: {0}")]
    DraftVocabulary(String),
    /// The name of a way to round activations is unknown.
    #[error("activations cannot be {found:?}; they can be {known}")]
    Activations {
        /// The name.
        found: String,
        /// The known names.
        known: String,
    },
    /// Int8 activations are requested for a model that has no dense weights in blocks.
    #[error(
        "activations can be int8 with weights in blocks of ggml's types (as Q4_0, Q6_K or Q2_0), which \
         this model does not have"
    )]
    NoInt8,
    /// The name of a cache type is unknown.
    #[error("there is no type of cache {found:?}; there are {known}")]
    CacheType {
        /// The name.
        found: String,
        /// The known names.
        known: String,
    },
    /// The threads cannot be started.
    #[error("cannot start {threads} threads")]
    Threads {
        /// The number of threads.
        threads: usize,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Text is requested from a model that gives embeddings only.
    #[error("the model has no head: it gives embeddings, no text")]
    OnlyEmbeds,
    /// Embeddings are requested from a model that does not say how hidden states are pooled.
    #[error("the model does not say how the hidden states of a text become its embedding")]
    NoPooling,
    /// The model has no prompt of this name.
    #[error("the model has no prompt {found:?}; {}", match known.as_str() {
        "" => "it has no prompts".to_owned(),
        known => format!("it has {known}"),
    })]
    NoPrompt {
        /// The name.
        found: String,
        /// The names of the model's prompts.
        known: String,
    },
    /// The prompt is empty.
    #[error("the prompt is empty: at least one token is needed")]
    EmptyPrompt,
    /// The sequence was made for another model or another cache type.
    #[error("the sequence was made for another model or another type of cache")]
    ForeignSequence,
    /// The continuation to score is empty.
    #[error("the continuation is empty: it adds no token to the context's {context}")]
    EmptyContinuation {
        /// Number of tokens of the context.
        context: usize,
    },
    /// The continuation to score is part of the context's last token.
    #[error(
        "the continuation adds no token to the context's {context}: it merges with the last one"
    )]
    MergedContinuation {
        /// Number of tokens of the context.
        context: usize,
    },
    /// The context is empty and the model has no token that can stand before the first one.
    #[error("an empty context needs a beginning-of-text or end-of-text token, and there is none")]
    NoPrefix,
    /// The largest logit is not a finite number.
    #[error("the largest logit is not a finite number: the weights cannot be sound")]
    NotFinite,
    /// An embedding has a number that is not finite.
    #[error("the embedding is not finite: the weights cannot be sound")]
    EmbeddingNotFinite,
    /// A constraint failed, or allows no token.
    #[error("constraint: {0}")]
    Constraint(String),
    /// A sampling parameter is out of range.
    #[error("{name} is {value}, expected {expected}")]
    Sampling {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: f32,
        /// The accepted values.
        expected: &'static str,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
