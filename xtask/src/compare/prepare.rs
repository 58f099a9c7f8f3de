//! Fetches, synthesises and converts models.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use trilobite_hub::{Cache, Stored, resolve};

use super::args::Args;
use super::plan::Plan;
use super::process::Pulls;
use super::subject::{Kind, Subject, command, convert, converted};
use super::synthetic;
use crate::models::Models;

/// The name of the built-in model.
const BUILT_IN: &str = "tinystories";

/// Prepares the models and peers to compare. One that cannot be prepared becomes a subject with the
/// reason.
pub(super) fn prepare(binary: &Path, args: &Args, plan: &Plan) -> Result<Vec<Subject>> {
    let mut subjects: Vec<Subject> = plan.rows.iter().map(Subject::of_row).collect();
    if args.synthetic {
        subjects = synthetic::prepare(binary, args)?;
    } else if args.rows.is_none() {
        let named = match (args.models.is_empty(), args.published) {
            (false, _) => args.models.clone(),
            (true, true) => {
                Models::load()?.published().map(|(model, _)| model.name.clone()).collect()
            }
            (true, false) => present()?,
        };
        let mut pulls = Pulls::default();
        for text in &named {
            let (name, source) = match text.split_once('=') {
                Some((name, source)) => (name.to_owned(), source),
                None => (short(text), text.as_str()),
            };
            eprintln!("{name}: made ready");
            let listed = Models::load()?.find(source).ok().map(|model| model.name.clone());
            let kind = model(binary, args, &name, source, listed.is_some(), &mut pulls);
            subjects.push(Subject::new(&name, listed.as_deref(), kind));
        }
    }
    for text in &args.peers {
        let (name, words) =
            text.split_once('=').with_context(|| format!("--peer {text:?} is not NAME=COMMAND"))?;
        let words = command(name, words).with_context(|| format!("--peer {name}"))?;
        subjects.push(Subject::new(name, None, Ok(Kind::Peer(words))));
    }
    for (index, Subject { name, .. }) in subjects.iter().enumerate() {
        ensure!(
            subjects[..index].iter().all(|other| other.name != *name),
            "two rows are named {name:?}; NAME=MODEL gives one another name"
        );
    }
    Ok(subjects)
}

/// The name of a file or folder, without .gguf.
fn short(text: &str) -> String {
    let name = Path::new(text).file_name().map_or(text.into(), |name| name.to_string_lossy());
    name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
}

/// The default models: the built-in one, its dense twin, and those that have been pulled.
fn present() -> Result<Vec<String>> {
    let twin = crate::repository::root().join("models/tinystories-dense.gguf");
    let mut names = vec![BUILT_IN.to_owned(), twin.to_string_lossy().into_owned()];
    let pulled = Stored::all(&Cache::from_env())?.into_iter().filter(Stored::is_complete);
    names.extend(pulled.map(|stored| stored.name));
    Ok(names)
}

/// The file of a model. A listed model is fetched if it is not stored, and a checkpoint is
/// converted.
fn model(
    binary: &Path,
    args: &Args,
    name: &str,
    source: &str,
    listed: bool,
    pulls: &mut Pulls,
) -> Result<Kind> {
    if source == BUILT_IN {
        return Ok(Kind::Model(None));
    }
    let path = Path::new(source);
    let is_there = path.exists();
    if !listed {
        resolve(&Cache::from_env(), path).with_context(|| source.to_owned())?;
    }
    if !is_there && listed && !args.no_fetch {
        let mut pull = Command::new(binary);
        // All comparisons share a lock file: the first fetch pins a name.
        pull.args(["pull", source, "--lock"]).arg(crate::models::lockfile());
        if let Some(from) = &args.from {
            pull.arg("--from").arg(from);
        }
        pulls.run(&mut pull)?;
    }
    if path.is_file() {
        return Ok(Kind::Model(Some(path.to_owned())));
    }
    // Measure speed and memory with a packed file, not with a checkpoint that every run converts.
    let out = converted(args, name);
    if !is_current(&out, path) {
        std::fs::create_dir_all(args.output.join("models"))?;
        convert(binary, path, &out)?;
    }
    Ok(Kind::Model(Some(out)))
}

/// Whether a converted file is newer than all files of its source.
fn is_current(file: &Path, source: &Path) -> bool {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let Some(made) = changed(file) else { return false };
    files(source).iter().all(|path| changed(path).is_some_and(|time| time < made))
}

/// The files of a checkpoint folder or a pulled model; empty for other sources, whose conversion
/// then fails.
fn files(source: &Path) -> Vec<PathBuf> {
    if let Ok(entries) = std::fs::read_dir(source) {
        return entries.flatten().map(|entry| entry.path()).collect();
    }
    let stored = Stored::find(&Cache::from_env(), &source.to_string_lossy());
    let Ok(Stored { folder, record: Some(record), .. }) = stored else { return Vec::new() };
    record.files.keys().map(|name| folder.join(name)).collect()
}
