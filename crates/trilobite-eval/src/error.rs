//! The error type.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A record does not have the expected form.
    #[error("{} line {line}: {message}", .path.display())]
    Record {
        /// The data file.
        path: PathBuf,
        /// The first line of the record, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The hash of a data file differs from that of the task's definition.
    #[error("{}: its SHA-256 is {found}, expected {expected}", .path.display())]
    Hash {
        /// The data file.
        path: PathBuf,
        /// The expected hash.
        expected: String,
        /// The hash of the file.
        found: String,
    },
    /// A data file does not exist.
    #[error("{}: there is no such data file; {task} needs it", .path.display())]
    MissingData {
        /// The path of the file.
        path: PathBuf,
        /// The task.
        task: String,
    },
    /// No task has this name.
    #[error("there is no task {name:?}; there are {known}")]
    UnknownTask {
        /// The name.
        name: String,
        /// The known names.
        known: String,
    },
    /// The definition of a task is invalid.
    #[error("task {task}: {message}")]
    Definition {
        /// The task.
        task: String,
        /// What is wrong.
        message: String,
    },
    /// The results in a folder belong to a run with other settings.
    #[error(
        "{}: results of another run ({field} is {found}, this run's is {expected})",
        .path.display()
    )]
    OtherRun {
        /// The settings file.
        path: PathBuf,
        /// The setting that differs.
        field: String,
        /// The value in the file.
        found: String,
        /// The value of this run.
        expected: String,
    },
    /// There are results in a folder, but not what they depend on.
    #[error(
        "{}: results without their settings, perhaps of another run (there is no {})",
        .path.display(),
        .settings.display()
    )]
    NoSettings {
        /// The results.
        path: PathBuf,
        /// The settings file.
        settings: PathBuf,
    },
    /// The results of a task's parts cannot be merged.
    #[error("{task}: {message}")]
    Merge {
        /// The task.
        task: String,
        /// What is wrong.
        message: String,
    },
    /// The parts of a task do not contain all its items.
    #[error("{task}: {missing}")]
    Incomplete {
        /// The task.
        task: String,
        /// Which items are missing.
        missing: String,
    },
    /// Two items of a task have the same id.
    #[error("{task}: two items have the id {id:?}")]
    SameId {
        /// The task.
        task: String,
        /// The id.
        id: String,
    },
    /// A chat template was requested and the model has none.
    #[error("{model} has no chat template (tokenizer.chat_template) for the prompts to go through")]
    NoChatTemplate {
        /// The model.
        model: String,
    },
    /// The selection contains no items.
    #[error("{task}: there are no items in what was asked for")]
    NoItems {
        /// The task.
        task: String,
    },
    /// Another run is writing the same results.
    #[error("{}: another run is at work on it", .path.display())]
    Busy {
        /// The results.
        path: PathBuf,
    },
    /// The model failed on an item.
    #[error("{task}, item {id}")]
    Item {
        /// The task.
        task: String,
        /// The item.
        id: String,
        /// The error of the model.
        source: Box<trilobite_runtime::Error>,
    },
    /// An error of the model.
    #[error(transparent)]
    Model(#[from] trilobite_runtime::Error),
    /// The sandbox for generated code does not work on this machine.
    #[error("sandbox: {0}")]
    Sandbox(String),
    /// A task runs generated code, which was not allowed.
    #[error("{task} runs code that the model writes, which is not allowed")]
    Untrusted {
        /// The task.
        task: String,
    },
    /// SymPy cannot be used to compare answers.
    #[error(
        "Python {}: {message}; it takes a Python 3 with SymPy and what that reads LaTeX with \
         (pip install sympy antlr4-python3-runtime==4.11)",
        .program.display()
    )]
    Python {
        /// The interpreter.
        program: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The server of the judge failed.
    #[error("{url}: {message}")]
    JudgeServer {
        /// The endpoint.
        url: String,
        /// The server's message, or the error of the connection.
        message: String,
    },
    /// The run was stopped before its end.
    #[error(
        "{task}: interrupted after {done} of {total} {what}, which {} keeps; \
         the same command goes on from there",
        .path.display()
    )]
    Interrupted {
        /// The task.
        task: String,
        /// Number of items or judgments that are done, including those of earlier runs.
        done: usize,
        /// Number of items or judgments in total.
        total: usize,
        /// The unit: items or judgments.
        what: &'static str,
        /// The file with the results so far.
        path: PathBuf,
    },
}

impl Error {
    /// Converts an I/O error of a file, for `map_err`.
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    }
}
