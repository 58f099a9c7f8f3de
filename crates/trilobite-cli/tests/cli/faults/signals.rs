//! Tests of signals that ask a command to end, and of the leftovers of a killed process.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Running, conversion, line_of, names, wait_for};
use crate::fixture::Fixture;
use crate::trilobite::command;

/// The name of the incomplete file in a folder, if there is one.
fn partial(folder: &Path) -> Option<String> {
    names(folder).into_iter().find(|name| name.ends_with(".partial"))
}

/// The signals that end a command, with its exit status. A command ignores SIGHUP if it is started so,
/// as under `nohup`, or if the system does not tell.
fn ending_signals() -> Vec<(&'static str, i32)> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.map(|set| u64::from_str_radix(set.trim(), 16).unwrap());
    let hangup = ignored.is_some_and(|set| set & 1 == 0).then_some(("HUP", 129));
    [("INT", 130), ("TERM", 143)].into_iter().chain(hangup).collect()
}

/// A checkpoint whose conversion takes long: most of its embedding is a hole in the file.
fn large_checkpoint() -> tempfile::TempDir {
    const ROWS: u64 = 2 << 20;
    let small = Fixture::named("bitnet_offline").folder;
    let large = tempfile::tempdir().unwrap();
    let mut config: Value =
        serde_json::from_slice(&fs::read(small.join("config.json")).unwrap()).unwrap();
    config["vocab_size"] = ROWS.into();
    fs::write(large.path().join("config.json"), config.to_string()).unwrap();

    let file = fs::read(small.join("model.safetensors")).unwrap();
    let (len, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let embedding = &mut header["model.embed_tokens.weight"];
    assert_eq!(embedding["data_offsets"][0], 0);
    let end = embedding["data_offsets"][1].as_u64().unwrap();
    let (start, row) = (data.len() as u64 - end, 2 * embedding["shape"][1].as_u64().unwrap());
    embedding["shape"][0] = ROWS.into();
    embedding["data_offsets"] = json!([start, start + ROWS * row]);
    for (name, tensor) in header.as_object_mut().unwrap() {
        if name != "model.embed_tokens.weight" && name != "__metadata__" {
            let offsets = tensor["data_offsets"].as_array_mut().unwrap();
            offsets.iter_mut().for_each(|offset| *offset = (offset.as_u64().unwrap() - end).into());
        }
    }
    let header = header.to_string();
    let mut out = File::create(large.path().join("model.safetensors")).unwrap();
    out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    out.write_all(header.as_bytes()).unwrap();
    out.write_all(&data[end as usize..]).unwrap();
    out.write_all(&data[..end as usize]).unwrap();
    out.set_len(8 + header.len() as u64 + start + ROWS * row).unwrap();
    large
}

#[test]
fn signals_end_a_conversion_that_leaves_nothing() {
    let (source, target) = (large_checkpoint(), tempfile::tempdir().unwrap());
    let out = target.path().join("out.gguf");
    fs::write(&out, "mine").unwrap();
    for (signal, status) in ending_signals() {
        let mut running = Running::start(&mut conversion(source.path(), &out));
        wait_for(|| partial(target.path()));
        running.signal(signal);
        let (code, said) = line_of(&running.end());
        assert_eq!(code, Some(status), "{said}");
        assert!(said.starts_with("interrupted; nothing was written to "), "{said}");
        assert_eq!(names(target.path()), ["out.gguf"]);
        assert_eq!(fs::read(&out).unwrap(), b"mine");
    }
}

#[test]
fn a_conversion_starts_the_requested_threads() {
    let (source, target) = (large_checkpoint(), tempfile::tempdir().unwrap());
    let threads = |requested: &str| {
        let mut command = conversion(source.path(), &target.path().join("out.gguf"));
        let running = Running::start(command.args(["-t", requested]));
        // They are started before the file is.
        wait_for(|| partial(target.path()));
        let tasks = fs::read_dir(format!("/proc/{}/task", running.0.id())).unwrap().count();
        drop(running);
        fs::remove_file(target.path().join(partial(target.path()).unwrap())).unwrap();
        tasks
    };
    assert_eq!(threads("7"), threads("1") + 6);
}

/// The case of `nohup`.
#[test]
fn a_conversion_may_outlive_its_terminal() {
    let (source, target) = (large_checkpoint(), tempfile::tempdir().unwrap());
    let inner = conversion(source.path(), &target.path().join("out.gguf"));
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args());
    let mut running = Running::start(&mut command);
    wait_for(|| partial(target.path()));
    running.signal("HUP");
    running.signal("TERM");
    assert_eq!(running.end().status.code(), Some(143));
}

