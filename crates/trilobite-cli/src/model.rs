//! Opens the model of a command.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Once};

use anyhow::{Context, Result, bail};
use trilobite_convert::Checkpoint;
use trilobite_hub::{Cache, Conversion, Opening, open_tokenizer, resolve};
use trilobite_kernels::Kernels;
use trilobite_runtime::{
    Activations, Error, Model, ModelDrafter, Session, SessionOptions, Speculation, Tokenizer,
};

use crate::{args, interrupt, machine, output};

/// The name of the built-in model in reports.
const BUILT_IN_NAME: &str = "tinystories (built in)";

/// Maximum default length of the context. A longer one must be requested.
const DEFAULT_CONTEXT: usize = 4096;

/// Loads the model that the arguments name, and prints its notes.
pub(crate) fn load(
    args: &args::Model,
    threads: Option<u16>,
    global: &args::Global,
) -> Result<Arc<Model>> {
    Ok(Arc::new(read_and_tell(args, threads, global)?))
}

/// Loads the model with its weights in large pages, for decoding.
pub(crate) fn load_to_decode(
    args: &args::Model,
    threads: Option<u16>,
    global: &args::Global,
) -> Result<Arc<Model>> {
    Ok(Arc::new(read_and_tell(args, threads, global)?.into_large_pages(machine::cores())))
}

fn read_and_tell(args: &args::Model, threads: Option<u16>, global: &args::Global) -> Result<Model> {
    let model = read(args, threads, global)?;
    for note in model.notes().iter().filter(|_| !global.quiet) {
        output::say(&format!("note: {note}"));
    }
    Ok(model)
}

/// Opens the model that the arguments name. If it must be converted, by so many threads.
pub(crate) fn read(
    args: &args::Model,
    threads: Option<u16>,
    global: &args::Global,
) -> Result<Model> {
    // Every use of a model needs kernels. Their error is not one of the file.
    Kernels::detect()?;
    let Some(path) = args.model.as_deref() else { return open(None, args, threads, global) };
    open(Some(path), args, threads, global).map_err(|error| of_model(error, path))
}

/// Names the path of a model in an error, unless the error begins with it.
pub(crate) fn of_model(error: anyhow::Error, path: &Path) -> anyhow::Error {
    let (text, path) = (error.to_string(), path.display().to_string());
    let place = text.strip_prefix("cannot read ").unwrap_or(&text).trim_start_matches('"');
    // Otherwise the error begins with a longer name.
    let ends = |rest: &str| {
        path.ends_with('/') || rest.is_empty() || rest.starts_with([':', ' ', '/', '"'])
    };
    // In quotes some characters are escaped.
    let names = [path.as_str(), &path.escape_debug().to_string()]
        .into_iter()
        .any(|name| place.strip_prefix(name).is_some_and(ends));
    if names { error } else { error.context(path) }
}

/// Whether an error says what is wrong with a model, and nothing else, not even which model.
pub(crate) fn is_at_fault(error: &anyhow::Error) -> bool {
    let first = error.chain().next().and_then(|first| first.downcast_ref());
    matches!(
        first,
        Some(
            Error::EmbeddingNotFinite
                | Error::Format(_)
                | Error::NoInt8
                | Error::NoPooling
                | Error::NoPrefix
                | Error::NoPrompt { .. }
                | Error::NoTokenizer
                | Error::NotFinite
                | Error::OnlyEmbeds
                | Error::Template(_)
                | Error::Tokenizer(_)
                | Error::TokenizerFile { .. }
        )
    )
}

