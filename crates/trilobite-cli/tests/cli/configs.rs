//! Tests of small checkpoints with many configurations, compared with transformers.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::fixture::own_folder;
use crate::npy::Array;
use crate::trilobite;

/// Tolerance of the logits of dense models, in which only float rounding differs.
const DENSE: f32 = 5e-4;

/// A configuration, and the logits of transformers with it (by `models/golden/configs.py`).
#[derive(Deserialize)]
struct Case {
    name: String,
    weights: String,
    config: Value,
    tokens: Vec<u32>,
    /// The logits after the last tokens.
    logits: Vec<Vec<f32>>,
}

#[test]
fn configurations_mean_what_transformers_makes_of_them() {
    let golden = own_folder().join("configs");
    let cases = std::fs::read_to_string(golden.join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() > 40);
    let check = |case: &Case| -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (model, file) = (folder.path().join("model"), folder.path().join("model.gguf"));
        std::fs::create_dir(&model)?;
        std::fs::write(model.join("config.json"), case.config.to_string())?;
        let weights = golden.join(&case.weights).with_extension("safetensors");
        std::fs::copy(&weights, model.join("model.safetensors"))?;
        let whole = trilobite::logits(&model, &case.tokens, &[], &[])?;
        let found = Array::parse(&whole)?;
        let first = case.tokens.len() - case.logits.len();
        for (row, expected) in found.rows().skip(first).zip(&case.logits) {
            ensure!(row.len() == expected.len(), "{} logits", row.len());
            let errors = row.iter().zip(expected).map(|(a, b)| (a - b).abs());
            let worst = errors.fold(0.0, f32::max);
            ensure!(worst <= DENSE, "a logit is off by {worst}");
        }
        let batches = ["--batch", "3", "-t", "2"];
        let cut = trilobite::logits(&model, &case.tokens, &batches, &[])?;
        ensure!(cut == whole, "other logits in batches of 3");
        trilobite::convert(&model, &file)?;
        ensure!(
            trilobite::logits(&file, &case.tokens, &[], &[])? == whole,
            "unlike its conversion"
        );
        Ok(())
    };
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| check(case).with_context(|| case.name.clone()).err())
        .map(|error| format!("{error:#}"))
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
