//! Tests of sources that cannot be converted: exit status 1, one line that names the cause, and no
//! output file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use trilobite_format::{Metadata, Writer};

use crate::fixture::Fixture;
use crate::trilobite::{command, convert, stdout};

/// A copy of a checkpoint that a test may damage, and an empty folder to convert it into.
struct Damaged {
    source: TempDir,
    target: TempDir,
}

impl Damaged {
    fn copy_of(name: &str) -> Damaged {
        let source = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(Fixture::named(name).folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && path.extension().is_some_and(|e| e != "gguf") {
                fs::copy(&path, source.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        Damaged { source, target: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.source.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.target.path().join("out.gguf")
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.file(name)).unwrap();
        change(&mut bytes);
        fs::write(self.file(name), bytes).unwrap();
    }

    fn edit_json(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.edit(name, |bytes| {
            let mut value = serde_json::from_slice(bytes).unwrap();
            change(&mut value);
            *bytes = serde_json::to_vec(&value).unwrap();
        });
    }

    /// Changes the header of the weights.
    fn edit_header(&self, change: impl FnOnce(&mut Value)) {
        self.edit("model.safetensors", |file| {
            let (length, rest) = file.split_first_chunk::<8>().unwrap();
            let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
            let mut header: Value = serde_json::from_slice(header).unwrap();
            change(&mut header);
            let header = serde_json::to_vec(&header).unwrap();
            let length = (header.len() as u64).to_le_bytes();
            *file = [&length[..], &header, data].concat();
        });
    }

    /// Overwrites the first bytes of a tensor.
    fn edit_tensor(&self, tensor: &str, data: &[u8]) {
        self.edit("model.safetensors", |file| {
            let (length, rest) = file.split_first_chunk::<8>().unwrap();
            let length = u64::from_le_bytes(*length) as usize;
            let header: Value = serde_json::from_slice(&rest[..length]).unwrap();
            let offset = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
            file[8 + length + offset..][..data.len()].copy_from_slice(data);
        });
    }

    /// Asserts that converting fails with a line that contains all of `named`.
    #[track_caller]
    fn is_refused(&self, named: &[&str]) {
        let output = conversion(self.source.path(), &self.out()).output().unwrap();
        failed(&output, named);
        assert_eq!(files_in(self.target.path()), Vec::<PathBuf>::new());
    }
}

fn conversion(source: &Path, out: &Path) -> Command {
    let mut command = command(["convert"]);
    command.arg(source).arg("-o").arg(out);
    command
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Asserts exit status 1 and one line on standard error.
#[track_caller]
pub(crate) fn failed(output: &Output, named: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
    for name in named {
        assert!(said.contains(name), "{name} is not in: {said}");
    }
}

#[test]
fn truncated_shard() {
    let damaged = Damaged::copy_of("llama_bitnet");
    damaged.edit("model-00002-of-00002.safetensors", |file| file.truncate(file.len() - 100));
    damaged.is_refused(&["model-00002-of-00002.safetensors"]);
}

#[test]
fn shard_that_is_absent() {
    let damaged = Damaged::copy_of("llama_bitnet");
    damaged.edit_json("model.safetensors.index.json", |index| {
        index["weight_map"]["model.norm.weight"] = json!("model-00003-of-00002.safetensors");
    });
    damaged.is_refused(&["model-00003-of-00002.safetensors"]);
}

#[test]
fn unknown_activation() {
    let damaged = Damaged::copy_of("bitnet_offline");
    damaged.edit_json("config.json", |config| config["hidden_act"] = json!("gelu"));
    damaged.is_refused(&["hidden_act", "gelu"]);
}

#[test]
fn activation_of_another_family() {
    let damaged = Damaged::copy_of("llama_bitnet");
    damaged.edit_json("config.json", |config| config["hidden_act"] = json!("relu2"));
    damaged.is_refused(&["hidden_act", "relu2"]);
}

#[test]
fn unknown_architecture() {
    let damaged = Damaged::copy_of("bitnet_offline");
    damaged
        .edit_json("config.json", |config| config["architectures"] = json!(["MambaForCausalLM"]));
    damaged.is_refused(&["MambaForCausalLM"]);
}

#[test]
fn renamed_tensor() {
    let damaged = Damaged::copy_of("bitnet_offline");
    damaged.edit("model.safetensors", |file| {
        let name = b"model.layers.1.mlp.ffn_sub_norm.weight";
        let at = file.windows(name.len()).position(|window| window == name).unwrap();
        file[at + "model.layers.1.mlp.".len()] = b'x';
    });
    damaged.is_refused(&["_sub_norm.weight"]);
}

#[test]
fn misshapen_tensor() {
    let damaged = Damaged::copy_of("bitnet_offline");
    damaged.edit_json("config.json", |config| config["intermediate_size"] = json!(192));
    damaged.is_refused(&["model.layers.0.mlp.", "40", "48"]);
}

#[test]
fn scale_that_is_not_a_number() {
    let damaged = Damaged::copy_of("bitnet_offline");
    let scale = "model.layers.0.mlp.up_proj.weight_scale";
    damaged.edit_tensor(scale, &0x7FC0u16.to_le_bytes());
    damaged.is_refused(&[scale]);
}

#[test]
fn scale_of_zero_and_scale_of_another_type() {
    let scale = "model.layers.0.mlp.up_proj.weight_scale";
    let damaged = Damaged::copy_of("bitnet_offline");
    damaged.edit_tensor(scale, &[0, 0]);
    damaged.is_refused(&[scale, "is 0, expected"]);
    let damaged = Damaged::copy_of("bitnet_offline");
    damaged.edit_header(|header| header[scale]["dtype"] = json!("I16"));
    damaged.is_refused(&[scale, "I16", "BF16, F16 or F32"]);
}

#[test]
fn names_with_a_prefix() {
    let damaged = Damaged::copy_of("bitnet_offline");
    damaged.edit_header(|header| {
        let tensors = std::mem::take(header.as_object_mut().unwrap());
        let prefixed = tensors.into_iter().map(|(name, tensor)| match name.as_str() {
            "__metadata__" => (name, tensor),
            _ => (format!("base_model.model.{name}"), tensor),
        });
        *header = Value::Object(prefixed.collect());
    });
    damaged.is_refused(&["the names of tensors begin with \"base_model.model.\""]);
}

/// Every error of a tokenizer names the model.
#[test]
fn tokenizer_that_cannot_be_used() {
    let damaged = Damaged::copy_of("bitnet_offline");
    fs::remove_file(damaged.file("tokenizer.json")).unwrap();
    let model = damaged.source.path().to_str().unwrap();
    for args in [&["-p", "x"][..], &["--chat", "-p", "x"], &["--no-chat", "-p", "x"], &[]] {
        let output = command(["run", "--no-cache", "--quiet"]).args(args).arg(model).output();
        failed(&output.unwrap(), &[&format!("error: {model}: ")]);
    }
}

#[test]
fn scale_that_is_infinite() {
    let damaged = Damaged::copy_of("bitnet_offline");
    let scale = "model.layers.0.mlp.up_proj.weight_scale";
    damaged.edit_tensor(scale, &0x7F80u16.to_le_bytes());
    damaged.is_refused(&[scale]);
}

#[test]
fn codes_that_are_not_ternary() {
    let damaged = Damaged::copy_of("bitnet_offline");
    let weight = "model.layers.1.self_attn.v_proj.weight";
    damaged.edit_tensor(weight, &[0xFF]);
    damaged.is_refused(&[weight]);
}

#[test]
fn source_that_is_absent() {
    let damaged = Damaged::copy_of("bitnet_offline");
    let output = conversion(&damaged.file("absent"), &damaged.out()).output().unwrap();
    failed(&output, &["absent"]);
}

#[test]
fn existing_file_without_force() {
    let whole = Damaged::copy_of("bitnet_offline");
    fs::write(whole.out(), "mine").unwrap();
    let output = conversion(whole.source.path(), &whole.out()).output().unwrap();
    failed(&output, &["out.gguf", "--force"]);
    assert_eq!(fs::read(whole.out()).unwrap(), b"mine");
    assert_eq!(files_in(whole.target.path()), [whole.out()]);

    let output = conversion(whole.source.path(), &whole.out()).arg("--force").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_ne!(fs::read(whole.out()).unwrap(), b"mine");
    assert_eq!(files_in(whole.target.path()), [whole.out()]);
}

#[test]
fn failure_with_force_keeps_the_existing_file() {
    let damaged = Damaged::copy_of("bitnet_offline");
    damaged.edit("model.safetensors", |file| file.truncate(file.len() - 1));
    fs::write(damaged.out(), "mine").unwrap();
    let mut command = conversion(damaged.source.path(), &damaged.out());
    failed(&command.arg("--force").output().unwrap(), &["model.safetensors"]);
    assert_eq!(fs::read(damaged.out()).unwrap(), b"mine");
    assert_eq!(files_in(damaged.target.path()), [damaged.out()]);
}

#[test]
fn target_folder_that_is_absent() {
    let whole = Damaged::copy_of("bitnet_offline");
    let out = whole.target.path().join("absent/out.gguf");
    failed(&conversion(whole.source.path(), &out).output().unwrap(), &["absent"]);
    assert_eq!(files_in(whole.target.path()), Vec::<PathBuf>::new());
}

/// Root may write into any folder, but no user may create a file in /proc.
#[cfg(target_os = "linux")]
#[test]
fn target_folder_that_cannot_be_written() {
    let whole = Damaged::copy_of("bitnet_offline");
    let out = Path::new("/proc/out.gguf");
    let output = conversion(whole.source.path(), out).output().unwrap();
    failed(&output, &["error: cannot write /proc/out.gguf: "]);
    let cache = ["run", "--tokens", "1", "--temp", "0", "--prompt-cache", "/proc/cache"];
    let cached = command(cache).arg(whole.source.path()).output().unwrap();
    failed(&cached, &["/proc/cache: "]);
    for output in [output, cached] {
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.matches("/proc").count(), 1, "a hidden file is named: {said}");
    }
}

/// A limit on the file size makes a write fail in the middle, like a full disk.
#[cfg(unix)]
#[test]
fn full_disk() {
    let whole = Damaged::copy_of("bitnet_offline");
    let inner = conversion(whole.source.path(), &whole.out());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 100; exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args());
    failed(&command.output().unwrap(), &[]);
    assert_eq!(files_in(whole.target.path()), Vec::<PathBuf>::new());
}

#[test]
fn truncated_gguf_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.gguf");
    convert(&Fixture::named("bitnet_offline").folder, &model).unwrap();
    let mut bytes = fs::read(&model).unwrap();
    bytes.truncate(bytes.len() - 64);
    fs::write(&model, bytes).unwrap();
    let mut command = command(["run", "--tokens", "1", "-n", "1", "--temp", "0"]);
    failed(&command.arg(&model).output().unwrap(), &["model.gguf"]);
}

#[test]
fn token_outside_the_vocabulary() {
    let model = Fixture::named("bitnet_offline").folder;
    let mut command = command(["run", "--tokens", "1,999", "-n", "1", "--temp", "0"]);
    failed(&command.arg(&model).output().unwrap(), &["999", "304"]);
}

/// Also before anything is said or written, such as the random seed.
#[test]
fn tokens_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (Fixture::named("bitnet_offline").folder, folder.path().join("x.npy"));
    let run = |args: &[&str]| {
        let mut run = command(["run", "-n", "1", "--temp", "1", "--echo", "--no-chat"]);
        let output = run.args(args).arg(&model).output().unwrap();
        assert!(output.stdout.is_empty(), "{output:?}");
        output
    };
    let unknown = "error: --tokens: token id 999 is outside the vocabulary of 304";
    failed(&run(&["--ids", "--tokens", "1,999"]), &[unknown]);
    let long = "--tokens: 3 tokens do not fit in the context of 2";
    failed(&run(&["--ids", "--tokens", "1,2,3", "--ctx", "2"]), &[long]);
    failed(&run(&["-p", "one two three four", "--ctx", "2"]), &["fit in the context of 2"]);
    let mut logits = command(["logits", "--tokens", "1,999", "-o"]);
    failed(&logits.arg(&out).arg(&model).output().unwrap(), &[unknown]);
    assert_eq!(files_in(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn the_damaged_part_of_a_split_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let part = |number| folder.path().join(format!("m-0000{number}-of-00002.gguf"));
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    metadata.insert("split.no", 0u16);
    metadata.insert("split.count", 2u16);
    let first = Writer::new(Vec::new(), &metadata, Vec::new()).unwrap().finish().unwrap();
    fs::write(part(1), first).unwrap();
    for bytes in [&b"x"[..], b"GGUF"] {
        fs::write(part(2), bytes).unwrap();
        for name in ["run", "inspect"] {
            let output = command([name]).arg(part(1)).output().unwrap();
            failed(&output, &["m-00002-of-00002.gguf: "]);
        }
    }
}

/// Scales so large that the sums overflow.
#[test]
fn logits_that_are_no_numbers_are_neither_written_nor_measured() {
    let damaged = Damaged::copy_of("bitnet_offline");
    damaged.edit_tensor("model.layers.0.mlp.down_proj.weight_scale", &0x7E96u16.to_le_bytes());
    for args in [
        &["logits", "--tokens", "1,2", "-o"][..],
        &["bench", "-p", "4", "-n", "0", "-r", "1", "-t", "1"],
        &["bench", "-p", "0", "-n", "2", "-r", "1", "-t", "1"],
        &["bench", "-p", "0", "-n", "2", "-r", "1", "-t", "1", "--batch", "2"],
    ] {
        let mut command = command(args.iter().copied());
        if args[0] == "logits" {
            command.arg(damaged.out());
        }
        let output = command.args(["--quiet", "--no-cache"]).arg(damaged.source.path()).output();
        failed(&output.unwrap(), &["the weights cannot be sound"]);
        assert_eq!(files_in(damaged.target.path()), Vec::<PathBuf>::new());
    }
}

#[test]
fn an_empty_instruction_set_is_none() {
    let model = Fixture::named("bitnet_offline").folder;
    let inspect = |value: Option<&str>| {
        let mut command = command(["inspect"]);
        stdout(command.arg(&model).envs(value.map(|value| ("TRILOBITE_ISA", value)))).unwrap()
    };
    assert_eq!(inspect(Some("")), inspect(None));
}

#[test]
fn unknown_instruction_set() {
    let model = Fixture::named("bitnet_offline").folder;
    for name in ["bench", "inspect", "run"] {
        let output = command([name]).arg(&model).env("TRILOBITE_ISA", "avx512").output().unwrap();
        failed(&output, &["scalar"]);
        // It is no error of the file.
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("error: TRILOBITE_ISA is \"avx512\", but this machine"), "{said}");
    }
}

/// A converted checkpoint with an additional key, or another type of a key.
fn with_key(folder: &Path, key: &str, value: &str) -> PathBuf {
    let path = folder.join("made.gguf");
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    metadata.insert(key, value);
    let file = Writer::new(Vec::new(), &metadata, Vec::new()).unwrap().finish().unwrap();
    fs::write(&path, file).unwrap();
    path
}

#[test]
fn an_error_does_not_quote_all_of_a_long_name() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        (format!("llama.rope.{}", "k".repeat(60_000)), "x".to_owned()),
        ("general.architecture".to_owned(), "\u{202e}a".repeat(2_000_000)),
        ("llama.block_count".to_owned(), "y".repeat(3_000_000)),
    ];
    for (key, value) in &names {
        let file = with_key(folder.path(), key, value);
        let run = command(["run", "-p", "a"]).arg(&file).output().unwrap();
        let convert = conversion(&file, &folder.path().join("out.gguf")).output().unwrap();
        for output in [run, convert] {
            failed(&output, &["made.gguf"]);
            assert!(output.stderr.len() < 5_000, "{} bytes", output.stderr.len());
        }
    }
    // The same for names in JSON files and for names of tensors.
    let damaged = Damaged::copy_of("qwen2");
    let long = "model.".repeat(50_000);
    damaged.edit_json("config.json", |config| config["hidden_act"] = json!(long));
    let output = conversion(damaged.source.path(), &damaged.out()).output().unwrap();
    failed(&output, &["hidden_act"]);
    assert!(output.stderr.len() < 5_000);
    let damaged = Damaged::copy_of("bitnet_offline");
    damaged.edit("model.safetensors", |file| {
        let header =
            format!("{{\"{long}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}}}");
        *file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    });
    let output = conversion(damaged.source.path(), &damaged.out()).output().unwrap();
    failed(&output, &["model.safetensors"]);
    assert!(output.stderr.len() < 5_000);
}

