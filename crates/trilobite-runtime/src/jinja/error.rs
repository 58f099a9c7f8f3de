//! Why a template cannot be rendered.

use std::fmt;

#[derive(Debug)]
pub(crate) struct Error {
    /// Where in the template; 0 as long as that is not known.
    line: usize,
    message: String,
}

pub(super) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { line: 0, message: message.into() }
    }

    /// The same error on a line, if it has none yet.
    pub(super) fn at(mut self, line: usize) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    /// The same error with what it happened in.
    pub(super) fn within(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

/// An error as a result.
pub(super) fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::new(message))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}
