//! Serves 1.58-bit language models by HTTP, in OpenAI's protocol.
//!
//! ```no_run
//! use std::sync::Arc;
//! use trilobite_runtime::Model;
//! use trilobite_server::{Options, ServedModel, Server};
//!
//! let model = Arc::new(Model::open("model.gguf".as_ref())?);
//! let server = Server::bind(vec![ServedModel::new("model", model)?], Options::default())?;
//! println!("http://{}", server.address());
//! server.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every model has an engine: a thread that generates all answers at the same time, to which requests
//! come and go at every step. An answer depends on its request alone, to the last bit: not on what
//! else is being answered, nor on what was answered before.
//!
//! The server speaks HTTP without encryption, for programs on the same machine or a proxy in front.

#![forbid(unsafe_code)]

mod api;
mod app;
mod engine;
mod error;
mod forms;
mod guard;
mod metrics;
mod options;
mod routes;
mod served;
mod server;

pub use error::{Error, Result};
pub use options::Options;
pub use served::ServedModel;
pub use server::{Server, Stopper};
