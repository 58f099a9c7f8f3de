//! Tests of dense models: number types, files, split files, and invalid options.

use std::fs;
use std::path::{Path, PathBuf};

use trilobite_convert::{HeadScan, Layout};
use trilobite_format::{Gguf, Metadata, TensorInfo, Value, Writer};

use crate::fixture::Fixture;
use crate::npy::Array;
use crate::trilobite;

/// The fixtures that are dense.
const DENSE: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma3"];

fn logits(model: &Path, fixture: &Fixture) -> Array {
    let tokens = fixture.prompt("mid").unwrap();
    Array::parse(&trilobite::logits(model, &tokens, &[], &[]).unwrap()).unwrap()
}

/// The RMS difference of two arrays, divided by the standard deviation of the second.
fn distance(found: &Array, reference: &Array) -> f64 {
    let squares = found.values.iter().zip(&reference.values);
    let sum: f64 = squares.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    (sum / found.values.len() as f64).sqrt() / reference.std()
}

fn convert(source: &Path, out: &Path, args: &[&str]) -> String {
    let mut command = trilobite::command(["convert", "--force"]);
    trilobite::stdout(command.args(args).arg(source).arg("-o").arg(out)).unwrap()
}

#[test]
fn types_round_by_as_much_as_they_have_bits() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    for name in DENSE {
        let fixture = Fixture::named(name);
        let source = logits(&fixture.folder, &fixture);
        for (ty, least, most) in
            [("f16", 0.0, 2e-3), ("bf16", 0.0, 2e-2), ("q8_0", 1e-4, 5e-2), ("q4_0", 1e-2, 0.6)]
        {
            convert(&fixture.folder, &out, &["--type", ty]);
            let found = distance(&logits(&out, &fixture), &source);
            assert!((least..=most).contains(&found), "{name} as {ty}: {found}");
            // A GGUF file and its checkpoint folder convert to the same bytes.
            let plain = folder.path().join("plain.gguf");
            let again = folder.path().join("again.gguf");
            convert(&fixture.folder, &plain, &[]);
            convert(&plain, &again, &["--type", ty]);
            assert_eq!(logits(&again, &fixture).values, logits(&out, &fixture).values);
        }
    }
}

/// Writes a file as a split model. Each part has every `parts`-th tensor.
fn split(source: &Path, folder: &Path, parts: usize) -> Vec<PathBuf> {
    let bytes = fs::read(source).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let path = |part: usize| folder.join(format!("model-{:05}-of-{parts:05}.gguf", part + 1));
    (0..parts)
        .map(|part| {
            let mut metadata = Metadata::new();
            if part == 0 {
                metadata = gguf.metadata().clone();
                metadata.insert("split.tensors.count", gguf.tensors().len() as i32);
            }
            metadata.insert("split.no", part as u16);
            metadata.insert("split.count", parts as u16);
            let tensors: Vec<&TensorInfo> =
                gguf.tensors().iter().skip(part).step_by(parts).collect();
            let index = tensors.iter().map(|t| (t.name.clone(), t.ty, t.shape.clone())).collect();
            let mut writer = Writer::new(Vec::new(), &metadata, index).unwrap();
            for tensor in tensors {
                writer.tensor(&tensor.name, tensor.bytes(&bytes)).unwrap();
            }
            fs::write(path(part), writer.finish().unwrap()).unwrap();
            path(part)
        })
        .collect()
}

