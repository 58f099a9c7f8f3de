use super::*;
use crate::model::{mixture_note, zeros_note};
use crate::{Metadata, Writer};

/// Bytes of a matrix of two blocks of 256 weights with these scales. A block with scale 0 holds
/// zeros.
fn bytes(ty: TensorType, scales: [u8; 2]) -> Vec<u8> {
    let len = ty.byte_len(&[2, 256]).unwrap() as usize;
    let mut bytes = vec![0; len];
    if matches!(ty, TensorType::Tq1_0 | TensorType::Tq2_0) {
        for (block, scale) in bytes.chunks_mut(len / 2).zip(scales) {
            let (codes, [_, high]) = block.split_last_chunk_mut().unwrap();
            *high = scale;
            match (scale, ty) {
                (0, TensorType::Tq2_0) => codes.fill(0x55),
                (0, _) => (codes[..48].fill(128), codes[48..].fill(127)).0,
                _ => codes.fill(0x15),
            }
        }
    }
    bytes
}

/// A file with these tensors of shape 2 x 256.
fn file(arch: &str, dense: &[&str], tensors: &[(&str, TensorType, [u8; 2])]) -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", arch);
    if !dense.is_empty() {
        let names: Vec<String> = dense.iter().map(|name| (*name).to_owned()).collect();
        metadata.insert(DENSE_PROJECTIONS, names);
    }
    let index = tensors.iter().map(|(name, ty, _)| ((*name).to_owned(), *ty, vec![2, 256]));
    let mut writer = Writer::new(Vec::new(), &metadata, index.collect()).unwrap();
    for (name, ty, scales) in tensors {
        writer.tensor(name, &bytes(*ty, *scales)).unwrap();
    }
    writer.finish().unwrap()
}

const Q: &str = "blk.0.attn_q.weight";
const DOWN: &str = "blk.11.ffn_down.weight";

/// The storage of [`DOWN`] beside a [`Q`] of another type; `None` if the file is refused.
fn storage(
    arch: &str,
    dense: &[&str],
    q: TensorType,
    down: (TensorType, [u8; 2]),
) -> Option<Storage> {
    let file = file(arch, dense, &[(Q, q, [1, 1]), (DOWN, down.0, down.1)]);
    let gguf = Gguf::parse(&file).unwrap();
    match Projections::of(Architecture::named(arch).unwrap(), &gguf, &[&file]) {
        Ok(projections) => projections.storage(DOWN),
        Err(Error::NotTernary { tensor, ty }) => {
            assert_eq!((&tensor[..], ty), (DOWN, down.0));
            None
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_a_bitnet_model_has_is_ternary() {
    use TensorType::{Bf16, F16, F32, I2R, I2S, Q4_0, T5_3, Tq1_0, Tq2_0};
    for arch in ["bitnet-b1.58", "bitnet-25", "bitnet"] {
        for ty in [I2S, I2R, T5_3] {
            assert_eq!(storage(arch, &[], ty, (ty, [1, 1])), Some(Storage::Packed));
        }
        for ty in [Tq1_0, Tq2_0] {
            assert_eq!(storage(arch, &[], ty, (ty, [1, 1])), Some(Storage::Unpacked));
            // A block of zeros has no scale.
            assert_eq!(storage(arch, &[], ty, (ty, [0, 1])), Some(Storage::Unpacked));
            assert_eq!(storage(arch, &[], ty, (ty, [0, 0])), Some(Storage::Unpacked));
            assert_eq!(storage(arch, &[], I2S, (ty, [1, 2])), None);
        }
        for ty in [F32, F16, Bf16, Q4_0] {
            assert_eq!(storage(arch, &[], I2S, (ty, [0, 0])), None);
            assert_eq!(storage(arch, &[Q], I2S, (ty, [0, 0])), None);
            assert_eq!(storage(arch, &[DOWN], I2S, (ty, [0, 0])), Some(Storage::Dense));
        }
    }
}

#[test]
fn a_model_of_another_architecture_is_bitnet_s_by_its_types() {
    use TensorType::{F16, I2R, I2S, Q4_0, T5_3, Tq2_0};
    for arch in ["llama", "qwen2", "qwen3", "gemma3"] {
        for (ty, scales) in [(F16, [0, 0]), (Q4_0, [0, 0]), (Tq2_0, [1, 2])] {
            for bitnet in [I2S, I2R, T5_3] {
                assert_eq!(storage(arch, &[], bitnet, (ty, scales)), None);
                let kept = storage(arch, &[DOWN], bitnet, (ty, scales));
                assert_eq!(kept, Some(Storage::Dense));
            }
            // Other models are rounded to blocks of trits too.
            for other in [F16, Tq2_0] {
                assert_eq!(storage(arch, &[], other, (ty, scales)), Some(Storage::Dense));
            }
        }
        assert_eq!(storage(arch, &[], F16, (Tq2_0, [1, 1])), Some(Storage::Unpacked));
    }
}

#[test]
fn a_scale_beside_weights_makes_them_ternary() {
    let scale = ("blk.0.attn_q.scale", TensorType::F32, [0, 0]);
    for ty in [TensorType::F32, TensorType::I2S] {
        let file = file("llama", &[], &[(Q, ty, [0, 0]), scale]);
        let gguf = Gguf::parse(&file).unwrap();
        let projections = Projections::of(Architecture::Llama, &gguf, &[&file]).unwrap();
        assert_eq!(projections.storage(Q), Some(Storage::Unpacked));
    }
    let file =
        file("llama", &[], &[(Q, TensorType::F32, [0, 0]), scale, (DOWN, TensorType::F16, [0, 0])]);
    let gguf = Gguf::parse(&file).unwrap();
    let error = Projections::of(Architecture::Llama, &gguf, &[&file]).unwrap_err();
    assert!(matches!(&error, Error::NotTernary { tensor, .. } if tensor == DOWN), "{error}");
    let projections = Projections::to_quantise(&gguf, &[&file]).unwrap();
    assert_eq!(projections.storage(DOWN), Some(Storage::Dense));
}

#[test]
fn other_tensors_may_be_dense() {
    let f16 = |name| (name, TensorType::F16, [0, 0]);
    let names =
        ["output.weight", "token_embd.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.bias"];
    let file = file("bitnet", &[], &names.map(f16));
    let gguf = Gguf::parse(&file).unwrap();
    let projections = Projections::of(Architecture::BitNet, &gguf, &[&file]).unwrap();
    assert_eq!(
        names.map(|name| projections.storage(name)),
        [Some(Storage::Dense), None, None, None]
    );
    assert!(is_projection("blk.7.ffn_down_t.weight") && !is_projection("blk.ffn_up.weight"));
}

#[test]
fn names_are_told_up_to_a_number() {
    let names: Vec<String> = (0..9).map(|n| format!("blk.{n}.ffn_up.weight")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(zeros_note(&[]), None);
    assert!(zeros_note(&names[..2]).unwrap().contains("zeros in blk.0.ffn_up, blk.1.ffn_up:"));
    assert!(zeros_note(&names).unwrap().contains("blk.6.ffn_up and 2 more:"));
    let note =
        |dense: usize| mixture_note(names.iter().enumerate().map(|(i, name)| (*name, i < dense)));
    assert_eq!((note(0), note(9)), (None, None));
    assert_eq!(
        note(2).unwrap(),
        "2 of 9 projections are dense, and their activations are not quantised: blk.0.ffn_up, \
         blk.1.ffn_up"
    );
}