#[test]
fn an_error_names_the_model_once() {
    let damaged = Damaged::copy_of("bitnet_offline");
    let folder = damaged.source.path().to_str().unwrap().to_owned();
    let said = || {
        let run = command(["run", "-p", "a", &folder]).output().unwrap();
        let tokenize = command(["tokenize", "-p", "a", &folder]).output().unwrap();
        let convert = conversion(damaged.source.path(), &damaged.out()).output().unwrap();
        [run, convert, tokenize].map(|output| String::from_utf8(output.stderr).unwrap())
    };
    damaged.edit("tokenizer_config.json", |file| file.truncate(3));
    for text in said() {
        assert_eq!(text.matches(&folder).count(), 1, "{text}");
    }
    damaged.edit_json("config.json", |config| config["hidden_size"] = json!(0));
    let [run, convert, _] = said();
    fs::remove_file(damaged.file("model.safetensors")).unwrap();
    let [without_weights, _, _] = said();
    for text in [run, convert, without_weights] {
        assert_eq!(text.matches(&folder).count(), 1, "{text}");
    }
    // An error about the output does not name the source.
    let whole = Fixture::named("bitnet_offline").folder;
    let output = conversion(&whole, Path::new("none/out.gguf")).output().unwrap();
    failed(&output, &["error: cannot write to none/out.gguf"]);
}

