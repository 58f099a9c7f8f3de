//! Opens a model in any form in which it is stored.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;

use trilobite_convert::{
    Checkpoint, Layouts, Options, Progress, convert, is_converted, layouts as layouts_of,
    start_threads,
};
use trilobite_format::{Error as FormatError, LFS_POINTER, Metadata, read_regular};
use trilobite_runtime::{Error as RuntimeError, Model, Tokenizer};

use crate::converted::{self, Conversion, ConversionListener, Entry, MIN_CACHED_BYTES};
use crate::tuned::{Machine, Tuned};
use crate::{Cache, Error, Result, resolve};

/// The files of the checkpoint in `models/tinystories`.
const BUILT_IN: [(&str, &[u8]); 5] = {
    macro_rules! file {
        ($name:literal) => {
            ($name, include_bytes!(concat!("../../../models/tinystories/", $name)))
        };
    }
    [
        file!("config.json"),
        file!("generation_config.json"),
        file!("model.safetensors"),
        file!("tokenizer.json"),
        file!("tokenizer_config.json"),
    ]
};

/// How to open a model.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Whether to cache the conversion of a large model.
    pub keep: bool,
    /// Whether to convert a GGUF file of ternary weights to the fastest layout.
    pub repack: bool,
    /// Threads of a conversion, as for [`start_threads`]; 0 means one for each core.
    pub threads: usize,
    /// The machine that decodes.
    pub machine: &'a Machine,
}

/// Opens a model: a GGUF file, a checkpoint, a stored model by name, or the built-in model. A
/// checkpoint is converted: to the layout that is recorded as the fastest on this machine, or else
/// to the default one.
///
/// # Errors
/// The model does not exist, is damaged or is not supported, or the listener stops the conversion.
pub fn open(
    cache: &Cache,
    model: Option<&Path>,
    how: Opening<'_>,
    listen: &mut ConversionListener<'_>,
) -> Result<Model> {
    let silent = &mut |_: Conversion<'_>| ControlFlow::Continue(());
    let Some(argument) = model else {
        start_threads(how.threads)?;
        return in_memory(&built_in()?, &Options::default(), silent);
    };
    let path = &*resolve(cache, argument)?;
    let weights = path.extension().is_some_and(|extension| extension == "safetensors");
    let file = !path.is_dir() && !weights;
    if file && !how.repack {
        match Model::open(path) {
            Err(RuntimeError::Unpacked { .. }) => {}
            Err(RuntimeError::Format(error)) => return Err(of_file(path, error)),
            opened => return Ok(opened?),
        }
    }
    start_threads(how.threads)?;
    let checkpoint = Checkpoint::open(path)?;
    let entry = Entry::of(&checkpoint, path, cache);
    let choose = |entry: &Entry| {
        Tuned::read(entry, how.machine).map_or_else(Options::default, |tuned| tuned.options())
    };
    let options = entry.as_ref().map_or_else(|_| Options::default(), choose);
    let entry = entry.map(|entry| Entry { options, ..entry });
    if file && how.repack {
        if how.keep
            && let Ok(Some(model)) = entry.as_ref().map_or(Ok(None), Entry::kept)
        {
            return Ok(model);
        }
        if layouts_of(&checkpoint)?.is_none() {
            return Err(Error::NotTernary);
        }
        if is_converted(&checkpoint, &options)? {
            return Ok(Model::open(path)?);
        }
    }
    if checkpoint.bytes() < MIN_CACHED_BYTES {
        return in_memory(&checkpoint, &options, silent);
    }
    if how.keep
        && let Some(model) = converted::open(entry, &checkpoint, &choose, listen)?
    {
        return Ok(model);
    }
    in_memory(&checkpoint, &options, listen)
}

