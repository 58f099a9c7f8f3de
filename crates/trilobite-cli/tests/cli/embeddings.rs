//! Tests of embeddings, compared with the reference.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use trilobite_kernels::Kernels;

use crate::fixture::{Fixture, own_folder};
use crate::npy::Array;
use crate::trilobite;

/// Minimum cosine with the reference. A sum in another order changes an int8 code now and then. A
/// mistake in the graph, such as a missing norm, gives less than 0.997.
const COSINE: f64 = 0.9995;
/// Tolerance of the vectors of texts in which no code differs.
const EXACT: f32 = 1e-4;

#[derive(Deserialize)]
struct Text {
    prompt: String,
    text: String,
}

/// The checkpoints of embedding models.
fn checkpoints() -> [Fixture; 2] {
    ["qwen3", "gemma3"].map(|name| Fixture::named(&format!("embeddings/{name}")))
}

fn embed(model: &Path, args: &[&str]) -> Command {
    let mut command = trilobite::command(["embed", "-q"]);
    command.arg(model).args(args);
    command
}

/// The vector of a text after a prompt.
fn vector(model: &Path, text: &Text, args: &[&str]) -> Result<Vec<f32>> {
    let mut command = embed(model, &["--prompt-name", &text.prompt, "-p", &text.text]);
    let line: Value = serde_json::from_str(&trilobite::stdout(command.args(args))?)?;
    Ok(serde_json::from_value(line["embedding"].clone())?)
}

#[test]
fn vectors_agree_with_the_reference() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for fixture in checkpoints() {
        let converted = folder.path().join("converted.gguf");
        let again = folder.path().join("again.gguf");
        for layout in ["i2_s", "t5_3"] {
            let made = trilobite::convert_to(layout, &fixture.folder, &converted);
            // I2_S cannot hold rows of incomplete blocks.
            if made.is_err() && layout == "i2_s" {
                continue;
            }
            made?;
            trilobite::convert(&converted, &again)?;
            for model in [&fixture.folder, &converted, &again] {
                compare(&fixture, model)?;
            }
            std::fs::remove_file(&converted)?;
            std::fs::remove_file(&again)?;
        }
    }
    Ok(())
}

fn compare(fixture: &Fixture, model: &Path) -> Result<()> {
    let texts: Vec<Text> = fixture.json("golden/texts.json")?;
    let stated = if fixture.folder.ends_with("qwen3") { "last" } else { "mean" };
    for pooling in ["last", "mean"] {
        let reference = fixture.folder.join(format!("golden/embeddings_{pooling}.npy"));
        let reference = Array::parse(&std::fs::read(reference)?)?;
        let args = if pooling == stated { vec![] } else { vec!["--pooling", pooling] };
        let mut exact = 0;
        for (text, expected) in texts.iter().zip(reference.rows()) {
            let found = vector(model, text, &args)?;
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let cosine = dot(&found, expected) / dot(expected, expected).sqrt();
            let place = format!("{} {pooling} {:?}", model.display(), text.text);
            ensure!(cosine >= COSINE, "{place}: cosine {cosine}");
            let norm = dot(&found, &found);
            ensure!((norm - 1.0).abs() < 1e-6, "{place}: norm {norm}");
            let differs = |(a, b): (&f32, &f32)| (a - b).abs() > EXACT;
            exact += usize::from(!found.iter().zip(expected).any(differs));
        }
        ensure!(2 * exact >= texts.len(), "{} {pooling}: {exact} are exact", model.display());
    }
    Ok(())
}

#[test]
fn vectors_do_not_depend_on_other_texts_threads_or_instructions() -> Result<()> {
    for fixture in checkpoints() {
        let texts: Vec<Text> = fixture.json("golden/texts.json")?;
        let alone: Vec<String> = texts
            .iter()
            .map(|text| trilobite::stdout(&mut embed(&fixture.folder, &["-t1", "-p", &text.text])))
            .collect::<Result<_>>()?;
        let ending = |line: &str| line.split_once("\"tokens\"").map(|(_, rest)| rest.to_owned());
        let alone: Vec<_> = alone.iter().map(|line| ending(line.trim_end())).collect();
        for kernels in Kernels::available() {
            for args in [&["-t2"][..], &["-t", "3", "--batch", "7"], &["--plain"]] {
                let mut command = embed(&fixture.folder, args);
                texts.iter().for_each(|text| {
                    command.args(["-p", &text.text]);
                });
                command.env("TRILOBITE_ISA", kernels.isa.name());
                let together = trilobite::stdout(&mut command)?;
                let together: Vec<_> = together.lines().map(ending).collect();
                ensure!(together == alone, "{args:?} {}", kernels.isa.name());
            }
        }
    }
    Ok(())
}

