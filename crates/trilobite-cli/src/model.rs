//! Which model a command means.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Once};

use anyhow::{Context, Result, bail};
use trilobite_hub::{Cache, Conversion, open_tokenizer};
use trilobite_runtime::{Model, Session, SessionOptions, Tokenizer};

use crate::{args, interrupt, machine, output};

/// The name of the built-in model in reports.
const BUILT_IN_NAME: &str = "tinystories (built in)";

/// Longest context that a command takes by itself; a longer one must be asked for.
const DEFAULT_CONTEXT: usize = 4096;

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
    let Some(path) = args.model.as_deref() else { return open(None, args, global) };
    open(Some(path), args, global).with_context(|| path.display().to_string())
}

/// Opens a model and tells of its conversion, where it has to be converted.
fn open(path: Option<&Path>, args: &args::Model, global: &args::Global) -> Result<Model> {
    let bar = output::Progress::new(0, output::Unit::Bytes, global)?;
    let say = |text: String| {
        if !global.quiet {
            bar.say(&format!("{}: {text}", path.unwrap_or(Path::new("")).display()));
        }
    };
    let mut waiting = false;
    let opened = trilobite_hub::open(&Cache::from_env(), path, !args.no_cache, &mut |event| {
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
    let opened = open_tokenizer(&Cache::from_env(), path);
    let Some(path) = path else { return Ok(opened?) };
    let tokenizer = opened.with_context(|| path.display().to_string())?;
    tell_assumption(&tokenizer, global);
    Ok(tokenizer)
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
        cache: compute.kv,
        plain: compute.plain,
    })
}
