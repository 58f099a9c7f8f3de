//! Tests with links, devices and FIFOs in place of files.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{Running, conversion, line_of, names};
use crate::fixture::Fixture;
use crate::trilobite::{command, stdout};

#[test]
fn links_and_devices_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (model, link) = (Fixture::named("bitnet_offline").folder, folder.path().join("link"));
    let mut logits = command(["logits", "--tokens", "1", "--quiet", "-o"]);
    logits.arg(&link).arg(&model);
    let mut score = command(["score", "-o"]);
    score.arg(&link).arg(&model);
    for leads_to in ["file", "nowhere", "/proc/self/fd/1", "/dev/null"] {
        fs::write(folder.path().join("file"), "mine").unwrap();
        symlink(leads_to, &link).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let output = conversion(&model, &link).stdout(log).output().unwrap();
        let (status, said) = line_of(&output);
        assert_eq!(status, Some(1));
        assert!(said.contains("it is a symbolic link"), "{said}");
        for command in [&mut logits, &mut score] {
            let log = File::options().append(true).open(folder.path().join("log")).unwrap();
            let output = command.stdout(log).output().unwrap();
            let device = leads_to == "/dev/null";
            assert_eq!(output.status.success(), device, "{output:?}");
        }
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(leads_to));
        assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"mine");
        fs::remove_file(&link).unwrap();
    }
    assert_eq!(names(folder.path()), ["file", "log"]);
    // A pipe receives the contents that a file would get.
    let mut piped = command(["logits", "--tokens", "1", "--quiet", "-o", "/dev/stdout"]);
    let piped = piped.arg(&model).output().unwrap();
    let written = crate::trilobite::logits(&model, &[1], &[], &[]).unwrap();
    assert_eq!((piped.status.code(), piped.stdout), (Some(0), written));
}

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// No process ever writes to them.
#[test]
fn fifos_are_refused_where_files_are_read_from_any_place() {
    let folder = tempfile::tempdir().unwrap();
    let lone = folder.path().join("fifo");
    fifo(&lone);
    let json = folder.path().join("tokenizer.json");
    fifo(&json);
    let out = folder.path().join("out.gguf");
    let with = |args: &[&str], model: &Path| {
        let mut command = command(args);
        command.arg(model);
        command
    };
    let mut commands = vec![
        (conversion(&lone, &out), lone.clone()),
        (with(&["inspect"], &lone), lone.clone()),
        (with(&["run", "--tokens", "1", "-n", "1"], &lone), lone.clone()),
        (with(&["tokenize", "-p", "a"], &lone), lone),
        (with(&["tokenize", "-p", "a"], &json), json),
    ];
    let small = Fixture::named("bitnet_offline").folder;
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let copy = folder.path().join(format!("without {name}"));
        fs::create_dir(&copy).unwrap();
        for name in ["config.json", "tokenizer.json", "model.safetensors"] {
            fs::copy(small.join(name), copy.join(name)).unwrap();
        }
        fifo(&copy.join(name));
        commands.push((conversion(&copy, &out), copy.join(name)));
        commands.push((with(&["run", "--tokens", "1", "-n", "1"], &copy), copy.join(name)));
    }
    let data = folder.path().join("arc");
    fs::create_dir(&data).unwrap();
    fifo(&data.join("ARC-Easy-Test.jsonl"));
    let mut eval = command(["eval", "--tasks", "arc_easy", "--any-data", "--data"]);
    eval.arg(folder.path()).arg("-o").arg(folder.path().join("results"));
    commands.push((eval, data.join("ARC-Easy-Test.jsonl")));
    for (mut command, path) in commands {
        let (status, said) = line_of(&Running::start(&mut command).end());
        assert_eq!(status, Some(1), "{said}");
        let path = path.to_str().unwrap();
        assert!(said.contains(path) && said.contains("expected a regular file"), "{said}");
    }
}

#[test]
fn a_prompt_may_come_from_a_pipe_and_must_end() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = folder.path().join("prompt");
    fifo(&prompt);
    let writer = std::thread::spawn({
        let prompt = prompt.clone();
        move || fs::write(prompt, "The cat").unwrap()
    });
    let run = || command(["run", "-n", "8", "--temp", "0", "--quiet"]);
    let found = stdout(run().arg("--prompt-file").arg(&prompt)).unwrap();
    writer.join().unwrap();
    assert_eq!(found, stdout(run().args(["-p", "The cat"])).unwrap());
    let output = run().args(["--prompt-file", "/dev/zero"]).output().unwrap();
    assert!(line_of(&output).1.contains("/dev/zero: it is longer than"));
}

#[test]
fn results_have_the_permissions_of_new_files() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (Fixture::named("bitnet_offline").folder, folder.path().join("out"));
    let mut inner = command(["logits", "--tokens", "1", "--quiet", "-o"]);
    inner.arg(&out).arg(&model);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 027; exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args());
    assert!(command.status().unwrap().success());
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o640);
}
