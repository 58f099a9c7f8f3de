//! Means over items and their standard errors.

use serde::{Deserialize, Serialize};

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The value.
    pub value: f64,
    /// Its standard error, where one is defined.
    pub stderr: Option<f64>,
}

impl Metric {
    /// A value without a standard error.
    pub(crate) fn plain(value: f64) -> Self {
        Self { value, stderr: None }
    }

    /// The mean of some values, with the sample standard deviation over the root of their number.
    pub(crate) fn mean(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let stderr = (values.len() > 1).then(|| (variance(values) / n).sqrt());
        Self { value: mean(values), stderr }
    }

    /// The mean over groups in which every item weighs the same, with the pooled standard error of
    /// lm-evaluation-harness: `sqrt(sum((n_g - 1) n_g se_g^2) / (n - groups) / n)`.
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
