//! Conversion sources: the files of a checkpoint and the tensors in them.

mod modules;
mod safetensors;
mod shards;
#[cfg(test)]
mod tests;
mod view;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trilobite_format::{Gguf, Split, open_regular};

use crate::Error;
use crate::hf::brief;
pub(crate) use modules::MODULES;
use modules::{USUAL_POOLING, pooling_file};
pub(crate) use shards::Shards;
pub(crate) use view::{Dtype, View};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Names of weights in PyTorch's own format, which can hold any program.
const PICKLED: [&str; 3] =
    ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];
/// The files of chat templates: the usual one, and the one for conversations with tools.
pub(crate) const TEMPLATE_FILE: &str = "chat_template.jinja";
pub(crate) const TOOL_TEMPLATE_FILE: &str = "additional_chat_templates/tool_use.jinja";
/// Optional files beside the weights.
const SIDE_FILES: [&str; 11] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    TEMPLATE_FILE,
    TOOL_TEMPLATE_FILE,
    MODULES,
    "config_sentence_transformers.json",
];

/// Maximum size of a JSON file. The largest published tokenizer.json have 40 million bytes.
const MAX_JSON: usize = 1 << 27;

/// The UTF-8 byte-order mark, which some tools write.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// An opened source: a Hugging Face checkpoint or a GGUF file.
///
/// Weights are memory-mapped. As with every program that maps files, the operating system kills
/// this process if another one truncates a mapped file.
#[derive(Debug)]
pub struct Checkpoint {
    /// The name of a model that has no name of its own.
    pub(crate) name: String,
    pub(crate) files: Vec<SourceFile>,
    pub(crate) kind: Kind,
    /// The file that holds the weights if there is no index.
    weights: String,
}

/// The format of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    HuggingFace,
    Gguf,
}

/// A file of a checkpoint.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// The name within the checkpoint; for a GGUF source in one file, its path.
    pub(crate) name: String,
    /// The path; `None` for a file in memory.
    path: Option<PathBuf>,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(memmap2::Mmap),
    Memory(Cow<'static, [u8]>),
}

impl SourceFile {
    /// Tells the system that it may free the memory of a mapped range, because converted data are
    /// not read again soon.
    pub(crate) fn release(&self, part: &[u8]) {
        let Bytes::Mapped(map) = &self.bytes else { return };
        let Some(offset) = (part.as_ptr() as usize).checked_sub(map.as_ptr() as usize) else {
            return;
        };
        if offset + part.len() <= map.len() {
            // The system may ignore the advice, so a failure is ignored too.
            #[cfg(unix)]
            #[allow(unsafe_code)]
            // SAFETY: the pages of a map that is only read are never dirty. A later access reads
            // the same bytes from the file again.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, part.len())
            };
        }
    }
}

impl Deref for SourceFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Memory(bytes) => bytes,
        }
    }
}

impl Checkpoint {
    /// The file that describes the pooling of an embedding model.
    pub(crate) fn pooling_file(&self) -> Result<Option<String>, Error> {
        self.json(MODULES)?.map_or(Ok(None), |modules| pooling_file(&modules))
    }

    /// Whether a file with this name in a checkpoint's folder can belong to the checkpoint.
    pub fn may_hold(name: &str) -> bool {
        let nested = name.contains(['/', '\\']);
        let weights = name == INDEX || name.ends_with(".safetensors");
        SIDE_FILES.contains(&name) || name == USUAL_POOLING || weights && !nested
    }

    /// Whether a file with this name can be a part of a checkpoint, but not a whole checkpoint.
    pub fn is_part(name: &str) -> bool {
        Self::may_hold(name) || PICKLED.contains(&name)
    }

