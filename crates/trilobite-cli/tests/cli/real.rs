//! Tests of real models, compared with llama.cpp. `TRILOBITE_MODELS` names a folder with the files
//! of [`MODELS`] and the results of llama.cpp in `ref`. README.md of `models/golden` has the origin
//! of the files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::npy::Array;
use crate::trilobite;

/// The name of a model's reference files, and the model's file.
const MODELS: [(&str, &str); 2] =
    [("smollm2", "smollm2-135m.gguf"), ("gemma3", "gemma3-270m.gguf")];

/// Tolerance of logits. If two logits differ by less, either may be the largest.
const TIE: f32 = 1e-2;
/// Relative tolerance of a perplexity: half a percent.
const PERPLEXITY: f64 = 0.005;

/// Checks every model.
fn for_each(check: impl Fn(&str, &Path, &Path) -> Result<()>) {
    let folder = PathBuf::from(std::env::var_os("TRILOBITE_MODELS").expect("TRILOBITE_MODELS"));
    for (name, file) in MODELS {
        check(name, &folder.join(file), &folder.join("ref")).with_context(|| file).unwrap();
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

#[derive(Deserialize)]
struct Greedy {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    ids: Vec<u32>,
    steps: Vec<Step>,
}

/// A greedy token with its logit, and the runner-up.
#[derive(Deserialize)]
struct Step {
    token: u32,
    logit: f32,
    second: u32,
    second_logit: f32,
}

#[test]
#[ignore = "needs TRILOBITE_MODELS, a folder of real models"]
fn greedy_tokens_are_those_of_llama_cpp() {
    // The reference has the same weights in f32; with quantised weights llama.cpp rounds
    // activations to 8 bits.
    for_each(|name, model, reference| {
        let path = reference.join(format!("{name}.greedy.weights_f32_kv_f32.json"));
        for Prompt { ids, steps } in json::<Greedy>(&path)?.prompts {
            let (tokens, n) = (trilobite::comma_separated(&ids), steps.len().to_string());
            let args = ["run", "--tokens", &tokens, "-n", &n, "--temp=0", "--ignore-eos", "--ids"];
            let found = trilobite::stdout(trilobite::command(args).arg(model))?;
            let found: Vec<u32> =
                found.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
            ensure!(found.len() == steps.len(), "{} tokens", found.len());
            let mut pairs = found.iter().zip(&steps).enumerate();
            let Some((i, (token, step))) = pairs.find(|(_, (token, step))| **token != step.token)
            else {
                continue;
            };
            let margin = step.logit - step.second_logit;
            ensure!(
                *token == step.second && margin <= TIE,
                "token {i} is {token}, not {} by a margin of {margin}",
                step.token
            );
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs TRILOBITE_MODELS, a folder of real models"]
fn logits_are_those_of_llama_cpp() {
    for_each(|name, model, reference| {
        let path = reference.join(format!("{name}.greedy.weights_f32_kv_f32.json"));
        let greedy: Greedy = json(&path)?;
        let Prompt { ids, steps } = greedy.prompts.first().context("no prompt")?;
        let logits = Array::parse(&trilobite::logits(model, ids, &[], &[])?)?;
        let (last, step) = (logits.rows().last().context("no row")?, &steps[0]);
        for (token, logit) in [(step.token, step.logit), (step.second, step.second_logit)] {
            let found = last[token as usize];
            ensure!((found - logit).abs() <= TIE, "logit of {token} is {found}, not {logit}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs TRILOBITE_MODELS, a folder of real models"]
fn perplexity_is_that_of_llama_cpp() {
    for_each(|name, model, reference| {
        let path = reference.join(format!("{name}.ppl.json"));
        let expected: Value = json(&path)?;
        let expected = &expected["variants"]["weights_f32_kv_f32"]["all_tokens"];
        let text = reference.join(format!("{name}.wiki20k.txt"));
        let mut command = trilobite::command(["perplexity", "--ctx=512", "--json", "--file"]);
        let found = trilobite::stdout(command.arg(text).arg(model))?;
        let found: Value = serde_json::from_str(&found)?;
        ensure!(found["tokens"] == expected["tokens"], "{found}: other tokens than {expected}");
        let number = |value: &Value| value["perplexity"].as_f64().context("no perplexity");
        let off = number(&found)? / number(expected)? - 1.0;
        ensure!(off.abs() <= PERPLEXITY, "{found}, not {expected}");
        Ok(())
    });
}
