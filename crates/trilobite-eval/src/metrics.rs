//! Metrics: means over items and their standard errors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::task::Task;

/// The value of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The value.
    pub value: f64,
    /// The standard error, if one is defined.
    pub stderr: Option<f64>,
}

impl Metric {
    /// A value without a standard error.
    pub(crate) fn plain(value: f64) -> Self {
        Self { value, stderr: None }
    }

    /// The mean of some values. Its standard error is the sample standard deviation divided by the
    /// square root of their number.
    pub(crate) fn mean(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let stderr = (values.len() > 1).then(|| (variance(values) / n).sqrt());
        Self { value: mean(values), stderr }
    }

    /// The mean over groups with equal weight for every item. Its standard error is the pooled one
    /// of lm-evaluation-harness: `sqrt(sum((n_g - 1) n_g se_g^2) / (n - groups) / n)`.
    pub(crate) fn pooled(groups: &[Vec<f64>]) -> Self {
        let all: Vec<f64> = groups.iter().flatten().copied().collect();
        let n = all.len() as f64;
        let free = all.len().saturating_sub(groups.len());
        let squares: f64 = groups
            .iter()
            .filter(|group| group.len() > 1)
            .map(|group| (group.len() - 1) as f64 * variance(group))
            .sum();
        let stderr = (free > 0).then(|| (squares / free as f64 / n).sqrt());
        Self { value: mean(&all), stderr }
    }
}

/// The metrics of some items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The metrics over all items; empty if the answers were not judged.
    pub metrics: BTreeMap<String, Metric>,
    /// The metrics of each group with items, such as a subject of MMLU.
    pub groups: BTreeMap<String, GroupScore>,
    /// The reason why nothing was measured.
    pub not_run: Option<&'static str>,
}

/// The metrics of a group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupScore {
    /// Number of items.
    pub n: usize,
    /// The metrics.
    pub metrics: BTreeMap<String, Metric>,
}

impl Measured {
    /// Computes the metrics of a task. `values` returns the values of an item for a metric.
    ///
    /// If the task has groups, every item has the same weight, as in lm-evaluation-harness. The
    /// unweighted mean of the groups is `METRIC_macro`, and that of a category `METRIC_CATEGORY`.
    pub(crate) fn of<T>(
        task: &Task,
        answers: &[T],
        group: impl Fn(&T) -> Option<&str>,
        values: impl Fn(&T, &str) -> Vec<f64>,
    ) -> Self {
        let mut measured = Self::default();
        for name in &task.metrics {
            if task.groups.is_empty() {
                let values: Vec<f64> = answers.iter().flat_map(|item| values(item, name)).collect();
                measured.metrics.insert(name.clone(), Metric::mean(&values));
                continue;
            }
            let mut groups: BTreeMap<&str, (usize, Vec<f64>)> = BTreeMap::new();
            for item in answers {
                let (n, all) = groups.entry(group(item).unwrap_or_default()).or_default();
                *n += 1;
                all.extend(values(item, name));
            }
            let mut categories: BTreeMap<&str, Vec<Vec<f64>>> = BTreeMap::new();
            for (group, (n, values)) in &groups {
                let score = measured.groups.entry((*group).to_owned());
                let score = score.or_insert(GroupScore { n: *n, metrics: BTreeMap::new() });
                score.metrics.insert(name.clone(), Metric::mean(values));
                let category = task.groups.get(*group).map_or("", |group| &group.category);
                categories.entry(category).or_default().push(values.clone());
            }
            let all: Vec<Vec<f64>> = groups.into_values().map(|(_, values)| values).collect();
            let means: Vec<f64> = all.iter().map(|values| mean(values)).collect();
            measured.metrics.insert(name.clone(), Metric::pooled(&all));
            measured.metrics.insert(format!("{name}_macro"), Metric::plain(mean(&means)));
            for (category, groups) in categories.into_iter().filter(|(name, _)| !name.is_empty()) {
                measured.metrics.insert(format!("{name}_{category}"), Metric::pooled(&groups));
            }
        }
        measured
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample variance of at least two values.
fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of numpy and of the harness's `pooled_sample_stderr`.
    #[test]
    fn means_and_errors() {
        let metric = Metric::mean(&[1.0, 0.0, 1.0, 1.0]);
        assert_eq!(metric.value, 0.75);
        assert!((metric.stderr.unwrap() - 0.25).abs() < 1e-15);
        assert_eq!(Metric::mean(&[1.0]).stderr, None);
        let pooled = Metric::pooled(&[vec![1.0, 0.0, 1.0, 1.0], vec![0.0, 1.0]]);
        assert_eq!(pooled.value, 4.0 / 6.0);
        // sqrt((3 * 0.25 + 1 * 0.5) / 4 / 6)
        assert!((pooled.stderr.unwrap() - (1.25f64 / 4.0 / 6.0).sqrt()).abs() < 1e-15);
    }
}
