//! Why a server does not start.

use std::net::SocketAddr;

/// Everything that can go wrong before a server answers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model cannot be run.
    #[error(transparent)]
    Model(#[from] trilobite_runtime::Error),
    /// There is no model to serve.
    #[error("there is no model to serve")]
    NoModel,
    /// Two models would answer to the same name.
    #[error("two models are named {0:?}: requests could not tell them apart")]
    SameName(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// An option that no request could be answered with.
    #[error("{name} is {value}, expected {expected}")]
    Option {
        /// The option.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is accepted.
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
