//! Runs 1.58-bit language models: takes a GGUF file and tokens, returns logits, tokens and text.
//!
//! ```no_run
//! use std::sync::Arc;
//! use trilobite_runtime::{Model, Session, SessionOptions};
//!
//! let model = Arc::new(Model::open("model.gguf".as_ref())?);
//! let prompt = model.tokenizer()?.encode("Once upon a time", true, false)?;
//! let options = SessionOptions { threads: 2, ..SessionOptions::default() };
//! let mut session = Session::new(Arc::clone(&model), options)?;
//! let logits = session.next_logits(&prompt)?;
//! # Ok::<(), trilobite_runtime::Error>(())
//! ```
//!
//! Logits depend only on the model and the tokens, to the last bit. The number of threads, the
//! instruction set and the division of the tokens among calls do not change them.

mod activations;
mod cache;
mod chat;
mod config;
mod defaults;
mod embed;
mod error;
mod forward;
mod generate;
mod head;
mod model;
mod ops;
mod pace;
mod profile;
mod reference;
mod rope;
mod sampler;
mod score;
mod scratch;
mod sequence;
mod session;
mod speculate;
mod stored;
mod team;
mod tokenizer;
mod weights;
mod workers;

pub use activations::Activations;
pub use cache::{CacheType, PAGE};
pub use chat::{ChatTemplate, Conversation, Ending, Message, StandardTemplate};
pub use config::{Activation, Config, Experts, RopePairs, Window};
pub use defaults::SamplingChoice;
pub use embed::{Embedder, Embedding};
pub use error::{Error, Result};
pub use forward::{Forward, MAX_BATCH, SessionOptions};
pub use generate::{Continuation, Finish, Generation, Limits, generate, generate_many};
pub use head::{Largest, Logits, Nucleus};
pub use model::{Model, map, parts};
pub use profile::{Profile, Spent, Stage};
pub use reference::Reference;
pub use sampler::{Constraint, Sampler, Sampling, argmax};
pub use score::{Peak, Perplexity, Request, Score, Scorer, encode, prefix_token};
pub use scratch::Live;
pub use sequence::{Part, Sequence, Want};
pub use session::Session;
pub use speculate::{Drafted, Drafter, Lookup, ModelDrafter, Speculation};
pub use stored::TextKey;
pub use team::{Pieces, Strip, Team};
pub use tokenizer::{Tokenizer, end_ids};
pub use trilobite_format::model::Pooling;
pub use weights::{HeadScan, Kind, Layer, Matrix, RopeDivisors, Weights};
