//! Tests with failing streams and limits of the system.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{conversion, line_of, names};
use crate::fixture::Fixture;
use crate::trilobite::command;

/// Commands that write to standard error, with their exit status if it is open.
fn talking(out: &Path) -> Vec<(Command, i32)> {
    let model = Fixture::named("bitnet_offline").folder;
    let mut absent = command(["inspect"]);
    absent.arg(out.join("absent"));
    let mut run = command(["run", "--tokens", "1", "-n", "2", "--temp", "1"]);
    run.arg(&model);
    let mut logits = command(["logits", "--tokens", "1", "-o"]);
    logits.arg(out.join("logits.npy")).arg(&model);
    let mut bench = command(["bench", "-p", "1", "-n", "1", "-r", "1"]);
    bench.arg(&model);
    vec![
        (run, 0),
        (logits, 0),
        (bench, 0),
        (conversion(&model, &out.join("out.gguf")), 0),
        (absent, 1),
        (command(["frobnicate"]), 2),
        (command(["run", "--limit"]), 2),
        (command(["--help"]), 0),
    ]
}

#[test]
fn nobody_needs_to_listen_on_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    for (mut command, expected) in talking(folder.path()) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command.stderr(full).stdout(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{command:?}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stderr(writer).stdout(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{command:?}");

        let mut closed = Command::new("sh");
        closed.args(["-c", "exec \"$0\" \"$@\" 2>&-"]);
        closed.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        let output = closed.output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{command:?}");
    }
}

#[test]
fn a_result_that_cannot_be_printed_is_an_error_unless_its_reader_has_left() {
    let folder = tempfile::tempdir().unwrap();
    let (model, lines) = (Fixture::named("bitnet_offline").folder, folder.path().join("lines"));
    fs::write(&lines, "{\"context_ids\":[1],\"continuation_ids\":[2]}\n").unwrap();
    let mut score = command(["score", "-i"]);
    score.arg(&lines).arg(&model);
    let mut run = command(["run", "--quiet", "--tokens", "1", "-n", "2"]);
    run.arg(&model);
    let mut inspect = command(["inspect"]);
    inspect.arg(&model);
    for mut command in [run, score, inspect, command(["completions", "bash"]), command(["--help"])]
    {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
        let (status, said) = line_of(&output);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.starts_with("error: standard output: "), "{said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{command:?}");
    }
}

/// A stack size that no thread can have.
const STACK: (&str, &str) = ("RUST_MIN_STACK", "1125899906842624");

#[test]
fn threads_that_do_not_start_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let small = Fixture::named("bitnet_offline").folder;
    let model = folder.path().join("model.gguf");
    let (status, said) =
        line_of(&conversion(&small, &model).env(STACK.0, STACK.1).output().unwrap());
    assert_eq!(status, Some(1));
    assert!(said.starts_with("error: cannot start threads: "), "{said}");
    assert!(names(folder.path()).is_empty());

    assert!(conversion(&small, &model).output().unwrap().status.success());
    let mut run = command(["run", "--tokens", "1", "-n", "1", "--quiet", "-t", "3"]);
    let (status, said) = line_of(&run.arg(&model).env(STACK.0, STACK.1).output().unwrap());
    assert_eq!(status, Some(1));
    assert!(said.starts_with("error: cannot start 3 threads: "), "{said}");
}

#[test]
fn a_context_takes_memory_for_the_tokens_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let small = Fixture::named("bitnet_offline").folder;
    let weights = "model.safetensors";
    fs::copy(small.join(weights), folder.path().join(weights)).unwrap();
    let mut config: Value =
        serde_json::from_slice(&fs::read(small.join("config.json")).unwrap()).unwrap();
    config["max_position_embeddings"] = 16_000_000.into();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    // The keys and values of these tokens would take 16 GB.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 8000000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_trilobite")]);
    command.args(["run", "--tokens", "1", "--ids", "-n", "1", "-q", "-t", "1"]);
    let output = command.args(["--ctx", "16000000"]).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