/// The layouts that the ternary weights of a model can have, and the record of the fastest one on a
/// machine. `None` if the model has no ternary weights.
///
/// # Errors
/// The model does not exist, is damaged or is not supported.
pub fn layouts(
    cache: &Cache,
    model: Option<&Path>,
    machine: &Machine,
) -> Result<Option<(Layouts, Option<Tuned>)>> {
    let Some(argument) = model else {
        return Ok(layouts_of(&built_in()?)?.map(|layouts| (layouts, None)));
    };
    let path = resolve(cache, argument)?;
    let checkpoint = Checkpoint::open(&path)?;
    let Some(layouts) = layouts_of(&checkpoint)? else { return Ok(None) };
    let entry = Entry::of(&checkpoint, &path, cache).ok();
    Ok(Some((layouts, entry.and_then(|entry| Tuned::read(&entry, machine)))))
}

/// The error for a file that is not valid GGUF.
fn of_file(path: &Path, error: FormatError) -> Error {
    let name = path.file_name().and_then(|name| name.to_str());
    match (&error, path.parent()) {
        (FormatError::Magic { .. }, Some(folder)) if name.is_some_and(Checkpoint::is_part) => {
            let here = folder.as_os_str().is_empty();
            Error::PartOfCheckpoint(if here { Path::new(".") } else { folder }.to_owned())
        }
        _ => error.into(),
    }
}

fn built_in() -> Result<Checkpoint> {
    let files = BUILT_IN.map(|(name, bytes)| (name.to_owned(), Cow::Borrowed(bytes)));
    Ok(Checkpoint::from_files(files.into())?)
}

fn in_memory(
    checkpoint: &Checkpoint,
    options: &Options,
    listen: &mut ConversionListener<'_>,
) -> Result<Model> {
    let mut gguf = Vec::new();
    let mut progress = |progress: Progress<'_>| listen(Conversion::Progress(progress));
    convert(checkpoint, options, &mut gguf, &mut progress)?;
    Ok(Model::from_bytes(gguf)?)
}

/// Opens the tokenizer of a model, or a tokenizer.json file. Other parts of the model may be
/// missing.
///
/// # Errors
/// The model does not exist, or its tokenizer is damaged or not supported.
pub fn open_tokenizer(cache: &Cache, model: Option<&Path>) -> Result<Tokenizer> {
    let Some(argument) = model else {
        return tokenizer_of(&built_in()?)?.ok_or(Error::NoTokenizer);
    };
    let path = &*resolve(cache, argument)?;
    let weights = path.extension().is_some_and(|extension| extension == "safetensors");
    let folder = if weights { path.parent() } else { Some(path).filter(|path| path.is_dir()) };
    if let Some(folder) = folder {
        return tokenizer_of(&Checkpoint::open_without_weights(folder)?)?.ok_or(Error::NoTokenizer);
    }
    if path.extension().is_some_and(|extension| extension == "json") {
        let bytes = read_regular(path).map_err(Error::io(path))?;
        if bytes.starts_with(LFS_POINTER) {
            return Err(FormatError::LfsPointer.into());
        }
        return Ok(Tokenizer::from_json(&bytes)?);
    }
    let metadata = Metadata::parse(&trilobite_runtime::map(path)?);
    let metadata = metadata.map_err(|error| of_file(path, error))?;
    // If a model has several files, the tokenizer is in the first.
    match trilobite_runtime::parts(path, &metadata)?.first() {
        Some(first) if first != path => {
            let metadata = Metadata::parse(&trilobite_runtime::map(first)?)?;
            Ok(Tokenizer::from_metadata(&metadata)?)
        }
        _ => Ok(Tokenizer::from_metadata(&metadata)?),
    }
}

/// The tokenizer of a Hugging Face checkpoint that has a tokenizer.json or a tokenizer.model.
///
/// # Errors
/// A file of the checkpoint is damaged.
pub fn tokenizer_of(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>> {
    let Some((json, clean_up)) = checkpoint.tokenizer_json()? else {
        let Some(metadata) = checkpoint.sentence_piece()? else { return Ok(None) };
        return Ok(Some(Tokenizer::from_metadata(&metadata)?));
    };
    Ok(Some(Tokenizer::from_json(json.as_bytes())?.with_clean_up(clean_up)))
}