#[test]
fn a_model_in_parts_is_opened_by_any_of_them() {
    for name in ["gemma3", "bitnet_gguf"] {
        let fixture = Fixture::named(name);
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole.gguf");
        convert(&fixture.folder, &whole, &[]);
        let expected = logits(&whole, &fixture).values;
        let parts = split(&whole, folder.path(), 3);
        for part in &parts {
            assert_eq!(logits(part, &fixture).values, expected);
        }
        let ids = |model: &Path| {
            trilobite::stdout(trilobite::command(["tokenize", "-p", "The river"]).arg(model))
                .unwrap()
        };
        assert_eq!(ids(&parts[2]), ids(&whole));
        let joined = folder.path().join("joined.gguf");
        convert(&parts[1], &joined, &[]);
        assert_eq!(logits(&joined, &fixture).values, expected);

        fs::remove_file(&parts[1]).unwrap();
        for args in [&["logits", "--tokens=1", "-o", "x.npy"][..], &["convert"]] {
            let output = trilobite::command(args).arg(&parts[0]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
            assert!(said.contains("model-00002-of-00003.gguf"), "{said}");
        }
    }
}

/// Writes a file with changed metadata and without some tensors.
pub(crate) fn rewrite(
    source: &Path,
    out: &Path,
    change: impl FnOnce(&mut Metadata),
    keep: impl Fn(&str) -> bool,
) {
    let bytes = fs::read(source).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let mut metadata = gguf.metadata().clone();
    change(&mut metadata);
    let tensors: Vec<&TensorInfo> = gguf.tensors().iter().filter(|t| keep(&t.name)).collect();
    let index = tensors.iter().map(|t| (t.name.clone(), t.ty, t.shape.clone())).collect();
    let mut writer = Writer::new(Vec::new(), &metadata, index).unwrap();
    for tensor in tensors {
        writer.tensor(&tensor.name, tensor.bytes(&bytes)).unwrap();
    }
    fs::write(out, writer.finish().unwrap()).unwrap();
}

#[test]
fn files_that_contradict_themselves_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("file.gguf"), folder.path().join("out.gguf"));
    let refused = |named: &str| {
        let npy = folder.path().join("x.npy");
        for args in [&["logits", "--tokens=1", "-o"][..], &["convert", "--force", "-o"]] {
            let output = trilobite::command(args).arg(&npy).arg(&out).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
            assert!(said.contains("out.gguf") && said.contains(named), "{named} is not in: {said}");
            assert!(!npy.exists());
        }
    };
    convert(&Fixture::named("gemma3").folder, &file, &[]);
    let cases: [(&str, Value, &str); 7] = [
        ("general.architecture", "phi3".into(), "phi3"),
        ("general.architecture", "llama".into(), "llama.block_count"),
        ("gemma3.embedding_length", 50u32.into(), "token_embd.weight has shape [320, 48]"),
        ("gemma3.block_count", 4u32.into(), "each of 4 layers"),
        ("gemma3.attention.sliding_window_pattern", vec![true].into(), "each of 3 layers"),
        ("gemma3.rope.scaling.type", "ntk".into(), "ntk"),
        ("gemma3.final_logit_softcapping", (-1f32).into(), "final_logit_softcapping"),
    ];
    for (key, value, named) in cases {
        let change = |metadata: &mut Metadata| {
            // With this pattern, an excessive number of layers is an error about the pattern.
            let pattern = vec![true, true, false];
            metadata.insert("gemma3.attention.sliding_window_pattern", pattern);
            metadata.insert(key, value);
        };
        rewrite(&file, &out, change, |_| true);
        refused(named);
    }
    for lacking in ["blk.1.attn_q_norm.weight", "blk.2.post_ffw_norm.weight"] {
        rewrite(&file, &out, |_| {}, |name| name != lacking);
        refused(&format!("tensor {lacking} is missing"));
    }
    convert(&Fixture::named("qwen2").folder, &file, &[]);
    rewrite(&file, &out, |_| {}, |name| name != "blk.1.attn_k.bias");
    refused("tensor blk.1.attn_k.bias is missing");
    convert(&Fixture::named("llama_bitnet_norms").folder, &file, &[]);
    for lacking in ["blk.0.attn_q_norm_in.weight", "blk.1.ffn_down_norm_in.weight"] {
        rewrite(&file, &out, |_| {}, |name| name != lacking);
        refused(&format!("tensor {lacking} is missing"));
    }
}

