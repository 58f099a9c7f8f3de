//! Sources that cannot be converted: exit status 1, one line that names the culprit, nothing written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::Fixture;
use crate::trilobite::{command, convert};

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

    /// Converting fails properly, with a line that has all of `named` in it.
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

/// Exit status 1 and one line on standard error.
#[track_caller]
fn failed(output: &Output, named: &[&str]) {
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

/// The superuser may write into any folder, but nobody may make a file in /proc.
#[cfg(target_os = "linux")]
#[test]
fn target_folder_that_cannot_be_written() {
    let whole = Damaged::copy_of("bitnet_offline");
    let out = Path::new("/proc/out.gguf");
    failed(&conversion(whole.source.path(), out).output().unwrap(), &["/proc"]);
}

/// A limit on the size of files fails a write in the middle, as a full disk does.
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

#[test]
fn unknown_instruction_set() {
    let model = Fixture::named("bitnet_offline").folder;
    let mut command = command(["run", "--tokens", "1", "-n", "1", "--temp", "0"]);
    command.env("TRILOBITE_ISA", "mmx");
    failed(&command.arg(&model).output().unwrap(), &["TRILOBITE_ISA", "mmx"]);
}

#[test]
fn wrong_usage_has_its_own_exit_status() {
    for args in [
        &["frobnicate"][..],
        &["convert"],
        &["run", "--temp", "warm"],
        &["logits", "--tokens", "1,x", "-o", "x.npy"],
        &["tokenize", "-p", "a", "--decode", "1"],
    ] {
        let output = command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
