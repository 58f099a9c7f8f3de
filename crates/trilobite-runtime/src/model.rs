//! A model file, opened.

#[cfg(target_os = "linux")]
mod large_pages;
#[cfg(not(target_os = "linux"))]
mod large_pages {
    //! Elsewhere memory does not get large pages by asking.

    pub(super) fn copy(
        _: &[(&std::fs::File, std::ops::Range<usize>)],
        _: usize,
    ) -> Option<(memmap2::Mmap, Vec<std::ops::Range<usize>>)> {
        None
    }
}

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use memmap2::Mmap;
use trilobite_format::model::{
    Architecture, Projections, Storage, is_projection, mixture_note, zeros_note,
};
use trilobite_format::{Gguf, Metadata, Split, TensorInfo};
use trilobite_kernels::DenseMatrix;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::weights::{Matrix, Place, View, Weights};

/// Why views of matrices can be made: all of them were when the model was opened.
const CHECKED: &str = "a matrix has the bytes that it had when the model was opened";

/// The bytes of a file.
enum Bytes {
    Mapped(File, Mmap),
    Owned(Vec<u8>),
}

/// A model: its files (mapped, not copied), what they say about themselves, and where their tensors
/// lie. Most models are in one file.
pub struct Model {
    files: Vec<Bytes>,
    /// See [`into_large_pages`](Model::into_large_pages); counts as the file after the last.
    copy: Option<Mmap>,
    gguf: Gguf,
    config: Config,
    weights: Weights,
    notes: Vec<String>,
    tokenizer: OnceLock<Tokenizer>,
}

impl Model {
    /// Maps and validates a GGUF file. Of a model in several files any one will do, if all of them
    /// are in its folder under the names that llama.cpp gives them.
    ///
    /// The file must not be changed or truncated while the model is in use: the operating system
    /// answers reads of pages that have gone with SIGBUS.
    ///
    /// # Errors
    /// The file cannot be read, is no valid GGUF file, or holds something that cannot be run.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, first) = open(path)?;
        let gguf = Gguf::parse(&first)?;
        let paths = parts(path, gguf.metadata())?;
        if paths.len() == 1 {
            return Self::new(vec![Bytes::Mapped(file, first)], gguf);
        }
        let (mut files, mut parts) = (Vec::new(), Vec::new());
        for path in paths {
            let (file, map) = open(&path)?;
            parts.push(Gguf::parse(&map)?);
            files.push(Bytes::Mapped(file, map));
        }
        Self::new(files, Gguf::join(parts)?)
    }

    /// A model from a GGUF file in memory.
    ///
    /// # Errors
    /// The bytes are no valid GGUF file or hold something that cannot be run.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        let gguf = Gguf::parse(&bytes)?;
        Self::new(vec![Bytes::Owned(bytes)], gguf)
    }

    fn new(files: Vec<Bytes>, gguf: Gguf) -> Result<Self> {
        let slices: Vec<&[u8]> = files.iter().map(Bytes::as_slice).collect();
        // First, so that what has to be converted is not refused for what conversion mends.
        let (arch, _) = Architecture::of(gguf.metadata())?;
        let projections = Projections::of(arch, &gguf, &slices)?;
        if let Some(info) = projections.first(Storage::Unpacked, &gguf) {
            return Err(Error::Unpacked { name: info.name.clone(), found: info.ty.to_string() });
        }
        let config = Config::read(&gguf)?;
        let weights = Weights::from_gguf(&gguf, &slices, &config, &projections)?;
        let zeros: Vec<&str> = weights.zeros.iter().map(String::as_str).collect();
        let tensors = gguf.tensors().iter().map(|info| info.name.as_str());
        let mixture = tensors
            .filter(|name| is_projection(name))
            .map(|name| (name, projections.storage(name) == Some(Storage::Dense)));
        let notes = zeros_note(&zeros).into_iter().chain(mixture_note(mixture)).collect();
        Ok(Self { files, copy: None, gguf, config, weights, notes, tokenizer: OnceLock::new() })
    }

    /// Copies the weights that every decoded token reads from the files to memory in large pages,
    /// which makes decoding faster, if there are enough of them, if the system has such pages, and if
    /// memory is plentiful; otherwise the files serve as before. No result depends on it.
    pub fn into_large_pages(mut self, threads: usize) -> Self {
        let places = self.weights.places_mut();
        let places: Option<Vec<_>> = places
            .map(|place| match self.files.get(place.part)? {
                Bytes::Mapped(file, _) => Some((file, place.range.clone())),
                Bytes::Owned(_) => None,
            })
            .collect();
        let copied = places.and_then(|places| large_pages::copy(&places, threads));
        if let Some((copy, ranges)) = copied {
            for (place, range) in self.weights.places_mut().zip(ranges) {
                *place = Place { part: self.files.len(), range };
            }
            self.copy = Some(copy);
        }
        self
    }

    /// The hyperparameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tensors.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What a user should know of the model: that some of its projections are dense, or hold nothing
    /// but zeros.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The file's header.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &Metadata {
        self.gguf.metadata()
    }

    /// The whole files.
    pub fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(Bytes::as_slice)
    }

    /// The bytes of a tensor of this model.
    pub fn tensor(&self, info: &TensorInfo) -> &[u8] {
        info.bytes(self.files.get(info.part).map_or(&[], Bytes::as_slice))
    }

    /// The bytes of a place in this model's files, or in what was copied of them.
    pub(crate) fn bytes(&self, place: &Place) -> &[u8] {
        let copy = self.copy.as_deref().unwrap_or_default();
        &self.files.get(place.part).map_or(copy, Bytes::as_slice)[place.range.clone()]
    }

    /// The weights of a matrix of this model.
    pub(crate) fn view(&self, matrix: &Matrix) -> View<'_> {
        matrix.view(self.bytes(&matrix.place)).expect(CHECKED)
    }

    /// The token embedding.
    pub(crate) fn embedding(&self) -> DenseMatrix<'_> {
        let Matrix { rows, cols, ref place, .. } = self.weights.embedding;
        let ty = self.weights.embedding_type;
        DenseMatrix::new(ty, self.bytes(place), rows, cols).expect(CHECKED)
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
            Bytes::Mapped(_, map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// All files of the model that a GGUF file holds or is a part of; `metadata` is the file's. They need
/// not be there.
///
/// # Errors
/// A part whose name does not say which it is.
pub fn parts(path: &Path, metadata: &Metadata) -> Result<Vec<PathBuf>> {
    let Some(split) = Split::of(metadata)? else { return Ok(vec![path.to_owned()]) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(split.names(&name)?.map(|name| path.with_file_name(name)).collect())
}

/// Maps a file for reading. As with [`Model::open`], it must not be changed while it is mapped.
///
/// # Errors
/// The file cannot be opened or mapped.
pub fn map(path: &Path) -> Result<Mmap> {
    Ok(open(path)?.1)
}

/// Opens and maps a file for reading.
fn open(path: &Path) -> Result<(File, Mmap)> {
    let error = |source| Error::Io { path: path.to_owned(), source };
    let file = trilobite_format::open_regular(path).map_err(error)?;
    // SAFETY: the map is read-only and private to this process; that nobody else changes the file
    // while it is mapped is what `Model::open` asks of its caller. Every byte pattern is a valid
    // `u8`, so a change could yield wrong numbers or SIGBUS but no invalid value.
    let map = unsafe { Mmap::map(&file) }.map_err(error)?;
    Ok((file, map))
}