/// Opens a model, and reports the progress of its conversion if it is a checkpoint.
fn open(
    path: Option<&Path>,
    args: &args::Model,
    threads: Option<u16>,
    global: &args::Global,
) -> Result<Model> {
    let bar = output::Progress::new(0, output::Unit::Bytes, global)?;
    let say = |text: String| {
        if !global.quiet {
            bar.say(&format!("{}: {text}", path.unwrap_or(Path::new("")).display()));
        }
    };
    let mut waiting = false;
    let machine = &machine::processor()?;
    let threads = threads.map_or(0, usize::from);
    let how = Opening { keep: !args.no_cache, repack: args.repack, threads, machine };
    let opened = trilobite_hub::open(&Cache::from_env(), path, how, &mut |event| {
        match event {
            Conversion::Progress(at) => {
                bar.set(at.done, at.total);
                bar.set_message(at.tensor);
            }
            Conversion::Begun(file) => say(format!("converting it once, into {}", file.display())),
            Conversion::Waiting if waiting => {}
            Conversion::Waiting => {
                waiting = true;
                say("waiting for another process that converts it".to_owned());
            }
            Conversion::Damaged(why) => {
                say(format!("the converted file is damaged: {}", why.with_causes()))
            }
            Conversion::NotKept(why) => {
                say(format!("converting it in memory: {}", why.with_causes()))
            }
        }
        if interrupt::seen() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish();
    Ok(opened?)
}

/// Refuses to write a result over a file of the model that it comes from.
pub(crate) fn refuse_target(args: &args::Model, target: &Path) -> Result<()> {
    // Opening a model again takes time, so only an existing file is compared.
    let Some(model) = args.model.as_deref().filter(|_| target.is_file()) else { return Ok(()) };
    let path = resolve(&Cache::from_env(), model)?;
    match Checkpoint::open(&path)?.contains(target) {
        true => bail!("cannot write to {}: it is a file of the model", target.display()),
        false => Ok(()),
    }
}

/// The name of the model in reports.
pub(crate) fn name(args: &args::Model) -> String {
    args.model.as_ref().map_or_else(|| BUILT_IN_NAME.into(), |path| path.display().to_string())
}

/// The tokenizer of the model that the arguments name. An assumption that it is based on is printed
/// once.
pub(crate) fn tokenizer<'a>(
    model: &'a Model,
    args: &args::Model,
    global: &args::Global,
) -> Result<&'a Tokenizer> {
    static TOLD: Once = Once::new();
    let tokenizer = model.tokenizer().map_err(|error| match &args.model {
        Some(path) => of_model(error.into(), path),
        None => error.into(),
    })?;
    TOLD.call_once(|| tell_assumption(tokenizer, global));
    Ok(tokenizer)
}

fn tell_assumption(tokenizer: &Tokenizer, global: &args::Global) {
    if let Some(assumption) = tokenizer.assumption().filter(|_| !global.quiet) {
        output::say(assumption);
    }
}

/// Loads the tokenizer of a model file, a checkpoint folder or a tokenizer.json file. Other parts
/// of the model may be missing.
pub(crate) fn load_tokenizer(path: Option<&Path>, global: &args::Global) -> Result<Tokenizer> {
    let opened = open_tokenizer(&Cache::from_env(), path);
    let Some(path) = path else { return Ok(opened?) };
    let tokenizer = opened.map_err(|error| of_model(error.into(), path))?;
    tell_assumption(&tokenizer, global);
    Ok(tokenizer)
}

/// Checks that a model gives logits, before a command does anything with it.
fn ensure_head(model: &Model) -> Result<()> {
    match model.only_embeds() {
        true => Err(Error::OnlyEmbeds.into()),
        false => Ok(()),
    }
}

/// Checks that token ids belong to a vocabulary of this size.
pub(crate) fn check_ids(ids: &[u32], vocab: usize) -> Result<(), Error> {
    match ids.iter().find(|&&id| id as usize >= vocab) {
        Some(&id) => Err(Error::TokenId { id, vocab }),
        None => Ok(()),
    }
}

/// A session with the requested length of the context, or with the default one.
pub(crate) fn session(
    model: &Arc<Model>,
    compute: &args::Compute,
    context: Option<usize>,
) -> Result<Session> {
    ensure_head(model)?;
    Ok(Session::new(Arc::clone(model), session_options(model, compute, context)?)?)
}

/// The settings of a session with the requested length of the context, or with the default one.
pub(crate) fn session_options(
    model: &Model,
    compute: &args::Compute,
    context: Option<usize>,
) -> Result<SessionOptions> {
    let most = model.config().context;
    let context = match context {
        Some(asked) if asked > most => {
            bail!("--ctx is {asked}, but the model was made for at most {most} tokens")
        }
        Some(asked) => asked,
        None => most.min(DEFAULT_CONTEXT),
    };
    let threads = compute.threads.map_or_else(machine::cores, usize::from);
    Ok(SessionOptions {
        threads,
        context,
        batch: compute.batch,
        cache: compute.kv,
        activations: compute.activations,
        plain: compute.plain,
    })
}

/// Speculation by a small model, for a session of another one.
pub(crate) fn drafter(
    path: &Path,
    model: &Model,
    session: &Session,
    compute: &args::Compute,
    no_cache: bool,
    global: &args::Global,
) -> Result<Speculation> {
    let source = args::Model { model: Some(path.to_owned()), no_cache, repack: false };
    let named = || format!("--draft {}", path.display());
    let drafting = load_to_decode(&source, compute.threads, global).context("--draft")?;
    let context = session.context().min(drafting.config().context);
    ensure_head(&drafting)?;
    let options = session_options(&drafting, compute, Some(context))?;
    // The draft model may lack the weights for int8 activations. Drafts change no answer.
    let options = SessionOptions { activations: Activations::Exact, ..options };
    let session = Session::new(Arc::clone(&drafting), options)?;
    let drafter = ModelDrafter::new(session, model).with_context(named)?;
    Ok(Speculation::new(drafter))
}
