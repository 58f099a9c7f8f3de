//! An HTTP server for 1.58-bit language models that speaks OpenAI's protocol.
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
//! Every model has an engine: a thread that generates all answers in one batch. Requests join and leave
//! the batch at every step. An answer depends only on its request, to the last bit, and not on other
//! requests.
//!
//! The server speaks HTTP without encryption, for programs on the same machine or behind a proxy.

#![forbid(unsafe_code)]

mod api;
mod app;
mod connections;
mod embeddings;
mod engine;
mod error;
mod forms;
mod guard;
mod metrics;
mod options;
mod routes;
mod served;
mod server;

pub use engine::PromptFolder;
pub use error::{Error, Result};
pub use options::Options;
pub use served::ServedModel;
pub use server::{Server, Stopper};
