//! Tests that drafts and the prompt cache do not change answers.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixture::own_folder;
use crate::trilobite::{command, stdout};

fn built_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tinystories")
}

/// The continuation of a story, and the messages on stderr.
fn story(args: &[&str]) -> (String, String) {
    told("Once upon a time, there was", args)
}

fn told(beginning: &str, args: &[&str]) -> (String, String) {
    let mut command = command(["run", "-t", "2", "--seed", "3", "-v"]);
    if !args.contains(&"-n") {
        command.args(["-n", "60"]);
    }
    let output = command.args(["-p", beginning]).args(args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

fn fails(args: &[&str]) -> String {
    let error = stdout(command(["run", "-n", "2", "-p", "Once"]).args(args)).unwrap_err();
    error.to_string().trim_end().to_owned()
}

#[test]
fn drafts_change_no_answer() {
    let model = built_in().display().to_string();
    for temperature in ["0", "0.8"] {
        let args = ["--temp", temperature];
        let (alone, said) = story(&[&args[..], &["--no-speculate"]].concat());
        assert!(said.contains("0 of 0 drafted tokens were right"), "{said}");
        let (looked_up, _) = story(&args);
        assert_eq!(looked_up, alone);
        let (drafted, said) = story(&[&args[..], &["--draft", &model]].concat());
        assert_eq!(drafted, alone);
        assert!(!said.contains(" of 0 drafted tokens"), "{said}");
    }
}

#[test]
fn a_model_of_another_vocabulary_drafts_nothing() {
    let other = own_folder().join("llama").display().to_string();
    let error = fails(&["--draft", &other]);
    assert!(error.contains(&format!("--draft {other}: the drafting model has another")), "{error}");
    let error = fails(&["--draft", "/nowhere.gguf"]);
    assert!(error.contains("/nowhere.gguf"), "{error}");
}

#[test]
fn bench_compares_right_and_wrong_drafts() {
    let model = built_in().display().to_string();
    let args = ["bench", "-n", "12", "-p", "0", "-r", "1", "-t", "1", "-q"];
    let mut json = command(args);
    let json: Value =
        serde_json::from_str(&stdout(json.args(["--json", "--draft", &model])).unwrap()).unwrap();
    for kind in ["no", "right", "wrong", "model"] {
        let speed = &json[0]["speculation"][format!("{kind}_drafts")]["median"];
        assert!(speed.as_f64().unwrap() > 0.0, "{json}");
    }
    let text = stdout(command(args).arg("--speculate")).unwrap();
    assert!(text.contains("drafts change the speed by "), "{text}");
}

#[test]
fn a_run_goes_on_from_the_prompt_cache_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("story.kv");
    let cache = ["--prompt-cache", path.to_str().unwrap()];
    for kv in ["f32", "q8"] {
        let _ = fs::remove_file(&path);
        let args = ["--temp", "0.8", "--kv", kv];
        let (alone, _) = story(&args);
        let with = |more: &[&str]| story(&[&args[..], &cache, more].concat());
        let (first, said) = with(&[]);
        assert_eq!(first, alone);
        assert!(!said.contains("prompt 1 token "), "{said}");
        let kept = fs::read(&path).unwrap();
        // Only the last token is new.
        let (second, said) = with(&[]);
        assert_eq!(second, alone);
        assert!(said.contains("prompt 1 token "), "{said}");
        // The same text is not written again. Another one is, unless `--prompt-cache-ro` is given.
        assert_eq!(fs::read(&path).unwrap(), kept);
        let other = |more: &[&str]| told("A dog was", &[&args[..], &cache, more].concat());
        other(&["--prompt-cache-ro"]);
        assert_eq!(fs::read(&path).unwrap(), kept);
        other(&[]);
        assert_ne!(fs::read(&path).unwrap(), kept);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A run that generates nothing fills the cache, and a failed run leaves no file.
#[test]
fn a_prompt_alone_can_be_kept_by_way_of_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("story.kv"), folder.path().join("link.kv"));
    let cache = ["--prompt-cache", link.to_str().unwrap()];
    let long = "once upon a time ".repeat(600);
    let failed = command(["run", "-p", &long, "-n", "1"]).args(cache).output().unwrap();
    assert!(!failed.status.success() && !link.exists());

    let (alone, _) = story(&[]);
    let target = ["--prompt-cache", path.to_str().unwrap()];
    story(&[&["-n", "0"], &target[..]].concat());
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let (told, said) = story(&cache);
    assert_eq!(told, alone);
    assert!(said.contains("prompt 1 token "), "{said}");
    assert!(link.is_symlink() && path.metadata().unwrap().len() > 88);
}

#[test]
fn a_wrong_or_damaged_prompt_cache_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("story.kv");
    let name = path.to_str().unwrap();
    let cache = ["--prompt-cache", name];
    let nowhere = folder.path().join("none/story.kv");
    let error = fails(&["--prompt-cache", nowhere.to_str().unwrap()]);
    assert!(error.contains("cannot write the prompt cache"), "{error}");
    let error = fails(&["--prompt-cache", name, "--prompt-cache-ro"]);
    assert!(error.contains("cannot read") && error.contains(name), "{error}");
    assert!(!path.exists());

    story(&cache);
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    let llama = own_folder().join("llama").display().to_string();
    for (contents, args, expected) in [
        (&damaged[..], &[][..], "damaged"),
        (&whole[..whole.len() - 9], &[], "expected"),
        (b"", &[], "too few"),
        (&whole, &["--kv", "q8"], "of another model, cache type"),
        (&whole, &[&llama], "of another model, cache type"),
    ] {
        fs::write(&path, contents).unwrap();
        let error = fails(&[&cache[..], args].concat());
        assert!(error.contains(expected) && error.contains(name), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        // The damaged file is kept.
        assert_eq!(fs::read(&path).unwrap(), contents);
    }
    let error = fails(&["--prompt-cache", folder.path().to_str().unwrap()]);
    assert!(error.contains("it is not a file"), "{error}");
}
