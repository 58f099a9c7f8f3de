//! What is compared: models that Trilobite runs, and other programs with theirs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trilobite_hub::{Cache, Stored, resolve};

use super::plan::{Plan, RowSpec, expand};
use super::process::{self, Output, Pulls};
use super::{Args, synthetic};
use crate::models::Models;

/// The name of the model inside the binary.
pub(super) const BUILT_IN: &str = "tinystories";

/// Something with a row of its own.
pub(super) struct Subject {
    /// Its name in the report.
    pub(super) name: String,
    /// Its name in models.toml.
    pub(super) listed: Option<String>,
    /// What is run, or why nothing can be.
    pub(super) kind: Result<Kind, String>,
    /// More arguments of `trilobite bench`.
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) note: Option<String>,
}

pub(super) enum Kind {
    /// A model that Trilobite runs: a file, or the built-in one.
    Model(Option<PathBuf>),
    /// Another program and its arguments.
    Peer(Vec<String>),
}

impl Subject {
    pub(super) fn new(name: &str, listed: Option<&str>, kind: Result<Kind>) -> Self {
        Subject {
            name: name.to_owned(),
            listed: listed.map(str::to_owned),
            kind: kind.map_err(|error| format!("{error:#}")),
            args: Vec::new(),
            env: BTreeMap::new(),
            note: None,
        }
    }

    fn of_row(row: &RowSpec) -> Self {
        let word = |word: &str| expand(word, |name| std::env::var(name).ok());
        let kind = match (&row.model, &row.peer) {
            (Some(model), None) => word(model).map(|path| Kind::Model(Some(path.into()))),
            (None, Some(peer)) => command(&row.name, peer).and_then(|words| {
                words.iter().map(|text| word(text)).collect::<Result<_>>().map(Kind::Peer)
            }),
            _ => Err(anyhow::anyhow!("the row names neither a model nor a peer, or both")),
        };
        let RowSpec { name, args, env, note, .. } = row.clone();
        Subject { args, env, note, ..Subject::new(&name, None, kind) }
    }

    /// What is run, for the report.
    pub(super) fn shown(&self, model: Option<&Path>) -> String {
        let model =
            model.map_or("the model in the binary".into(), |path| path.display().to_string());
        words(&self.env, &[&[model], &self.args[..]].concat())
    }
}

/// A command with its variables.
pub(super) fn words(env: &BTreeMap<String, String>, command: &[String]) -> String {
    let env = env.iter().map(|(name, value)| format!("{name}={value}"));
    env.chain(command.iter().cloned()).collect::<Vec<_>>().join(" ")
}

/// The models and peers that are compared, fetched, made and converted. What cannot be had is a
/// subject with the reason.
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

/// The words of a peer's command.
fn command(name: &str, text: &str) -> Result<Vec<String>> {
    let words = shlex::split(text).filter(|words| !words.is_empty());
    words.with_context(|| format!("{name}: {text:?} is no command"))
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
        // One lock file for all comparisons: the first fetch decides what a name means.
        pull.args(["pull", source, "--lock"]).arg(crate::models::lockfile());
        if let Some(from) = &args.from {
            pull.arg("--from").arg(from);
        }
        pulls.run(&mut pull)?;
    }
    if path.is_file() {
        return Ok(Kind::Model(Some(path.to_owned())));
    }
    // Speed and memory are those of a packed file, not of a checkpoint converted on the way in.
    let out = converted(args, name);
    if !is_current(&out, path) {
        std::fs::create_dir_all(args.output.join("models"))?;
        convert(binary, path, &out)?;
    }
    Ok(Kind::Model(Some(out)))
}

/// The file of a converted model.
pub(super) fn converted(args: &Args, name: &str) -> PathBuf {
    args.output.join("models").join(format!("{}.gguf", safe(name)))
}

pub(super) fn convert(binary: &Path, source: &Path, out: &Path) -> Result<()> {
    let mut convert = Command::new(binary);
    convert.arg("convert").arg(source).args(["--force", "--quiet", "-o"]).arg(out);
    process::run(&mut convert).map(drop)
}

/// Whether a converted file is newer than everything that it was made of.
fn is_current(file: &Path, source: &Path) -> bool {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let Some(made) = changed(file) else { return false };
    files(source).iter().all(|path| changed(path).is_some_and(|time| time < made))
}

/// The files of a checkpoint folder or a pulled model. There are none of what is neither; converting it
/// says so.
fn files(source: &Path) -> Vec<PathBuf> {
    if let Ok(entries) = std::fs::read_dir(source) {
        return entries.flatten().map(|entry| entry.path()).collect();
    }
    let stored = Stored::find(&Cache::from_env(), &source.to_string_lossy());
    let Ok(Stored { folder, record: Some(record), .. }) = stored else { return Vec::new() };
    record.files.keys().map(|name| folder.join(name)).collect()
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