#[test]
fn a_target_has_one_conversion_and_the_next_clears_up_behind_a_killed_one() {
    let (large, target) = (large_checkpoint(), tempfile::tempdir().unwrap());
    let (small, out) = (Fixture::named("bitnet_offline").folder, target.path().join("out.gguf"));
    let mut running = Running::start(&mut conversion(large.path(), &out));
    // The file is locked before it has contents.
    let filled = |file: &String| target.path().join(file).metadata().is_ok_and(|m| m.len() > 0);
    let file = wait_for(|| partial(target.path()).filter(filled));
    running.signal("STOP");
    let (code, said) = line_of(&conversion(&small, &out).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(said.contains("out.gguf: another process is writing it"), "{said}");
    assert_eq!(names(target.path()), [file.as_str()]);
    // Other targets are not affected.
    let other = target.path().join("other.gguf");
    assert!(conversion(&small, &other).output().unwrap().status.success());

    running.signal("KILL");
    assert_eq!(running.end().status.signal(), Some(9));
    assert_eq!(names(target.path()), [file.as_str(), "other.gguf"]);
    assert!(conversion(&small, &out).output().unwrap().status.success());
    assert_eq!(names(target.path()), ["other.gguf", "out.gguf"]);
}

#[test]
fn signals_end_a_score_that_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (input, target) = (folder.path().join("in.jsonl"), folder.path().join("target"));
    let line = "{\"context_ids\":[1,2,3,4,5,6,7],\"continuation_ids\":[2,3,4,5,6]}\n";
    fs::write(&input, line.repeat(200_000)).unwrap();
    fs::create_dir(&target).unwrap();
    for (signal, status) in ending_signals() {
        let mut command = command(["score", "-i"]);
        command.arg(&input).arg("-o").arg(target.join("out.jsonl"));
        let mut running = Running::start(&mut command);
        wait_for(|| partial(&target));
        running.signal(signal);
        let (code, said) = line_of(&running.end());
        assert_eq!(code, Some(status), "{said}");
        assert!(said.ends_with("out.jsonl: interrupted before it was complete"), "{said}");
        assert!(names(&target).is_empty());
    }
}

#[test]
fn an_interrupted_evaluation_says_what_it_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    fs::create_dir_all(data.join("arc")).unwrap();
    let mut lines = String::new();
    for id in 0..20_000 {
        let choices = json!([{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]);
        let question = json!({"stem": "Which one?", "choices": choices});
        lines +=
            &format!("{}\n", json!({"id": id.to_string(), "question": question, "answerKey": "A"}));
    }
    fs::write(data.join("arc/ARC-Easy-Test.jsonl"), lines).unwrap();
    let items = out.join("arc_easy.jsonl");
    let kept = || fs::read_to_string(&items).unwrap_or_default().lines().count();
    let start = || {
        let mut command = command(["eval", "--tasks", "arc_easy", "--any-data", "--data"]);
        Running::start(command.arg(&data).arg("-o").arg(&out))
    };
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let before = kept();
        let mut running = start();
        wait_for(|| (kept() > before).then_some(()));
        running.signal(signal);
        let (code, said) = line_of(&running.end());
        assert_eq!(code, Some(status), "{said}");
        let expected = format!(
            "arc_easy: interrupted after {} of 20000 items, which {} keeps",
            kept(),
            items.display()
        );
        assert!(said.starts_with(&expected), "{said}, not {expected}");
    }
}
