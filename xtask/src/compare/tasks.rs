//! The tasks on which models are scored.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The default tasks, which take seconds with a small model: those of multiple choice.
pub(super) const DEFAULT_TASKS: [&str; 10] = [
    "arc_challenge",
    "arc_easy",
    "openbookqa",
    "boolq",
    "hellaswag",
    "piqa",
    "winogrande",
    "commonsense_qa",
    "truthfulqa_mc2",
    "mmlu",
];

/// The rows of the published table: the name there, the task, and the metric.
const ROWS: [(&str, &str, &str); 16] = [
    ("arc_challenge", "arc_challenge", "acc_norm"),
    ("arc_easy", "arc_easy", "acc_norm"),
    ("openbookqa", "openbookqa", "acc_norm"),
    ("boolq", "boolq", "acc"),
    ("hellaswag", "hellaswag", "acc_norm"),
    ("piqa", "piqa", "acc_norm"),
    ("winogrande", "winogrande", "acc"),
    ("commonsenseqa", "commonsense_qa", "acc"),
    ("truthfulqa", "truthfulqa_mc2", "mc2"),
    ("triviaqa", "triviaqa", "exact_match"),
    ("mmlu", "mmlu", "acc"),
    ("humaneval_plus", "humaneval_plus", "pass_at_1"),
    ("gsm8k", "gsm8k", "exact_match"),
    ("math_500", "math500", "accuracy"),
    ("ifeval", "ifeval", "inst_level_strict"),
    ("mt_bench", "mt_bench", "rating"),
];

/// A row of the table of scores.
#[derive(Clone, Serialize)]
pub(super) struct Task {
    /// Its name in `published.scores` of models.toml.
    pub(super) key: String,
    /// Its name for `trilobite eval`.
    pub(super) name: String,
    pub(super) title: String,
    pub(super) metric: String,
    /// Items of the whole task.
    pub(super) items: Option<usize>,
    pub(super) asked: bool,
}

impl Task {
    /// A value in the table's unit: percent, except for MT-bench's ratings from 1 to 10.
    pub(super) fn shown(&self, value: f64) -> f64 {
        if self.key == "mt_bench" { value } else { 100.0 * value }
    }
}

/// A measured score, in the table's unit.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Score {
    pub(super) value: f64,
    pub(super) stderr: Option<f64>,
    pub(super) n: usize,
}

/// The required part of a task's definition.
#[derive(Deserialize)]
struct Definition {
    title: String,
    items: usize,
    metrics: Vec<String>,
}

/// The tasks of the published table.
pub(super) fn published_tasks() -> Vec<String> {
    ROWS.iter().map(|(_, name, _)| (*name).to_owned()).collect()
}

/// The tasks of the table, and further requested ones.
pub(super) fn tasks(asked: &[String]) -> Result<Vec<Task>> {
    let folder = crate::repository::root().join("crates/trilobite-eval/tasks");
    let define = |key: &str, name: &str, metric: Option<&str>| -> Result<Task> {
        let path = folder.join(format!("{name}.toml"));
        // A variant, such as mmlu_5shot, has the definition of its task.
        let base = folder.join(format!("{}.toml", name.rsplit_once('_').map_or(name, |(b, _)| b)));
        let path = if path.exists() || metric.is_some() { path } else { base };
        let definition: Option<Definition> = match std::fs::read_to_string(&path) {
            Ok(text) => Some(toml::from_str(&text).with_context(|| path.display().to_string())?),
            Err(_) if metric.is_some() => None,
            Err(error) => bail!("--tasks: {name}: {}: {error}", path.display()),
        };
        let first = definition.as_ref().and_then(|known| known.metrics.first());
        let metric = metric.map(str::to_owned).or_else(|| first.cloned());
        Ok(Task {
            key: key.to_owned(),
            name: name.to_owned(),
            title: definition.as_ref().map_or_else(|| name.to_owned(), |known| known.title.clone()),
            metric: metric.unwrap_or_default(),
            items: definition.map(|known| known.items),
            asked: asked.iter().any(|other| other == name),
        })
    };
    let mut tasks: Vec<Task> = Vec::new();
    for (key, name, metric) in ROWS {
        tasks.push(define(key, name, Some(metric))?);
    }
    for name in asked {
        if tasks.iter().all(|task| task.name != *name) {
            tasks.push(define(name, name, None)?);
        }
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_tasks_are_defined_with_the_metrics_of_its_cells() {
        let tasks = tasks(&["mmlu_5shot".to_owned(), "wikitext".to_owned()]).unwrap();
        assert_eq!(tasks.len(), 18);
        assert_eq!((tasks[16].title.as_str(), tasks[16].metric.as_str()), ("MMLU", "acc"));
        let folder = crate::repository::root().join("crates/trilobite-eval/tasks");
        for task in &tasks[..15] {
            let text = std::fs::read_to_string(folder.join(format!("{}.toml", task.name))).unwrap();
            let known: Definition = toml::from_str(&text).unwrap();
            assert!(known.metrics.contains(&task.metric), "{}", task.name);
        }
        let models = crate::models::Models::load().unwrap();
        for published in models.model.iter().filter_map(|model| model.published.as_ref()) {
            for key in published.scores.keys() {
                assert!(tasks.iter().any(|task| task.key == *key), "{key}");
            }
        }
        assert!(super::tasks(&["arc_hard".to_owned()]).is_err());
    }
}
