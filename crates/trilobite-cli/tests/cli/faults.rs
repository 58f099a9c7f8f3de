//! Streams that fail, signals, files that are none, and texts that would steer the terminal.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::trilobite::{command, stdout};

/// Longest time that something may take that takes no time.
const LONG: Duration = Duration::from_secs(60);

/// Waits for what comes soon.
#[track_caller]
fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < LONG, "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A running command, killed if the test fails before it ends.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -$0 $1", name, &self.0.id().to_string()]);
        assert!(kill.status().unwrap().success());
    }

    /// The end that comes soon.
    #[track_caller]
    fn end(&mut self) -> Output {
        let status = wait_for(|| self.0.try_wait().unwrap());
        let mut stderr = Vec::new();
        std::io::Read::read_to_end(self.0.stderr.as_mut().unwrap(), &mut stderr).unwrap();
        Output { status, stdout: Vec::new(), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Exit status and the one line on standard error.
#[track_caller]
fn line_of(output: &Output) -> (Option<i32>, String) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(said.lines().count() == 1 && said.ends_with('\n'), "{said:?}");
    (output.status.code(), said.trim_end().to_owned())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn conversion(source: &Path, out: &Path) -> Command {
    let mut command = command(["convert", "--head-scan", "none", "--force"]);
    command.arg(source).arg("-o").arg(out);
    command
}

/// The name of the incomplete file in a folder, when there is one.
fn partial(folder: &Path) -> Option<String> {
    names(folder).into_iter().find(|name| name.ends_with(".partial"))
}

/// A checkpoint that takes long to convert: most of its embedding is a hole in the file.
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

/// Commands that talk, with the exit status that they have when somebody listens.
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

#[test]
fn signals_end_a_conversion_that_leaves_nothing() {
    let (source, target) = (large_checkpoint(), tempfile::tempdir().unwrap());
    let out = target.path().join("out.gguf");
    fs::write(&out, "mine").unwrap();
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
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

/// As with `nohup`.
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
    let file = wait_for(|| partial(target.path()));
    running.signal("STOP");
    let (code, said) = line_of(&conversion(&small, &out).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(said.contains("out.gguf: another process is writing it"), "{said}");
    assert_eq!(names(target.path()), [file.as_str()]);
    // Other targets are free.
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
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
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
        let expected = format!("interrupted; {} items are kept in {}", kept(), items.display());
        assert!(said.starts_with(&expected), "{said}, not {expected}");
    }
}

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
    // A pipe takes what a file would get.
    let mut piped = command(["logits", "--tokens", "1", "--quiet", "-o", "/dev/stdout"]);
    let piped = piped.arg(&model).output().unwrap();
    let written = crate::trilobite::logits(&model, &[1], &[], &[]).unwrap();
    assert_eq!((piped.status.code(), piped.stdout), (Some(0), written));
}

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Nobody ever writes to them.
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

/// What erases the screen, what is the same in one byte, and what turns the text around.
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

    // Types and names of tensors, and what else is in a checkpoint.
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

/// The command with a limit on its address space.
fn within(kilobytes: u32, inner: &Command) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {kilobytes}; exec \"$0\" \"$@\"")]);
    command.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    command
}

#[test]
fn threads_and_memory_that_are_not_to_be_had_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let small = Fixture::named("bitnet_offline").folder;
    let model = folder.path().join("model.gguf");
    assert!(conversion(&small, &model).output().unwrap().status.success());
    let mut run = command(["run", "--tokens", "1", "-n", "1", "--quiet", "-t", "1000"]);
    let output = within(1_000_000, run.arg(&model)).output().unwrap();
    let (status, said) = line_of(&output);
    assert_eq!(status, Some(1));
    assert!(said.starts_with("error: cannot start 1000 threads: "), "{said}");

    let mut convert = within(1_000_000, &conversion(&small, &model));
    let (status, said) = line_of(&convert.env("RAYON_NUM_THREADS", "1000").output().unwrap());
    assert_eq!(status, Some(1));
    assert!(said.starts_with("error: cannot start threads: "), "{said}");

    let long = folder.path().join("long");
    fs::create_dir(&long).unwrap();
    fs::copy(small.join("model.safetensors"), long.join("model.safetensors")).unwrap();
    let mut config: Value =
        serde_json::from_slice(&fs::read(small.join("config.json")).unwrap()).unwrap();
    config["max_position_embeddings"] = 16_000_000.into();
    fs::write(long.join("config.json"), config.to_string()).unwrap();
    let args = ["run", "--tokens", "1", "--ids", "-n", "1", "-q", "-t", "1", "--ctx", "16000000"];
    let (status, said) = line_of(&within(4_000_000, command(args).arg(&long)).output().unwrap());
    assert_eq!(status, Some(1));
    assert!(said.contains("a context of 16000000 tokens takes"), "{said}");
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
