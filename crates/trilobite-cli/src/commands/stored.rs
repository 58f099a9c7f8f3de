//! `trilobite list`, `show` and `rm`: the models in the cache.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use trilobite_hub::{Cache, ConvertedCopy, Listed, Size, Stored};

use crate::args::{Global, UnusedThreads};
use crate::{model, output};

/// Number of digits of a commit in a table.
const SHORT_COMMIT: usize = 12;

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite list
  trilobite list --json

Shows the name, repository, commit, format and size of each model, and below it the conversions of \
the model. `trilobite pull` lists the models that can be pulled by a short name.")]
pub(crate) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: UnusedThreads,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite show bitnet-b1.58-2b-4t
  trilobite show owner/repository --json")]
pub(crate) struct Show {
    /// Name of a pulled model; case and punctuation do not matter
    #[arg(value_name = "NAME")]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: UnusedThreads,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite rm bitnet-b1.58-2b-4t
  trilobite rm owner/repository:model-Q8_0.gguf

Removes the model's folder in the cache and its conversions, and nothing outside of the cache. A model \
that another process is pulling or converting is kept.")]
pub(crate) struct Rm {
    /// Names of pulled models, or of conversions of other checkpoints, as `trilobite list` shows
    /// them
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    threads: UnusedThreads,
}

/// A model in the cache, with everything that the commands show.
struct CachedModel {
    stored: Stored,
    bytes: u64,
    copies: Vec<ConvertedCopy>,
}

impl CachedModel {
    fn of(stored: Stored, cache: &Cache) -> Result<CachedModel> {
        Ok(CachedModel { bytes: stored.bytes()?, copies: stored.copies(cache)?, stored })
    }

    /// `OWNER/REPOSITORY[:FILE]`.
    fn source(&self) -> String {
        let record = self.stored.record.as_ref();
        record.map_or_else(|| self.stored.name.clone(), |record| record.reference().to_string())
    }

    fn format(&self) -> Option<&'static str> {
        self.stored.record.as_ref().and_then(|record| record.format())
    }

    fn revision(&self) -> Option<&str> {
        self.stored.record.as_ref().map(|record| record.revision.as_str())
    }

    fn json(&self) -> Value {
        let CachedModel { stored, bytes, copies } = self;
        let record = stored.record.as_ref();
        json!({
            "name": stored.name,
            "source": self.source(),
            "revision": self.revision(),
            "asked": record.and_then(|record| record.asked.as_ref()),
            "format": self.format(),
            "complete": stored.is_complete(),
            "bytes": bytes,
            "path": stored.model(),
            "date": record.and_then(|record| record.date.as_ref()),
            "converted": copies.iter().map(copy_json).collect::<Vec<_>>(),
        })
    }
}

/// The format of the record of the fastest layout, without a converted file.
const RECORD: &str = "layout record";

fn copy_json(copy: &ConvertedCopy) -> Value {
    json!({ "path": copy.folder, "bytes": copy.bytes })
}

