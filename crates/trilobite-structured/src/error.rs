//! Errors of constraints and tools.

/// An invalid constraint or tool.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tokenizer cannot decode a token.
    #[error(transparent)]
    Tokenizer(#[from] trilobite_runtime::Error),
    /// The size of the vocabulary is not supported.
    #[error("masks cannot be made for a vocabulary of {size} tokens, expected 1 to {most}")]
    Vocabulary {
        /// Number of tokens.
        size: usize,
        /// Maximum number of tokens.
        most: usize,
    },
    /// llguidance rejects the vocabulary.
    #[error("masks cannot be made for this vocabulary: {0}")]
    Masks(String),
    /// The schema, grammar or expression is invalid or not supported.
    #[error("{kind} cannot be followed: {fault}")]
    Grammar {
        /// The kind of constraint.
        kind: &'static str,
        /// The fault.
        fault: String,
    },
    /// A tool is not a valid function.
    #[error("tools[{index}]{field}: {fault}")]
    Tool {
        /// Index of the tool.
        index: usize,
        /// The invalid field, with a leading dot.
        field: &'static str,
        /// The fault.
        fault: String,
    },
    /// The required function is not among the tools.
    #[error("there is no function {0:?} among the tools")]
    NoFunction(String),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;
