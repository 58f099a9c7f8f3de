//! Tests of the command that verifies models.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trilobite_kernels::Kernels;

use crate::fixture::Fixture;
use crate::trilobite;

fn verify(model: &Path, args: &[&str]) -> Command {
    let mut command = trilobite::command(["verify", "--no-cache", "-q"]);
    command.arg(model).args(args);
    command
}

/// The report of a command, and its exit status.
fn report(mut command: Command) -> Result<(Value, Option<i32>)> {
    let output = command.output()?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((report, output.status.code()))
}

/// The message of a command that fails.
fn error(mut command: Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.code() == Some(1), "{:?}", output.status);
    Ok(String::from_utf8(output.stderr)?)
}

/// The result of a check: whether it passed, or null, and the details.
fn check<'a>(report: &'a Value, name: &str) -> Result<(&'a Value, &'a str)> {
    let checks = report["checks"].as_array().context("no checks")?;
    let found = checks.iter().find(|check| check["check"] == name).context("no such check")?;
    Ok((&found["passed"], found["detail"].as_str().context("no detail")?))
}

#[test]
fn models_of_every_family_compute_what_their_reference_computes() -> Result<()> {
    for name in
        ["bitnet_offline", "gemma3", "llama", "maple", "minicpm", "bonsai", "embeddings/qwen3"]
    {
        let fixture = Fixture::named(name);
        let (report, status) = report(verify(&fixture.source()?, &["--json", "-t", "2"]))?;
        ensure!(status == Some(0) && report["passed"] == true, "{name}: {report}");
        ensure!(report["isa"] == Kernels::detect()?.isa.name(), "{name}: {report}");
        let sets = check(&report, "instruction sets")?.1;
        for kernels in Kernels::available() {
            ensure!(sets.contains(kernels.isa.name()), "{name}: {sets}");
        }
        for each in ["divisions", "reference"] {
            ensure!(check(&report, each)?.0 == true, "{name}: {report}");
        }
    }
    Ok(())
}

#[test]
fn the_search_for_the_largest_logits_is_checked() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("model.gguf");
    let mut convert = trilobite::command(["convert", "--head-scan", "always", "-o"]);
    trilobite::stdout(convert.arg(&model).arg(Fixture::named("bitnet_offline").source()?))?;
    let text = trilobite::stdout(&mut verify(&model, &[]))?;
    ensure!(text.contains("ok      largest logits"), "{text}");
    ensure!(text.contains("and those near the largest are those of the whole head"), "{text}");
    ensure!(text.contains("-       recorded outputs"), "{text}");
    ensure!(text.ends_with("model.gguf computes what its reference computes\n"), "{text}");
    Ok(())
}

#[test]
fn a_difference_from_recorded_outputs_is_told() -> Result<()> {
    let fixture = Fixture::named("bitnet_offline");
    let recorded = |change: &dyn Fn(&Path) -> Result<()>| -> Result<(Value, Option<i32>)> {
        let folder = tempfile::tempdir()?;
        for entry in std::fs::read_dir(fixture.folder.join("golden"))? {
            let path = entry?.path();
            std::fs::copy(&path, folder.path().join(path.file_name().context("no name")?))?;
        }
        change(folder.path())?;
        let folder = folder.path().to_str().context("not UTF-8")?;
        report(verify(&fixture.source()?, &["--json", "--recorded", folder]))
    };
    let (same, status) = recorded(&|_| Ok(()))?;
    ensure!(status == Some(0) && check(&same, "recorded outputs")?.0 == true, "{same}");

    let (other, status) = recorded(&|folder| {
        let path = folder.join("logits_one.npy");
        let mut file = std::fs::read(&path)?;
        let last = file.len() - 4;
        let value = f32::from_le_bytes(file[last..].try_into()?) + 0.01;
        file[last..].copy_from_slice(&value.to_le_bytes());
        Ok(std::fs::write(path, file)?)
    })?;
    let (passed, detail) = check(&other, "recorded outputs")?;
    ensure!(status == Some(1) && other["passed"] == false && passed == false, "{other}");
    ensure!(detail.contains("\"one\": largest difference 1.0e-2"), "{detail}");

    let (other, status) = recorded(&|folder| {
        let path = folder.join("greedy.json");
        let mut greedy: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let first = greedy["short"]["ids"][0].as_u64().context("no id")?;
        greedy["short"]["ids"][0] = (first ^ 1).into();
        greedy["short"]["top1_minus_top2"][0] = 100.into();
        Ok(std::fs::write(path, greedy.to_string())?)
    })?;
    ensure!(status == Some(1), "{other}");
    let detail = check(&other, "recorded outputs")?.1;
    ensure!(detail.starts_with("greedy token 1 of the prompt \"short\" is "), "{detail}");
    Ok(())
}

#[test]
fn damaged_recorded_outputs_are_errors() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = Fixture::named("llama").source()?;
    let args = ["--recorded", folder.path().to_str().context("not UTF-8")?];
    let said = error(verify(&model, &args))?;
    ensure!(said.contains("no prompts.json or texts.json"), "{said}");
    std::fs::write(folder.path().join("prompts.json"), r#"{"one": {"ids": [1]}}"#)?;
    let said = error(verify(&model, &args))?;
    ensure!(said.contains("no logits_NAME.npy of a prompt"), "{said}");
    std::fs::write(folder.path().join("logits_one.npy"), b"\x93NUMPY\x01\x00\x10")?;
    let said = error(verify(&model, &args))?;
    ensure!(said.contains("logits_one.npy: the header is cut off"), "{said}");
    std::fs::write(folder.path().join("prompts.json"), r#"{"one": {"ids": []}}"#)?;
    let said = error(verify(&model, &args))?;
    ensure!(said.contains("the prompt \"one\" is empty"), "{said}");
    Ok(())
}
