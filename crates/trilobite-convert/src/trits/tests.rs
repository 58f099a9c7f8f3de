//! The fixture `tests/vectors.json` holds weights, their quantisation by transformers 5.23 and
//! torch 2.15, and their bytes in transformers' packing and (by gguf 0.19) in GGUF's ternary types.

use serde_json::Value;
use trilobite_format::TensorType;

use super::*;
use crate::source::Dtype;

fn vectors(key: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../tests/vectors.json")).unwrap();
    all[key].as_array().unwrap().clone()
}

fn numbers<T: TryFrom<i64, Error: std::fmt::Debug>>(list: &Value) -> Vec<T> {
    list.as_array().unwrap().iter().map(|n| n.as_i64().unwrap().try_into().unwrap()).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn tensor<'a>(shape: &Value, encoding: Encoding<'a>) -> Ternary<'a> {
    let shape: Vec<usize> = numbers(shape);
    let (rows, cols) = (shape[0], shape[1]);
    Ternary { file: "f", name: "t".to_owned(), rows, cols, encoding, head_dim: None }
}

fn decode(ternary: &Ternary<'_>) -> Result<(Vec<i8>, f32), Error> {
    let trits = ternary.open()?;
    let mut out = vec![0; ternary.rows * ternary.cols];
    for start in (0..ternary.rows).step_by(GROUP) {
        let end = (start + GROUP).min(ternary.rows);
        let cols = ternary.cols;
        trits.decode(start..end, &mut Scratch::default(), &mut out[start * cols..end * cols])?;
    }
    Ok((out, trits.scale))
}

fn view(dtype: Dtype, shape: &[u64], bytes: &[u8]) -> View<'static> {
    let bytes = bytes.to_vec().leak();
    View { file: "f", name: "t".to_owned(), dtype, shape: shape.to_vec(), bytes }
}

#[test]
fn absmean_is_that_of_transformers() {
    for case in vectors("weight_quant_absmean") {
        let bits: Vec<u16> = numbers(&case["bf16_bits"]);
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        let view = view(Dtype::Bf16, &numbers(&case["shape"]), &bytes);
        let (trits, scale) = decode(&tensor(&case["shape"], Encoding::Master { view })).unwrap();
        assert_eq!(trits, numbers::<i8>(&case["ternary"]));
        let mean = f32::from_bits(case["absmean_f32_bits"].as_u64().unwrap() as u32);
        assert_eq!(scale, 1.0 / (1.0 / mean));
    }
}

#[test]
fn packed_rows_are_those_of_transformers() {
    for case in vectors("hf_pack") {
        let bytes: Vec<u8> = numbers(&case["packed"]);
        let view = view(Dtype::U8, &numbers(&case["packed_shape"]), &bytes);
        let packed = tensor(&case["shape"], Encoding::Packed { view, scale: 0.5 });
        assert_eq!(decode(&packed).unwrap(), (numbers(&case["ternary"]), 0.5));
    }
}

#[test]
fn ggufs_ternary_types_are_decoded() {
    for case in vectors("formats") {
        let scale = case["scale"].as_f64().unwrap() as f32;
        let mut types = 0;
        for ty in [TensorType::I2S, TensorType::Tq1_0, TensorType::Tq2_0] {
            let Some(hex) = case[ty.name()].as_str() else { continue };
            let encoding = Encoding::Gguf { ty, bytes: unhex(hex).leak(), factor: 2.0 };
            let expected = (numbers(&case["ternary"]), 2.0 * scale);
            assert_eq!(decode(&tensor(&case["shape"], encoding)).unwrap(), expected, "{ty}");
            types += 1;
        }
        assert!(types > 0);
    }
}

#[test]
fn blocks_must_agree_on_the_scale_unless_they_are_zero() {
    let scale = |x: f32| f16::from_f32(x).to_le_bytes();
    let block = |code: u8, d: f32| {
        let mut block = [code; 66];
        block[64..].copy_from_slice(&scale(d));
        block
    };
    let run = |blocks: &[[u8; 66]]| {
        let bytes = blocks.concat().leak();
        let shape = serde_json::json!([1, 256 * blocks.len()]);
        decode(&tensor(&shape, Encoding::Gguf { ty: TensorType::Tq2_0, bytes, factor: 1.0 }))
    };
    let (zeros, ones) = (0x55, 0xaa);
    assert_eq!(run(&[block(zeros, 0.0), block(ones, 0.5), block(zeros, 9.0)]).unwrap().1, 0.5);
    assert_eq!(run(&[block(zeros, 9.0), block(ones, 0.5)]).unwrap().1, 0.5);
    assert_eq!(run(&[block(zeros, 0.0), block(zeros, 9.0)]).unwrap(), (vec![0; 512], 0.0));
    assert!(run(&[block(ones, 0.5), block(ones, 0.25)]).is_err());
    assert!(run(&[block(ones, 0.0), block(ones, 0.5)]).is_err());
    for bad in [-0.5, f32::NAN, f32::INFINITY] {
        let message = run(&[block(ones, bad)]).unwrap_err().to_string();
        assert!(message.contains("expected a positive finite number"), "{message}");
    }
    let message = run(&[block(ones, 0.5), block(0xab, 0.5)]).unwrap_err().to_string();
    assert!(message.contains("a code that stands for no weight at row 0, column 256"), "{message}");
}

#[test]
fn what_t5_3_never_holds_is_refused() {
    let run = |codes: &[u8]| {
        let bytes = [codes, &ternary::tail(0.5)].concat().leak();
        let encoding = Encoding::Gguf { ty: TensorType::T5_3, bytes, factor: 1.0 };
        decode(&tensor(&serde_json::json!([2, 3]), encoding))
    };
    let mut codes = [1; 32];
    codes[1] = 0x82;
    assert_eq!(run(&codes).unwrap(), (vec![0, 0, 0, -1, 0, 0], 0.5));
    for bad in [0x00, 0x80, 0x0f, 0x8f] {
        codes[1] = bad;
        let message = run(&codes).unwrap_err().to_string();
        let expected = "a code that stands for no weight at row 1, column 0";
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn one_magnitude_is_kept_exactly() {
    let run = |weights: &[f32]| {
        let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let view = view(Dtype::F32, &[1, weights.len() as u64], &bytes);
        let shape = serde_json::json!([1, weights.len()]);
        decode(&tensor(&shape, Encoding::Dense { view }))
    };
    assert_eq!(run(&[0.3, -0.3, 0.0, -0.0]).unwrap(), (vec![1, -1, 0, 0], 0.3));
    // Two different magnitudes, however close, mean master weights.
    assert_eq!(run(&[0.5, -0.5, 0.25, 0.25]).unwrap().1, 0.375);
    assert_eq!(run(&[0.0, 0.0]).unwrap(), (vec![0, 0], 1.0 / (1.0 / 1e-5)));
    assert!(run(&[f32::INFINITY, 1.0]).is_err());
}
