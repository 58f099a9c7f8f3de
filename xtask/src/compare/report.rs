//! The report: the measurements as JSON, and as a page with tables and plots.

use std::path::Path;

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;
use serde_json::json;

use super::args::Args;
use super::check::Text;
use super::machine::Fingerprint;
use super::perplexity::Perplexity;
use super::plan::{Plan, Test, TestKind};
use super::plots::{self, Picture};
use super::ratios::{self, Ratio};
use super::row::{Cell, Row};
use super::spread::Spread;
use super::tasks::{Score, Task};
use crate::models::{Model, Models, Published};

/// The contents of report.json.
#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Fingerprint,
    settings: Settings<'a>,
    tasks: &'a [Task],
    rows: &'a [Row],
    goals: &'a [Ratio<'a>],
    /// From the technical report of BitNet b1.58 2B4T (arXiv 2504.12285), on its authors' machine.
    published: Vec<Reported<'a>>,
}

#[derive(Serialize)]
struct Settings<'a> {
    tests: &'a [Test],
    rounds: usize,
    limit: usize,
    shuffle: Option<u64>,
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
    /// The plain mean of its scores.
    mean: Option<f64>,
}

/// A cell of a table.
#[derive(Serialize)]
struct Shown {
    text: String,
    /// "measured", "published", or "none".
    kind: &'static str,
    /// The number of the note with the reason why the cell is empty.
    note: Option<usize>,
}

#[derive(Serialize)]
struct Line {
    label: String,
    cells: Vec<Shown>,
    /// The names of rows and the commands that measured them.
    commands: Vec<(String, String)>,
}

impl Line {
    /// Adds the commands of a test or a task.
    fn by(mut self, rows: &[Row], what: &str) -> Self {
        for row in rows {
            // A command can be of several tests.
            let of = |names: &str| names.split(' ').any(|name| name == what);
            let command = row.commands.iter().find(|(names, _)| of(names));
            self.commands.extend(command.map(|(_, command)| (row.name.clone(), command.clone())));
        }
        self
    }
}

#[derive(Serialize)]
struct Section {
    title: String,
    lines: Vec<Line>,
}

/// A table under construction: its columns and the reasons for its empty cells.
struct Table<'a> {
    rows: &'a [Row],
    published: &'a [(&'a Model, &'a Published)],
    reasons: Vec<String>,
}

impl Table<'_> {
    /// Creates a line from values of the rows and of the published models.
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
        Line { label: label.to_owned(), cells, commands: Vec::new() }
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

