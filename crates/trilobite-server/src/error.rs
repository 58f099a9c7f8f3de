//! Errors of starting and running a server.

use std::net::SocketAddr;
use std::path::PathBuf;

/// A server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model cannot run.
    #[error(transparent)]
    Model(#[from] trilobite_runtime::Error),
    /// One of the models cannot run.
    #[error("model {name:?}")]
    OfModel {
        /// The name by which requests choose it.
        name: String,
        /// The fault.
        source: Box<trilobite_runtime::Error>,
    },
    /// No model is given.
    #[error("there is no model to serve")]
    NoModel,
    /// Two models have the same name.
    #[error("two models are named {0:?}: requests could not tell them apart")]
    SameName(String),
    /// The folder for keys and values cannot be used.
    #[error("cannot write to the folder {path} for the prompt cache")]
    PromptFolder {
        /// The folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// An option has an unusable value.
    #[error("{name} is {value}, expected {expected}")]
    Option {
        /// The option.
        name: &'static str,
        /// Its value.
        value: String,
        /// The accepted values.
        expected: &'static str,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The server stopped listening.
    #[error("cannot listen any more")]
    Listen(#[source] std::io::Error),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;