    /// Opens a checkpoint folder, a `.safetensors` file with its config.json beside it, or a GGUF
    /// file. The other parts of a split GGUF model must be beside it.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::NotACheckpoint`]. [`convert`](crate::convert) checks the
    /// contents of the files.
    pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint, Error> {
        let path = path.as_ref();
        let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
        if metadata.is_dir() {
            return Self::open_folder(path, None);
        }
        let file = map_file(path, path.display().to_string())?;
        let name = stem(path);
        if file.starts_with(&trilobite_format::MAGIC) {
            let files = parts(path, file)?;
            return Ok(Checkpoint { name, files, kind: Kind::Gguf, weights: String::new() });
        }
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
            return Self::open_folder(folder.unwrap_or(Path::new(".")), path.file_name());
        }
        let part = path.file_name().and_then(|name| name.to_str()).is_some_and(Self::is_part);
        let why = match part {
            true => "it is one file of a checkpoint; give the folder",
            false => "expected a Hugging Face folder, a .safetensors file or a GGUF file",
        };
        Err(Error::NotACheckpoint { path: path.display().to_string(), why: why.to_owned() })
    }

    /// Makes a checkpoint from files in memory. Their names are those in a Hugging Face folder, or
    /// that of one GGUF file.
    ///
    /// # Errors
    /// [`Error::NotACheckpoint`] if the files are not a checkpoint.
    pub fn from_files(files: Vec<(String, Cow<'static, [u8]>)>) -> Result<Checkpoint, Error> {
        let files: Vec<SourceFile> = files
            .into_iter()
            .map(|(name, bytes)| SourceFile { name, path: None, bytes: Bytes::Memory(bytes) })
            .collect();
        let kind = match files.as_slice() {
            [only] if only.starts_with(&trilobite_format::MAGIC) => Kind::Gguf,
            _ => Kind::HuggingFace,
        };
        let checkpoint =
            Checkpoint { name: "model".to_owned(), files, kind, weights: SINGLE.to_owned() };
        if kind == Kind::HuggingFace {
            checkpoint.require_weights("the set of files in memory")?;
        }
        Ok(checkpoint)
    }

    /// Opens a checkpoint folder without its weights.
    ///
    /// # Errors
    /// [`Error::Read`], or the file that lists the parts of an embedding model is malformed.
    pub fn open_without_weights(folder: impl AsRef<Path>) -> Result<Checkpoint, Error> {
        let folder = folder.as_ref();
        let resolved = folder.canonicalize().map_err(|source| read_error(folder, source))?;
        let mut checkpoint = Checkpoint {
            name: stem(&resolved),
            files: Vec::new(),
            kind: Kind::HuggingFace,
            weights: SINGLE.to_owned(),
        };
        for name in SIDE_FILES {
            checkpoint.add(folder, name)?;
        }
        if let Some(name) = checkpoint.pooling_file()? {
            checkpoint.add(folder, &name)?;
        }
        Ok(checkpoint)
    }

    /// Opens a folder. `weights` names the weights file to use, if given.
    fn open_folder(folder: &Path, weights: Option<&std::ffi::OsStr>) -> Result<Self, Error> {
        let mut checkpoint = Self::open_without_weights(folder)?;
        if let Some(weights) = weights {
            checkpoint.weights = weights.to_string_lossy().into_owned();
        }
        if let Some(weights) = weights {
            let map = map_file(&folder.join(weights), checkpoint.weights.clone())?;
            checkpoint.files.push(map);
        } else if !checkpoint.add(folder, SINGLE)? && checkpoint.add(folder, INDEX)? {
            for shard in checkpoint.shard_names()? {
                checkpoint.add(folder, &shard)?;
            }
        }
        if let Err(error) = checkpoint.require_weights(&folder.display().to_string()) {
            let pickled = PICKLED.into_iter().find(|name| folder.join(name).exists());
            return Err(match pickled {
                Some(name) => {
                    Error::Pickled { path: folder.display().to_string(), file: name.to_owned() }
                }
                None => with_model(error, folder),
            });
        }
        Ok(checkpoint)
    }

    fn require_weights(&self, path: &str) -> Result<(), Error> {
        let why = if self.file("config.json").is_none() {
            "it has no config.json"
        } else if self.file(&self.weights).is_none() && self.file(INDEX).is_none() {
            "it has neither model.safetensors nor model.safetensors.index.json"
        } else {
            return Ok(());
        };
        Err(Error::NotACheckpoint { path: path.to_owned(), why: why.to_owned() })
    }

    /// Maps a file of the folder if it exists. Returns whether it does. A broken link is an error: the
    /// folder means to have the file.
    fn add(&mut self, folder: &Path, name: &str) -> Result<bool, Error> {
        let path = folder.join(name);
        match map_file(&path, name.to_owned()) {
            Ok(file) => {
                self.files.push(file);
                Ok(true)
            }
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The paths of the opened files, except those in memory.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().filter_map(|file| file.path.as_deref())
    }

    /// Total size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len() as u64).sum()
    }

    /// The file with this name in the checkpoint.
    pub(crate) fn file(&self, name: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Parses a JSON file, if it exists.
    pub(crate) fn json(&self, name: &str) -> Result<Option<Value>, Error> {
        let Some(file) = self.file(name) else { return Ok(None) };
        if file.len() > MAX_JSON {
            return Err(Error::Value {
                file: name.to_owned(),
                key: "content".to_owned(),
                expected: format!("at most {MAX_JSON} bytes"),
                found: format!("{} bytes long", file.len()),
            });
        }
        let bytes = file.strip_prefix(BYTE_ORDER_MARK.as_bytes()).unwrap_or(file);
        let parsed = serde_json::from_slice(bytes);
        parsed.map(Some).map_err(|source| Error::Json { file: name.to_owned(), source })
    }

    /// Parses a JSON file that holds an object, if it exists.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Value>, Error> {
        match self.json(name)? {
            Some(value) if !value.is_object() => Err(Error::Value {
                file: name.to_owned(),
                key: "content".to_owned(),
                expected: "an object".to_owned(),
                found: brief(&value),
            }),
            value => Ok(value),
        }
    }

    /// Reads a text file, if it exists.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        let Some(file) = self.file(name) else { return Ok(None) };
        let text = std::str::from_utf8(file).map_err(|_| Error::Value {
            file: name.to_owned(),
            key: "content".to_owned(),
            expected: "UTF-8".to_owned(),
            found: "not UTF-8".to_owned(),
        })?;
        Ok(Some(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)))
    }

    /// Whether `path` is one of the source's files.
    pub fn contains(&self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else { return false };
        self.files
            .iter()
            .filter_map(|file| file.path.as_ref()?.canonicalize().ok())
            .any(|file| file == path)
    }
}