/// Writes report.json, report.md, report.html and a file for each plot.
pub(super) fn write(
    args: &Args,
    text: &Text,
    plan: &Plan,
    rows: &[Row],
    machine: Fingerprint,
) -> Result<()> {
    let models = Models::load()?;
    let published: Vec<_> = models.published().filter(|_| plan.published).collect();
    let has = |row: &Row, task: &Task| plots::measured(row, task).is_some();
    let in_table = |task: &&Task| published.iter().all(|(_, p)| p.scores.contains_key(&task.key));
    let all: Vec<&Task> = plan.tasks.iter().filter(in_table).collect();
    let scored: Vec<&Row> = rows.iter().filter(|row| row.score.is_ok()).collect();
    let run = |task: &&&Task| !scored.is_empty() && scored.iter().all(|row| has(row, task));
    let common: Vec<&Task> = all.iter().filter(run).copied().collect();

    let mean = |p: &Published| plots::mean(&all, |task| p.scores.get(&task.key).copied());
    let reported = published.iter().map(|(model, published)| Reported {
        name: &model.name,
        published,
        mean: mean(published),
    });
    let tests = plan.tests();
    let settings = Settings {
        tests: &tests,
        rounds: args.rounds,
        limit: plan.limit,
        shuffle: args.shuffle,
        text: text.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        context: text.context,
        wrap: args.wrap.as_deref(),
    };
    let goals = &ratios::ratios(plan, rows);
    let report = Report {
        machine: &machine,
        settings,
        tasks: &plan.tasks,
        rows,
        goals,
        published: reported.collect(),
    };
    save(&args.output.join("report.json"), &serde_json::to_string_pretty(&report)?)?;

    let picture = Picture { rows, published: &published, plan, common: &common };
    let plots = picture.plots();
    for plot in &plots {
        save(&args.output.join(format!("{}.svg", plot.name)), &plot.svg)?;
    }
    let mut table = Table { rows, published: &published, reasons: Vec::new() };
    let sections = sections(&mut table, plan, &common, &all);
    let columns: Vec<_> = rows
        .iter()
        .map(|row| (row.name.as_str(), "measured here"))
        .chain(published.iter().map(|(model, _)| (model.name.as_str(), "published")))
        .collect();
    let bandwidth = machine.bandwidth_bytes_per_s.as_ref();
    let notes: Vec<_> =
        plan.notes.iter().cloned().chain(note_on_averages(&published, mean)).collect();
    let values = json!({
        "title": plan.title,
        "machine": machine,
        "rows": rows,
        "columns": columns,
        "sections": sections,
        "notes": notes,
        "goals": goals,
        "reasons": table.reasons,
        "settings": report.settings,
        "scored": !plan.tasks.is_empty(),
        "published": plan.published,
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

/// A note about printed averages that differ from the means of their cells.
fn note_on_averages(
    published: &[(&Model, &Published)],
    mean: impl Fn(&Published) -> Option<f64>,
) -> Option<String> {
    /// Averages and cells are rounded to two digits.
    const ROUNDING: f64 = 0.015;
    let mut other = Vec::new();
    let mut same = Vec::new();
    for (model, published) in published {
        let printed = published.average;
        let mean = mean(published)?;
        match (mean - printed).abs() > ROUNDING {
            true => {
                other.push(format!("{} ({printed:.2} printed, {mean:.2} computed)", model.name))
            }
            false => same.push(model.name.as_str()),
        }
    }
    (!other.is_empty()).then(|| {
        format!(
            "The technical report prints averages that are not the means of its own cells for {}. It \
             does not say what they are of; cells were probably changed after they were taken. For {} \
             the printed average is the plain mean of all cells, MT-bench's rating counted as it is, \
             and so are the means here.",
            other.join(", "),
            same.join(", ")
        )
    })
}

fn sections(table: &mut Table<'_>, plan: &Plan, common: &[&Task], all: &[&Task]) -> Vec<Section> {
    let rows = table.rows;
    let mb = |bytes: &u64| megabytes(*bytes as f64 / 1e6);
    let none = |_: &Published| None;
    let perplexity = |p: &Perplexity| match (p.bits_per_byte, p.expected) {
        (_, Some(expected)) => format!("{:.3} (PyTorch {expected:.3})", p.value),
        (Some(bits), None) => format!("{:.3} ({bits:.3} bits per byte)", p.value),
        (None, None) => format!("{:.3}", p.value),
    };
    let first = plan.tests().first().map_or_else(String::new, |test| test.name());
    let memory = vec![
        table
            .line(
                "weights without the embedding, MB",
                |r| known(&r.non_embedding_bytes),
                mb,
                |p| Some(megabytes(p.non_embedding_gb * 1e3)),
            )
            .by(rows, "inspect"),
        table.line("model file, MB", |r| known(&r.file_bytes), mb, none).by(rows, "inspect"),
        table
            .line("peak resident memory, MB", |r| known(&r.peak_resident_bytes), mb, none)
            .by(rows, &first),
    ];
    let of_test = |row: &Row, test: Test| match (&row.measure, row.speeds.get(&test.name())) {
        (Err(why), _) => Err(why.clone()),
        (Ok(()), Some(cell)) => known(cell),
        (Ok(()), None) => Err("not measured".to_owned()),
    };
    let decode = plan.first(TestKind::Decode);
    let latency = |row: &Row| match decode {
        Some(test) => of_test(row, test),
        None => Err("no decoding was asked for".to_owned()),
    };
    let published_latency = |p: &Published| Some(format!("{}", p.cpu_decoding_ms));
    let decoding = decode.map_or_else(String::new, |test| test.name());
    let mut speed = vec![
        table
            .line("decoded token, ms", latency, milliseconds, published_latency)
            .by(rows, &decoding),
    ];
    for test in plan.tests() {
        let label = plan.label(test);
        let line = table.line(&label, |r| of_test(r, test), |s| range(s, 1.0, 1), none);
        speed.push(line.by(rows, &test.name()));
    }
    speed.push(table.line(
        "energy of a decoded token, J",
        |r| known(&r.joules_per_token),
        |s| range(s, 1.0, 3),
        none,
    ));
    let check = table.line("perplexity", |r| known(&r.perplexity), perplexity, none);
    let check = vec![check.by(rows, "perplexity")];
    let section = |title: &str, lines| Section { title: title.to_owned(), lines };
    let mut sections =
        vec![section("Checked first", check), section("Memory", memory), section("Speed", speed)];
    if plan.tasks.is_empty() {
        return sections;
    }
    let mut scores = Vec::new();
    for task in &plan.tasks {
        let cell = |row: &Row| match row.scores.get(&task.key) {
            Some(cell) => known(cell),
            None => Err("not scored".to_owned()),
        };
        // The label of the task has the number of items if it is the same for all rows.
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
        scores.push(table.line(&label, cell, show, value).by(rows, &task.name));
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
    let unknown = |why: &str| {
        let why = why.to_owned();
        move |_: &Row| Err::<(), _>(why.clone())
    };
    scores.push(table.line(
        "average, as printed",
        unknown("a figure of the technical report; the mean above is the measured one"),
        |()| String::new(),
        |p| Some(format!("{:.2}", p.average)),
    ));
    let training = table.line(
        "training tokens, trillions",
        unknown("a figure of the technical report; running a model does not show it"),
        |()| String::new(),
        |p| Some(format!("{}", p.training_tokens)),
    );
    sections.push(section("Training", vec![training]));
    sections.push(section("Scores, %", scores));
    sections
}

fn megabytes(mb: f64) -> String {
    if mb < 100.0 { format!("{mb:.1}") } else { format!("{mb:.0}") }
}

fn milliseconds(speed: &Spread) -> String {
    let ms = 1e3 / speed.median;
    if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.1}") }
}

/// Formats a spread as `median (minimum to maximum)`.
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
