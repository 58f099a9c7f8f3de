//! Tests with texts that would control the terminal.

use std::fs;

use serde_json::{Value, json};

use super::{conversion, line_of};
use crate::fixture::Fixture;
use crate::trilobite::{command, stdout};

/// Characters that erase the screen (also as a single byte), reverse the text, ring and delete.
const STEERING: &str = "\u{1b}[2J\u{9b}2J\u{202e}\u{7}\u{7f}\r";

#[track_caller]
fn shows_everything(text: &[u8]) {
    let text = std::str::from_utf8(text).unwrap();
    let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!text.contains(steers), "{text:?}");
}

#[test]
fn what_is_said_does_not_steer_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("a{STEERING}b\nc");
    // Names of files, of arguments, of values, of commands.
    let absent = folder.path().join(&name);
    let mut inspect = command(["inspect"]);
    inspect.arg(&absent);
    let (status, said) = line_of(&inspect.output().unwrap());
    assert_eq!(status, Some(1));
    assert!(said.contains("a\\u{1b}[2J\\u{9b}2J\\u{202e}\\u{7}\\u{7f}\\r"), "{said}");
    for args in [
        &["run", "--kv", &name][..],
        &["run", "--threads", &name],
        &["run", &format!("--{name}")],
        &["run", "-p", "a", &format!("--no{name}")],
        &["inspect", "a", &name],
        &[&name],
        &["eval", "--tasks", "piqa", "--shard", &name],
        &["eval", "--tasks", &name],
    ] {
        let output = command(args).output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("\\u{1b}[2J"), "{args:?}: {said}");
        shows_everything(&output.stderr);
    }

    // Types and names of tensors, and other texts in a checkpoint.
    let small = Fixture::named("bitnet_offline").folder;
    let file = fs::read(small.join("model.safetensors")).unwrap();
    let edit = |from: &str, to: &str| {
        let (len, rest) = file.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
        let text = std::str::from_utf8(header).unwrap();
        assert!(text.contains(from));
        let header = text.replacen(from, to, 1);
        let copy = tempfile::tempdir().unwrap();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
        fs::write(copy.path().join("model.safetensors"), bytes).unwrap();
        fs::copy(small.join("config.json"), copy.path().join("config.json")).unwrap();
        copy
    };
    let steering = json!(name).to_string();
    for source in [
        edit("\"BF16\"", &steering),
        edit("\"model.norm.weight\"", &steering),
        edit("\"BF16\"", "\"BF16\",\"\u{202e}\""),
    ] {
        let output = conversion(source.path(), &folder.path().join("out.gguf")).output().unwrap();
        assert_eq!(line_of(&output).0, Some(1));
        shows_everything(&output.stderr);
    }
}

#[test]
fn what_a_file_holds_is_shown_with_escapes() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join(format!("m{STEERING}"));
    fs::create_dir(&source).unwrap();
    let small = Fixture::named("bitnet_offline").folder;
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(small.join(name), source.join(name)).unwrap();
    }
    fs::write(source.join("chat_template.jinja"), format!("first{STEERING}second\nthird")).unwrap();
    let shown = stdout(command(["inspect", "--tensors"]).arg(&source)).unwrap();
    shows_everything(shown.as_bytes());
    assert!(shown.contains("first\\u{1b}[2J") && shown.contains("\n  third\n"), "{shown}");
    let json = stdout(command(["inspect", "--json"]).arg(&source)).unwrap();
    shows_everything(json.as_bytes());
    let json: Value = serde_json::from_str(&json).unwrap();
    let template = json["metadata"]["tokenizer.chat_template"].as_str().unwrap();
    assert!(template.contains(STEERING.trim_end()), "{template:?}");
    let output = conversion(&source, &folder.path().join("out.gguf")).output().unwrap();
    assert!(output.status.success());
    shows_everything(&output.stderr);
}
