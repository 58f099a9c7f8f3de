//! The error type.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use http::StatusCode;

use crate::Size;

/// The result of functions of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of fetching, finding or opening a model. The message names the file, model or server.
/// The causes are the sources of the error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no folder for the cache.
    #[error("there is no home folder; TRILOBITE_HOME names another")]
    NoHome,
    /// A file or folder cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A JSON text is invalid.
    #[error("{name}")]
    Json {
        /// The file or address.
        name: String,
        /// The cause, with line and column.
        source: serde_json::Error,
    },
    /// The built-in list of models is damaged.
    #[error("models/models.toml")]
    Models(#[source] toml::de::Error),

    /// No model has this name.
    #[error("there is no model {name:?}; {hint}")]
    UnknownModel {
        /// The name.
        name: String,
        /// A model with a similar name, or all models.
        hint: String,
    },
    /// No model in the cache has this name.
    #[error("{name:?} has not been pulled; {hint}")]
    NotStored {
        /// The name.
        name: String,
        /// A model with a similar name, or all models.
        hint: String,
    },
    /// An argument is neither a path nor the name of a known model.
    #[error(
        "there is no such file or folder, and no model of that name{}",
        ending("; did you mean ", near.as_deref(), "?")
    )]
    NoModel {
        /// The name, if it may be that of a repository on the hub.
        repository: Option<String>,
        /// A model with a similar name.
        near: Option<String>,
        /// Whether that model has been pulled.
        pulled: bool,
    },
    /// A known model is not stored, or not completely.
    #[error("it has not been pulled")]
    NotPulled {
        /// The name for `pull`.
        name: String,
    },
    /// A model is stored at another revision than requested.
    #[error("it was pulled at revision {found}, not {asked}")]
    OtherRevision {
        /// The name for `pull` with the requested revision.
        name: String,
        /// The requested revision.
        asked: String,
        /// The stored revision.
        found: String,
    },
    /// A name is ambiguous.
    #[error("{name:?} can mean {}", candidates.join(" or "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The unambiguous names of the candidates.
        candidates: Vec<String>,
    },
    /// An argument that must be a name is something else, such as a path.
    #[error("{0:?} is not the name of a model")]
    NotAName(String),
    /// Another process is changing the same model.
    #[error("another process is {doing} {name}")]
    Busy {
        /// The model or file.
        name: String,
        /// What the process is doing.
        doing: &'static str,
    },

    /// The repository does not exist.
    #[error("there is no repository {repository}")]
    NoRepository {
        /// The repository.
        repository: String,
        /// The server's response.
        source: Box<Error>,
    },
    /// The server does not reveal whether the repository exists.
    #[error(
        "{repository} does not exist, or is private, or is gated and its terms have to be accepted on {page}"
    )]
    NoAccess {
        /// The repository.
        repository: String,
        /// The address of its page.
        page: String,
        /// Whether an access token was sent.
        token: bool,
        /// The server's response.
        source: Box<Error>,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repository} has no revision {revision}")]
    NoRevision {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
        /// The server's response.
        source: Box<Error>,
    },
    /// Access to the repository requires that its terms are accepted.
    #[error("{repository} is gated: {} on {page}", match token {
        true => "the owner of the access token has not been granted access; ask for it",
        false => "log in and accept its terms",
    })]
    Gated {
        /// The repository.
        repository: String,
        /// The address of its page.
        page: String,
        /// Whether an access token was sent.
        token: bool,
        /// The server's response.
        source: Box<Error>,
    },
    /// The repository has no such file.
    #[error("{repository} has no file {file:?}; {hint}")]
    NoFile {
        /// The repository.
        repository: String,
        /// The file.
        file: String,
        /// A file with a similar name, or all candidates.
        hint: String,
    },
    /// The repository has several GGUF files, and each is a model.
    #[error("{repository} holds GGUF files only, and more than one: {}", with_sizes(files))]
    ChooseFile {
        /// The repository.
        repository: String,
        /// The files and their sizes. A model in several parts is listed by its first part.
        files: Vec<(String, Option<u64>)>,
    },
    /// The requested file is not a model by itself.
    #[error("{0:?} is not a GGUF file, and no other is a model by itself")]
    NotGguf(String),
    /// The repository has no weights in a supported format.
    #[error(
        "{repository} holds no weights as safetensors or GGUF{}",
        ending("; ", other.as_deref(), " is not read")
    )]
    NoWeights {
        /// The repository.
        repository: String,
        /// A file with weights in another format.
        other: Option<String>,
    },
    /// The repository lacks a file that another file names.
    #[error("{repository} has no {file}, which {by} names")]
    MissingPart {
        /// The repository.
        repository: String,
        /// The file.
        file: String,
        /// The file that names it.
        by: String,
    },

    /// A file could not be fetched or copied.
    #[error("{from} to {}", to.display())]
    Transfer {
        /// The address or path of the source.
        from: String,
        /// The path of the destination.
        to: PathBuf,
        /// The cause.
        source: Box<Error>,
    },
    /// A request to the hub's API failed.
    #[error("{url}")]
    Request {
        /// Its address.
        url: String,
        /// The cause.
        source: Box<Error>,
    },
    /// A server does not respond.
    #[error("no answer from {host}")]
    NoAnswer {
        /// Host and port.
        host: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server refused a request.
    #[error("{host} answers {}", status_text(*status))]
    Refused {
        /// Host and port.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The hub's error code.
        code: Option<String>,
        /// Whether an access token was sent.
        token: bool,
    },
    /// A redirect leads to an address that is not followed.
    #[error("{url} redirects to {to:?}, which is not followed")]
    Redirect {
        /// The address that redirects.
        url: String,
        /// The target of the redirect.
        to: String,
    },
    /// There are too many redirects.
    #[error("more than {most} redirects, the last to {url}")]
    Redirects {
        /// Maximum number of redirects.
        most: usize,
        /// The last address.
        url: String,
    },
    /// Too many attempts failed.
    #[error(
        "gave up after {attempts} attempts{}",
        ending("; ", Some(kept).filter(|kept| **kept > 0), " bytes are kept")
    )]
    GaveUp {
        /// Number of attempts.
        attempts: u32,
        /// Number of bytes received so far.
        kept: u64,
        /// The error of the last attempt.
        source: Box<Error>,
    },
    /// The server asks for a longer pause than the maximum.
    #[error("the server asks to come back in {seconds} s")]
    Later {
        /// The pause in seconds.
        seconds: u64,
        /// The server's response.
        source: Box<Error>,
    },
    /// The connection broke.
    #[error("the connection broke after {done} bytes")]
    Broken {
        /// Number of bytes received.
        done: u64,
        /// The cause.
        source: io::Error,
    },
    /// The connection ended early.
    #[error("the connection ended at {done} of {total} bytes")]
    Ended {
        /// Number of bytes received.
        done: u64,
        /// Size of the file in bytes.
        total: u64,
    },
    /// A server violates the protocol or contradicts itself.
    #[error("the server is inconsistent: {0}")]
    Inconsistent(String),
    /// The file changed between two requests.
    #[error("the file changed on the server")]
    ChangedOnServer,
    /// The server sends a compressed file that was not requested so.
    #[error("the server sends it compressed ({0:?}), unasked")]
    Compressed(String),
    /// The server sends a response that does not match the request.
    #[error("the server answers {}, unasked", status_text(*.0))]
    Unasked(u16),
    /// The received data are not the requested file.
    #[error("{0}; it was removed")]
    Content(String),
    /// Received data cannot be written. The part written so far is kept.
    #[error("{}: {kept} bytes came and are kept", path.display())]
    Kept {
        /// The partial file.
        path: PathBuf,
        /// Its size in bytes.
        kept: u64,
        /// The cause.
        source: io::Error,
    },

    /// A lock file that does not parse.
    #[error("{}", path.display())]
    Lockfile {
        /// The lock file.
        path: PathBuf,
        /// The cause, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A model contradicts its pin in a lock file.
    #[error("{what} is {found}, but {} has {locked}", path.display())]
    OtherThanLocked {
        /// The lock file.
        path: PathBuf,
        /// The property that differs.
        what: String,
        /// Its value in the lock file.
        locked: String,
        /// The other value.
        found: String,
    },
    /// A pinned file was received with other contents.
    #[error("{} pins {file}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The file.
        file: String,
        /// The error about the received data.
        source: Box<Error>,
    },

    /// A file is not in the mirror.
    #[error("there is no {file} in {folders}")]
    NotInMirror {
        /// The file.
        file: String,
        /// The folders that were searched.
        folders: String,
    },
    /// Some data files are published in another form only.
    #[error("{0}: published in another form only")]
    Rebuilt(String),

    /// A converted file was changed by another program.
    #[error("{}: it was changed after it was written", .0.display())]
    Changed(PathBuf),
    /// An argument is a file of a checkpoint that is no model by itself.
    #[error("it is one file of a checkpoint; give the folder, {}", .0.display())]
    PartOfCheckpoint(PathBuf),
    /// A model has no choice of layouts.
    #[error(
        "it has no ternary weights with one scale for each matrix, so there is no layout to choose"
    )]
    NotTernary,
    /// The ternary weights of a model can have a single layout.
    #[cfg(feature = "open")]
    #[error("its ternary weights can have the layout {0} only, so there is nothing to compare")]
    OneLayout(trilobite_convert::Layout),
    /// A checkpoint has no supported tokenizer.
    #[error("there is neither tokenizer.json nor tokenizer.model")]
    NoTokenizer,
    /// A checkpoint cannot be converted, or a file cannot be written.
    #[cfg(any(feature = "download", feature = "open"))]
    #[error(transparent)]
    Convert(#[from] trilobite_convert::Error),
    /// A model file cannot be read.
    #[cfg(feature = "open")]
    #[error(transparent)]
    Format(#[from] trilobite_format::Error),
    /// A model cannot be run.
    #[cfg(feature = "open")]
    #[error(transparent)]
    Runtime(#[from] trilobite_runtime::Error),
}

impl Error {
    /// Converts an I/O error of a file or folder, for `map_err`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }

    /// The message and the messages of all causes, in one line.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    }

    /// Whether the received data are not the requested file.
    #[cfg(feature = "download")]
    pub(crate) fn is_of_content(&self) -> bool {
        match self {
            Error::Content(_) => true,
            Error::Transfer { source, .. } => source.is_of_content(),
            _ => false,
        }
    }

    /// The [`Error::Refused`] that this error is, or that is among its causes.
    #[cfg(feature = "download")]
    pub(crate) fn refusal(&self) -> Option<&Error> {
        match self {
            Error::Refused { .. } => Some(self),
            Error::Transfer { source, .. } | Error::Request { source, .. } => source.refusal(),
            _ => None,
        }
    }
}

/// The end of a message about a value that may be unknown.
fn ending(before: &str, what: Option<impl Display>, after: &str) -> String {
    what.map_or_else(String::new, |what| format!("{before}{what}{after}"))
}

fn with_sizes(files: &[(String, Option<u64>)]) -> String {
    let one = |(name, bytes): &(String, Option<u64>)| match bytes {
        Some(bytes) => format!("{name} ({})", Size(*bytes)),
        None => name.clone(),
    };
    files.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn status_text(status: u16) -> String {
    StatusCode::from_u16(status).map_or_else(|_| status.to_string(), |status| status.to_string())
}
