//! Models by name: fetched from the Hugging Face hub or a mirror, verified, kept in a cache folder,
//! converted and opened.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use trilobite_hub::{Cache, Source, ask, open, pull};
//!
//! let cache = Cache::from_env();
//! let asked = ask(&cache, "owner/repository")?;
//! pull(&cache, &Source::hub(None), &asked, &mut |event| eprintln!("{event}"))?;
//! let go_on = &mut |_: trilobite_hub::Conversion<'_>| ControlFlow::Continue(());
//! let model = open(&cache, Some("repository".as_ref()), true, go_on)?;
//! # Ok::<(), trilobite_hub::Error>(())
//! ```
//!
//! [`resolve`] and [`open`] take what a user calls a model: a path, a name of `models/models.toml`,
//! a repository of the hub, or a short name of either, in any case and punctuation. [`Cache`] lists
//! and removes what is stored.

#![forbid(unsafe_code)]

mod cache;
mod converted;
mod data;
mod download;
mod error;
mod event;
mod listed;
mod lock;
mod names;
mod open;
mod pull;
mod record;
mod reference;
mod select;
mod size;
mod source;
mod stored;

pub use cache::Cache;
pub use converted::{Conversion, ConversionListener, ConvertedCopy};
pub use data::{DataFile, pull_data};
pub use error::{Error, Result};
pub use event::{Event, Listener};
pub use listed::Listed;
pub use names::{hint, nearest};
pub use open::{open, open_tokenizer, tokenizer_of};
pub use pull::{Request, ask, pull};
pub use record::{Fetched, Record};
pub use reference::Reference;
pub use size::Size;
pub use source::Source;
pub use stored::{Removed, Stored, resolve};
