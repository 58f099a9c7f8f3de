//! The report: what was measured as JSON, and as a page with tables and plots.

use std::path::Path;

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;
use serde_json::json;

use super::machine::Fingerprint;
use super::measure::{Perplexity, Spread};
use super::plots::{self, Picture};
use super::score::{Score, Task};
use super::{Args, Cell, Row, Text};
use crate::models::{Model, Models, Published};

/// What report.json holds.
#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Fingerprint,
    settings: Settings<'a>,
    tasks: &'a [Task],
    rows: &'a [Row],
    /// From the technical report of BitNet b1.58 2B4T (arXiv 2504.12285), on its authors' machine.
    published: Vec<Reported<'a>>,
}

#[derive(Serialize)]
struct Settings<'a> {
    prompt: usize,
    decode: usize,
    rounds: usize,
    limit: usize,
    /// The name of the file whose perplexity was measured.
    text: String,
    context: usize,
    wrap: Option<&'a str>,
}

#[derive(Serialize)]
struct Reported<'a> {
    name: &'a str,
    #[serde(flatten)]
    published: &'a Published,
    average: Option<f64>,
}

/// A cell of a table.
#[derive(Serialize)]
struct Shown {
    text: String,
    /// "measured", "published", or "none".
    kind: &'static str,
    /// The number of the note that says why it is empty.
    note: Option<usize>,
}

#[derive(Serialize)]
struct Line {
    label: String,
    cells: Vec<Shown>,
}

#[derive(Serialize)]
struct Section {
    title: String,
    lines: Vec<Line>,
}

/// The table while it is made: its columns and the reasons of its empty cells.
struct Table<'a> {
    rows: &'a [Row],
    published: &'a [(&'a Model, &'a Published)],
    reasons: Vec<String>,
}

impl Table<'_> {
    /// A line, from what the rows and the published models have.
    fn line<T>(
        &mut self,
        label: &str,
        of_row: impl Fn(&Row) -> Result<T, String>,
        show: impl Fn(&T) -> String,
        of_published: impl Fn(&Published) -> Option<String>,
    ) -> Line {
        let mut cells = Vec::new();
        for row in self.rows {
            cells.push(match of_row(row) {
                Ok(value) => Shown { text: show(&value), kind: "measured", note: None },
                Err(reason) => self.empty(&reason),
            });
        }
        for (_, published) in self.published {
            cells.push(match of_published(published) {
                Some(text) => Shown { text, kind: "published", note: None },
                None => Shown { text: "not published".to_owned(), kind: "none", note: None },
            });
        }
        Line { label: label.to_owned(), cells }
    }

    fn empty(&mut self, reason: &str) -> Shown {
        let known = self.reasons.iter().position(|other| other == reason);
        let at = known.unwrap_or_else(|| {
            self.reasons.push(reason.to_owned());
            self.reasons.len() - 1
        });
        Shown { text: "not run".to_owned(), kind: "none", note: Some(at + 1) }
    }
}

fn known<T: Clone>(cell: &Cell<T>) -> Result<T, String> {
    match cell {
        Cell::Value(value) => Ok(value.clone()),
        Cell::NotRun(why) => Err(why.clone()),
    }
}

/// Writes report.json, report.md, report.html and the plots as files of their own.
pub(super) fn write(
    args: &Args,
    text: &Text,
    tasks: &[Task],
    rows: &[Row],
    machine: Fingerprint,
) -> Result<()> {
    let models = Models::load()?;
    let published: Vec<(&Model, &Published)> =
        models.model.iter().filter_map(|model| Some((model, model.published.as_ref()?))).collect();
    let scored: Vec<&Row> = rows.iter().filter(|row| row.score.is_ok()).collect();
    let has = |row: &Row, task: &Task| plots::measured(row, task).is_some();
    let in_table = |task: &&Task| published.iter().all(|(_, p)| p.scores.contains_key(&task.key));
    let common: Vec<&Task> = tasks
        .iter()
        .filter(in_table)
        .filter(|task| !scored.is_empty() && scored.iter().all(|row| has(row, task)))
        .collect();

    let all: Vec<&Task> = tasks.iter().filter(in_table).collect();
    let reported = published.iter().map(|(model, published)| Reported {
        name: &model.name,
        published,
        average: plots::mean(&all, |task| published.scores.get(&task.key).copied()),
    });
    let settings = Settings {
        prompt: args.prompt,
        decode: args.decode,
        rounds: args.rounds,
        limit: args.limit,
        text: text.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        context: text.context,
        wrap: args.wrap.as_deref(),
    };
    let report = Report { machine: &machine, settings, tasks, rows, published: reported.collect() };
    save(&args.output.join("report.json"), &serde_json::to_string_pretty(&report)?)?;

    let picture = Picture { rows, published: &published, tasks, common: &common };
    let plots = picture.plots();
    for plot in &plots {
        save(&args.output.join(format!("{}.svg", plot.name)), &plot.svg)?;
    }
    let mut table = Table { rows, published: &published, reasons: Vec::new() };
    let sections = sections(&mut table, args, tasks, &common, &all);
    let columns: Vec<_> = rows
        .iter()
        .map(|row| (row.name.as_str(), "measured here"))
        .chain(published.iter().map(|(model, _)| (model.name.as_str(), "published")))
        .collect();
    let bandwidth = machine.bandwidth_bytes_per_s.as_ref();
    let values = json!({
        "machine": machine,
        "rows": rows,
        "columns": columns,
        "sections": sections,
        "reasons": table.reasons,
        "settings": report.settings,
        "bandwidth": bandwidth.map(|speed| range(speed, 1e-9, 1)),
        "plots": plots,
    });
    for (name, template) in [
        ("report.md", include_str!("report.md.jinja")),
        ("report.html", include_str!("report.html.jinja")),
    ] {
        let mut environment = Environment::new();
        environment
            .set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.add_template(name, template)?;
        let page = environment.get_template(name)?.render(Value::from(Serde(&values)))?;
        save(&args.output.join(name), &page)?;
    }
    println!("{}", args.output.join("report.html").display());
    Ok(())
}

