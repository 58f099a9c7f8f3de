//! What can go wrong.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An evaluation that cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A record is not what the task expects.
    #[error("{} line {line}: {message}", .path.display())]
    Record {
        /// The data file.
        path: PathBuf,
        /// The record's first line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A data file is not the one that the task is defined on.
    #[error(
        "{}: its SHA-256 is {found}, expected {expected}; --any-data takes it as it is",
        .path.display()
    )]
    Hash {
        /// The data file.
        path: PathBuf,
        /// The hash of the original.
        expected: String,
        /// The hash of the file.
        found: String,
    },
    /// A data file is not there.
    #[error("{}: there is no such data file; {task} needs it", .path.display())]
    MissingData {
        /// Where it was looked for.
        path: PathBuf,
        /// The task.
        task: String,
    },
    /// No task has this name.
    #[error("there is no task {name:?}; there are {known}")]
    UnknownTask {
        /// The name.
        name: String,
        /// All names.
        known: String,
    },
    /// A task's own definition is at fault.
    #[error("task {task}: {message}")]
    Definition {
        /// The task.
        task: String,
        /// What is wrong.
        message: String,
    },
    /// A results file belongs to another run.
    #[error(
        "{}: results of another run ({field} is {found}, this run's is {expected}); \
         choose another --output or delete them",
        .path.display()
    )]
    OtherRun {
        /// The settings file.
        path: PathBuf,
        /// The setting that differs.
        field: String,
        /// What the file says.
        found: String,
        /// What it would have to say.
        expected: String,
    },
    /// Parts of a task do not make a whole.
    #[error("{task}: {message}")]
    Merge {
        /// The task.
        task: String,
        /// What does not fit.
        message: String,
    },
    /// Two items of a task have one id.
    #[error("{task}: two items have the id {id:?}")]
    SameId {
        /// The task.
        task: String,
        /// The id.
        id: String,
    },
    /// A model without a chat template, where one was asked for.
    #[error("{model} has no chat template (tokenizer.chat_template) for the prompts to go through")]
    NoChatTemplate {
        /// The model.
        model: String,
    },
    /// Nothing is left to be run or graded.
    #[error("{task}: there are no items in what was asked for")]
    NoItems {
        /// The task.
        task: String,
    },
    /// Results that another run is writing.
    #[error("{}: another run is at work on it; choose another --output or wait", .path.display())]
    Busy {
        /// The results.
        path: PathBuf,
    },
    /// An item cannot be run.
    #[error("{task}, item {id}")]
    Item {
        /// The task.
        task: String,
        /// The item.
        id: String,
        /// Why.
        source: Box<trilobite_runtime::Error>,
    },
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] trilobite_runtime::Error),
    /// Generated code cannot be run safely here.
    #[error("sandbox: {0}")]
    Sandbox(String),
    /// Generated code would be run without leave.
    #[error("{task} runs code that the model writes; --run-untrusted-code allows it")]
    Untrusted {
        /// The task.
        task: String,
    },
    /// Answers cannot be compared by SymPy.
    #[error(
        "--python: {}: {message}; it takes a Python 3 with SymPy and what that reads LaTeX with \
         (pip install sympy antlr4-python3-runtime==4.11)",
        .program.display()
    )]
    Python {
        /// The interpreter.
        program: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A judge's server does not answer as it should.
    #[error("{url}: {message}")]
    JudgeServer {
        /// The endpoint.
        url: String,
        /// What it said, or what became of the connection.
        message: String,
    },
    /// The run was broken off.
    #[error(
        "{task}: interrupted after {done} of {total} {what}, which {} keeps; \
         the same command goes on from there",
        .path.display()
    )]
    Interrupted {
        /// The task.
        task: String,
        /// How many are done, those of earlier runs included.
        done: usize,
        /// How many there are to do.
        total: usize,
        /// Items or judgments.
        what: &'static str,
        /// Where they are.
        path: PathBuf,
    },
}

impl Error {
    /// For `map_err`: the error of a file.
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    }
}
