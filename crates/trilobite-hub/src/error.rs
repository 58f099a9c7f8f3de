//! Everything that can keep a model from being fetched, found or opened.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use http::StatusCode;

use crate::Size;

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model could not be fetched, found or opened. Each message names the file, model or server;
/// causes follow as sources.
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
        /// The cause.
        source: io::Error,
    },
    /// JSON that does not parse.
    #[error("{name}")]
    Json {
        /// The file or address.
        name: String,
        /// The cause, with line and column.
        source: serde_json::Error,
    },
    /// The list of models that the crate was built with is damaged.
    #[error("models/models.toml")]
    Models(#[source] toml::de::Error),

    /// A name that no model has.
    #[error("there is no model {name:?}; {hint}")]
    UnknownModel {
        /// The name.
        name: String,
        /// A model with a similar name, or all models.
        hint: String,
    },
    /// A name that no model in the cache has.
    #[error("no model {name:?} has been pulled; {hint}")]
    NotStored {
        /// The name.
        name: String,
        /// A model with a similar name, or all models.
        hint: String,
    },
    /// Neither a path nor the name of a model that could be opened.
    #[error(
        "there is no such file or folder, and no model of that name{}",
        ending("; did you mean ", near.as_deref(), "?")
    )]
    NoModel {
        /// The name, where it can be that of a repository on the hub.
        repository: Option<String>,
        /// A model with a similar name.
        near: Option<String>,
        /// Whether that model has been pulled.
        pulled: bool,
    },
    /// A model that is known and not stored, or not completely.
    #[error("it has not been pulled")]
    NotPulled {
        /// The name to pull it by.
        name: String,
    },
    /// A model is stored at another revision than the one that was asked for.
    #[error("it was pulled at revision {found}, not {asked}")]
    OtherRevision {
        /// The name to pull the right one by.
        name: String,
        /// The revision that was asked for.
        asked: String,
        /// The revision that is stored.
        found: String,
    },
    /// A name that several models have.
    #[error("{name:?} can mean {}", candidates.join(" or "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The names that tell the models apart.
        candidates: Vec<String>,
    },
    /// A path, or something else, where only a name will do.
    #[error("{0:?} is not the name of a model")]
    NotAName(String),
    /// Another process works on the same model.
    #[error("another process is {doing} {name}")]
    Busy {
        /// The model or file.
        name: String,
        /// What it does.
        doing: &'static str,
    },

    /// There is no such repository.
    #[error("there is no repository {repository}")]
    NoRepository {
        /// The repository.
        repository: String,
        /// The server's answer.
        source: Box<Error>,
    },
    /// The server does not say whether there is such a repository.
    #[error(
        "{repository} does not exist, or is private, or is gated and its terms have to be accepted on {page}"
    )]
    NoAccess {
        /// The repository.
        repository: String,
        /// Its page.
        page: String,
        /// Whether an access token was shown.
        token: bool,
        /// The server's answer.
        source: Box<Error>,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repository} has no revision {revision}")]
    NoRevision {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
        /// The server's answer.
        source: Box<Error>,
    },
    /// The repository's owner wants its terms to be accepted.
    #[error("{repository} is gated: {} on {page}", match token {
        true => "the owner of the access token has not been granted access; ask for it",
        false => "log in and accept its terms",
    })]
    Gated {
        /// The repository.
        repository: String,
        /// Its page.
        page: String,
        /// Whether an access token was shown.
        token: bool,
        /// The server's answer.
        source: Box<Error>,
    },
    /// The repository has no such file.
    #[error("{repository} has no file {file:?}; {hint}")]
    NoFile {
        /// The repository.
        repository: String,
        /// The file.
        file: String,
        /// A file with a similar name, or all that could be meant.
        hint: String,
    },
    /// Several GGUF files, each a model of its own.
    #[error("{repository} holds GGUF files only, and more than one: {}", with_sizes(files))]
    ChooseFile {
        /// The repository.
        repository: String,
        /// The files and their sizes; of a model in several parts the first.
        files: Vec<(String, Option<u64>)>,
    },
    /// A file that is no model by itself.
    #[error("{0:?} is not a GGUF file, and no other is a model by itself")]
    NotGguf(String),
    /// A repository without weights that are read.
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
    /// A file that another one names is not in the repository.
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
        /// Its address or path.
        from: String,
        /// Where it was to be stored.
        to: PathBuf,
        /// The cause.
        source: Box<Error>,
    },
    /// A request to the hub's interface failed.
    #[error("{url}")]
    Request {
        /// Its address.
        url: String,
        /// The cause.
        source: Box<Error>,
    },
    /// A server does not answer.
    #[error("no answer from {host}")]
    NoAnswer {
        /// Host and port.
        host: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server refuses a request.
    #[error("{host} answers {}", status_text(*status))]
    Refused {
        /// Host and port.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The kind of error that the hub names.
        code: Option<String>,
        /// Whether an access token was shown.
        token: bool,
    },
    /// A redirect to an address that is not followed.
    #[error("{url} redirects to {to:?}, which is not followed")]
    Redirect {
        /// The address that redirects.
        url: String,
        /// The other one.
        to: String,
    },
    /// Redirects without end.
    #[error("more than {most} redirects, the last to {url}")]
    Redirects {
        /// Number of redirects that are followed.
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
        /// Their number.
        attempts: u32,
        /// Bytes that came.
        kept: u64,
        /// Why the last one failed.
        source: Box<Error>,
    },
    /// The server asks for a longer wait than is made.
    #[error("the server asks to come back in {seconds} s")]
    Later {
        /// The wait.
        seconds: u64,
        /// The server's answer.
        source: Box<Error>,
    },
    /// The connection broke.
    #[error("the connection broke after {done} bytes")]
    Broken {
        /// Bytes that came.
        done: u64,
        /// The cause.
        source: io::Error,
    },
    /// The connection ended early.
    #[error("the connection ended at {done} of {total} bytes")]
    Ended {
        /// Bytes that came.
        done: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// A server contradicts itself or the protocol.
    #[error("the server is inconsistent: {0}")]
    Inconsistent(String),
    /// The file changed between two requests.
    #[error("the file changed on the server")]
    ChangedOnServer,
    /// The server sends something else than the file's bytes.
    #[error("the server sends it compressed ({0:?}), unasked")]
    Compressed(String),
    /// An answer to another question.
    #[error("the server answers {}, unasked", status_text(*.0))]
    Unasked(u16),
    /// What came is not the file.
    #[error("{0}; it was removed")]
    Content(String),
    /// A part of a file came and could not be written.
    #[error("{}: {kept} bytes came and are kept", path.display())]
    Kept {
        /// The partial file.
        path: PathBuf,
        /// Bytes in it.
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
    /// A model is not what a lock file pins it to.
    #[error("{what} is {found}, but {} has {locked}", path.display())]
    OtherThanLocked {
        /// The lock file.
        path: PathBuf,
        /// What differs.
        what: String,
        /// Its value in the lock file.
        locked: String,
        /// The other value.
        found: String,
    },
    /// A file that a lock file pins came with other content.
    #[error("{} pins {file}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The file.
        file: String,
        /// What came instead.
        source: Box<Error>,
    },

    /// A file is not in the mirror.
    #[error("there is no {file} in {folders}")]
    NotInMirror {
        /// The file.
        file: String,
        /// Where it was looked for.
        folders: String,
    },
    /// Data files that are published in another form only.
    #[error("{0}: published in another form only")]
    Rebuilt(String),

    /// A converted file was changed by somebody else.
    #[error("{}: it was changed after it was written", .0.display())]
    Changed(PathBuf),
    /// A checkpoint without a tokenizer that is read.
    #[error("there is no tokenizer.json")]
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
    /// For `map_err`: an error of the operating system about a file or folder.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }

    /// The message and those of its causes, in one line.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    }

    /// Whether what came is not the file.
    #[cfg(feature = "download")]
    pub(crate) fn is_of_content(&self) -> bool {
        match self {
            Error::Content(_) => true,
            Error::Transfer { source, .. } => source.is_of_content(),
            _ => false,
        }
    }

    /// The [`Error::Refused`] that this error is, or that is its cause.
    #[cfg(feature = "download")]
    pub(crate) fn refusal(&self) -> Option<&Error> {
        match self {
            Error::Refused { .. } => Some(self),
            Error::Transfer { source, .. } | Error::Request { source, .. } => source.refusal(),
            _ => None,
        }
    }
}

/// The end of a message about something that need not be known.
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
