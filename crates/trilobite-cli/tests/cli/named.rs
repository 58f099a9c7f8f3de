//! Tests that an error about the contents of a model file names the file.

use std::fs;
use std::path::{Path, PathBuf};

use trilobite_format::Metadata;

use crate::dense::rewrite;
use crate::failures::failed;
use crate::fixture::Fixture;
use crate::trilobite::{command, convert};

/// A model whose metadata are changed after the conversion.
fn changed(folder: &Path, change: impl FnOnce(&mut Metadata)) -> PathBuf {
    let (whole, path) = (folder.join("whole.gguf"), folder.join("changed.gguf"));
    if !whole.exists() {
        convert(&Fixture::named("llama_bitnet_online").folder, &whole).unwrap();
    }
    rewrite(&whole, &path, change, |_| true);
    path
}

/// Runs a command, which must fail with one line that names the model once.
#[track_caller]
fn fails(args: &[&str], model: &Path, why: &str) {
    let output = command(args.iter().copied()).arg(model).output().unwrap();
    failed(&output, &[why]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with(&format!("error: {}: ", model.display())), "{args:?}: {text}");
    assert_eq!(text.matches("changed.gguf").count(), 1, "{args:?}: {text}");
}

#[test]
fn errors_about_the_tokenizer_and_the_template_name_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let run = &["run", "-p", "a"][..];
    let serve = &["serve", "--port", "0"][..];
    let embed = &["embed", "--pooling", "mean", "-p", "a"][..];
    let perplexity = &["perplexity", "--file", "/dev/null"][..];
    let json = "tokenizer.huggingface.json";
    let damaged = changed(folder.path(), |all| all.insert(json, "{"));
    for args in [run, serve, embed, perplexity] {
        fails(args, &damaged, json);
    }
    let none = changed(folder.path(), |all| {
        all.remove(json);
        all.remove("tokenizer.ggml.model");
    });
    for args in [run, serve, embed, perplexity] {
        fails(args, &none, "no tokenizer");
    }
    let template = changed(folder.path(), |all| all.insert("tokenizer.chat_template", 7u32));
    for args in [run, serve] {
        fails(args, &template, "tokenizer.chat_template");
    }
    let end = changed(folder.path(), |all| all.insert("trilobite.eos_token_ids", "x"));
    for args in [run, serve] {
        fails(args, &end, "trilobite.eos_token_ids");
    }
    let wrong = changed(folder.path(), |all| all.insert("tokenizer.chat_template", "{% if %}"));
    fails(run, &wrong, "--no-chat leaves the template out");
    let none = changed(folder.path(), |all| all.remove("tokenizer.chat_template"));
    fails(&["run", "--system", "a", "-p", "a"], &none, "the model brings no chat template");
    fails(&["embed", "-p", "a"], &none, "the model does not say how the hidden states");
}

#[test]
fn an_error_of_a_given_template_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("t.jinja");
    fs::write(&template, "{% if %}").unwrap();
    let output = command(["run", "-p", "a", "--chat-template"]).arg(&template).output().unwrap();
    failed(&output, &[&format!("--chat-template {}: chat template: ", template.display())]);
}

#[test]
fn a_name_with_characters_to_escape_is_told_once() {
    for name in ["it\"s", "a\nb", "a b/c/d"] {
        let output = command(["show", name]).output().unwrap();
        let escaped = name.escape_debug().to_string();
        failed(&output, &[&format!("error: \"{escaped}\" is not the name of a model")]);
    }
}
