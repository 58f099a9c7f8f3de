//! Why an answer cannot have a form.

/// Everything that can be wrong with a form.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tokenizer does not tell the bytes of its tokens.
    #[error(transparent)]
    Tokenizer(#[from] trilobite_runtime::Error),
    /// The vocabulary has more tokens than masks can be made for, or none.
    #[error("masks cannot be made for a vocabulary of {size} tokens, expected 1 to {most}")]
    Vocabulary {
        /// Its tokens.
        size: usize,
        /// Most tokens.
        most: usize,
    },
    /// The vocabulary cannot be used.
    #[error("masks cannot be made for this vocabulary: {0}")]
    Masks(String),
    /// The schema, the grammar or the expression is wrong, or has what is not supported.
    #[error("{kind} cannot be followed: {fault}")]
    Grammar {
        /// What it is.
        kind: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// A tool is not described as a function.
    #[error("tools[{index}]{field}: {fault}")]
    Tool {
        /// Which tool.
        index: usize,
        /// The field of the tool, with a dot before it.
        field: &'static str,
        /// What is wrong.
        fault: String,
    },
    /// A function is demanded that is none of the tools.
    #[error("there is no function {0:?} among the tools")]
    NoFunction(String),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;