/// Adds to an error about a folder the name of a file in it that may be what is sought.
fn with_model(error: Error, folder: &Path) -> Error {
    let Error::NotACheckpoint { path, why } = error else { return error };
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut names: Vec<OsString> = names.collect();
    names.sort();
    let ending = |ending: &str| {
        let ends = |name: &&OsString| Path::new(name).extension().is_some_and(|end| end == ending);
        names.iter().filter(ends).map(|name| name.display()).collect::<Vec<_>>()
    };
    let configured = names.iter().any(|name| name == "config.json");
    let (models, weights) = (ending("gguf"), ending("safetensors"));
    let why = match (models.first(), weights.as_slice()) {
        (Some(name), _) => format!("{why}; the file {name} in it may be a model"),
        (None, [name]) if configured => format!("{why}; the file {name} may hold the weights"),
        (None, [first, _, ..]) if configured => {
            format!("{why}, which lists the tensors of {first} and the other shards")
        }
        _ => why,
    };
    Error::NotACheckpoint { path, why }
}

/// The parts of the GGUF model that an opened file belongs to; usually only that file.
fn parts(path: &Path, file: SourceFile) -> Result<Vec<SourceFile>, Error> {
    let error = |source| Error::Gguf { file: path.display().to_string(), source };
    // An invalid header is reported when the file is converted.
    let Ok(gguf) = Gguf::parse(&file) else { return Ok(vec![file]) };
    let Some(split) = Split::of(gguf.metadata()).map_err(error)? else { return Ok(vec![file]) };
    let name = path.file_name().expect("a file that was opened has a name").to_string_lossy();
    let names = split.names(&name).map_err(error)?;
    names
        .map(|name| {
            let path = path.with_file_name(name);
            map_file(&path, path.display().to_string())
        })
        .collect()
}

fn stem(path: &Path) -> String {
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    stem.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn read_error(path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    match path.read_link() {
        Ok(target) if source.kind() == io::ErrorKind::NotFound => {
            Error::BrokenLink { path, target }
        }
        _ => Error::Read { path, source },
    }
}

fn map_file(path: &Path, name: String) -> Result<SourceFile, Error> {
    let map = open_regular(path).and_then(|file| map(&file));
    let map = map.map_err(|source| read_error(path, source))?;
    if map.starts_with(trilobite_format::LFS_POINTER) {
        return Err(Error::LfsPointer(path.to_owned()));
    }
    Ok(SourceFile { name, path: Some(path.to_owned()), bytes: Bytes::Mapped(map) })
}

/// Maps a file for reading.
pub(crate) fn map(file: &File) -> io::Result<memmap2::Mmap> {
    #[allow(unsafe_code)]
    // SAFETY: sources are only read, and the output is mapped after the last write to it, under a
    // name that is told to no other process. If another process changes the file nevertheless, its
    // bytes are only read as `u8`, which has no invalid values.
    unsafe {
        memmap2::Mmap::map(file)
    }
}
