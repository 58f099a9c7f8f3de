//! Opening model files.

#[cfg(target_os = "linux")]
mod large_pages;
#[cfg(not(target_os = "linux"))]
mod large_pages {
    //! A system other than Linux, where memory gets no large pages on request.

    pub(super) fn copy(
        _: &[(&std::fs::File, std::ops::Range<usize>)],
        _: usize,
    ) -> Option<(memmap2::Mmap, Vec<std::ops::Range<usize>>)> {
        None
    }
}

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use memmap2::Mmap;
use trilobite_format::model::{
    Architecture, Hyperparameters, Projections, Role, Storage, is_projection, mixture_note,
    zeros_note,
};
use trilobite_format::{Gguf, Metadata, Split, TensorInfo};
use trilobite_kernels::DenseMatrix;

use crate::config::Config;
use crate::defaults;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::weights::{Matrix, MatrixView, Place, Weights};

/// The reason why a matrix view can always be made: `Model::open` made each of them once.
const CHECKED: &str = "a matrix has the bytes that it had when the model was opened";

/// The bytes of a file.
enum Bytes {
    Mapped(File, Mmap),
    Owned(Vec<u8>),
}

/// A model: its mapped files, its metadata and the places of its tensors. Most models are a single
/// file.
pub struct Model {
    files: Vec<Bytes>,
    /// The copy made by [`into_large_pages`](Model::into_large_pages). Its index is that after the
    /// last file.
    copy: Option<Mmap>,
    gguf: Gguf,
    config: Config,
    weights: Weights,
    notes: Vec<String>,
    tokenizer: OnceLock<Tokenizer>,
}

/// The note for a file of an earlier version.
const EARLIER_HEAD_SCAN: &str = "the coarse copy of the head is of an earlier version's form and not \
                                 used: convert the model again for faster decoding";

