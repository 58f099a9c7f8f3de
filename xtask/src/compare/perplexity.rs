//! Perplexity, by Trilobite or by a peer.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::process::{self, Output};
use super::subject::Subject;

/// A model's perplexity.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Perplexity {
    pub(super) value: f64,
    pub(super) bits_per_byte: Option<f64>,
    pub(super) method: String,
    /// The expected value, if known.
    pub(super) expected: Option<f64>,
}

/// The command that prints the perplexity of a model, with the arguments and the environment of its
/// row.
pub(super) fn command(
    binary: &Path,
    model: Option<&Path>,
    row: &Subject,
    text: &Path,
    context: usize,
) -> Command {
    let mut command = Command::new(binary);
    command.arg("perplexity").args(model).arg("--file").arg(text);
    command.args(["--ctx", &context.to_string(), "--json", "-q"]);
    command.args(&row.args).envs(&row.env);
    command
}

/// The perplexity of a model, by `trilobite perplexity`.
pub(super) fn of_model(command: &mut Command) -> Result<Perplexity> {
    stated_perplexity(&process::run(command)?.stdout)
}

fn stated_perplexity(stdout: &str) -> Result<Perplexity> {
    let result: Value = serde_json::from_str(stdout).context("the perplexity as JSON")?;
    Ok(Perplexity {
        value: result["perplexity"].as_f64().context("no perplexity was stated")?,
        bits_per_byte: result["bits_per_byte"].as_f64(),
        method: result["method"].as_str().unwrap_or("not stated").to_owned(),
        expected: None,
    })
}

/// The perplexity of a peer: by `llama-perplexity` beside its program, or by the program itself with
/// `--perplexity FILE --ctx N`.
pub(super) fn of_peer(
    command: &[String],
    env: &BTreeMap<String, String>,
    text: &Path,
    context: usize,
) -> Result<Perplexity> {
    let program = Path::new(&command[0]);
    let beside = program.with_file_name("llama-perplexity");
    let context = context.to_string();
    if beside.exists() {
        let model = model_of(command).context("the command has no -m FILE")?;
        let mut check = Command::new(&beside);
        check.envs(env).args(["-m", model, "-c", &context, "-f"]).arg(text);
        let Output { stdout, stderr, .. } = process::run(&mut check)?;
        let value = final_estimate(&format!("{stdout}\n{stderr}"));
        let value = value.context("llama-perplexity stated no final estimate")?;
        let method = format!("llama-perplexity, the second halves of windows of {context} tokens");
        return Ok(Perplexity { value, bits_per_byte: None, method, expected: None });
    }
    let mut check = Command::new(program);
    check.envs(env).args(&command[1..]).arg("--perplexity").arg(text).args(["--ctx", &context]);
    let output = process::run(&mut check).with_context(|| {
        format!(
            "the peer offers no way to check: no {}, and it knows no --perplexity",
            beside.display()
        )
    })?;
    stated_perplexity(&output.stdout)
}

/// The model that a peer's command names.
pub(super) fn model_of(command: &[String]) -> Option<&String> {
    let flag = command.iter().position(|word| word == "-m" || word == "--model")?;
    command.get(flag + 1)
}

/// The number in "Final estimate: PPL = 9.27 +/- 0.1".
fn final_estimate(text: &str) -> Option<f64> {
    // ik_llama.cpp names the windows before the equals sign.
    let (_, rest) = text.split_once("Final estimate: PPL ")?;
    let (_, value) = rest.lines().next()?.rsplit_once("= ")?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_a_row_are_those_of_its_perplexity() {
        let mut row = Subject::new("a", None, Err(anyhow::anyhow!("no model")));
        row.args = vec!["--activations".to_owned(), "int8".to_owned()];
        row.env.insert("TRILOBITE_ISA".to_owned(), "avx2".to_owned());
        let command = command(Path::new("trilobite"), None, &row, Path::new("text"), 64);
        let args: Vec<_> = command.get_args().collect();
        assert_eq!(args[args.len() - 2..], ["--activations", "int8"]);
        let env: Vec<_> = command.get_envs().collect();
        assert_eq!(env, [("TRILOBITE_ISA".as_ref(), Some("avx2".as_ref()))]);
    }

    #[test]
    fn the_estimate_of_llama_perplexity_is_read() {
        assert_eq!(final_estimate("x\nFinal estimate: PPL = 9.2657 +/- 0.1\n"), Some(9.2657));
        let windows = "Final estimate: PPL over 7 chunks for n_ctx=256 = 9.5 +/- 0.2\nx = 1";
        assert_eq!(final_estimate(windows), Some(9.5));
        assert_eq!(final_estimate("no"), None);
    }
}