fn sections(
    table: &mut Table<'_>,
    args: &Args,
    tasks: &[Task],
    common: &[&Task],
    all: &[&Task],
) -> Vec<Section> {
    let mb = |bytes: &u64| megabytes(*bytes as f64 / 1e6);
    let none = |_: &Published| None;
    let perplexity = |p: &Perplexity| match (p.bits_per_byte, p.expected) {
        (_, Some(expected)) => format!("{:.3} (PyTorch {expected:.3})", p.value),
        (Some(bits), None) => format!("{:.3} ({bits:.3} bits per byte)", p.value),
        (None, None) => format!("{:.3}", p.value),
    };
    let latency = |row: &Row| known(&row.decode);
    let memory = vec![
        table.line(
            "weights without the embedding, MB",
            |r| known(&r.non_embedding_bytes),
            mb,
            |p| Some(megabytes(p.non_embedding_gb * 1e3)),
        ),
        table.line("model file, MB", |r| known(&r.file_bytes), mb, none),
        table.line("peak resident memory, MB", |r| known(&r.peak_resident_bytes), mb, none),
    ];
    let decode = format!("decoding {} tokens, tokens/s", args.decode);
    let prefill = format!("reading {} tokens, tokens/s", args.prompt);
    let speed = vec![
        table.line("decoded token, ms", latency, milliseconds, |p| {
            Some(format!("{}", p.cpu_decoding_ms))
        }),
        table.line(&decode, |r| known(&r.decode), |s| range(s, 1.0, 1), none),
        table.line(&prefill, |r| known(&r.prefill), |s| range(s, 1.0, 1), none),
        table.line(
            "energy of a decoded token, J",
            |r| known(&r.joules_per_token),
            |s| range(s, 1.0, 3),
            none,
        ),
    ];
    let check = vec![table.line("perplexity", |r| known(&r.perplexity), perplexity, none)];
    let mut scores = Vec::new();
    for task in tasks {
        let cell = |row: &Row| match row.scores.get(&task.key) {
            Some(cell) => known(cell),
            None => Err("not scored".to_owned()),
        };
        // How many items were scored stands with the task, where it is the same for all rows.
        let counts = table.rows.iter().filter_map(|row| row.scores.get(&task.key)?.value());
        let count = counts.map(|score| score.n).next();
        let part = count.zip(task.items).filter(|(n, items)| n != items);
        let part = part.map_or(String::new(), |(n, items)| format!(", {n} of {items}"));
        let show = |score: &Score| {
            let error = score.stderr.map_or(String::new(), |error| format!(" ± {error:.1}"));
            let other =
                if Some(score.n) == count { String::new() } else { format!(" (of {})", score.n) };
            format!("{:.1}{error}{other}", score.value)
        };
        let label = format!("{} ({}{part})", task.title, task.metric);
        let value = |p: &Published| Some(format!("{:.2}", p.scores.get(&task.key)?));
        scores.push(table.line(&label, cell, show, value));
    }
    let mut mean_of = |label: &str, of: &[&Task], why: &str| {
        let row = |row: &Row| {
            plots::mean(of, |task| plots::measured(row, task)).ok_or_else(|| why.to_owned())
        };
        let value = |p: &Published| {
            let mean = plots::mean(of, |task| p.scores.get(&task.key).copied())?;
            Some(format!("{mean:.2}"))
        };
        scores.push(table.line(label, row, |mean| format!("{mean:.1}"), value));
    };
    if !common.is_empty() {
        let label = format!("mean of the {} tasks run here", common.len());
        mean_of(&label, common, "it was not scored on all of them");
    }
    mean_of("mean of all 16", all, "not all 16 were run");
    let section = |title: &str, lines| Section { title: title.to_owned(), lines };
    vec![
        section("Checked first", check),
        section("Memory", memory),
        section("Speed", speed),
        section("Scores, %", scores),
    ]
}

fn megabytes(mb: f64) -> String {
    if mb < 100.0 { format!("{mb:.1}") } else { format!("{mb:.0}") }
}

fn milliseconds(speed: &Spread) -> String {
    let ms = 1e3 / speed.median;
    if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.1}") }
}

/// Median (least to largest).
fn range(spread: &Spread, scale: f64, digits: usize) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(|value| value * scale);
    let digits = if median >= 1000.0 { 0 } else { digits };
    match spread.values.len() {
        1 => format!("{median:.digits$}"),
        _ => format!("{median:.digits$} ({min:.digits$} to {max:.digits$})"),
    }
}

fn save(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
