//! `trilobite pull`: models and data sets, fetched and verified.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use trilobite_eval::{Origin, Task};

use crate::args::{Global, Pull};
use crate::download::{self, Client, Event, Got, Token, Wanted};
use crate::home;
use crate::listed::{self, Fetched, Listed, Record};
use crate::output::{self, Progress, Unit};
use crate::suggest;

/// The hub, unless HF_ENDPOINT names a mirror of it.
const HUB: &str = "https://huggingface.co";
/// Where the files of GitHub repositories are, unless TRILOBITE_DATA_ENDPOINT names a mirror.
const DATA: &str = "https://raw.githubusercontent.com";
/// The branch that is taken of a repository without a pinned commit.
const BRANCH: &str = "main";

pub(crate) fn run(args: &Pull, global: &Global) -> Result<ExitCode> {
    if args.names.is_empty() && args.data.is_empty() {
        output::print(&list()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let models: Vec<Listed> =
        args.names.iter().map(|name| Listed::named(name)).collect::<Result<_>>()?;
    let tasks = tasks(&args.data)?;
    for model in &models {
        let folder = home::model(&model.name)?;
        let puller = Puller::new("HF_ENDPOINT", HUB, std::env::var("HF_TOKEN").ok(), args, global);
        puller.model(model, &folder).with_context(|| model.name.clone())?;
        output::print(&format!("{}\n", folder.display()))?;
    }
    if !tasks.is_empty() {
        let folder = home::data()?;
        let puller = Puller::new("TRILOBITE_DATA_ENDPOINT", DATA, None, args, global);
        puller.data(&tasks, &folder)?;
        output::print(&format!("{}\n", folder.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each model: its name, whether it is there, where it comes from.
fn list() -> Result<String> {
    let mut text = String::new();
    for model in Listed::all()? {
        let state = if model.pulled()?.is_some() { "pulled" } else { "" };
        text += &format!("{:28} {state:7} {}\n", model.name, model.repository);
    }
    Ok(text)
}

/// The tasks that `--data` names; "all" is every one.
fn tasks(names: &[String]) -> Result<Vec<Task>> {
    let all = names.iter().any(|name| name == "all");
    let names = if all { Task::names() } else { names.to_vec() };
    names.iter().map(|name| suggest::task(name)).collect()
}

/// Where files come from, and who is told of it.
struct Puller<'a> {
    client: Client,
    endpoint: String,
    from: Option<&'a Path>,
    global: &'a Global,
    /// A line to say when there is something to say of a model: not before a server has answered.
    title: RefCell<Option<String>>,
}

/// What is known of a file before it is fetched.
#[derive(Default)]
struct Known {
    sha256: Option<String>,
    bytes: Option<u64>,
}

impl<'a> Puller<'a> {
    fn new(
        variable: &str,
        default: &str,
        token: Option<String>,
        args: &'a Pull,
        global: &'a Global,
    ) -> Self {
        let endpoint = std::env::var(variable).ok().filter(|endpoint| !endpoint.is_empty());
        let endpoint = endpoint.unwrap_or_else(|| default.into()).trim_end_matches('/').to_owned();
        let token = token.filter(|token| !token.trim().is_empty());
        let token = token.map(|token| Token::new(&endpoint, token.trim()));
        Puller {
            client: Client::new(token),
            endpoint,
            from: args.from.as_deref(),
            global,
            title: RefCell::default(),
        }
    }

    fn say(&self, text: &str) {
        self.say_title();
        if !self.global.quiet {
            output::say(text);
        }
    }

    fn say_title(&self) {
        if let Some(title) = self.title.take().filter(|_| !self.global.quiet) {
            output::say(&title);
        }
    }

    /// Fetches what is missing of a model.
    fn model(&self, model: &Listed, folder: &Path) -> Result<()> {
        let mut record = listed::record(folder)?.unwrap_or_default();
        let unpinned = if self.from.is_some() { "unknown" } else { BRANCH };
        let asked = model.revision.clone().unwrap_or_else(|| unpinned.to_owned());
        if record.repository != model.repository
            || model.revision.as_ref().is_some_and(|revision| *revision != record.revision)
        {
            let repository = model.repository.clone();
            record = Record { repository, revision: asked, ..Record::default() };
        }
        let Listed { name, repository, license, .. } = model;
        self.title.replace(Some(format!("{name}: {repository}, licence: {license}")));
        let mut files = self.files(model, &mut record)?;
        record.complete = false;
        for (name, known) in &mut files {
            let pinned = model.sha256.get(name).cloned();
            known.sha256 = pinned.or(known.sha256.take());
        }
        for (name, known) in &files {
            let target = folder.join(name);
            if let Some(fetched) = record.files.get(name)
                && let Ok(mut file) = std::fs::File::open(&target)
            {
                // What an earlier version took for the file is looked at again.
                if download::sha256(&mut file)? == fetched.sha256
                    && download::fault(&target)?.is_none()
                {
                    self.say(&format!("  {name} is there"));
                    continue;
                }
                self.say(&format!("  {name} is not what was fetched; it is fetched again"));
                record.files.remove(name);
                write(folder, &record)?;
            }
            let Known { sha256, bytes } = known;
            let wanted = Wanted { target: &target, sha256: sha256.as_deref(), bytes: *bytes };
            let source = match self.from {
                Some(from) => Source::File(places(from, model).file(name)?),
                None => {
                    let Record { repository, revision, .. } = &record;
                    let endpoint = &self.endpoint;
                    Source::Url(format!(
                        "{endpoint}/{repository}/resolve/{revision}/{}",
                        encode(name)
                    ))
                }
            };
            let got = self.file(name, wanted, &source)?;
            // All files are of the commit of the first one.
            if let Some(commit) = got.revision.filter(|_| record.revision == BRANCH) {
                record.revision = commit;
            }
            let verified = got.verified.map(str::to_owned);
            record
                .files
                .insert(name.clone(), Fetched { bytes: got.bytes, sha256: got.sha256, verified });
            write(folder, &record)?;
        }
        record.files.retain(|name, _| files.contains_key(name));
        record.complete = true;
        write(folder, &record)?;
        if model.revision.is_none() {
            self.say(&format!(
                "  no revision is pinned in models.toml; this is {}",
                record.revision
            ));
        }
        Ok(())
    }

    /// A model's files, and what the hub says of them.
    fn files(&self, model: &Listed, record: &mut Record) -> Result<BTreeMap<String, Known>> {
        let unknown = |name: &String| (name.clone(), Known::default());
        if !model.files.is_empty() {
            return Ok(model.files.iter().map(unknown).collect());
        }
        // The files of a commit do not change: what is complete is there without a network.
        if record.complete && download::is_hex(&record.revision, 40) && self.from.is_none() {
            return Ok(record.files.keys().map(unknown).collect());
        }
        let mut found: Vec<Sibling> = Vec::new();
        if let Some(from) = self.from {
            let config = places(from, model).file("config.json")?;
            let folder = config.parent().unwrap_or(from);
            for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
                let rfilename = entry?.file_name().to_string_lossy().into_owned();
                found.push(Sibling { rfilename, size: None, lfs: None });
            }
        } else {
            let Record { repository, revision, .. } = &*record;
            let endpoint = &self.endpoint;
            let url = format!("{endpoint}/api/models/{repository}/revision/{revision}?blobs=true");
            let answer: Answer = download::json(&self.client, &url)?;
            let commit = answer.sha.filter(|sha| download::is_hex(sha, 40));
            record.revision = commit.unwrap_or_else(|| record.revision.clone());
            found = answer.siblings;
        }
        found.retain(|file| model.needs(&file.rfilename) && !file.rfilename.contains(['/', '\\']));
        let weights = [".safetensors", ".gguf"];
        ensure!(
            found.iter().any(|f| weights.iter().any(|ending| f.rfilename.ends_with(ending))),
            "{} holds no weights as safetensors or GGUF",
            model.repository
        );
        let known = found.into_iter().map(|file| {
            let Sibling { rfilename, size, lfs } = file;
            let lfs = lfs.unwrap_or_default();
            (rfilename, Known { sha256: lfs.sha256, bytes: lfs.size.or(size) })
        });
        Ok(known.collect())
    }

    /// Fetches what is missing of the data of tasks.
    fn data(&self, tasks: &[Task], folder: &Path) -> Result<()> {
        let mut origins: Vec<(Origin, &str)> = Vec::new();
        for task in tasks {
            for origin in task.origins() {
                if origins.iter().all(|(other, _)| other.file != origin.file) {
                    origins.push((origin, &task.title));
                }
            }
        }
        let mut missing = Vec::new();
        for (origin, title) in origins {
            let endings = ["", ".gz", ".bz2"];
            let base = origin.file.trim_end_matches(".gz").trim_end_matches(".bz2");
            let forms = || endings.map(|ending| format!("{base}{ending}"));
            if forms().iter().any(|form| folder.join(form).exists()) {
                continue;
            }
            let (name, source) = match self.from {
                Some(from) => {
                    let found = forms().into_iter().find(|form| from.join(form).exists());
                    let name = found.with_context(|| {
                        format!("{} holds no {base}, packed or not", from.display())
                    })?;
                    let path = from.join(&name);
                    (name, Source::File(path))
                }
                None if origin.rebuilt => {
                    missing.push(format!("{} ({title})", origin.file));
                    continue;
                }
                None => {
                    let Origin { repository, revision, path, .. } = &origin;
                    let path = encode(path);
                    let url = format!("{}/{repository}/{revision}/{path}", self.endpoint);
                    (origin.file.clone(), Source::Url(url))
                }
            };
            let target = folder.join(&name);
            let wanted = Wanted { target: &target, sha256: origin.sha256.as_deref(), bytes: None };
            self.file(&name, wanted, &source)?;
        }
        if !missing.is_empty() {
            bail!(
                "{}: published in another form only; --from DIR copies a folder that has them",
                missing.join(", ")
            );
        }
        Ok(())
    }

    /// One file, from the mirror or over the network.
    fn file(&self, name: &str, wanted: Wanted<'_>, source: &Source) -> Result<Got> {
        let bar = Progress::new(0, Unit::Bytes, self.global)?;
        bar.set_message(name);
        let mut listen = |event: Event<'_>| match event {
            Event::Progress { done, total } => {
                self.say_title();
                bar.set(done, total.unwrap_or(done));
            }
            Event::Waiting { reason, delay } => {
                let text = format!("  {name}: {reason:#}; again in {:.1} s", delay.as_secs_f64());
                if !self.global.quiet {
                    bar.say(&text);
                }
            }
        };
        let got = match source {
            Source::Url(url) => download::download(&self.client, url, wanted, &mut listen),
            Source::File(path) => download::copy(path, wanted, &mut listen),
        };
        bar.finish();
        let got = got?;
        let against = match got.verified {
            Some("pinned") => ", as pinned",
            Some(_) => ", as the server says",
            None => ", compared with nothing",
        };
        let size = output::bytes(got.bytes);
        self.say(&format!("  {name}: {size}, sha256 {}{against}", got.sha256));
        Ok(got)
    }
}

/// Where a file is taken from.
enum Source {
    Url(String),
    File(PathBuf),
}

/// A file in the hub's list of a repository.
#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Default, Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// The hub's list of a repository.
#[derive(Deserialize)]
struct Answer {
    sha: Option<String>,
    siblings: Vec<Sibling>,
}

/// The folders of a mirror in which a model may be.
struct Places(Vec<PathBuf>);

fn places(from: &Path, model: &Listed) -> Places {
    let last = model.repository.rsplit('/').next().unwrap_or_default();
    let below = [&model.repository, last, &model.name].map(|name| from.join(name));
    Places(below.into_iter().chain([from.to_owned()]).collect())
}

impl Places {
    fn file(&self, name: &str) -> Result<PathBuf> {
        let mut paths = self.0.iter().map(|folder| folder.join(name));
        paths.find(|path| path.exists()).with_context(|| {
            let folders: Vec<_> = self.0.iter().map(|path| path.display().to_string()).collect();
            format!("there is no {name} in {}", folders.join(" or "))
        })
    }
}

/// Writes the record of a model.
fn write(folder: &Path, record: &Record) -> Result<()> {
    let json = serde_json::to_string_pretty(record)?;
    output::write_file(&folder.join(listed::RECORD), |out| Ok(writeln!(out, "{json}")?))
}

/// A path in an address.
fn encode(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let mut text = String::new();
    for byte in path.bytes() {
        match plain(byte) {
            true => text.push(byte.into()),
            false => text += &format!("%{byte:02X}"),
        }
    }
    text
}
