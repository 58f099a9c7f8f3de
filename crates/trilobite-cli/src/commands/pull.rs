//! `trilobite pull`: downloads and verifies models and data sets.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use trilobite_eval::Task;
use trilobite_hub::{Cache, DataFile, Event, Listed, Source, Stored, ask, pull, pull_data};

use crate::args::{Global, UnusedThreads, data_set};
use crate::output::{self, Progress, Unit};
use crate::suggest;

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite pull                                    the list of models
  trilobite pull bitnet-b1.58-2b-4t                 then: trilobite run bitnet-b1.58-2b-4t
  trilobite pull owner/repository@v1.0              at a branch, tag or commit
  trilobite pull owner/repository:model-Q8_0.gguf   one GGUF file, and its other parts if split
  trilobite pull llama-3.2-1b-instruct --from /mnt/mirror
  trilobite pull --data arc_easy,piqa

NAME is a model of the list, in any case and punctuation, or OWNER/REPOSITORY[@REVISION][:FILE] of \
the hub. Only the files that a model needs are fetched: config.json, tokenizer, chat template and \
safetensors, or else the only GGUF file. The commit is recorded; a model is kept at one revision. \
An interrupted download continues where it stopped. The SHA-256 of every file is shown, recorded and \
compared with that of the list or the task, or else with the one that the server states. A file of \
the wrong size or structure, such as a login page, is removed.

Files go to $TRILOBITE_HOME, by default `trilobite` in the user's cache folder. HF_ENDPOINT names a \
mirror of the hub, TRILOBITE_DATA_ENDPOINT one of raw.githubusercontent.com. The access token for \
gated repositories is --token, HF_TOKEN, or the one stored by `hf auth login`; it is sent to the hub \
only. Proxies: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY.")]
pub(crate) struct Pull {
    /// Names in models/models.toml, or repositories of the hub
    #[arg(value_name = "NAME|OWNER/REPOSITORY[@REVISION][:FILE]")]
    names: Vec<String>,
    /// Fetch the data sets of these tasks, or of all
    #[arg(long, value_name = "TASK,TASK", value_delimiter = ',', num_args = 0..=1,
          default_missing_value = "all", value_parser = data_set())]
    data: Vec<String>,
    /// Copy from this folder instead: NAME/FILE, OWNER/REPOSITORY/FILE, REPOSITORY/FILE or FILE;
    /// data sets in the layout that the tasks expect
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Lock file with commits and hashes of models, which must match; a model that it lacks is
    /// added
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Access token for the hub [default: HF_TOKEN]; other users can see a command's arguments
    #[arg(long, value_name = "TOKEN", conflicts_with = "from")]
    token: Option<String>,
    #[command(flatten)]
    threads: UnusedThreads,
}

pub(crate) fn run(args: &Pull, global: &Global) -> Result<ExitCode> {
    let cache = Cache::from_env();
    if args.names.is_empty() && args.data.is_empty() {
        output::print(&list(&cache)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let asked: Vec<_> =
        args.names.iter().map(|name| ask(&cache, name)).collect::<Result<_, _>>()?;
    let tasks = tasks(&args.data)?;
    let mirror = || args.from.clone().map(Source::Mirror);
    let source = mirror().unwrap_or_else(|| Source::hub(args.token.clone()));
    for mut request in asked {
        request.lockfile.clone_from(&args.lock);
        let mut report = Report::new(global)?;
        let stored = pull(&cache, &source, &request, &mut |event| report.say(&event));
        report.bar.finish();
        let stored = stored.with_context(|| request.name())?;
        let path = if request.listed.is_some() { stored.folder } else { stored.model() };
        output::print(&format!("{}\n", path.display()))?;
    }
    if !tasks.is_empty() {
        let source = mirror().unwrap_or_else(Source::data);
        let mut report = Report::new(global)?;
        let pulled = pull_data(&cache, &source, &files(&tasks), &mut |event| report.say(&event));
        report.bar.finish();
        pulled?;
        output::print(&format!("{}\n", cache.data()?.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each model of the list: its name, whether it is stored, and its source.
fn list(cache: &Cache) -> Result<String> {
    let mut pulled = Stored::all(cache)?;
    pulled.retain(Stored::is_complete);
    let mut text = String::new();
    for model in Listed::all()? {
        let is_pulled = pulled.iter().any(|stored| stored.name == model.name);
        let state = if is_pulled { "pulled" } else { "" };
        text += &format!("{:28} {state:7} {}\n", model.name, model.repository);
    }
    Ok(text)
}

/// The tasks of `--data`; "all" means every task.
fn tasks(names: &[String]) -> Result<Vec<Task>> {
    let all = names.iter().any(|name| name == "all");
    let names = if all { Task::names() } else { names.to_vec() };
    names.iter().map(|name| suggest::task(name)).collect()
}

/// The data files of tasks, each once.
fn files(tasks: &[Task]) -> Vec<DataFile> {
    let mut files: Vec<DataFile> = Vec::new();
    for task in tasks {
        for origin in task.origins() {
            if files.iter().any(|other| other.file == origin.file) {
                continue;
            }
            files.push(DataFile {
                file: origin.file,
                repository: origin.repository,
                revision: origin.revision,
                path: origin.path,
                sha256: origin.sha256,
                rebuilt: origin.rebuilt,
                title: task.title.clone(),
            });
        }
    }
    files
}

/// The output of a pull: a progress bar for the current file, and lines.
struct Report {
    bar: Progress,
    quiet: bool,
}

impl Report {
    fn new(global: &Global) -> Result<Report> {
        Ok(Report { bar: Progress::new(0, Unit::Bytes, global)?, quiet: global.quiet })
    }

    fn say(&mut self, event: &Event<'_>) {
        match event {
            Event::Progress { file, done, total } => {
                self.bar.set_message(file);
                self.bar.set(*done, total.unwrap_or(*done));
            }
            event if !self.quiet => self.bar.say(&event.to_string()),
            _ => {}
        }
    }
}
