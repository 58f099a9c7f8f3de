//! Tests of `tune`, of the layout that it records, and of `--repack`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::converted::enlarge;
use crate::fixture::{Fixture, own_folder};
use crate::hub::with_home;
use crate::pull::fails;
#[cfg(target_os = "linux")]
use crate::trilobite::after;
use crate::trilobite::{convert_to, logits, stdout};

/// A checkpoint with squared ReLU that is large enough for the cache, and a cache folder.
struct Place {
    checkpoint: TempDir,
    home: TempDir,
}

impl Place {
    /// A checkpoint that a table of RoPE makes large. Conversions leave it out, so they are small.
    fn new() -> Self {
        Self::of_size(add_table)
    }

    fn of_size(enlarge: fn(&Path, &Path)) -> Self {
        let place =
            Place { checkpoint: tempfile::tempdir().unwrap(), home: tempfile::tempdir().unwrap() };
        enlarge(&Fixture::named("bitnet_online").folder, place.checkpoint.path());
        place
    }

    /// A command about a model.
    fn command(&self, args: &[&str], model: &Path) -> Command {
        let mut command = with_home(self.home.path(), args);
        command.arg(model);
        command
    }

    /// A command about the checkpoint.
    fn of(&self, args: &[&str]) -> Command {
        self.command(args, self.checkpoint.path())
    }

    fn json(&self, args: &[&str], model: &Path) -> Value {
        serde_json::from_str(&stdout(&mut self.command(args, model)).unwrap()).unwrap()
    }

    fn inspect(&self) -> Value {
        self.json(&["inspect", "--json"], self.checkpoint.path())
    }

    fn tune(&self, model: &Path) -> Value {
        self.json(&["tune", "-n", "2", "-r", "2", "-t1", "--json"], model)
    }

    /// The names of all files in the folders of conversions except locks, JSON last.
    fn files(&self) -> Vec<String> {
        let mut folders = vec![self.home.path().join("converted")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path.file_name().unwrap().to_str().unwrap().to_owned()),
                }
            }
        }
        files.retain(|name| name != "lock");
        files.sort_by_key(|name| (name.ends_with(".json"), name.clone()));
        files
    }

    /// The record of the only model in the cache.
    fn record(&self) -> PathBuf {
        let mut folders = fs::read_dir(self.home.path().join("converted")).unwrap();
        folders.next().unwrap().unwrap().path().join("tuned.json")
    }

    /// Changes the record.
    fn change(&self, key: &str, value: &str) {
        let mut record: Value = serde_json::from_slice(&fs::read(self.record()).unwrap()).unwrap();
        record[0][key] = value.into();
        fs::write(self.record(), record.to_string()).unwrap();
    }
}

/// Copies a checkpoint and adds a table of 16 MiB.
fn add_table(from: &Path, to: &Path) {
    for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
    {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let file = fs::read(from.join("model.safetensors")).unwrap();
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let table = vec![0; 16 << 20];
    header["model.rotary_emb.inv_freq"] = json!({
        "dtype": "F32", "shape": [table.len() / 4], "data_offsets": [data.len(), data.len() + table.len()],
    });
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length, header.as_bytes(), data, &table].concat();
    fs::write(to.join("model.safetensors"), file).unwrap();
}

/// The types of a file's ternary tensors, each once.
fn types(inspected: &Value) -> Vec<&str> {
    let tensors = inspected["tensors"].as_array().unwrap().iter();
    let mut types: Vec<_> = tensors.map(|tensor| tensor["type"].as_str().unwrap()).collect();
    types.sort();
    types.dedup();
    types.retain(|ty| ty.starts_with('I') && *ty != "I8" || ty.starts_with('T'));
    types
}

