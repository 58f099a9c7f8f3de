//! Opens a model in any form in which it is stored.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;

use trilobite_convert::{Checkpoint, Options, Progress, convert};
use trilobite_format::{Error as FormatError, LFS_POINTER, Metadata, read_regular};
use trilobite_runtime::{Error as RuntimeError, Model, Tokenizer};

use crate::converted::{self, Conversion, ConversionListener};
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

/// Minimum size in bytes of a checkpoint whose conversion is cached. Smaller ones take at most a
/// fifth of a second to convert.
const MIN_CACHED_BYTES: u64 = 16 << 20;

/// Opens a model: a GGUF file, a checkpoint, a stored model by name, or the built-in model. A
/// checkpoint is converted. With `keep`, the conversion of a large one is cached.
///
/// # Errors
/// The model does not exist, is damaged or is not supported, or the listener stops the conversion.
pub fn open(
    cache: &Cache,
    model: Option<&Path>,
    keep: bool,
    listen: &mut ConversionListener<'_>,
) -> Result<Model> {
    let silent = &mut |_: Conversion<'_>| ControlFlow::Continue(());
    let Some(argument) = model else { return in_memory(&built_in()?, silent) };
    let path = &*resolve(cache, argument)?;
    let weights = path.extension().is_some_and(|extension| extension == "safetensors");
    if !path.is_dir() && !weights {
        match Model::open(path) {
            Err(RuntimeError::Unpacked { .. }) => {}
            Err(RuntimeError::Format(error)) => return Err(of_file(path, error)),
            opened => return Ok(opened?),
        }
    }
    let checkpoint = Checkpoint::open(path)?;
    if checkpoint.bytes() < MIN_CACHED_BYTES {
        return in_memory(&checkpoint, silent);
    }
    if keep && let Some(model) = converted::open(&checkpoint, path, cache, listen)? {
        return Ok(model);
    }
    in_memory(&checkpoint, listen)
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

fn in_memory(checkpoint: &Checkpoint, listen: &mut ConversionListener<'_>) -> Result<Model> {
    let mut gguf = Vec::new();
    let mut progress = |progress: Progress<'_>| listen(Conversion::Progress(progress));
    convert(checkpoint, &Options::default(), &mut gguf, &mut progress)?;
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
