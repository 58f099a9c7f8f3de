//! Which model a command means.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Once};

use anyhow::{Context, Result, bail};
use trilobite_convert::{Checkpoint, Options, convert, ignore_progress};
use trilobite_format::{Gguf, Metadata, ternary};
use trilobite_runtime::{Model, Session, SessionOptions, Tokenizer};

use crate::args;
use crate::listed;
use crate::machine;

/// The checkpoint in `models/tinystories`, as it is.
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

/// The name of the built-in model in reports.
const BUILT_IN_NAME: &str = "tinystories (built in)";

/// Longest context that a command takes by itself; a longer one must be asked for.
const DEFAULT_CONTEXT: usize = 4096;

/// The model that the arguments name, ready to run.
pub(crate) fn load(args: &args::Model) -> Result<Arc<Model>> {
    Ok(Arc::new(read(args)?))
}

/// The same with its weights where tokens are decoded fastest.
pub(crate) fn load_to_decode(args: &args::Model) -> Result<Arc<Model>> {
    Ok(Arc::new(read(args)?.into_large_pages(machine::cores())))
}

fn read(args: &args::Model) -> Result<Model> {
    match &args.model {
        None => from_checkpoint(&built_in()?),
        Some(path) => open(path).with_context(|| path.display().to_string()),
    }
}

/// The name of that model in reports.
pub(crate) fn name(args: &args::Model) -> String {
    args.model.as_ref().map_or_else(|| BUILT_IN_NAME.into(), |path| path.display().to_string())
}

/// The tokenizer of a model. What it rests on beyond what the file says is told once.
pub(crate) fn tokenizer<'a>(model: &'a Model, global: &args::Global) -> Result<&'a Tokenizer> {
    static TOLD: Once = Once::new();
    let tokenizer = model.tokenizer()?;
    TOLD.call_once(|| tell_assumption(tokenizer, global));
    Ok(tokenizer)
}

fn tell_assumption(tokenizer: &Tokenizer, global: &args::Global) {
    if let Some(assumption) = tokenizer.assumption().filter(|_| !global.quiet) {
        eprintln!("{assumption}");
    }
}

/// The tokenizer of a model file, a checkpoint folder or a lone tokenizer.json; nothing else of
/// the model is needed.
pub(crate) fn load_tokenizer(path: Option<&Path>, global: &args::Global) -> Result<Tokenizer> {
    let Some(path) = path else {
        let json = BUILT_IN.iter().find(|(name, _)| *name == "tokenizer.json");
        let (_, json) = json.context("the built-in model has no tokenizer")?;
        return Ok(Tokenizer::from_json(json)?);
    };
    let read = || -> Result<Tokenizer> {
        let path = &*listed::resolve(path)?;
        if path.is_dir() {
            let tokenizer = of_checkpoint(&Checkpoint::open_without_weights(path)?)?;
            return tokenizer.context("there is no tokenizer.json");
        }
        if path.extension().is_some_and(|extension| extension == "json") {
            return Ok(Tokenizer::from_json(&std::fs::read(path)?)?);
        }
        let metadata = Metadata::parse(&trilobite_runtime::map(path)?)?;
        // Of a model in several files the first has the tokenizer.
        match trilobite_runtime::parts(path, &metadata)?.first() {
            Some(first) if first != path => {
                let metadata = Metadata::parse(&trilobite_runtime::map(first)?)?;
                Ok(Tokenizer::from_metadata(&metadata)?)
            }
            _ => Ok(Tokenizer::from_metadata(&metadata)?),
        }
    };
    let tokenizer = read().with_context(|| path.display().to_string())?;
    tell_assumption(&tokenizer, global);
    Ok(tokenizer)
}

/// The tokenizer of a Hugging Face checkpoint that has a tokenizer.json.
pub(crate) fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>> {
    let Some((json, clean_up)) = checkpoint.tokenizer_json()? else { return Ok(None) };
    Ok(Some(Tokenizer::from_json(json.as_bytes())?.with_clean_up(clean_up)))
}

fn built_in() -> Result<Checkpoint> {
    let files = BUILT_IN.map(|(name, bytes)| (name.to_owned(), Cow::Borrowed(bytes)));
    Ok(Checkpoint::from_files(files.into())?)
}

fn open(path: &Path) -> Result<Model> {
    let path = &*listed::resolve(path)?;
    if !path.try_exists()? {
        bail!("there is no such file or folder");
    }
    if !path.is_dir() && !needs_conversion(path)? {
        return Ok(Model::open(path)?);
    }
    from_checkpoint(&Checkpoint::open(path)?)
}

/// Whether a GGUF file holds ternary tensors in a layout that is converted before it runs.
fn needs_conversion(path: &Path) -> Result<bool> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        return Ok(true);
    }
    let file = trilobite_runtime::map(path)?;
    let ternary = |file: &[u8], gguf: &Gguf| {
        gguf.tensors().iter().any(|info| ternary::has_one_scale(info.ty, info.bytes(file)))
    };
    let gguf = Gguf::parse(&file)?;
    if ternary(&file, &gguf) {
        return Ok(true);
    }
    for part in trilobite_runtime::parts(path, gguf.metadata())? {
        let file = trilobite_runtime::map(&part)?;
        if part != path && ternary(&file, &Gguf::parse(&file)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Converts in memory.
fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Model> {
    let mut gguf = Vec::new();
    convert(checkpoint, &Options::default(), &mut gguf, &mut ignore_progress)?;
    Ok(Model::from_bytes(gguf)?)
}

/// A session with the context that was asked for, or as much of the model's as is usual.
pub(crate) fn session(
    model: &Arc<Model>,
    compute: &args::Compute,
    context: Option<usize>,
) -> Result<Session> {
    let most = model.config().context;
    let context = match context {
        Some(0) => bail!("--ctx is 0, expected at least 1"),
        Some(asked) if asked > most => {
            bail!("--ctx is {asked}, but the model was made for at most {most} tokens")
        }
        Some(asked) => asked,
        None => most.min(DEFAULT_CONTEXT),
    };
    if compute.batch == 0 {
        bail!("--batch is 0, expected at least 1");
    }
    let threads = compute.threads.map_or_else(machine::cores, usize::from);
    let options = SessionOptions {
        threads,
        context,
        batch: compute.batch,
        cache: compute.kv.into(),
        plain: compute.plain,
    };
    Ok(Session::new(Arc::clone(model), options)?)
}
