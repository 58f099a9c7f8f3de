//! Tests of tokenizer.model files, compared with the reference library.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::fixture::{Fixture, own_folder};
use crate::trilobite::{comma_separated, command, convert, stdout};

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    /// `None` if a character of the text is unknown, since decoders show it in different ways.
    decoded: Option<String>,
}

fn cases(fixture: &Fixture) -> Result<Vec<Case>> {
    fixture.json("golden/cases.json")
}

fn check(model: &Path, cases: &[Case]) -> Result<()> {
    for Case { text, ids, decoded } in cases {
        let found = stdout(command(["tokenize", "--no-special", "-p", text]).arg(model))?;
        ensure!(found.trim_end() == comma_separated(ids), "{text:?}: {found}, not {ids:?}");
        let ids = comma_separated(ids);
        // A text that already has SentencePiece's mark of a space loses it.
        let decoded = decoded.as_ref().filter(|_| !ids.is_empty() && !text.contains('\u{2581}'));
        if let Some(decoded) = decoded {
            let found = stdout(command(["tokenize", "--no-special", "--decode", &ids]).arg(model))?;
            ensure!(found == format!("{decoded}\n"), "{ids}: {found:?}, not {decoded:?}");
        }
    }
    Ok(())
}

#[test]
fn token_ids_of_sentencepiece_models_agree_with_the_reference() -> Result<()> {
    for name in ["llama", "gemma", "bpe_rules", "unigram", "unigram_bytes"] {
        let fixture = Fixture::named(&format!("sentencepiece/{name}"));
        check(&fixture.folder, &cases(&fixture)?).context(name)?;
    }
    Ok(())
}

/// A checkpoint whose only tokenizer is the tokenizer.model of this name.
fn checkpoint(name: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let weights = own_folder().join("bitnet_1bitllm");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(weights.join(file), folder.path().join(file))?;
    }
    let tokenizer = own_folder().join("sentencepiece").join(name).join("tokenizer.model");
    std::fs::copy(tokenizer, folder.path().join("tokenizer.model"))?;
    Ok(folder)
}

#[test]
fn sentencepiece_models_travel_in_converted_files() -> Result<()> {
    for name in ["bpe_rules", "unigram"] {
        let source = checkpoint(name)?;
        let out = source.path().join("converted.gguf");
        convert(source.path(), &out)?;
        let fixture = Fixture::named(&format!("sentencepiece/{name}"));
        check(&out, &cases(&fixture)?).context(name)?;
        // The beginning-of-text token is added unless the settings disable it.
        let first = |model: &Path| stdout(command(["tokenize", "-p", "a"]).arg(model));
        for model in [source.path(), &out] {
            ensure!(first(model)?.starts_with("1,"), "{}", first(model)?);
        }
        let settings = "{\"add_bos_token\": false, \"add_eos_token\": true}";
        std::fs::write(source.path().join("tokenizer_config.json"), settings)?;
        let last = first(source.path())?;
        ensure!(!last.starts_with("1,") && last.ends_with(",2\n"), "{last}");
    }
    Ok(())
}

#[test]
fn unusable_sentencepiece_models_are_refused() -> Result<()> {
    let refused = |source: &Path, part: &str| -> Result<()> {
        let out = source.join("converted.gguf");
        let output = command(["convert", "-o"]).arg(&out).arg(source).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains(part), "{said} lacks {part}");
        ensure!(said.lines().count() == 1 && !out.exists(), "{said}");
        Ok(())
    };
    let large = checkpoint("llama")?;
    refused(large.path(), "tokenizer.model: `pieces` is 440 tokens, expected ids below")?;
    let cut = checkpoint("unigram")?;
    let file = cut.path().join("tokenizer.model");
    let bytes = std::fs::read(&file)?;
    std::fs::write(&file, &bytes[..bytes.len() / 2])?;
    refused(cut.path(), "tokenizer.model: `content` is something else or damaged")?;
    std::fs::write(&file, "no model")?;
    refused(cut.path(), "tokenizer.model: `content` is something else or damaged")
}
