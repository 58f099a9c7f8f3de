//! The plots of a report.

use super::plan::{Plan, Test, TestKind};
use super::row::{Cell, Row};
use super::scaling::Scaling;
use super::spread::Spread;
use super::svg::{self, Bar, Group, Point, Series};
use super::tasks::Task;
use crate::models::{Model, Published};

/// A picture and the name of its file.
#[derive(serde::Serialize)]
pub(super) struct Plot {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) svg: String,
}

/// The contents of the plots: measured rows and published models, in the order of their colours.
pub(super) struct Picture<'a> {
    pub(super) rows: &'a [Row],
    pub(super) published: &'a [(&'a Model, &'a Published)],
    pub(super) plan: &'a Plan,
    /// The tasks on which all scored rows were scored.
    pub(super) common: &'a [&'a Task],
}

/// The mean of a row's scores over some tasks; `None` if one is missing.
pub(super) fn mean(tasks: &[&Task], score: impl Fn(&Task) -> Option<f64>) -> Option<f64> {
    let scores: Option<Vec<f64>> = tasks.iter().map(|task| score(task)).collect();
    let scores = scores.filter(|scores| !scores.is_empty())?;
    Some(scores.iter().sum::<f64>() / scores.len() as f64)
}

pub(super) fn measured(row: &Row, task: &Task) -> Option<f64> {
    Some(row.scores.get(&task.key)?.value()?.value)
}