#[test]
fn one_file_of_a_checkpoint_is_no_model() {
    let folder = Fixture::named("sentencepiece/llama").folder;
    let damaged = Damaged::copy_of("qwen2");
    for file in [folder.join("tokenizer.model"), damaged.file("config.json")] {
        let hint = format!("give the folder, {}", file.parent().unwrap().display());
        for args in [&["run", "-p", "a"][..], &["inspect"], &["serve", "--port", "0"]] {
            failed(&command(args).arg(&file).output().unwrap(), &[&hint]);
        }
        failed(&conversion(&file, &damaged.out()).output().unwrap(), &["give the folder"]);
    }
    let file = folder.join("tokenizer.model");
    let output = command(["tokenize", "-p", "a"]).arg(&file).output().unwrap();
    failed(&output, &["give the folder, "]);
}

/// Also for a checkpoint that states the id of a token, but not its text.
#[test]
fn converting_again_changes_nothing() {
    let damaged = Damaged::copy_of("qwen2");
    damaged.edit_json("tokenizer_config.json", |config| config["bos_token"] = json!(null));
    let again = damaged.target.path().join("again.gguf");
    for args in [&[][..], &["--type", "q8_0"]] {
        for (source, out) in
            [(damaged.source.path(), damaged.out()), (&damaged.out(), again.clone())]
        {
            let mut command = conversion(source, &out);
            command.arg("--force").args(if source.is_dir() { args } else { &[] });
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        assert!(fs::read(damaged.out()).unwrap() == fs::read(&again).unwrap(), "{args:?}");
    }
}

#[test]
fn errors_say_what_to_give_instead() {
    let damaged = Damaged::copy_of("bitnet_offline");
    let (folder, model) = (damaged.target.path(), damaged.out());
    convert(damaged.source.path(), &model).unwrap();
    let run = command(["run", "-p", "a"]).arg(folder).output().unwrap();
    failed(&run, &["it has no config.json; the file out.gguf in it may be a model"]);
    failed(&conversion(&model, &model).output().unwrap(), &["it is the source; -o names another"]);
    let empty = folder.join("empty.gguf");
    fs::write(&empty, "").unwrap();
    let run = command(["run", "-p", "a"]).arg(&empty).output().unwrap();
    failed(&run, &["empty.gguf: not a GGUF file: it is empty"]);
    for args in [&["show", "none"][..], &["rm", "none"], &["run", "-p", "a", "--draft", "none"]] {
        let output = command(args).env("TRILOBITE_HOME", folder).output().unwrap();
        failed(&output, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.matches("none").count(), 1, "{said}");
    }
}

#[test]
fn a_result_never_replaces_the_model() {
    let copy = Damaged::copy_of("bitnet_offline");
    let (model, lines) = (copy.out(), copy.target.path().join("lines.jsonl"));
    convert(copy.source.path(), &model).unwrap();
    fs::write(&lines, json!({"context_ids": [1], "continuation_ids": [2]}).to_string()).unwrap();
    let score = ["score", "-i", lines.to_str().unwrap(), "-o"];
    let weights = copy.file("model.safetensors");
    for (source, target) in [(model.as_path(), &model), (copy.source.path(), &weights)] {
        let before = fs::read(target).unwrap();
        for args in [
            &["logits", "--tokens", "1", "-o"][..],
            &score,
            &["embed", "--pooling", "last", "-p", "a", "--npy"],
        ] {
            let output = command(args).arg(target).arg(source).output().unwrap();
            failed(&output, &["cannot write to", "it is a file of the model"]);
            assert!(fs::read(target).unwrap() == before);
        }
    }
}
