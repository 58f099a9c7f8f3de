use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::json;

use super::safetensors::parse;
use crate::testing::*;
use crate::{Checkpoint, Error, Options, Stage, convert_file, ignore_progress};

fn to_file(tiny: &Tiny, folder: &Path) -> Result<(), Error> {
    for (name, bytes) in tiny.all_files() {
        fs::write(folder.join(name), bytes).unwrap();
    }
    let checkpoint = Checkpoint::open(folder)?;
    let out = folder.join("out.gguf");
    convert_file(&checkpoint, &Options::default(), &out, false, &mut ignore_progress).map(|_| ())
}

/// Names of the files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_safetensors_file_cut_anywhere_is_an_error() {
    let tiny = Tiny::bitnet();
    let file = safetensors(&tiny.tensors);
    assert_eq!(parse("f", &file).unwrap().len(), tiny.tensors.len());
    for len in 0..file.len() {
        assert!(parse("f", &file[..len]).is_err(), "cut at {len}");
    }
    let (last, _) = tiny.tensors.last().unwrap();
    let message = parse("f", &file[..file.len() - 1]).unwrap_err().to_string();
    contains(&message, &format!("f is truncated: tensor {last} ends at byte {}", file.len()));
}

#[test]
fn malformed_headers_are_named() {
    let error = |header: &str, data: usize| {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.resize(file.len() + data, 0);
        parse("f", &file).unwrap_err().to_string()
    };
    let entry = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    contains(&error("[]", 0), "f is not a valid safetensors file: ");
    contains(&error(r#"{"t":1}"#, 0), "tensor t has no `dtype`");
    contains(&error(&format!(r#"{{"t":{}}}"#, entry("F4", "[2]", 0, 1)), 1), "type F4");
    contains(&error(&format!(r#"{{"t":{}}}"#, entry("F32", "[2]", 0, 4)), 4), "F32 [2] is 8 bytes");
    contains(&error(&format!(r#"{{"t":{}}}"#, entry("F32", "[1]", 4, 0)), 4), "byte range 4..0");
    let huge = format!("[{0},{0}]", u64::MAX);
    contains(&error(&format!(r#"{{"t":{}}}"#, entry("U8", &huge, 0, 1)), 1), "impossible shape");
    contains(&error(&format!(r#"{{"t":{}}}"#, entry("U8", "[4]", 4, 8)), 8), "starts at offset 4");
    contains(&error(&format!(r#"{{"t":{}}}"#, entry("U8", "[4]", 0, 4)), 8), "4 bytes behind");
    let t = entry("U8", "[4]", 0, 4);
    contains(&error(&format!(r#"{{"t":{t},"t":{t}}}"#), 4), "tensor t occurs twice");
    let u = entry("U8", "[4]", 2, 6);
    contains(&error(&format!(r#"{{"t":{t},"u":{u}}}"#), 6), "tensor u starts at offset 2");
    contains(&parse("f", &u64::MAX.to_le_bytes()).unwrap_err().to_string(), "at most 100000000");
}

#[test]
fn shards_and_their_index_must_agree() {
    const INDEX: &str = "model.safetensors.index.json";
    let tiny = Tiny::bitnet();
    let (first, second) = tiny.tensors.split_at(9);
    let map = |tensors: &[(String, Tensor)], shard: &str| {
        tensors.iter().map(|(name, _)| (name.clone(), json!(shard))).collect::<Vec<_>>()
    };
    let good: serde_json::Map<_, _> =
        map(first, "a.safetensors").into_iter().chain(map(second, "b.safetensors")).collect();
    let run = |map: &serde_json::Map<_, _>, a: &[(String, Tensor)], b: &[(String, Tensor)]| {
        let files = [
            ("config.json", tiny.config.to_string().into_bytes()),
            (INDEX, json!({"weight_map": map}).to_string().into_bytes()),
            ("a.safetensors", safetensors(a)),
            ("b.safetensors", safetensors(b)),
        ];
        let files = files.map(|(name, bytes)| (name.to_owned(), bytes.into())).to_vec();
        run(&Checkpoint::from_files(files).unwrap(), &Options::default())
    };
    let error =
        |map: &serde_json::Map<_, _>, a: &[_], b: &[_]| run(map, a, b).unwrap_err().to_string();
    assert_eq!(run(&good, first, second).unwrap().0, tiny.converted());

    let norm = &first[1].0;
    let with = |shard: &str| {
        let mut map = good.clone();
        map.insert(norm.clone(), json!(shard));
        map
    };
    contains(
        &error(&with("c.safetensors"), first, second),
        "is in c.safetensors, which does not exist",
    );
    contains(&error(&with("../c.safetensors"), first, second), "no plain name");
    contains(
        &error(&with("b.safetensors"), first, second),
        "is listed in b.safetensors, but found in a",
    );
    contains(&error(&good, &first[..8], second), "is not in a.safetensors");
    contains(
        &error(&good, first, &tiny.tensors[8..]),
        "is in both a.safetensors and b.safetensors",
    );
    let mut unlisted = good.clone();
    unlisted.remove(norm);
    contains(&error(&unlisted, first, second), &format!("{norm} is not listed, but found in a"));
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| Checkpoint::open(path).unwrap_err().to_string();
    contains(&error(&folder.path().join("absent")), "cannot read");
    contains(&error(folder.path()), "it has no config.json");
    fs::write(folder.path().join("config.json"), "{").unwrap();
    contains(&error(folder.path()), "it has neither model.safetensors nor");
    for (name, hint) in
        [("b", "the file b.safetensors may hold"), ("a", "tensors of a.safetensors")]
    {
        fs::write(folder.path().join(name).with_extension("safetensors"), "").unwrap();
        contains(&error(folder.path()), hint);
    }
    fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    contains(&error(folder.path()), "are in pytorch_model.bin, which is not read");
    contains(&error(folder.path()), "save them as safetensors");
    contains(&error(&folder.path().join("pytorch_model.bin")), "give the folder");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1180000000\n";
    for name in ["model.safetensors", "tokenizer.json", "m.gguf"] {
        let file = folder.path().join(name);
        fs::write(&file, pointer).unwrap();
        let opened = if name == "m.gguf" { &file } else { folder.path() };
        contains(&error(opened), &format!("{} is a Git LFS pointer", file.display()));
        fs::remove_file(&file).unwrap();
    }
    fs::write(folder.path().join("model.safetensors"), "").unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    contains(&chain(&run(&checkpoint, &Options::default()).unwrap_err()), "config.json: EOF");
}

#[cfg(unix)]
#[test]
fn a_broken_link_is_an_error_and_no_absent_file() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in Tiny::bitnet().all_files() {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    for name in ["model.safetensors", "generation_config.json", "chat_template.jinja"] {
        let link = folder.path().join(name);
        let _ = fs::rename(&link, folder.path().join("kept"));
        std::os::unix::fs::symlink("blobs/absent", &link).unwrap();
        let expected =
            format!("{} is a symbolic link to blobs/absent, which does not exist", link.display());
        for path in [folder.path(), &link] {
            let error = Checkpoint::open(path).unwrap_err().to_string();
            assert_eq!(error, expected);
        }
        fs::remove_file(&link).unwrap();
        let _ = fs::rename(folder.path().join("kept"), &link);
    }
    assert!(Checkpoint::open(folder.path()).is_ok());
}

#[test]
fn the_output_is_complete_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path(), folder.path().join("out.gguf"));
    let sources = ["config.json", "model.safetensors"];

    let mut bad = Tiny::bitnet();
    bad.get("model.norm.weight").2.fill(0xff);
    contains(&to_file(&bad, path).unwrap_err().to_string(), "model.norm.weight holds NaN");
    assert_eq!(names(path), sources);

    let tiny = Tiny::bitnet();
    to_file(&tiny, path).unwrap();
    assert_eq!(names(path), ["config.json", "model.safetensors", "out.gguf"]);
    let mut expected = tiny.checkpoint();
    expected.name = path.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(fs::read(&out).unwrap() == run(&expected, &Options::default()).unwrap().0);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let ordinary = fs::metadata(path.join("config.json")).unwrap().permissions().mode();
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode(), ordinary);
    }

    // An existing file is kept, even if the conversion fails.
    fs::write(&out, "precious").unwrap();
    contains(&to_file(&tiny, path).unwrap_err().to_string(), "out.gguf exists");
    let write = |tiny: &Tiny, out: &Path| {
        let options = Options::default();
        convert_file(&tiny.checkpoint(), &options, out, true, &mut ignore_progress)
    };
    assert!(write(&bad, &out).is_err());
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    let report = write(&tiny, &out).unwrap();
    assert_eq!(report.file_bytes, fs::metadata(&out).unwrap().len());

    for (out, why) in
        [(path.to_owned(), "it is a folder or a device"), (path.join("no/x"), "does not exist")]
    {
        contains(&write(&tiny, &out).unwrap_err().to_string(), why);
    }
    let source = path.join("model.safetensors");
    let opened = Checkpoint::open(path).unwrap();
    let error = convert_file(&opened, &Options::default(), &source, true, &mut ignore_progress);
    contains(&error.unwrap_err().to_string(), "it is the source");
}

#[test]
fn an_interrupted_conversion_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    for stage in [Stage::Write, Stage::Verify] {
        let checkpoint = Tiny::bitnet().checkpoint();
        let error = convert_file(&checkpoint, &Options::default(), &out, false, &mut |progress| {
            if progress.stage == stage { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(error, Err(Error::Interrupted)), "{stage:?}");
        assert!(names(folder.path()).is_empty(), "{stage:?}");
    }
}

#[test]
fn a_writer_that_fails_is_reported() {
    struct Full;

    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let checkpoint = Tiny::bitnet().checkpoint();
    let error =
        crate::convert(&checkpoint, &Options::default(), Full, &mut ignore_progress).unwrap_err();
    contains(&error.to_string(), "cannot write the output");
}

#[test]
fn a_file_with_any_byte_changed_never_panics() {
    let mut tiny = Tiny::llama();
    tiny.file("tokenizer_config.json", json!({"chat_template": "x", "bos_token": "<s>"}));
    tiny.file(
        "tokenizer.json",
        json!({"model": {"type": "BPE", "merges": [["a", "b"]],
        "vocab": {"a": 0, "b": 1, "ab": 2}}, "added_tokens": [{"id": 3, "content": "<s>"}]}),
    );
    let files = tiny.all_files();
    for changed in 0..files.len() {
        // Of the weights change only the header, whose length is in its first eight bytes.
        let len = files[changed].1.len().min(8 + 2048);
        for at in 0..len {
            for byte in [b'0', b'"', b']', 0xff] {
                let mut files = files.clone();
                files[changed].1.to_mut()[at] = byte;
                let _ = Checkpoint::from_files(files).and_then(|c| run(&c, &Options::default()));
            }
        }
    }
}
