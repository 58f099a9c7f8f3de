//! A model file, opened.

use std::path::Path;
use std::sync::OnceLock;

use memmap2::Mmap;
use trilobite_format::{Gguf, Metadata};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::weights::{Matrix, Weights};

/// The bytes of a model file.
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

/// A model: its file (mapped, not copied), what it says about itself, and where its tensors lie.
pub struct Model {
    bytes: Bytes,
    gguf: Gguf,
    config: Config,
    weights: Weights,
    tokenizer: OnceLock<Tokenizer>,
}

impl Model {
    /// Maps and validates a GGUF file.
    ///
    /// The file must not be changed or truncated while the model is in use: the operating system
    /// answers reads of pages that have gone with SIGBUS.
    ///
    /// # Errors
    /// The file cannot be read, is no valid GGUF file, or holds something that cannot be run.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(Bytes::Mapped(map(path)?))
    }

    /// A model from a GGUF file in memory.
    ///
    /// # Errors
    /// The bytes are no valid GGUF file or hold something that cannot be run.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::new(Bytes::Owned(bytes))
    }

    fn new(bytes: Bytes) -> Result<Self> {
        let file = bytes.as_slice();
        let gguf = Gguf::parse(file)?;
        let config = Config::from_metadata(gguf.metadata())?;
        let weights = Weights::from_gguf(&gguf, file, &config)?;
        Ok(Self { bytes, gguf, config, weights, tokenizer: OnceLock::new() })
    }

    /// The hyperparameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tensors.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The file's header.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &Metadata {
        self.gguf.metadata()
    }

    /// The whole file.
    pub fn file(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The packed weights of a matrix of this model.
    pub(crate) fn packed(&self, matrix: &Matrix) -> &[u8] {
        &self.file()[matrix.range.clone()]
    }

    /// The tokenizer, built on first use: a vocabulary of 128,256 entries takes a moment.
    ///
    /// # Errors
    /// The file carries none, or one that cannot be used.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = Tokenizer::from_metadata(self.metadata())?;
        if let Some(id) = tokenizer.max_id().filter(|&id| id as usize >= self.config.vocab) {
            let rows = self.config.vocab;
            let fault = format!("token {id} has no row in the embedding, which has {rows}");
            return Err(Error::Tokenizer(fault));
        }
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// Maps a file for reading.
///
/// # Errors
/// The file cannot be opened or mapped.
pub fn map(path: &Path) -> Result<Mmap> {
    let error = |source| Error::Io { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(error)?;
    if file.metadata().map_err(error)?.is_dir() {
        return Err(error(std::io::ErrorKind::IsADirectory.into()));
    }
    // SAFETY: the map is read-only and private to this process; that nobody else changes the file
    // while it is mapped is what `Model::open` asks of its caller. Every byte pattern is a valid
    // `u8`, so a change could yield wrong numbers or SIGBUS but no invalid value.
    unsafe { Mmap::map(&file) }.map_err(error)
}