#[test]
fn the_layout_that_is_recorded_is_used() {
    let place = Place::new();
    let model = place.checkpoint.path();
    let before = place.inspect();
    assert_eq!(before["layout"]["auto"], "i2_s");
    assert!(before["layout"]["tuned"].is_null());
    let tuned = place.tune(model);
    let speeds = tuned["tuned"]["speeds"].as_array().unwrap();
    let layouts: Vec<_> = speeds.iter().map(|speed| speed["layout"].as_str().unwrap()).collect();
    assert_eq!(layouts, ["i2_s", "sparse", "t5_3"]);
    for speed in speeds {
        let [min, median, max] =
            ["min", "median", "max"].map(|key| speed["tokens_per_s"][key].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{speed}");
        assert!(speed["file_bytes"].as_u64().unwrap() > 1 << 10);
    }
    for key in ["isa", "threads", "tokens", "runs", "date", "engine", "layout", "auto"] {
        assert!(!tuned["tuned"][key].is_null(), "{key}: {tuned}");
    }
    // Its file is the only one left, and opening the model uses it.
    let file = Path::new(tuned["file"].as_str().unwrap());
    let names = [file, &file.with_extension("json"), &place.record()]
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    assert_eq!(place.files(), names);
    let opened = place.of(&["inspect"]).output().unwrap();
    assert_eq!(String::from_utf8(opened.stderr).unwrap(), "");
    assert_eq!(place.inspect()["layout"]["tuned"], tuned["tuned"]);

    // Records of other layouts, whichever was the fastest.
    place.change("layout", "sparse");
    assert!(types(&place.inspect()).contains(&"I2_R"));
    place.change("layout", "t5_3");
    let said = place.of(&["inspect"]).output().unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("  tuned layout      t5_3")).unwrap();
    assert!(line.contains("i2_s ") && line.contains("1 thread"), "{line}");
    assert_eq!(types(&place.inspect()), ["T5_3"]);
    // The files of other layouts are kept, for other machines.
    place.change("layout", "sparse");
    assert_eq!(String::from_utf8(place.of(&["inspect"]).output().unwrap().stderr).unwrap(), "");
    place.change("layout", "t5_3");
    // So are the records of other machines.
    place.change("isa", "other");
    place.tune(model);
    let records: Value = serde_json::from_slice(&fs::read(place.record()).unwrap()).unwrap();
    assert_eq!(records.as_array().unwrap().len(), 2);
    assert_eq!(records[0]["isa"], "other");
    fs::write(place.record(), Value::from(vec![records[1].clone()]).to_string()).unwrap();
    place.change("layout", "t5_3");
    // `convert` uses it on request only.
    let out = place.home.path().join("out.gguf");
    let out = out.to_str().unwrap();
    for (layout, expected) in [("auto", "I2_S"), ("tuned", "T5_3")] {
        let convert = ["convert", "--layout", layout, "--force", "-o", out];
        stdout(&mut place.of(&convert)).unwrap();
        let args = ["inspect", "--json"];
        assert_eq!(types(&place.json(&args, Path::new(out))), [expected]);
    }
    // A record of another machine, of other sources, or a damaged one is not used.
    for (key, value) in
        [("isa", "other"), ("cpu", "other"), ("sources", "0"), ("layout", "x"), ("layout", "auto")]
    {
        let valid = fs::read(place.record()).unwrap();
        place.change(key, value);
        let inspected = place.inspect();
        assert_eq!(types(&inspected), ["I2_S"], "{key}");
        assert!(inspected["layout"]["tuned"].is_null(), "{key}");
        fs::write(place.record(), valid).unwrap();
    }
    assert_eq!(types(&place.inspect()), ["T5_3"]);
    fs::remove_file(model.join("generation_config.json")).unwrap();
    assert_eq!(types(&place.inspect()), ["I2_S"]);
    let said = fails(&mut place.of(&["convert", "--layout", "tuned", "--force", "-o", out]));
    assert!(said.contains("no layout is recorded for this machine"), "{said}");
}

#[test]
fn a_small_model_keeps_the_record_only() {
    let place = Place::new();
    let small = own_folder().join("../tinystories");
    let text = ["tune", "-n", "2", "-r", "2", "-t1"];
    let text = stdout(&mut place.command(&text, &small)).unwrap();
    assert!(text.contains(&format!("recorded in {}\n", place.record().display())), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("* ")).count(), 1, "{text}");
    assert_eq!(place.files(), ["tuned.json"]);
    place.change("layout", "t5_3");
    let inspected = place.json(&["inspect", "--json"], &small);
    assert!(types(&inspected).contains(&"T5_3"), "{:?}", types(&inspected));
    let list = stdout(&mut with_home(place.home.path(), &["list"])).unwrap();
    let name = list.lines().find(|line| line.starts_with("tinystories-")).unwrap();
    assert!(name.contains("layout record"), "{name}");
    let (name, _) = name.split_once(' ').unwrap();
    stdout(&mut with_home(place.home.path(), &["rm", name])).unwrap();
    assert_eq!(place.files(), Vec::<String>::new());
}

