//! Structured answers: constraints by JSON schema, grammar or regular expression, and the parsing of
//! reasoning and tool calls.
//!
//! ```no_run
//! use serde_json::json;
//! use trilobite_runtime::{Model, Sampler, Sampling, end_ids};
//! use trilobite_structured::{Compiler, Grammar};
//!
//! let model = Model::open("model.gguf".as_ref())?;
//! let tokenizer = model.tokenizer()?;
//! let ends = end_ids(model.metadata(), Some(tokenizer))?;
//! let compiler = Compiler::new(tokenizer, model.config().vocab, &ends)?;
//! let schema = json!({"type": "object", "properties": {"age": {"type": "integer"}}});
//! let form = compiler.compile(&Grammar::Schema(schema))?;
//! let sampler = Sampler::new(Sampling::default())?.with_constraint(form.begin());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! llguidance computes the masks. A text that ends by itself is accepted by the grammar; a text cut
//! off by a token limit is a prefix of an accepted one.

#![forbid(unsafe_code)]

mod answer;
mod call;
mod call_reader;
mod compiler;
mod error;
mod grammar;
mod numbers;
mod piece;
mod reasoning;
mod tools;
mod vocabulary;

pub use answer::Answer;
pub use call::{Call, CallFormat};
pub use compiler::{Compiler, Form};
pub use error::{Error, Result};
pub use grammar::Grammar;
pub use piece::Piece;
pub use reasoning::{THINK, THINK_END};
pub use tools::{ToolChoice, Tools, calls_as_text};
