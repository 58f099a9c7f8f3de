//! Tests of the cache of converted checkpoints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::Fixture;
#[cfg(unix)]
use crate::trilobite::after;
use crate::trilobite::command;

/// Vocabulary size of the checkpoint, large enough that its conversion is cached.
const VOCABULARY: usize = 140_000;

/// A checkpoint that is large enough for the cache, and a cache folder.
struct Place {
    checkpoint: TempDir,
    home: TempDir,
}

/// The standard output and standard error of a command.
#[derive(Debug)]
struct Said {
    out: String,
    error: String,
}

impl Place {
    fn new() -> Self {
        let place =
            Place { checkpoint: tempfile::tempdir().unwrap(), home: tempfile::tempdir().unwrap() };
        enlarge(&Fixture::named("qwen2").folder, place.checkpoint.path());
        place
    }

    /// Generates a few tokens.
    fn run(&self) -> Command {
        let mut run =
            command(["run", "--tokens", "1,2,3", "-n", "8", "--temp", "0", "--ids", "-t1"]);
        run.arg(self.checkpoint.path()).env("TRILOBITE_HOME", self.home.path());
        run
    }

    /// The folders of checkpoints in the cache.
    fn kept(&self) -> Vec<PathBuf> {
        let Ok(folders) = fs::read_dir(self.home.path().join("converted")) else {
            return Vec::new();
        };
        folders.map(|entry| entry.unwrap().path()).collect()
    }

    /// The only converted file.
    #[track_caller]
    fn file(&self) -> PathBuf {
        let kept = self.kept();
        let [folder] = &kept[..] else { panic!("{kept:?}") };
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let (ggufs, others): (Vec<_>, Vec<_>) =
            files.partition(|path| path.extension().is_some_and(|ending| ending == "gguf"));
        assert_eq!((ggufs.len(), others.len()), (1, 2), "{ggufs:?} {others:?}");
        ggufs.into_iter().next().unwrap()
    }

    fn weights(&self) -> PathBuf {
        self.checkpoint.path().join("model.safetensors")
    }
}

#[track_caller]
fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let error = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{error}");
    Said { out: String::from_utf8(stdout).unwrap(), error }
}