/// The error of a command that says nothing else, such as what it converts.
fn refused(command: &mut Command) -> String {
    let said = command.output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn a_model_without_a_choice_is_refused() {
    let place = Place::new();
    let dense = Fixture::named("qwen2").folder;
    let said = fails(&mut place.command(&["tune"], &dense));
    assert!(said.contains("qwen2: it has no ternary weights"), "{said}");
    let said = fails(&mut place.command(&["convert", "--layout", "tuned"], &dense));
    assert!(said.contains("qwen2: it has no ternary weights"), "{said}");
    let file = place.home.path().join("dense.gguf");
    convert_to("auto", &dense, &file).unwrap();
    let said = fails(&mut place.command(&["run", "--repack", "-p", "x"], &file));
    assert!(said.contains("dense.gguf: it has no ternary weights"), "{said}");
    assert_eq!(place.files(), Vec::<String>::new());
    // A checkpoint is converted anyway.
    stdout(&mut place.command(&["run", "--repack", "--tokens", "1", "-n1"], &dense)).unwrap();
    let embeds = Fixture::named("embeddings").folder.join("qwen3");
    if embeds.exists() {
        let said = refused(&mut place.command(&["tune"], &embeds));
        assert!(said.contains("`trilobite embed` gives them"), "{said}");
    }
    let said = refused(&mut place.of(&["tune", "-n", "100000"]));
    assert!(said.contains("100000 tokens and one more were asked for"), "{said}");
    assert!(place.files().is_empty(), "{:?}", place.files());
}

#[test]
#[cfg(unix)]
fn an_interrupted_comparison_leaves_no_files() {
    use std::io::{BufRead, BufReader};

    let place = Place::new();
    let mut tune = place.of(&["tune", "-n", "400", "-r", "100000", "-t1"]);
    let mut tune = tune.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(tune.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("run 1 of ")).unwrap().unwrap();
    assert_eq!(place.files(), ["i2_s.gguf", "sparse.gguf", "t5_3.gguf"]);
    let mut interrupt = Command::new("kill");
    assert!(interrupt.args(["-INT", &tune.id().to_string()]).status().unwrap().success());
    let said: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(tune.wait().unwrap().code(), Some(130));
    assert!(said.last().unwrap().ends_with(": interrupted"), "{said:?}");
    assert!(fs::read_dir(place.home.path().join("converted")).unwrap().next().is_none());
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_no_files() {
    let place = Place::new();
    let said = fails(&mut after("trap '' XFSZ; ulimit -f 20", &place.of(&["tune"])));
    assert!(said.contains("too large"), "{said}");
    assert_eq!(place.files(), Vec::<String>::new());
}

#[test]
fn a_repacked_file_gives_the_same_bits() {
    // GGUF files have no such table.
    let place = Place::of_size(enlarge);
    // Small files are repacked in memory.
    let tokens: Vec<u32> = Fixture::named("bitnet_gguf").prompt("mid").unwrap();
    let home = [("TRILOBITE_HOME", place.home.path().to_str().unwrap())];
    for file in ["model-i2_s.gguf", "model-tq.gguf"] {
        let file = own_folder().join("bitnet_gguf").join(file);
        let expected = logits(&file, &tokens, &[], &home).unwrap();
        assert!(logits(&file, &tokens, &["--repack"], &home).unwrap() == expected);
    }
    assert_eq!(place.files(), Vec::<String>::new());

    // Without the coarse copy of the head, as other programs write it.
    let file = place.checkpoint.path().join("foreign.gguf");
    convert_to("i2_s", place.checkpoint.path(), &file).unwrap();
    let expected = logits(&file, &tokens, &[], &home).unwrap();
    assert!(logits(&file, &tokens, &["--repack", "--no-cache"], &home).unwrap() == expected);
    assert_eq!(place.files(), Vec::<String>::new());
    assert!(logits(&file, &tokens, &["--repack"], &home).unwrap() == expected);
    let repacked = place.files();
    assert_eq!(repacked.len(), 2, "{repacked:?}");
    let again = place.command(&["inspect", "--repack", "--json"], &file).output().unwrap();
    assert_eq!(String::from_utf8(again.stderr).unwrap(), "");
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(again["tensors"].to_string().contains("output_scan"));
    // The recorded layout.
    place.tune(&file);
    place.change("layout", "t5_3");
    assert!(logits(&file, &tokens, &["--repack"], &home).unwrap() == expected);
    assert_eq!(types(&place.json(&["inspect", "--repack", "--json"], &file)), ["T5_3"]);
    assert_eq!(types(&place.json(&["inspect", "--json"], &file)), ["I2_S"]);
    // A file that is already in this layout is opened itself.
    let packed = place.home.path().join("packed.gguf");
    convert_to("auto", place.checkpoint.path(), &packed).unwrap();
    let before = place.files();
    assert!(logits(&packed, &tokens, &["--repack"], &home).unwrap() == expected);
    assert_eq!(place.files(), before);

    let list = stdout(&mut with_home(place.home.path(), &["list"])).unwrap();
    let line = list.lines().find(|line| line.starts_with("foreign.gguf-")).unwrap();
    let (name, _) = line.split_once(' ').unwrap();
    stdout(&mut with_home(place.home.path(), &["rm", name])).unwrap();
    assert_eq!(place.files(), Vec::<String>::new());
}