pub(crate) fn list(args: &List, global: &Global) -> Result<ExitCode> {
    let cache = Cache::from_env();
    let stored = Stored::all(&cache)?.into_iter();
    let models: Vec<_> =
        stored.map(|stored| CachedModel::of(stored, &cache)).collect::<Result<_>>()?;
    let mut others = ConvertedCopy::all(&cache)?;
    others.retain(|copy| {
        models.iter().all(|model| model.copies.iter().all(|own| own.folder != copy.folder))
    });
    if args.json {
        let others = others.iter().map(|copy| {
            json!({
                "name": copy.name,
                "source": copy.source,
                "revision": null,
                "format": if copy.has_file { "converted" } else { RECORD },
                "complete": copy.source.is_some(),
                "bytes": copy.bytes,
                "path": copy.folder,
                "converted": [],
            })
        });
        output::print_json(&models.iter().map(CachedModel::json).chain(others).collect())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    for model in &models {
        let revision = match model.revision() {
            _ if !model.stored.is_complete() => "incomplete",
            Some(revision) if is_commit(revision) => &revision[..SHORT_COMMIT],
            revision => revision.unwrap_or_default(),
        };
        let format = model.format().unwrap_or_default().to_owned();
        let name = model.stored.name.clone();
        rows.push([name, model.source(), revision.to_owned(), format, size(model.bytes)]);
        for copy in &model.copies {
            let blank = String::new;
            let format = if copy.has_file { "gguf" } else { RECORD };
            rows.push(["  converted".into(), blank(), blank(), format.into(), size(copy.bytes)]);
        }
    }
    for copy in others {
        let source = copy.source.as_deref().map_or("", |path| path.to_str().unwrap_or_default());
        let format = if copy.has_file { "converted" } else { RECORD };
        let row = [&copy.name, source, "", format].map(str::to_owned);
        let [name, source, revision, format] = row;
        rows.push([name, source, revision, format, size(copy.bytes)]);
    }
    if rows.is_empty() {
        if !global.quiet {
            output::say("nothing has been pulled; `trilobite pull` lists the models");
        }
        return Ok(ExitCode::SUCCESS);
    }
    rows.insert(0, ["name", "source", "revision", "format", "size"].map(str::to_owned));
    output::print(&table(&rows, 4))?;
    Ok(ExitCode::SUCCESS)
}

fn size(bytes: u64) -> String {
    Size(bytes).to_string()
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Formats a table with columns as wide as their widest cell. The column `sizes` is right-aligned.
fn table<const N: usize>(rows: &[[String; N]], sizes: usize) -> String {
    let rows: Vec<_> =
        rows.iter().map(|row| row.each_ref().map(|c| output::shown(c).into_owned())).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column).unwrap_or_default();
            if column == sizes { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// The stored model of this name.
fn find(cache: &Cache, name: &str) -> Result<Stored> {
    Stored::find(cache, name).map_err(|error| model::of_model(error.into(), Path::new(name)))
}

pub(crate) fn show(args: &Show) -> Result<ExitCode> {
    let cache = Cache::from_env();
    let stored = find(&cache, &args.name)?;
    let model = CachedModel::of(stored, &cache)?;
    let stored = &model.stored;
    let record = stored.record.clone().unwrap_or_default();
    let listed = Listed::all()?.into_iter().find(|listed| listed.name == stored.name);
    if args.json {
        let mut value = model.json();
        let files = record.files.iter().map(|(name, file)| {
            json!({
                "name": name,
                "bytes": file.bytes,
                "sha256": file.sha256,
                "verified": file.verified,
            })
        });
        value["files"] = files.collect();
        value["origin"] = json!(record.origin);
        value["license"] = json!(listed.map(|listed| listed.license));
        output::print_json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text += &format!("{name:10} {}\n", output::line(value));
        }
    };
    line("name", &stored.name);
    line("source", &model.source());
    let asked = record.asked.filter(|asked| *asked != record.revision);
    let asked = asked.map_or_else(String::new, |asked| format!(" (asked for as {asked})"));
    line("revision", &format!("{}{asked}", record.revision));
    line("origin", record.origin.as_deref().unwrap_or_default());
    line("date", record.date.as_deref().unwrap_or_default());
    line("licence", listed.as_ref().map_or("", |listed| &listed.license));
    line("format", model.format().unwrap_or_default());
    line("size", &size(model.bytes));
    line("path", &stored.model().display().to_string());
    if !stored.is_complete() {
        line("state", &format!("incomplete; `trilobite pull {}` goes on", stored.name));
    }
    for copy in &model.copies {
        let (path, bytes) = (copy.folder.display(), size(copy.bytes));
        line("converted", &format!("{path} ({bytes})"));
    }
    let rows: Vec<_> = record
        .files
        .into_iter()
        .map(|(name, file)| {
            let hash = format!("sha256 {}, {}", file.sha256, file.compared());
            [name, size(file.bytes), hash]
        })
        .collect();
    output::print(&text)?;
    output::print(&table(&rows, 1))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn remove(args: &Rm) -> Result<ExitCode> {
    let cache = Cache::from_env();
    for name in &args.names {
        let removed = cache.remove(name);
        let removed = removed.map_err(|error| model::of_model(error.into(), Path::new(name)))?;
        let name = output::line(&removed.name);
        output::print(&format!("{name}: {} freed\n", Size(removed.bytes)))?;
    }
    Ok(ExitCode::SUCCESS)
}