/// Copies a checkpoint, and repeats the rows of its embedding (and head) until there are enough.
pub(crate) fn enlarge(from: &Path, to: &Path) {
    for name in ["generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let config = fs::read(from.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    let rows = config["vocab_size"].as_u64().unwrap() as usize;
    config["vocab_size"] = json!(VOCABULARY);
    fs::write(to.join("config.json"), config.to_string()).unwrap();

    let file = fs::read(from.join("model.safetensors")).unwrap();
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let mut bytes = Vec::new();
    for (name, tensor) in header.as_object_mut().unwrap() {
        let Some(range) = tensor.get("data_offsets") else { continue };
        let [from, to] = [0, 1].map(|end| range[end].as_u64().unwrap() as usize);
        let old = &data[from..to];
        let begin = bytes.len();
        if ["model.embed_tokens.weight", "lm_head.weight"].contains(&name.as_str()) {
            let row = old.len() / rows;
            bytes.extend(old.iter().cycle().take(VOCABULARY * row));
            tensor["shape"][0] = json!(VOCABULARY);
        } else {
            bytes.extend(old);
        }
        tensor["data_offsets"] = json!([begin, bytes.len()]);
    }
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(to.join("model.safetensors"), [&length, header.as_bytes(), &bytes].concat()).unwrap();
}

#[test]
fn a_checkpoint_is_converted_once() {
    let place = Place::new();
    let memory = said(place.run().arg("--no-cache"));
    assert_eq!(place.kept(), Vec::<PathBuf>::new());
    let first = said(&mut place.run());
    let file = place.file();
    let expected = format!("converting it once, into {}", file.display());
    assert!(first.error.contains(&expected), "{first:?}");
    let made = fs::metadata(&file).unwrap().modified().unwrap();
    let second = said(&mut place.run());
    assert!(!second.error.contains("convert"), "{second:?}");
    assert_eq!((&first.out, &second.out), (&memory.out, &memory.out));
    assert_eq!(fs::metadata(place.file()).unwrap().modified().unwrap(), made);
    // Another path of the same folder finds the conversion, without messages.
    let parent = place.checkpoint.path().join("..");
    let mut inspect = command(["inspect", "--quiet"]);
    inspect.arg(parent.join(place.checkpoint.path().file_name().unwrap()));
    assert_eq!(said(inspect.env("TRILOBITE_HOME", place.home.path())).error, "");
    assert_eq!(place.file(), file);
}

#[test]
fn a_small_checkpoint_is_converted_in_memory() {
    let home = tempfile::tempdir().unwrap();
    let mut inspect = command(["inspect"]);
    inspect.arg(Fixture::named("qwen2").folder).env("TRILOBITE_HOME", home.path());
    assert_eq!(said(&mut inspect).error, "");
    assert!(fs::read_dir(home.path()).unwrap().next().is_none());
}

#[test]
fn a_changed_checkpoint_is_converted_again() {
    let place = Place::new();
    let first = said(&mut place.run());
    let old = place.file();
    // Other weights, with the same size and the old times.
    let weights = place.weights();
    let modified = fs::metadata(&weights).unwrap().modified().unwrap();
    let mut bytes = fs::read(&weights).unwrap();
    let data = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    bytes[data..].chunks_exact_mut(128).for_each(|row| row.rotate_left(2));
    fs::write(&weights, bytes).unwrap();
    fs::File::options().write(true).open(&weights).unwrap().set_modified(modified).unwrap();
    let changed = said(&mut place.run());
    if cfg!(unix) {
        assert!(changed.error.contains("converting it once"), "{changed:?}");
        assert_ne!(place.file(), old);
        assert_ne!(changed.out, first.out);
        assert_eq!(changed.out, said(place.run().arg("--no-cache")).out);
    }
    // One file less.
    let old = place.file();
    fs::remove_file(place.checkpoint.path().join("generation_config.json")).unwrap();
    said(&mut place.run());
    assert_ne!(place.file(), old);
}

#[test]
fn a_damaged_file_is_made_again() {
    let place = Place::new();
    let right = said(&mut place.run());
    let file = place.file();
    let whole = fs::read(&file).unwrap();
    let middle = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[middle..middle + 1000].iter_mut().for_each(|byte| *byte ^= 0x55);
    for damaged in [&whole[..middle], &flipped, b"GGUF", b""] {
        fs::write(&file, damaged).unwrap();
        let again = said(&mut place.run());
        assert!(again.error.contains("the converted file is damaged: "), "{again:?}");
        assert_eq!(again.out, right.out);
        assert!(fs::read(place.file()).unwrap() == whole);
    }
    let record = file.with_extension("json");
    for damaged in ["", "{", "{}"] {
        fs::write(&record, damaged).unwrap();
        assert_eq!(said(&mut place.run()).out, right.out);
        assert!(fs::read(place.file()).unwrap() == whole);
    }
    for lost in [&file, &record] {
        fs::remove_file(lost).unwrap();
        assert_eq!(said(&mut place.run()).out, right.out);
        assert!(fs::read(place.file()).unwrap() == whole);
    }
}

#[test]
fn processes_at_once_make_one_file() {
    let place = Place::new();
    let memory = said(place.run().arg("--no-cache"));
    // The leftovers of a killed conversion.
    said(&mut place.run());
    let file = place.file();
    let left = file.with_file_name(".trilobite-x.partial");
    fs::write(&left, "half").unwrap();
    fs::remove_file(&file).unwrap();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| said(&mut place.run()))).collect();
        let runs: Vec<_> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        assert!(runs.iter().all(|run| run.out == memory.out), "{runs:?}");
        let made = runs.iter().filter(|run| run.error.contains("converting it once")).count();
        assert_eq!(made, 1, "{runs:?}");
    });
    assert_eq!(place.file(), file);
    assert!(!left.exists());
}

#[test]
fn a_cache_that_cannot_be_written_is_done_without() {
    let place = Place::new();
    let expected = said(place.run().arg("--no-cache")).out;
    // A file in place of the cache folder.
    let occupied = place.home.path().join("file");
    fs::write(&occupied, "").unwrap();
    let there = said(place.run().env("TRILOBITE_HOME", &occupied));
    assert_eq!(there.out, expected);
    let notes = there.error.lines().filter(|line| line.contains("converting it in memory"));
    assert_eq!(notes.count(), 1, "{there:?}");
    assert_eq!(place.kept(), Vec::<PathBuf>::new());
    // An invalid checkpoint is not converted a second time.
    let weights = fs::read(place.weights()).unwrap();
    fs::write(place.weights(), &weights[..weights.len() - 1]).unwrap();
    let failed = place.run().output().unwrap();
    let error = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(error.contains("model.safetensors is truncated"), "{error}");
    assert!(!error.contains("in memory"), "{error}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_done_without() {
    let place = Place::new();
    let expected = said(place.run().arg("--no-cache")).out;
    let full = said(&mut after("trap '' XFSZ; ulimit -f 600", &place.run()));
    assert_eq!(full.out, expected);
    assert!(full.error.contains("converting it in memory") && full.error.contains("too large"));
    // Without a home folder there is no cache, or the one in the home folder of the system's user
    // list.
    let mut homeless = place.run();
    for name in ["HOME", "XDG_CACHE_HOME", "TRILOBITE_HOME"] {
        homeless.env_remove(name);
    }
    // The tests write nothing to the cache of the user who runs them.
    assert_eq!(said(homeless.env("XDG_CACHE_HOME", "/proc/none")).out, expected);
}