#[test]
fn texts_come_from_files_and_vectors_go_to_them() -> Result<()> {
    let model = Fixture::named("embeddings/qwen3").folder;
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> Result<PathBuf> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let expected = trilobite::stdout(&mut embed(&model, &["-p", "a river", "-p", "to the sea"]))?;
    let lines = file("lines.txt", "a river\nto the sea\n")?;
    let json = file("lines.jsonl", "\"a river\"\n\n{\"text\": \"to the sea\"}\n")?;
    for path in [&lines, &json] {
        let found = trilobite::stdout(embed(&model, &["--file"]).arg(path))?;
        ensure!(found == expected, "{}: {found}", path.display());
    }
    let array = folder.path().join("vectors.npy");
    trilobite::stdout(embed(&model, &["--npy"]).arg(&array).arg("--file").arg(&lines))?;
    let array = Array::parse(&std::fs::read(array)?)?;
    for (row, line) in array.rows().zip(expected.lines()) {
        let line: Value = serde_json::from_str(line)?;
        let vector: Vec<f32> = serde_json::from_value(line["embedding"].clone())?;
        ensure!(row == vector);
    }

    // A byte-order mark is not part of the text.
    for (name, text) in [
        ("mark.txt", "\u{feff}a river\r\nto the sea\r\n"),
        ("mark.jsonl", "\u{feff}\"a river\"\n\"to the sea\"\n"),
    ] {
        let path = file(name, text)?;
        let found = trilobite::stdout(embed(&model, &["--file"]).arg(&path))?;
        ensure!(found == expected, "{name}: {found}");
    }
    // Errors name the line of the file.
    let long = file("long.jsonl", "\n\"a\"\n\n\"a b c d e f\"\n")?;
    let place = format!("{} line 4: ", long.display());
    refuses(embed(&model, &["--ctx", "4", "--file"]).arg(&long), &place);
    let bad = file("bad.jsonl", "\n\n{\"txt\": 1}\n")?;
    let place = format!("{} line 3: neither", bad.display());
    refuses(embed(&model, &["--file"]).arg(&bad), &place);
    let blank = file("blank.txt", "a\nb c d e f g h\n")?;
    let place = format!("{} line 2: ", blank.display());
    refuses(embed(&model, &["--ctx", "4", "--file"]).arg(&blank), &place);

    // Without pooling every token has a vector. The last one equals the vector of the text.
    let each = trilobite::stdout(&mut embed(&model, &["--pooling", "none", "-p", "a river"]))?;
    let each: Value = serde_json::from_str(&each)?;
    let vectors: Vec<Vec<f32>> = serde_json::from_value(each["embedding"].clone())?;
    let first: Value = serde_json::from_str(expected.lines().next().context("no line")?)?;
    ensure!(vectors.len() as u64 == each["tokens"].as_u64().context("no number")?);
    let last: Vec<f32> = serde_json::from_value(first["embedding"].clone())?;
    ensure!(vectors.last() == Some(&last));
    Ok(())
}

#[track_caller]
fn refuses(command: &mut Command, part: &str) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
    assert!(said.contains(part) && said.lines().count() == 1, "{command:?}: {said}");
    assert!(output.stdout.is_empty(), "{command:?}");
}

#[test]
fn a_model_without_a_head_gives_embeddings_only() -> Result<()> {
    let model = &own_folder().join("embeddings/qwen3");
    let text = tempfile::NamedTempFile::new()?;
    std::fs::write(&text, "The river ran down from the hills.")?;
    let out = tempfile::tempdir()?;
    for args in [
        &["run", "-p", "a"][..],
        &["run", "--tokens", "1,2", "-n", "1"],
        &["logits", "--tokens", "1,2", "-o", out.path().join("logits").to_str().unwrap()],
        &["perplexity", "--file", text.path().to_str().unwrap()],
        &["score", "-i", text.path().to_str().unwrap()],
    ] {
        refuses(
            trilobite::command(args).arg(model),
            "it gives embeddings, no text; `trilobite embed` gives them",
        );
    }
    refuses(trilobite::command(["bench", "-p", "8"]).arg(model), "-n 0 measures its prefill");
    trilobite::stdout(trilobite::command(["bench", "-p", "8", "-n", "0", "-r", "1"]).arg(model))?;

    refuses(&mut embed(model, &["-p", "a", "--prompt-name", "x"]), "it has query, document");
    refuses(&mut embed(model, &["-p", "a b c d e f", "--ctx", "4"]), "expected 1 to 4");
    let ordinary = Fixture::named("qwen3").folder;
    refuses(&mut embed(&ordinary, &["-p", "a"]), "choose with --pooling mean or --pooling last");
    trilobite::stdout(&mut embed(&ordinary, &["-p", "a", "--pooling", "mean"]))?;
    Ok(())
}
