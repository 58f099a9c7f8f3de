//! What is compared: models that Trilobite runs, and other programs with theirs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trilobite_hub::{Cache, Stored, resolve};

use super::Args;
use super::process::{self, Output};

/// The name of the model inside the binary.
pub(super) const BUILT_IN: &str = "tinystories";

/// Something with a row of its own.
pub(super) struct Subject {
    /// Its name in the report.
    pub(super) name: String,
    /// Its name in models.toml.
    pub(super) listed: Option<String>,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// A model that Trilobite runs: a file, or the built-in one.
    Model(Option<PathBuf>),
    /// Another program and its arguments.
    Peer(Vec<String>),
}

/// A subject that was named and could not be had, with the reason.
pub(super) type Prepared = (String, Option<String>, Result<Kind>);

/// The models and peers that the arguments name, fetched and converted.
pub(super) fn prepare(binary: &Path, args: &Args) -> Result<Vec<Prepared>> {
    let named = match args.models.is_empty() {
        true => present()?,
        false => args.models.clone(),
    };
    let mut subjects = Vec::new();
    for text in &named {
        let (name, source) = match text.split_once('=') {
            Some((name, source)) => (name.to_owned(), source),
            None => (short(text), text.as_str()),
        };
        eprintln!("{name}: made ready");
        let models = crate::models::Models::load()?;
        let listed = models.find(source).ok().map(|model| model.name.clone());
        let kind = model(binary, args, &name, source, listed.is_some());
        subjects.push((name, listed, kind));
    }
    for text in &args.peers {
        let (name, command) =
            text.split_once('=').with_context(|| format!("--peer {text:?} is not NAME=COMMAND"))?;
        let words = shlex::split(command).filter(|words| !words.is_empty());
        let words = words.with_context(|| format!("--peer {name}: {command:?} is no command"))?;
        subjects.push((name.to_owned(), None, Ok(Kind::Peer(words))));
    }
    for (index, (name, ..)) in subjects.iter().enumerate() {
        ensure!(
            subjects[..index].iter().all(|(other, ..)| other != name),
            "two rows are named {name:?}; NAME=MODEL gives one another name"
        );
    }
    Ok(subjects)
}

/// The file's or folder's name, without .gguf.
fn short(text: &str) -> String {
    let name = Path::new(text).file_name().map_or(text.into(), |name| name.to_string_lossy());
    name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
}

/// What is there without asking: the built-in model, its dense twin, and what was pulled.
fn present() -> Result<Vec<String>> {
    let twin = crate::root().join("models/tinystories-dense.gguf");
    let mut names = vec![BUILT_IN.to_owned(), twin.to_string_lossy().into_owned()];
    let pulled = Stored::all(&Cache::from_env())?.into_iter().filter(Stored::is_complete);
    names.extend(pulled.map(|stored| stored.name));
    Ok(names)
}

/// A model's file: fetched if it is listed and not there, converted if it is a checkpoint.
fn model(binary: &Path, args: &Args, name: &str, source: &str, listed: bool) -> Result<Kind> {
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
        pull.args(["pull", source]);
        if let Some(from) = &args.from {
            pull.arg("--from").arg(from);
        }
        process::pull(&mut pull)?;
    }
    if path.is_file() {
        return Ok(Kind::Model(Some(path.to_owned())));
    }
    // Speed and memory are those of a packed file, not of a checkpoint converted on the way in.
    let out = args.output.join("models").join(format!("{}.gguf", safe(name)));
    if !is_current(&out, path) {
        std::fs::create_dir_all(args.output.join("models"))?;
        let mut convert = Command::new(binary);
        convert.args(["convert", source, "--force", "--quiet", "-o"]).arg(&out);
        process::run(&mut convert)?;
    }
    Ok(Kind::Model(Some(out)))
}

/// Whether a converted file is newer than everything in the folder that it was made of.
fn is_current(file: &Path, folder: &Path) -> bool {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let Some(made) = changed(file) else { return false };
    // A pulled model's folder is not known here; what was pulled once does not change.
    let Ok(entries) = std::fs::read_dir(folder) else { return true };
    entries.flatten().all(|entry| changed(&entry.path()).is_some_and(|time| time < made))
}

/// A name as that of a file.
pub(super) fn safe(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-._".contains(c) { c } else { '_' }).collect()
}

/// What `inspect` says of a model.
pub(super) fn inspect(binary: &Path, model: Option<&Path>) -> Result<Value> {
    let mut inspect = Command::new(binary);
    inspect.arg("inspect").args(model).arg("--json");
    let Output { stdout, .. } = process::run(&mut inspect)?;
    serde_json::from_str(&stdout).context("trilobite inspect --json")
}
