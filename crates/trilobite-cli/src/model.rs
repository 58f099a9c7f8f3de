//! Which model a command means.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Once};

use anyhow::{Context, Result, bail};
use trilobite_convert::{Checkpoint, Options, Progress, convert, ignore_progress};
use trilobite_format::{LFS_POINTER, Metadata, TensorType, read_regular};
use trilobite_runtime::{Error, Model, Session, SessionOptions, Tokenizer};

use crate::converted::{self, Conversion};
use crate::{args, home, interrupt, listed, machine, output};

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

/// Checkpoints of fewer bytes are converted in memory every time: a fifth of a second at most, which
/// no file is worth.
const WORTH_KEEPING: u64 = 16 << 20;

/// The model that the arguments name, ready to run. What a user should know of it is told.
pub(crate) fn load(args: &args::Model, global: &args::Global) -> Result<Arc<Model>> {
    Ok(Arc::new(read_and_tell(args, global)?))
}

/// The same with its weights where tokens are decoded fastest.
pub(crate) fn load_to_decode(args: &args::Model, global: &args::Global) -> Result<Arc<Model>> {
    Ok(Arc::new(read_and_tell(args, global)?.into_large_pages(machine::cores())))
}

fn read_and_tell(args: &args::Model, global: &args::Global) -> Result<Model> {
    let model = read(args, global)?;
    for note in model.notes().iter().filter(|_| !global.quiet) {
        output::say(&format!("note: {note}"));
    }
    Ok(model)
}

/// The model that the arguments name.
pub(crate) fn read(args: &args::Model, global: &args::Global) -> Result<Model> {
    match &args.model {
        None => in_memory(&built_in()?, &mut ignore_progress),
        Some(path) => open(path, args.no_cache, global).with_context(|| path.display().to_string()),
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
        output::say(assumption);
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
            let bytes = read_regular(path)?;
            if bytes.starts_with(LFS_POINTER) {
                return Err(trilobite_format::Error::LfsPointer.into());
            }
            return Ok(Tokenizer::from_json(&bytes)?);
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

fn open(path: &Path, no_cache: bool, global: &args::Global) -> Result<Model> {
    let path = &*listed::resolve(path)?;
    let weights = path.extension().is_some_and(|extension| extension == "safetensors");
    if !path.is_dir() && !weights {
        match Model::open(path) {
            Err(Error::Unpacked { .. }) => {}
            opened => return Ok(opened?),
        }
    }
    let checkpoint = Checkpoint::open(path)?;
    if checkpoint.bytes() < WORTH_KEEPING {
        return in_memory(&checkpoint, &mut ignore_progress);
    }
    let bar = output::Progress::new(0, output::Unit::Bytes, global)?;
    let model = convert_once(&checkpoint, path, no_cache, &bar, global);
    bar.finish();
    model
}

/// The converted model that is kept in the cache; where there can be none, one in memory.
fn convert_once(
    checkpoint: &Checkpoint,
    path: &Path,
    no_cache: bool,
    bar: &output::Progress,
    global: &args::Global,
) -> Result<Model> {
    let say = |text: String| {
        if !global.quiet {
            bar.say(&format!("{}: {text}", path.display()));
        }
    };
    let go_on =
        || if interrupt::seen() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let mut progress = |progress: Progress<'_>| {
        bar.set(progress.done, progress.total);
        bar.set_message(progress.tensor);
        go_on()
    };
    if no_cache {
        return in_memory(checkpoint, &mut progress);
    }
    let mut waiting = false;
    let kept = converted::open(checkpoint, path, home::converted(), &mut |event| {
        match event {
            Conversion::Progress(at) => return progress(at),
            Conversion::Begun(file) => say(format!("converting it once, into {}", file.display())),
            Conversion::Waiting if waiting => {}
            Conversion::Waiting => {
                waiting = true;
                say("waiting for another process that converts it".to_owned());
            }
            Conversion::Damaged(why) => say(format!("the converted file is damaged: {why:#}")),
            Conversion::NotKept(why) => say(format!("converting it in memory: {why:#}")),
        }
        go_on()
    })?;
    kept.map_or_else(|| in_memory(checkpoint, &mut progress), Ok)
}

/// What makes a model run that is refused, where there is something.
pub(crate) fn advice(error: &anyhow::Error) -> Option<&'static str> {
    let format = match (error.downcast_ref(), error.downcast_ref()) {
        (Some(Error::Format(format)), _) => format,
        (_, Some(trilobite_convert::Error::Gguf { source, .. })) => source,
        _ => return None,
    };
    match format {
        trilobite_format::Error::NotTernary {
            ty: TensorType::F32 | TensorType::F16 | TensorType::Bf16,
            ..
        } => Some(
            "`trilobite convert --quantize absmean` packs master weights, and trits written as \
             numbers",
        ),
        _ => None,
    }
}

fn in_memory(
    checkpoint: &Checkpoint,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Model> {
    let mut gguf = Vec::new();
    convert(checkpoint, &Options::default(), &mut gguf, progress)?;
    Ok(Model::from_bytes(gguf)?)
}

/// A session with the context that was asked for, or as much of the model's as is usual.
pub(crate) fn session(
    model: &Arc<Model>,
    compute: &args::Compute,
    context: Option<usize>,
) -> Result<Session> {
    Ok(Session::new(Arc::clone(model), session_options(model, compute, context)?)?)
}

/// The settings of such a session.
pub(crate) fn session_options(
    model: &Model,
    compute: &args::Compute,
    context: Option<usize>,
) -> Result<SessionOptions> {
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
    Ok(SessionOptions {
        threads,
        context,
        batch: compute.batch,
        cache: compute.kv.into(),
        plain: compute.plain,
    })
}
