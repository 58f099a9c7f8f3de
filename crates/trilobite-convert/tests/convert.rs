//! Converts the checkpoints of `models/golden`, which `trilobite-cli`'s tests also run.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use trilobite_convert::{
    Checkpoint, Layout, Options, Report, Stage, convert, convert_file, ignore_progress,
};
use trilobite_format::{Gguf, TensorType, ternary};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden").join(path)
}

fn in_memory(path: &Path) -> (Vec<u8>, Report) {
    let mut file = Vec::new();
    let report = Checkpoint::open(path)
        .and_then(|source| convert(&source, &Options::default(), &mut file, &mut ignore_progress));
    (file, report.expect("a good checkpoint converts"))
}

#[test]
fn every_family_converts_and_is_verified() {
    let out = tempfile::tempdir().unwrap();
    for (family, architecture, ternary) in [
        ("bitnet_offline", "bitnet-b1.58", TensorType::I2S),
        ("bitnet_online", "bitnet-b1.58", TensorType::I2S),
        ("bitnet_odd_shape", "bitnet-b1.58", TensorType::I2R),
        ("bitnet_1bitllm", "bitnet", TensorType::I2R),
        ("llama_bitnet", "llama", TensorType::I2S),
        ("llama_bitnet_online", "llama", TensorType::I2S),
        ("bitnet_gguf", "bitnet-b1.58", TensorType::I2S),
        ("bitnet_gguf/model-i2_s.gguf", "bitnet-b1.58", TensorType::I2S),
        ("bitnet_gguf/model-tq.gguf", "bitnet-b1.58", TensorType::I2S),
        ("maple_gguf/model.gguf", "maple", TensorType::Tq2_0),
    ] {
        let checkpoint = Checkpoint::open(golden(family)).unwrap();
        let path = out.path().join("out.gguf");
        let mut last = [0, 0];
        let report = convert_file(&checkpoint, &Options::default(), &path, true, &mut |progress| {
            let done = &mut last[usize::from(progress.stage == Stage::Verify)];
            assert!(*done <= progress.done && progress.done <= progress.total);
            *done = progress.done;
            ControlFlow::Continue(())
        });
        let report = report.unwrap();
        assert_eq!(report.architecture, architecture, "{family}");
        assert!(report.types.iter().any(|total| total.ty == ternary), "{family}");
        let bytes: u64 = report.types.iter().map(|total| total.bytes).sum();
        assert_eq!(last, [bytes, bytes], "{family}");

        let file = std::fs::read(&path).unwrap();
        assert_eq!(file.len() as u64, report.file_bytes);
        let gguf = Gguf::parse(&file).unwrap();
        let tokenizer = ["tokenizer.ggml.tokens", "tokenizer.huggingface.json"];
        assert!(tokenizer.iter().any(|key| gguf.metadata().get(key).is_some()), "{family}");
        assert!(gguf.metadata().u32s("trilobite.eos_token_ids").unwrap().is_some(), "{family}");

        // The output is a valid source, and converts to itself.
        let again = in_memory(&path);
        assert!(again.0 == file, "{family}");
        assert_eq!(again.1.sha256, report.sha256);
    }
}

#[test]
fn the_same_model_has_the_same_weights_from_every_source() {
    let (reference, _) = in_memory(&golden("bitnet_gguf"));
    let reference_index = Gguf::parse(&reference).unwrap();
    for source in ["model-i2_s.gguf", "model-tq.gguf"] {
        let (file, _) = in_memory(&golden("bitnet_gguf").join(source));
        let index = Gguf::parse(&file).unwrap();
        assert_eq!(index.tensors().len(), reference_index.tensors().len());
        for info in index.tensors() {
            let expected = reference_index.tensor(&info.name).unwrap();
            if info.name == "token_embd.weight" {
                continue; // F16 in the GGUF files, BF16 in the checkpoint
            }
            assert_eq!(info.bytes(&file), expected.bytes(&reference), "{}", info.name);
        }
    }
}

#[test]
fn every_layout_holds_the_same_weights() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("other.gguf");
    for family in
        ["bitnet_offline", "bitnet_odd_shape", "bitnet_1bitllm", "bitnet_gguf/model-tq.gguf"]
    {
        for layout in [Layout::T5_3, Layout::Sparse] {
            let options = Options { layout, ..Options::default() };
            let source = Checkpoint::open(golden(family)).unwrap();
            let report = convert_file(&source, &options, &path, true, &mut ignore_progress);
            if layout == Layout::Sparse && family == "bitnet_1bitllm" {
                let error = report.unwrap_err().to_string();
                assert!(error.contains("squared ReLU, which the architecture bitnet"), "{error}");
                continue;
            }
            let report = report.unwrap();
            let ternary = report.types.iter().filter(|total| total.ty.is_ternary());
            let ternary = ternary.map(|total| total.ty).collect::<Vec<_>>();
            match layout {
                Layout::T5_3 => assert_eq!(ternary, [TensorType::T5_3], "{family}"),
                _ => {
                    assert!(ternary.contains(&TensorType::T5_3), "{family}");
                    let file = std::fs::read(&path).unwrap();
                    let gguf = Gguf::parse(&file).unwrap();
                    let down = gguf.tensor("blk.0.ffn_down_t.weight").unwrap();
                    let up = gguf.tensor("blk.0.ffn_up.weight").unwrap();
                    assert_eq!((down.ty, &down.shape), (TensorType::I2T, &up.shape), "{family}");
                    assert_ne!(up.ty, TensorType::T5_3, "{family}");
                }
            }
            // Converting back to the other layout equals converting the source directly.
            assert!(in_memory(&path).0 == in_memory(&golden(family)).0, "{family} {layout:?}");
        }
    }
}

/// For shapes that I2_S can hold, the output equals that of bitnet.cpp's converter.
#[test]
fn i2_s_tensors_of_foreign_files_are_kept_byte_by_byte() {
    let path = golden("bitnet_gguf/model-i2_s.gguf");
    let foreign = std::fs::read(&path).unwrap();
    let (file, _) = in_memory(&path);
    let (theirs, ours) = (Gguf::parse(&foreign).unwrap(), Gguf::parse(&file).unwrap());
    let mut compared = 0;
    for info in theirs.tensors().iter().filter(|info| info.ty == TensorType::I2S) {
        let ours = ours.tensor(&info.name).unwrap();
        assert_eq!(ternary::split(ours.bytes(&file)), ternary::split(info.bytes(&foreign)));
        compared += 1;
    }
    assert_eq!(compared, 7);
    for (key, value) in theirs.metadata().iter() {
        assert_eq!(ours.metadata().get(key), Some(value), "{key}");
    }
}
