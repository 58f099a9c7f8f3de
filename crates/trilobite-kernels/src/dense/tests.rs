use super::{DenseType, reference};
use crate::Kernels;
use crate::random::Random;

/// What ggml's Python package makes of some rows: see `ggml.py`.
const GGML: &str = include_str!("ggml.txt");

/// The lines of a kind: the type, the bytes of a row, and its weights.
fn ggml(kind: &str) -> impl Iterator<Item = (DenseType, Vec<u8>, Vec<f32>)> {
    let hex = |digits: &str, size: usize| -> Vec<u32> {
        let value = |i| u32::from_str_radix(&digits[i..i + size], 16).unwrap();
        (0..digits.len()).step_by(size).map(value).collect()
    };
    let lines = GGML.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.filter(move |parts| parts[0] == kind).map(move |parts| {
        let name = parts[1].replace("_K", "K");
        let ty = DenseType::ALL.into_iter().find(|ty| format!("{ty:?}") == name).unwrap();
        let bytes = hex(parts[2], 2).into_iter().map(|byte| byte as u8).collect();
        (ty, bytes, hex(parts[3], 8).into_iter().map(f32::from_bits).collect())
    })
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// A row as the specification decodes it.
fn specified(ty: DenseType, row: &[u8]) -> Vec<f32> {
    fn decode<const N: usize, const G: usize>(
        row: &[u8],
        block: impl Fn(&[u8; N]) -> reference::Weights<G>,
    ) -> Vec<f32> {
        row.as_chunks().0.iter().flat_map(block).flatten().collect()
    }
    match ty {
        DenseType::F32 => row.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
        DenseType::F16 => {
            row.as_chunks().0.iter().map(|x| half::f16::from_le_bytes(*x).to_f32_const()).collect()
        }
        DenseType::BF16 => {
            row.as_chunks().0.iter().map(|x| half::bf16::from_le_bytes(*x).to_f32()).collect()
        }
        DenseType::Q4_0 => decode(row, reference::q4_0),
        DenseType::Q4_1 => decode(row, reference::q4_1),
        DenseType::Q5_0 => decode(row, reference::q5_0),
        DenseType::Q5_1 => decode(row, reference::q5_1),
        DenseType::Q8_0 => decode(row, reference::q8_0),
        DenseType::Q4K => decode(row, reference::q4_k),
        DenseType::Q5K => decode(row, reference::q5_k),
        DenseType::Q6K => decode(row, reference::q6_k),
        DenseType::TQ1_0 => decode(row, reference::tq1_0),
        DenseType::TQ2_0 => decode(row, reference::tq2_0),
    }
}

/// A matrix of random bits, but with finite scales.
fn random(random: &mut Random, ty: DenseType, rows: usize, cols: usize) -> Vec<u8> {
    let halves: &[usize] = match ty {
        DenseType::F32 | DenseType::F16 | DenseType::BF16 => {
            let floats = random.floats(rows * cols);
            let mut out = vec![0; ty.row_len(cols).unwrap() * rows];
            ty.pack_row(&floats, &mut out).unwrap();
            return out;
        }
        DenseType::Q4_0 | DenseType::Q5_0 | DenseType::Q8_0 => &[0],
        DenseType::Q6K => &[208],
        DenseType::TQ1_0 => &[52],
        DenseType::TQ2_0 => &[64],
        _ => &[0, 2],
    };
    let mut out: Vec<_> =
        (0..ty.row_len(cols).unwrap() * rows).map(|_| random.bits() as u8).collect();
    for block in out.chunks_mut(ty.block().1) {
        for &at in halves {
            let half = half::f16::from_f32(random.floats(1)[0]).to_le_bytes();
            block[at..at + 2].copy_from_slice(&half);
        }
    }
    out
}

/// The stated order of every sum: 32 lanes by fused multiply-add, then pairwise.
fn dot_in_order(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 32];
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        lanes[i % 32] = a.mul_add(*b, lanes[i % 32]);
    }
    for width in [16, 8, 4, 2, 1] {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

#[test]
fn weights_are_those_of_ggml() {
    let mut types = Vec::new();
    for (ty, bytes, weights) in ggml("unpack") {
        assert_eq!(bits(&specified(ty, &bytes)), bits(&weights), "{ty:?} as specified");
        for kernels in Kernels::available() {
            let mut row = vec![0.0; weights.len()];
            kernels.dense_row(ty, &bytes, weights.len(), 0, &mut row);
            assert_eq!(bits(&row), bits(&weights), "{ty:?}: {kernels:?}");
        }
        types.push(ty);
    }
    assert_eq!(types, DenseType::ALL[1..]);
}

#[test]
fn weights_are_those_of_the_specification() {
    let mut numbers = Random(11);
    for ty in DenseType::ALL {
        let (rows, cols) = (8, 1024);
        let w = random(&mut numbers, ty, rows, cols);
        let row_len = ty.row_len(cols).unwrap();
        for kernels in Kernels::available() {
            for r in 0..rows {
                let mut row = vec![0.0; cols];
                kernels.dense_row(ty, &w, cols, r, &mut row);
                let expected = specified(ty, &w[r * row_len..(r + 1) * row_len]);
                assert_eq!(bits(&row), bits(&expected), "{ty:?}: {kernels:?}");
            }
        }
    }
}

#[test]
fn products_have_the_stated_order() {
    let mut numbers = Random(5);
    let lengths = [1, 7, 31, 32, 33, 64, 100, 256, 512, 1000, 1280, 2081, 2304];
    for ty in DenseType::ALL {
        for cols in lengths.into_iter().filter(|cols| ty.row_len(*cols).is_some()) {
            let row_len = ty.row_len(cols).unwrap();
            let w = random(&mut numbers, ty, 59, cols);
            for (rows, tokens) in
                [(0..59, 1), (2..7, 2), (3..4, 3), (1..18, 4), (0..5, 9), (5..5, 2), (0..59, 13)]
            {
                let x = numbers.floats(tokens * cols);
                let mut expected = Vec::new();
                for x in x.chunks(cols) {
                    expected.extend(rows.clone().map(|r| {
                        let row = specified(ty, &w[r * row_len..(r + 1) * row_len]);
                        dot_in_order(&row, x)
                    }));
                }
                for kernels in Kernels::available() {
                    let mut out = vec![9.0; expected.len()];
                    kernels.dense_gemm(ty, &w, cols, rows.clone(), &x, tokens, &mut out);
                    assert_eq!(
                        bits(&out),
                        bits(&expected),
                        "{ty:?}, rows {rows:?} of {cols}, {tokens} tokens: {kernels:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn rows_are_packed_as_ggml_packs_them() {
    let mut types = Vec::new();
    for (ty, bytes, weights) in ggml("pack") {
        let mut packed = vec![0xaa; bytes.len()];
        ty.pack_row(&weights, &mut packed).unwrap();
        assert_eq!(packed, bytes, "{ty:?}");
        types.push(ty);
    }
    let packed = DenseType::ALL[1..].iter().filter(|ty| ty.packs());
    assert!(packed.clone().all(|ty| types.contains(ty)) && packed.count() == types.len());
}

#[test]
fn what_a_type_cannot_hold_is_not_packed() {
    for ty in DenseType::ALL.into_iter().filter(|ty| ty.packs()) {
        let mut out = vec![0; ty.row_len(64).unwrap()];
        let mut packed = |x: f32| {
            let mut row = [0.5; 64];
            row[40] = x;
            ty.pack_row(&row, &mut out)
        };
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(packed(x).unwrap_err().to_bits(), x.to_bits(), "{ty:?}");
        }
        let wide = matches!(ty, DenseType::F32 | DenseType::BF16);
        assert_eq!(packed(-1e8), if wide { Ok(()) } else { Err(-1e8) }, "{ty:?}");
        assert_eq!(packed(6e4), Ok(()), "{ty:?}");
    }
}

#[test]
fn rows_of_whole_blocks_only() {
    assert_eq!(DenseType::Q8_0.row_len(64), Some(68));
    assert_eq!(DenseType::Q8_0.row_len(40), None);
    assert_eq!(DenseType::Q6K.row_len(512), Some(420));
    assert_eq!(DenseType::Q6K.row_len(32), None);
    assert_eq!(DenseType::F32.row_len(usize::MAX), None);
}
