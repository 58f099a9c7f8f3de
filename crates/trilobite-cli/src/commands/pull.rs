//! `trilobite pull`: models and data sets, fetched and verified.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use trilobite_eval::Task;
use trilobite_hub::{Cache, DataFile, Event, Listed, Source, Stored, ask, pull, pull_data};

use crate::args::Global;
use crate::output::{self, Progress, Unit};
use crate::suggest;

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite pull                                    what there is
  trilobite pull bitnet-b1.58-2b-4t                 then: trilobite run bitnet-b1.58-2b-4t
  trilobite pull owner/repository@v1.0              at a branch, tag or commit
  trilobite pull owner/repository:model-Q8_0.gguf   one GGUF file, with its other parts if it is split
  trilobite pull llama-3.2-1b-instruct --from /mnt/mirror
  trilobite pull --data arc_easy,piqa

NAME is one of the list, in any case and punctuation, or OWNER/REPOSITORY[@REVISION][:FILE] of the
hub. Of a repository the files that a model needs are taken: config.json, tokenizer, chat template and
safetensors, or else its only GGUF file. The commit is recorded; a model is kept at one revision.
A download that breaks off goes on where it stopped. Every file is compared with the SHA-256 of the
list or the task, else with the one that the server states, and its own is shown and recorded; what
its size or its structure shows to be something else, such as a login page, is removed.
Everything goes to $TRILOBITE_HOME, by default `trilobite` in the user's cache folder.
HF_ENDPOINT names a mirror of the hub, TRILOBITE_DATA_ENDPOINT one of raw.githubusercontent.com. The
access token, for gated repositories, is shown to the hub only: --token, HF_TOKEN, or the file that
`hf auth login` writes. Proxies: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY.")]
pub(crate) struct Pull {
    /// Models of the list, or repositories of the hub
    #[arg(value_name = "NAME|OWNER/REPOSITORY[@REVISION][:FILE]")]
    names: Vec<String>,
    /// Data sets of these tasks, or of all
    #[arg(long, value_name = "TASK,TASK", value_delimiter = ',', num_args = 0..=1,
          default_missing_value = "all")]
    data: Vec<String>,
    /// Copy from this folder instead: NAME/FILE, OWNER/REPOSITORY/FILE, REPOSITORY/FILE or FILE;
    /// data sets as the tasks lay them out
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Lock file: commits and hashes of models have to be those in it; a model that it lacks is added
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Access token for the hub [default: HF_TOKEN]; other users can see a command's arguments
    #[arg(long, value_name = "TOKEN", conflicts_with = "from")]
    token: Option<String>,
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
        let mut talk = Talk::new(global)?;
        let stored = pull(&cache, &source, &request, &mut |event| talk.say(&event));
        talk.bar.finish();
        let stored = stored.with_context(|| request.name())?;
        let path = if request.listed.is_some() { stored.folder } else { stored.model() };
        output::print(&format!("{}\n", path.display()))?;
    }
    if !tasks.is_empty() {
        let source = mirror().unwrap_or_else(Source::data);
        let mut talk = Talk::new(global)?;
        let pulled = pull_data(&cache, &source, &files(&tasks), &mut |event| talk.say(&event));
        talk.bar.finish();
        pulled?;
        output::print(&format!("{}\n", cache.data()?.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each model of the list: its name, whether it is there, where it comes from.
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

/// The tasks that `--data` names; "all" is every one.
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

/// What is said of a pull: a bar for the file that comes, and lines.
struct Talk {
    bar: Progress,
    quiet: bool,
}

impl Talk {
    fn new(global: &Global) -> Result<Talk> {
        Ok(Talk { bar: Progress::new(0, Unit::Bytes, global)?, quiet: global.quiet })
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
