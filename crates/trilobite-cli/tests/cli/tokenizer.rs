//! Tests of token ids and decoded text, compared with the reference library.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::fixture::{Fixture, for_each, roots};
use crate::trilobite::{comma_separated, command, convert, stdout};

/// The results of the reference library for a text in which names of special tokens are recognised.
#[derive(Deserialize)]
struct Case {
    text: String,
    ids_with_special: Vec<u32>,
    ids: Vec<u32>,
    /// The ids if names of special tokens are text.
    ids_as_text: Option<Vec<u32>>,
    decode_ids_skip_special: String,
    decode_ids_keep_special: String,
}

#[test]
fn token_ids_and_text_agree_with_the_reference() {
    for_each(|fixture| {
        let cases = cases(fixture)?;
        for source in fixture.sources()? {
            let folder = tempfile::tempdir()?;
            let converted = folder.path().join("converted.gguf");
            convert(&source, &converted)?;
            for model in [source, converted] {
                check(&model, &cases).with_context(|| model.display().to_string())?;
            }
        }
        Ok(())
    });
}

#[test]
fn tokenizers_without_a_model_agree_with_the_reference() {
    assert!(check_all("tokenizers", "tokenizer.json") >= 3);
}

#[test]
fn vocabularies_of_gguf_files_agree_with_the_reference() {
    assert!(check_all("vocabularies", "vocabulary.gguf") >= 7);
}

/// Checks `file` in every folder of `parent`. Returns their number.
fn check_all(parent: &str, file: &str) -> usize {
    let mut checked = 0;
    for root in roots() {
        let Ok(folders) = std::fs::read_dir(root.join(parent)) else { continue };
        for entry in folders {
            let fixture = Fixture { folder: entry.unwrap().path() };
            let model = fixture.folder.join(file);
            let checks = cases(&fixture).and_then(|cases| check(&model, &cases));
            checks.with_context(|| model.display().to_string()).unwrap();
            checked += 1;
        }
    }
    checked
}

/// The cases of a folder without those that contain NUL, which an argument cannot contain.
fn cases(fixture: &Fixture) -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = fixture.json("golden/tokenizer_cases.json")?;
    cases.retain(|case| !case.text.contains('\0'));
    Ok(cases)
}

fn check(model: &Path, cases: &[Case]) -> Result<()> {
    let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
    const PARSE: &str = "--parse-special";
    let all = |ids: fn(&Case) -> Option<&Vec<u32>>| cases.iter().map(ids).collect();
    for (flags, expected) in [
        (&[PARSE][..], all(|case| Some(&case.ids_with_special))),
        (&[PARSE, "--no-special"], all(|case| Some(&case.ids))),
        (&["--no-special"], all(|case| case.ids_as_text.as_ref())),
    ] {
        let expected: Option<Vec<&Vec<u32>>> = expected;
        let Some(expected) = expected else { continue };
        let lines = encode(model, &texts, flags)?;
        ensure!(lines.len() == cases.len(), "{} lines for {} texts", lines.len(), cases.len());
        for ((text, found), expected) in texts.iter().zip(&lines).zip(expected) {
            ensure!(*found == comma_separated(expected), "{text:?}: {found}, not {expected:?}");
        }
    }
    for case in cases.iter().filter(|case| !case.ids.is_empty()) {
        for (flag, expected) in [
            (None, &case.decode_ids_keep_special),
            (Some("--no-special"), &case.decode_ids_skip_special),
        ] {
            let found = decode(model, &case.ids, flag)?;
            ensure!(found == *expected, "{:?} {flag:?}: {found:?}, not {expected:?}", case.ids);
        }
    }
    Ok(())
}

fn encode(model: &Path, texts: &[&str], flags: &[&str]) -> Result<Vec<String>> {
    let prompts = texts.iter().map(|text| format!("--prompt={text}"));
    let out = stdout(command(["tokenize"]).args(prompts).args(flags).arg(model))?;
    Ok(out.lines().map(str::to_owned).collect())
}

fn decode(model: &Path, ids: &[u32], flag: Option<&str>) -> Result<String> {
    let ids = comma_separated(ids);
    let mut out = stdout(command(["tokenize", "--decode", &ids]).args(flag).arg(model))?;
    ensure!(out.pop() == Some('\n'), "no line end after the text");
    Ok(out)
}

#[test]
fn ids_that_are_no_tokens_are_not_decoded() {
    let folder = Fixture::named("bitnet_offline").folder;
    for model in [folder.join("tokenizer.json"), folder] {
        let output = command(["tokenize", "--decode", "1,304"]).arg(&model).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
        let expected = "error: --decode: token id 304 is not in the vocabulary of 304\n";
        assert_eq!(said, expected);
        assert!(decode(&model, &[303], None).is_ok());
    }
}

#[test]
fn names_of_special_tokens_in_a_text_are_text_unless_asked_for() {
    let model: PathBuf = Fixture::named("bitnet_offline").folder;
    let ids = |flags: &[&str]| {
        let args = ["tokenize", "--no-special", "-p", "<|eot_id|>"];
        stdout(command(args).args(flags).arg(&model)).unwrap()
    };
    assert_eq!(ids(&["--parse-special"]).trim().split(',').count(), 1);
    assert!(ids(&[]).trim().split(',').count() > 1);
}
