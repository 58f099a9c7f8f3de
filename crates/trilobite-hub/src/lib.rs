//! Models by name: downloads them from the Hugging Face hub or a mirror, verifies them, stores them
//! in a cache folder, converts them and opens them.
//!
//! ```no_run
//! # #[cfg(all(feature = "download", feature = "open"))] {
//! use std::ops::ControlFlow;
//! use trilobite_hub::{Cache, Machine, Opening, Source, ask, open, pull};
//!
//! let cache = Cache::from_env();
//! let asked = ask(&cache, "owner/repository")?;
//! pull(&cache, &Source::hub(None), &asked, &mut |event| eprintln!("{event}"))?;
//! let go_on = &mut |_: trilobite_hub::Conversion<'_>| ControlFlow::Continue(());
//! let machine = &Machine { cpu: None, isa: "avx2".to_owned() };
//! let how = Opening { keep: true, repack: false, threads: 0, machine };
//! let model = open(&cache, Some("repository".as_ref()), how, go_on)?;
//! # }
//! # Ok::<(), trilobite_hub::Error>(())
//! ```
//!
//! [`resolve`] and [`open`] accept the path of a model, a name in `models/models.toml`, a
//! repository of the hub, or a short form of either name, and ignore case and punctuation in names.
//! [`Stored`] lists what is in the [`Cache`], which can also remove it.
//!
//! The features `download` and `open` are both on by default. Without them the crate lists and
//! clears the cache, and builds without an HTTP client and the engine.

#![forbid(unsafe_code)]

mod cache;
#[cfg(feature = "open")]
mod converted;
mod copies;
#[cfg(feature = "download")]
mod data;
#[cfg(feature = "download")]
mod download;
mod error;
#[cfg(feature = "download")]
mod event;
mod folder;
mod listed;
mod lock;
mod names;
#[cfg(feature = "open")]
mod open;
#[cfg(feature = "download")]
mod pins;
#[cfg(feature = "download")]
mod pull;
mod record;
mod reference;
#[cfg(feature = "download")]
mod select;
mod size;
#[cfg(feature = "download")]
mod source;
mod stored;
#[cfg(feature = "open")]
mod tuned;
#[cfg(feature = "open")]
mod tuning;

pub use cache::Cache;
#[cfg(feature = "open")]
pub use converted::{Conversion, ConversionListener};
pub use copies::ConvertedCopy;
#[cfg(feature = "download")]
pub use data::{DataFile, pull_data};
pub use error::{Error, Result};
#[cfg(feature = "download")]
pub use event::{Event, Listener};
pub use listed::Listed;
pub use names::{hint, nearest};
#[cfg(feature = "open")]
pub use open::{Opening, layouts, open, open_tokenizer, tokenizer_of};
#[cfg(feature = "download")]
pub use pull::{Request, ask, pull};
pub use record::{Fetched, Record};
pub use reference::Reference;
pub use size::Size;
#[cfg(feature = "download")]
pub use source::{Server, Source};
pub use stored::{Removed, Stored, resolve};
#[cfg(feature = "open")]
pub use tuned::{LayoutSpeed, Machine, Speed, Tuned};
#[cfg(feature = "open")]
pub use tuning::Tuning;