impl Picture<'_> {
    pub(super) fn plots(&self) -> Vec<Plot> {
        let mut plots = Vec::new();
        let decode = self.plan.first(TestKind::Decode);
        let memory = self.scatter(
            "Score against memory",
            "weights without the embedding, MB (log scale)",
            &|row| Some(*row.non_embedding_bytes.value()? as f64 / 1e6),
            &|published| published.non_embedding_gb * 1e3,
        );
        let speed = self.scatter(
            "Score against latency",
            "milliseconds for a decoded token (log scale)",
            &|row| Some(1e3 / row.speed(decode?)?.median),
            &|published| published.cpu_decoding_ms,
        );
        plots.extend(memory.map(|svg| Plot {
            name: "score-memory",
            title: "Score against memory",
            svg,
        }));
        plots.extend(speed.map(|svg| Plot {
            name: "score-latency",
            title: "Score against latency",
            svg,
        }));
        let prefill = self.plan.first(TestKind::Prefill);
        plots.extend(decode.and_then(|test| self.speeds("decode", "Decoding", test)));
        plots.extend(prefill.and_then(|test| self.speeds("prefill", "Reading a prompt", test)));
        let (title, axis) = ("Decoding by threads", "threads");
        plots.extend(self.scaling("threads", title, axis, &|scaling| &scaling.threads));
        let (title, axis) = ("Decoding by tokens in the context", "tokens in the context");
        plots.extend(self.scaling("context", title, axis, &|scaling| &scaling.context));
        plots.extend(self.memory());
        plots.extend(self.tasks());
        plots
    }

    /// Decoding speeds by a number.
    fn scaling(
        &self,
        name: &'static str,
        title: &'static str,
        axis: &str,
        of: &dyn Fn(&Scaling) -> &[(usize, Spread)],
    ) -> Option<Plot> {
        let point = |(x, speed): &(usize, Spread)| [*x as f64, speed.median, speed.min, speed.max];
        let points = |row: &Row| Some(of(row.scaling.as_ref()?).iter().map(point).collect());
        self.lines(name, title, (axis, "decoded tokens a second"), true, &points)
    }

    /// The resident size over the time of a run.
    fn memory(&self) -> Option<Plot> {
        let point = |&(seconds, bytes): &(f64, u64)| {
            let mb = bytes as f64 / 1e6;
            [seconds, mb, mb, mb]
        };
        let points = |row: &Row| Some(row.scaling.as_ref()?.memory.iter().map(point).collect());
        let labels = ("seconds since the start of the program", "resident memory, MB");
        self.lines("memory", "Memory over time", labels, false, &points)
    }

    /// A line for every row with points.
    fn lines(
        &self,
        name: &'static str,
        title: &'static str,
        (x, y): (&str, &str),
        marked: bool,
        points: &dyn Fn(&Row) -> Option<Vec<[f64; 4]>>,
    ) -> Option<Plot> {
        let mut series = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            if let Some(points) = points(row).filter(|points| !points.is_empty()) {
                let (label, colour) = (row.name.clone(), svg::colour(index));
                series.push(Series { label, colour, points, marked });
            }
        }
        let svg = (!series.is_empty()).then(|| svg::lines(title, x, y, &series))?;
        Some(Plot { name, title, svg })
    }

    /// A point for every row and published model that has a mean score and a value on the x axis.
    fn scatter(
        &self,
        title: &str,
        axis: &str,
        of_row: &dyn Fn(&Row) -> Option<f64>,
        of_published: &dyn Fn(&Published) -> f64,
    ) -> Option<String> {
        let all: Vec<&Task> = self.plan.tasks.iter().take(16).collect();
        let (tasks, of) = match self.common.len() {
            0 => (&all[..], "the 16 published scores".to_owned()),
            n => (self.common, format!("the {n} tasks that were run here")),
        };
        let mut points = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let y = mean(self.common, |task| measured(row, task));
            if let (Some(x), Some(y)) = (of_row(row), y) {
                let (label, colour) = (row.name.clone(), svg::colour(index));
                points.push(Point { label, x, y, colour, hollow: false });
            }
        }
        for (index, (model, published)) in self.published.iter().enumerate() {
            if let Some(y) = mean(tasks, |task| published.scores.get(&task.key).copied()) {
                let label = format!("{} (published)", model.name);
                let colour = svg::colour(self.rows.len() + index);
                points.push(Point { label, x: of_published(published), y, colour, hollow: true });
            }
        }
        let y_label = format!("mean of {of}, %");
        (!points.is_empty()).then(|| svg::scatter(title, axis, &y_label, &points))
    }

    /// Bars of tokens per second, with the range of the runs.
    fn speeds(&self, name: &'static str, what: &'static str, test: Test) -> Option<Plot> {
        let mut bars = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            if let Some(spread) = row.speed(test) {
                bars.push(Bar {
                    label: row.name.clone(),
                    value: spread.median,
                    low: spread.min,
                    high: spread.max,
                    text: short(spread.median),
                    colour: svg::colour(index),
                    hollow: false,
                });
            }
        }
        if bars.is_empty() {
            return None;
        }
        let groups = [Group { name: String::new(), bars }];
        let svg = svg::bars(what, "tokens a second: median, least and largest run", &groups, true);
        Some(Plot { name, title: what, svg })
    }

    /// The scores of each task that was run, published ones below.
    fn tasks(&self) -> Option<Plot> {
        let mut groups = Vec::new();
        for task in &self.plan.tasks {
            let mut bars = Vec::new();
            for (index, row) in self.rows.iter().enumerate() {
                if let Some(Cell::Value(score)) = row.scores.get(&task.key) {
                    let error = score.stderr.unwrap_or(0.0);
                    bars.push(Bar {
                        label: row.name.clone(),
                        value: score.value,
                        low: score.value - error,
                        high: score.value + error,
                        text: format!("{:.1}", score.value),
                        colour: svg::colour(index),
                        hollow: false,
                    });
                }
            }
            if bars.is_empty() {
                continue;
            }
            for (index, (model, published)) in self.published.iter().enumerate() {
                if let Some(&value) = published.scores.get(&task.key) {
                    bars.push(Bar {
                        label: format!("{} (published)", model.name),
                        value,
                        low: value,
                        high: value,
                        text: format!("{value:.1}"),
                        colour: svg::colour(self.rows.len() + index),
                        hollow: true,
                    });
                }
            }
            groups.push(Group { name: format!("{} ({})", task.title, task.metric), bars });
        }
        if groups.is_empty() {
            return None;
        }
        let title = "Scores by task";
        let svg = svg::bars(title, "score, % (whiskers: one standard error)", &groups, false);
        Some(Plot { name: "tasks", title, svg })
    }
}

/// A number with three digits, or all digits before the point if there are more.
fn short(value: f64) -> String {
    match value {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