impl Model {
    /// Maps and validates a GGUF file. A model that is split into several files can be opened by
    /// any of them; all must be in one folder under the names that llama.cpp gives them.
    ///
    /// The file must not be changed or truncated while the model is in use. The operating system
    /// answers a read of a page that no longer exists with SIGBUS.
    ///
    /// # Errors
    /// The file cannot be read, is not a valid GGUF file, or contains something that cannot be run.
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
            parts.push(Gguf::parse(&map).map_err(|source| Error::Part { path, source })?);
            files.push(Bytes::Mapped(file, map));
        }
        Self::new(files, Gguf::join(parts)?)
    }

    /// Reads a model from a GGUF file in memory.
    ///
    /// # Errors
    /// The bytes are not a valid GGUF file, or contain something that cannot be run.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        let gguf = Gguf::parse(&bytes)?;
        Self::new(vec![Bytes::Owned(bytes)], gguf)
    }

    fn new(files: Vec<Bytes>, gguf: Gguf) -> Result<Self> {
        let slices: Vec<&[u8]> = files.iter().map(Bytes::as_slice).collect();
        // This check comes first: a file that must be converted gets an error that says so.
        let (arch, name) = Architecture::of(gguf.metadata())?;
        let projections = Projections::of(arch, &gguf, &slices)?;
        if let Some(info) = projections.first(Storage::Unpacked, &gguf) {
            return Err(Error::Unpacked { name: info.name.clone(), found: info.ty.to_string() });
        }
        let embedding = gguf.tensor(&Role::Embedding.name(0));
        let rows = embedding.and_then(|info| info.shape.first().copied());
        let model = Hyperparameters::read(gguf.metadata(), rows)?;
        let release = |place: &Place| {
            files.get(place.part).into_iter().for_each(|file| file.release(&place.range));
        };
        let weights = Weights::from_gguf(&gguf, &slices, &model, &projections, release)?;
        let config = Config::new(model, name);
        let zeros: Vec<&str> = weights.zeros.iter().map(String::as_str).collect();
        let tensors = gguf.tensors().iter().map(|info| info.name.as_str());
        let mixture = tensors
            .filter(|name| is_projection(name))
            .map(|name| (name, projections.storage(name) == Some(Storage::Dense)));
        let earlier = weights.earlier_head_scan.then(|| EARLIER_HEAD_SCAN.to_owned());
        let notes = zeros_note(&zeros).into_iter().chain(mixture_note(mixture)).chain(earlier);
        let notes = notes.chain(defaults::unusable(gguf.metadata())).collect();
        Ok(Self { files, copy: None, gguf, config, weights, notes, tokenizer: OnceLock::new() })
    }

    /// Copies the weights that every decoded token reads into memory with large pages, which makes
    /// decoding faster. If the weights are few, memory is short or the system has no such pages,
    /// the mapped files are used as before. Results are the same either way.
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

    /// Whether the model gives embeddings only: it says how hidden states are pooled, and has no head.
    pub fn only_embeds(&self) -> bool {
        self.config.pooling.is_some() && self.weights.tied
    }

    /// Remarks for the user: projections that are dense, or that are all zeros, and settings that are
    /// ignored.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The part of a mixture of experts that a token does not use: its weights and bytes. Both are 0
    /// for other models.
    pub fn unused_experts(&self) -> (u64, u64) {
        let Some(experts) = &self.config.experts else { return (0, 0) };
        let layers = self.weights.layers.iter();
        let matrices = layers.flat_map(|layer| [&layer.gate, &layer.up, &layer.down]);
        let (weights, bytes) = matrices.fold((0, 0), |(weights, bytes), matrix| {
            (weights + matrix.rows * matrix.cols, bytes + matrix.place.range.len())
        });
        let unused = |all: usize| (all / experts.count * (experts.count - experts.used)) as u64;
        (unused(weights), unused(bytes))
    }

    /// The file's header.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &Metadata {
        self.gguf.metadata()
    }

    /// The contents of all files.
    pub fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(Bytes::as_slice)
    }

    /// The bytes of a tensor.
    pub fn tensor(&self, info: &TensorInfo) -> &[u8] {
        info.bytes(self.files.get(info.part).map_or(&[], Bytes::as_slice))
    }

    /// The bytes at a place in the files, or in the copy with large pages.
    pub(crate) fn bytes(&self, place: &Place) -> &[u8] {
        let copy = self.copy.as_deref().unwrap_or_default();
        &self.files.get(place.part).map_or(copy, Bytes::as_slice)[place.range.clone()]
    }

    /// The weights of a matrix.
    pub(crate) fn view(&self, matrix: &Matrix) -> MatrixView<'_> {
        matrix.view(self.bytes(&matrix.place)).expect(CHECKED)
    }

    /// The token embedding.
    pub(crate) fn embedding(&self) -> DenseMatrix<'_> {
        let Matrix { rows, cols, ref place, .. } = self.weights.embedding;
        let ty = self.weights.embedding_type;
        DenseMatrix::new(ty, self.bytes(place), rows, cols).expect(CHECKED)
    }

    /// The tokenizer. It is built on first use, since a vocabulary of 128,256 entries takes a
    /// moment.
    ///
    /// # Errors
    /// The file has no tokenizer, or one that cannot be used.
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

    /// Tells the system that it may free the memory of a range of a map, because it may not be read
    /// again.
    fn release(&self, range: &Range<usize>) {
        let Bytes::Mapped(_, map) = self else { return };
        if range.end > map.len() {
            return;
        }
        // The system may ignore the advice, so a failure is ignored too.
        #[cfg(unix)]
        // SAFETY: the pages of a map that is only read are never dirty. A later access reads the same
        // bytes from the file again.
        let _ = unsafe {
            map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
        };
    }
}

/// The paths of all files of the model that a GGUF file belongs to, whether or not they exist.
/// `metadata` is that of the file.
///
/// # Errors
/// The model is split and the name of the file does not say which part it is.
pub fn parts(path: &Path, metadata: &Metadata) -> Result<Vec<PathBuf>> {
    let Some(split) = Split::of(metadata)? else { return Ok(vec![path.to_owned()]) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(split.names(&name)?.map(|name| path.with_file_name(name)).collect())
}

/// Maps a file for reading. It must not be changed while it is mapped: see [`Model::open`].
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
    // SAFETY: the map is read-only and private to this process. `Model::open` requires that nobody
    // changes the file while it is mapped. Every byte pattern is a valid `u8`, so a change could
    // yield wrong numbers or SIGBUS but no invalid value.
    let map = unsafe { Mmap::map(&file) }.map_err(error)?;
    Ok((file, map))
}
