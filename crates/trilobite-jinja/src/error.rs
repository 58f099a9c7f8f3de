//! Errors of parsing and rendering a template.

use std::fmt;

/// The reason why a template cannot be rendered, with its place in the template.
#[derive(Debug)]
pub struct TemplateError {
    /// The line in the template; 0 while it is unknown.
    line: usize,
    /// The innermost filter, test or method.
    within: Option<String>,
    message: String,
}

pub(super) type Result<T> = std::result::Result<T, TemplateError>;

impl TemplateError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { line: 0, within: None, message: message.into() }
    }

    /// Sets the line, unless it is set.
    pub(super) fn at(mut self, line: usize) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    /// Sets the filter, test or method, unless it is set.
    pub(super) fn within(mut self, what: impl FnOnce() -> String) -> Self {
        self.within.get_or_insert_with(what);
        self
    }
}

/// Returns an error.
pub(super) fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(TemplateError::new(message))
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if let Some(within) = &self.within {
            write!(f, "{within}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}