#[test]
fn special_ids_that_are_no_tokens_are_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("file.gguf"), folder.path().join("out.gguf"));
    convert(&Fixture::named("qwen2").folder, &file, &[]);
    let change = |metadata: &mut Metadata| {
        metadata.insert("tokenizer.ggml.bos_token_id", u32::MAX);
        metadata.insert("tokenizer.ggml.padding_token_id", -1i32);
    };
    rewrite(&file, &out, change, |_| true);
    let run = ["run", "-p", "The river", "-n", "2", "--temp=0"];
    let output = trilobite::command(run).arg(&out).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for told in ["bos_token_id is 4294967295, which is no token", "padding_token_id is -1"] {
        assert_eq!(said.matches(told).count(), 1, "{said}");
    }
}

#[test]
fn what_a_tokenizer_assumes_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("file.gguf"), folder.path().join("out.gguf"));
    convert(&Fixture::named("llama").folder, &file, &[]);
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../trilobite-eval/tests/data");
    let results = folder.path().join("results");
    let text = folder.path().join("text");
    fs::write(&text, "The river was wide.").unwrap();
    for (name, fault) in [(None, "is missing"), (Some("novel"), "is \"novel\", which is not known")]
    {
        let change = |metadata: &mut Metadata| {
            metadata.remove("tokenizer.huggingface.json");
            metadata.remove("tokenizer.ggml.pre");
            if let Some(name) = name {
                metadata.insert("tokenizer.ggml.pre", name);
            }
        };
        rewrite(&file, &out, change, |_| true);
        let mut eval = trilobite::command(["eval", "--any-data", "--tasks=arc_easy", "--limit=1"]);
        eval.args(["--data", data, "-o"]).arg(&results);
        let mut perplexity = trilobite::command(["perplexity", "--file"]);
        perplexity.arg(&text);
        let tokenize = trilobite::command(["tokenize", "-p", "The"]);
        let run = trilobite::command(["run", "-p", "The", "-n", "1"]);
        for mut command in [tokenize, run, perplexity, eval] {
            let output = command.arg(&out).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}: {said}");
            let told = format!("tokenizer.ggml.pre {fault}: assuming");
            assert_eq!(said.matches(&told).count(), 1, "{command:?}: {said}");
            let output = command.arg("--quiet").output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command:?}");
        }
        fs::remove_dir_all(&results).unwrap();
    }
}

#[test]
fn dense_models_stay_dense_unless_told_otherwise() {
    let fixture = Fixture::named("llama");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let fails = |args: &[&str], source: &Fixture, named: &str| {
        let mut command = trilobite::command(["convert"]);
        let output = command.args(args).arg(&source.folder).arg("-o").arg(&out).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains(named) && !out.exists(), "{said}");
    };
    fails(&["--layout", "t5_3"], &fixture, "--layout t5_3 is for ternary models");
    fails(
        &["--type", "q8_0"],
        &Fixture::named("bitnet_offline"),
        "--type q8_0 is for dense models",
    );
    let help = trilobite::stdout(&mut trilobite::command(["convert", "--help"])).unwrap();
    assert!(help.contains("destroys"), "{help}");
    for layout in Layout::ALL {
        assert!(help.contains(&format!("- {layout}")), "{layout}: {help}");
    }
    let scan = HeadScan::Always;
    assert!(help.contains(&format!("- {scan}: ")) && help.contains(scan.summary()), "{help}");

    convert(&fixture.folder, &out, &[]);
    let mut again = trilobite::command(["convert", "-o"]);
    again.arg(&out).arg(&fixture.folder);
    let said = String::from_utf8(again.output().unwrap().stderr).unwrap();
    assert!(said.ends_with("out.gguf exists; --force overwrites it\n"), "{said}");
    let bytes = fs::read(&out).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    assert!(gguf.tensors().iter().all(|tensor| !tensor.ty.is_ternary()));
    convert(&fixture.folder, &out, &["--quantize", "absmean"]);
    let bytes = fs::read(&out).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    assert_eq!(gguf.tensors().iter().filter(|tensor| tensor.ty.is_ternary()).count(), 14);
}
