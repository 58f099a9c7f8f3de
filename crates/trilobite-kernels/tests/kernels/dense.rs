mod low_bit;
mod pack;
mod reference;

use crate::random::Random;
use trilobite_kernels::{
    DenseMatrix, DenseType, Kernels, NarrowCodes, SplitCodes, SplitForm, WideCodes, Workspace,
    wide_rest,
};

/// Rows converted by ggml's Python package: see `dense/ggml.py`.
const GGML: &str = include_str!("dense/ggml.txt");

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

/// Number of weights and of bytes in a block.
fn block(ty: DenseType) -> (usize, usize) {
    let weights = [1, 32, 64, 128, 256];
    weights.into_iter().find_map(|weights| Some((weights, ty.row_len(weights)?))).unwrap()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// The bits of numbers, ignoring the sign of zeros. It may differ, because scales are integers here
/// and floats in ggml.
fn unsigned(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| (x + 0.0).to_bits()).collect()
}

/// The groups of 32 of a row of blocks by the specification.
fn groups(ty: DenseType, row: &[u8]) -> Vec<reference::Group> {
    fn decode<const N: usize, const G: usize>(
        row: &[u8],
        block: impl Fn(&[u8; N]) -> [reference::Group; G],
    ) -> Vec<reference::Group> {
        row.as_chunks().0.iter().flat_map(block).collect()
    }
    match ty {
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
        DenseType::Q1_0 => decode(row, reference::q1_0),
        DenseType::Q2_0 => decode(row, reference::q2_0),
        DenseType::PQ2_0 => decode(row, reference::pq2_0),
        DenseType::PTQ1_0 => decode(row, reference::ptq1_0),
        _ => panic!("no blocks of {ty:?} are specified"),
    }
}

/// The weights of a row by the specification.
fn specified(ty: DenseType, row: &[u8]) -> Vec<f32> {
    match ty {
        DenseType::F32 => row.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
        DenseType::F16 => {
            row.as_chunks().0.iter().map(|x| half::f16::from_le_bytes(*x).to_f32_const()).collect()
        }
        DenseType::BF16 => {
            row.as_chunks().0.iter().map(|x| half::bf16::from_le_bytes(*x).to_f32()).collect()
        }
        _ => groups(ty, row).iter().flat_map(reference::Group::weights).collect(),
    }
}

/// Activations rounded as the documentation of [`Kernels::wide_codes`] states: the codes of each
/// 256 columns, at most `largest`, and their step.
fn rounded(x: &[f32], largest: f32) -> Vec<(Vec<i64>, f32)> {
    let chunks = x.chunks(256).map(|x| {
        let step = x.iter().fold(0.0_f32, |max, x| max.max(x.abs())) / largest;
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        (x.iter().map(|x| (x * inverse).round_ties_even() as i64).collect(), step)
    });
    chunks.collect()
}

/// The largest code of activations for a type.
fn largest(ty: DenseType, int8: bool) -> f32 {
    match ty.is_low_bit() {
        _ if int8 => 127.0,
        true => 4_194_303.0,
        false => 32_767.0,
    }
}

/// The values of `int8` to test with a type.
fn roundings(ty: DenseType) -> &'static [bool] {
    if ty.has_blocks() { &[false, true] } else { &[false] }
}

/// The product of a row of blocks with rounded activations, in the order that the docs of `blocks`
/// state.
fn blocks_in_order(ty: DenseType, row: &[u8], x: &[(Vec<i64>, f32)]) -> f32 {
    if ty.is_low_bit() {
        return low_bit::in_order(ty, row, x);
    }
    let mut sums = [0.0_f32; 8];
    for (groups, (x, step)) in groups(ty, row).chunks(8).zip(x) {
        for ((group, x), row) in groups.iter().zip(x.chunks(32)).zip(&mut sums) {
            let sum = |half: std::ops::Range<usize>| {
                let sum: i64 = half.map(|i| i64::from(group.codes[i]) * x[i]).sum();
                assert!(i32::try_from(sum).is_ok(), "a sum overflows");
                sum as f32
            };
            let [lower, upper] = group.steps;
            let mut product = match ty {
                DenseType::Q6K => sum(16..32).mul_add(upper, sum(0..16) * lower),
                _ => sum(0..32) * lower,
            };
            if let Some(minimum) = group.minimum {
                product = minimum.mul_add(x.iter().sum::<i64>() as f32, product);
            }
            *row = product.mul_add(*step, *row);
        }
    }
    pairwise(&mut sums)
}

/// The pairwise sum of lanes.
fn pairwise(lanes: &mut [f32]) -> f32 {
    let mut width = lanes.len();
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// A matrix with the number of rows that the bytes hold.
fn matrix(ty: DenseType, bytes: &[u8], cols: usize) -> DenseMatrix<'_> {
    let rows = bytes.len() / ty.row_len(cols).unwrap();
    DenseMatrix::new(ty, bytes, rows, cols).unwrap()
}

/// The codes of some tokens.
fn wide_codes(kernels: &Kernels, x: &[f32], cols: usize) -> WideCodes {
    let mut codes = WideCodes::default();
    codes.reset(x.len() / cols, cols);
    kernels.wide_codes(x, cols, codes.parts_mut());
    codes
}

/// The products of some rows of blocks with activations, by the kernels of the type.
fn block_products(
    kernels: &Kernels,
    w: &DenseMatrix<'_>,
    rows: std::ops::Range<usize>,
    (x, int8): (&[f32], bool),
    workspace: &mut Workspace,
    out: &mut [f32],
) {
    if let Some(order) = w.ty().column_order() {
        let mut codes = SplitCodes::default();
        codes.reset(x.len() / w.cols(), w.cols(), SplitForm { order, int8 });
        kernels.split_codes(x, w.cols(), codes.parts_mut());
        return kernels.low_bit_gemm(w, rows, &codes, workspace, out);
    }
    if int8 {
        let mut codes = NarrowCodes::default();
        codes.reset(x.len() / w.cols(), w.cols());
        kernels.narrow_codes(x, w.cols(), codes.parts_mut());
        return kernels.narrow_gemm(w, rows, &codes, workspace, out);
    }
    kernels.block_gemm(w, rows, &wide_codes(kernels, x, w.cols()), workspace, out)
}

/// A matrix of random bits with finite scales.
fn random(random: &mut Random, ty: DenseType, rows: usize, cols: usize) -> Vec<u8> {
    let halves: &[usize] = match ty {
        DenseType::F32 | DenseType::F16 | DenseType::BF16 => {
            let floats = random.floats(rows * cols);
            let mut out = vec![0; ty.row_len(cols).unwrap() * rows];
            ty.pack_row(&floats, &mut out).unwrap();
            return out;
        }
        DenseType::Q4_0 | DenseType::Q5_0 | DenseType::Q8_0 => &[0],
        DenseType::Q1_0 | DenseType::Q2_0 | DenseType::PQ2_0 => &[0],
        DenseType::PTQ1_0 => &[26],
        DenseType::Q6K => &[208],
        DenseType::TQ1_0 => &[52],
        DenseType::TQ2_0 => &[64],
        _ => &[0, 2],
    };
    let mut out: Vec<_> =
        (0..ty.row_len(cols).unwrap() * rows).map(|_| random.bits() as u8).collect();
    for block in out.chunks_mut(block(ty).1) {
        for &at in halves {
            let half = half::f16::from_f32(random.floats(1)[0]).to_le_bytes();
            block[at..at + 2].copy_from_slice(&half);
        }
    }
    out
}

/// The documented order of every sum: 32 lanes by fused multiply-add, then pairwise.
fn dot_in_order(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 32];
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        lanes[i % 32] = a.mul_add(*b, lanes[i % 32]);
    }
    pairwise(&mut lanes)
}

#[test]
fn weights_are_those_of_ggml() {
    let mut types = Vec::new();
    for (ty, bytes, weights) in ggml("unpack") {
        assert_eq!(unsigned(&specified(ty, &bytes)), unsigned(&weights), "{ty:?} as specified");
        for kernels in Kernels::available() {
            let mut row = vec![0.0; weights.len()];
            kernels.dense_row(&matrix(ty, &bytes, weights.len()), 0, &mut row);
            assert_eq!(unsigned(&row), unsigned(&weights), "{ty:?}: {kernels:?}");
        }
        types.push(ty);
    }
    // The package does not have the others.
    const OTHERS: [DenseType; 4] =
        [DenseType::Q1_0, DenseType::Q2_0, DenseType::PQ2_0, DenseType::PTQ1_0];
    let others = DenseType::ALL[1..].iter().copied().filter(|ty| !OTHERS.contains(ty));
    assert_eq!(types, others.collect::<Vec<_>>());
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
                kernels.dense_row(&matrix(ty, &w, cols), r, &mut row);
                let expected = specified(ty, &w[r * row_len..(r + 1) * row_len]);
                assert_eq!(bits(&row), bits(&expected), "{ty:?}: {kernels:?}");
            }
        }
    }
}

#[test]
fn products_have_the_stated_order() {
    let mut numbers = Random(5);
    let workspace = &mut Workspace::default();
    let lengths = [1, 7, 31, 32, 33, 64, 100, 128, 256, 320, 512, 576, 1000, 1280, 1408, 2081];
    let lengths = lengths.into_iter().chain([2304, 4352, 4480]).collect::<Vec<_>>();
    let types = DenseType::ALL.into_iter();
    for (ty, int8) in types.flat_map(|ty| roundings(ty).iter().map(move |int8| (ty, *int8))) {
        for cols in lengths.iter().copied().filter(|cols| ty.row_len(*cols).is_some()) {
            let row_len = ty.row_len(cols).unwrap();
            let w = random(&mut numbers, ty, 59, cols);
            for (rows, tokens) in [
                (0..59, 1),
                (2..7, 2),
                (3..4, 3),
                (1..18, 4),
                (2..13, 5),
                (1..59, 7),
                (16..48, 8),
                (0..5, 9),
                (5..5, 2),
                (3..40, 11),
                (0..59, 15),
                (7..40, 16),
            ] {
                let x = numbers.floats(tokens * cols);
                let mut expected = Vec::new();
                for x in x.chunks(cols) {
                    let codes = rounded(x, largest(ty, int8));
                    expected.extend(rows.clone().map(|r| {
                        let row = &w[r * row_len..(r + 1) * row_len];
                        match ty.has_blocks() {
                            true => blocks_in_order(ty, row, &codes),
                            false => dot_in_order(&specified(ty, row), x),
                        }
                    }));
                }
                for kernels in Kernels::available() {
                    let mut out = vec![9.0; expected.len()];
                    let (w, rows) = (matrix(ty, &w, cols), rows.clone());
                    if ty.has_blocks() {
                        block_products(kernels, &w, rows, (&x, int8), workspace, &mut out);
                    } else {
                        kernels.dense_gemm(&w, rows, &x, workspace, &mut out);
                    }
                    assert_eq!(
                        bits(&out),
                        bits(&expected),
                        "{ty:?}, rows of {cols}, {tokens} tokens, int8 {int8}: {kernels:?}"
                    );
                }
            }
        }
    }
}

/// Largest codes and factors: no sum may overflow.
#[test]
fn extreme_blocks_are_exact() {
    let x = (0..512).map(|i| if i % 64 < 32 { 1.0 } else { -1.0 }).collect::<Vec<_>>();
    for ty in DenseType::ALL.into_iter().filter(|ty| ty.has_blocks()) {
        for byte in [0, 0x80, 0xff] {
            let mut row = vec![byte; ty.row_len(512).unwrap()];
            let random = random(&mut Random(3), ty, 1, 512);
            let (weights, block) = block(ty);
            for (row, random) in row.chunks_mut(block).zip(random.chunks(block)) {
                // Replaces the float factors of blocks with finite ones. The integer scales of Q6_K
                // stay extreme.
                let floats = match weights {
                    32 => 0..4.min(block - 32 / 2),
                    64 | 128 => 0..2,
                    _ => 0..4,
                };
                match ty {
                    DenseType::Q6K => row[208..].copy_from_slice(&random[208..]),
                    DenseType::TQ1_0 | DenseType::TQ2_0 | DenseType::PTQ1_0 => {
                        row[block - 2..].copy_from_slice(&random[block - 2..]);
                    }
                    _ => row[floats.clone()].copy_from_slice(&random[floats]),
                }
            }
            for x in [&x[..], &[1.0; 512], &[-1.0; 512]] {
                for &int8 in roundings(ty) {
                    let expected = blocks_in_order(ty, &row, &rounded(x, largest(ty, int8)));
                    for kernels in Kernels::available() {
                        for tokens in [1, 2, 4, 8, 9] {
                            let (w, mut out) = (matrix(ty, &row, 512), vec![0.0; tokens]);
                            let x = (&x.repeat(tokens)[..], int8);
                            block_products(
                                kernels,
                                &w,
                                0..1,
                                x,
                                &mut Workspace::default(),
                                &mut out,
                            );
                            let expected = vec![expected; tokens];
                            assert_eq!(bits(&out), bits(&expected), "{ty:?}: {kernels:?}");
                        }
                    }
                }
            }
        }
    }
}

/// Rounding changes a product by at most half a step for every weight.
#[test]
fn rounded_activations_are_close() {
    let mut numbers = Random(8);
    let x = numbers.floats(512);
    let types = DenseType::ALL.into_iter().filter(|ty| ty.has_blocks());
    for (ty, int8) in types.flat_map(|ty| roundings(ty).iter().map(move |int8| (ty, *int8))) {
        let row = random(&mut numbers, ty, 1, 512);
        let weights = specified(ty, &row);
        let product = |w: &[f32], x: &[f32]| -> f64 {
            w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum()
        };
        let steps =
            rounded(&x, largest(ty, int8)).iter().map(|(_, step)| *step).fold(0.0, f32::max);
        let total = weights.iter().map(|w| f64::from(w.abs())).sum::<f64>();
        let largest =
            groups(ty, &row).iter().filter_map(|g| g.minimum).fold(0.0, |m, x| x.abs().max(m));
        // Further errors: the rounding of 16 lanes of f32, and of minimums.
        let float = 1e-5 * (total + 512.0 * f64::from(largest));
        for kernels in Kernels::available() {
            let mut out = [0.0];
            let (w, workspace) = (matrix(ty, &row, 512), &mut Workspace::default());
            block_products(kernels, &w, 0..1, (&x, int8), workspace, &mut out);
            let error = (f64::from(out[0]) - product(&weights, &x)).abs();
            assert!(
                error <= 0.5 * f64::from(steps) * total + float,
                "{ty:?}: {error}, {kernels:?}"
            );
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    for ty in [DenseType::Q8_0, DenseType::PQ2_0, DenseType::TQ2_0] {
        let row = random(&mut Random(4), ty, 1, 512);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [0.5; 512];
            x[300] = bad;
            for kernels in Kernels::available() {
                let (w, mut out) = (matrix(ty, &row, 512), [0.0]);
                for &int8 in roundings(ty) {
                    let x = (&x[..], int8);
                    block_products(kernels, &w, 0..1, x, &mut Workspace::default(), &mut out);
                    assert!(!out[0].is_finite(), "{bad}: {kernels:?}");
                }
            }
        }
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

#[test]
fn a_code_of_trits_is_used_if_packing_its_trits_gives_it() {
    let tq1_0 = |at: usize, byte: u8| {
        // A byte of zero trits encodes 121 of 242.
        let mut block = [128; 54];
        block[48..52].fill(127);
        block[at] = byte;
        let trits: Vec<i32> = reference::tq1_0(&block).iter().flat_map(|g| g.codes).collect();
        let of_byte = |i: usize| match at {
            0..32 => trits[32 * i + at],
            32..48 => trits[160 + 16 * i + at - 32],
            _ if i < 4 => trits[240 + 4 * i + at - 48],
            _ => -1,
        };
        let n = (0..5).fold(0, |n, i| 3 * n + (of_byte(i) + 1) as usize);
        ((n * 256).div_ceil(243) == usize::from(byte), block)
    };
    for (at, first) in [(5, 5), (31, 31), (32, 160), (47, 175), (48, 240), (51, 243)] {
        for byte in 0..=255 {
            let (used, block) = tq1_0(at, byte);
            let found = DenseType::TQ1_0.find_invalid(&[[128; 54], block].concat()[54..], 256);
            assert_eq!(found, (!used).then_some((0, first)), "{byte} at {at}");
        }
    }
    for element in [0, 1, 31, 32, 127, 128, 255] {
        let (half, plane, at) = (element / 128, element / 32 % 4, element % 32);
        let mut blocks = [0b01_10_00_01; 3 * 66];
        assert_eq!(DenseType::TQ2_0.find_invalid(&blocks, 256), None);
        blocks[66 + 64..][..2].fill(0xff);
        assert_eq!(DenseType::TQ2_0.find_invalid(&blocks, 256), None, "a scale is no code");
        blocks[2 * 66 + half * 32 + at] |= 3 << (2 * plane);
        assert_eq!(DenseType::TQ2_0.find_invalid(&blocks, 256), Some((2, element)));
        assert_eq!(DenseType::TQ2_0.find_invalid(&blocks, 768), Some((0, 512 + element)));
    }
    assert_eq!(DenseType::Q8_0.find_invalid(&[0xff; 34], 32), None);
    // Code 3 of PQ2_0 is a weight.
    assert_eq!(DenseType::PQ2_0.find_invalid(&[0xff; 34], 128), None);
    for (at, bad, first) in [(0, 1, 0), (15, 1, 15), (16, 1, 80), (23, 1, 87), (24, 128, 120)] {
        let mut blocks = [128; 2 * 28];
        for block in blocks.chunks_mut(28) {
            block[24..26].fill(127);
        }
        assert_eq!(DenseType::PTQ1_0.find_invalid(&blocks, 128), None);
        blocks[28 + at] = bad;
        assert_eq!(DenseType::PTQ1_0.find_invalid(&blocks, 128), Some((1, first)), "{bad} at {at}");
    }
}

#[test]
fn a_second_code_holds_what_the_first_leaves() {
    let cols = 512;
    let x: Vec<f32> = (0..512).map(|i| ((i * 37 % 101) as f32 - 50.3) * 1.01f32.powi(i)).collect();
    let mut rest = vec![0.0; cols];
    wide_rest(&x, &mut rest);
    for kernels in Kernels::available() {
        let codes = wide_codes(kernels, &[&x[..], &rest].concat(), cols);
        // Rows with a single weight pick the values of codes.
        for col in [0, 1, 17, 255, 256, 511] {
            let mut one = [0.0; 512];
            one[col] = -8.0;
            let mut bytes = vec![0; DenseType::Q4_0.row_len(cols).unwrap()];
            DenseType::Q4_0.pack_row(&one, &mut bytes).unwrap();
            let w = matrix(DenseType::Q4_0, &bytes, cols);
            let mut out = [0.0; 2];
            kernels.block_gemm(&w, 0..1, &codes, &mut Workspace::default(), &mut out);
            let out = out.map(|product| product / -8.0);
            let chunk = &x[col / 256 * 256..][..256];
            let largest = chunk.iter().fold(0f32, |most, x| most.max(x.abs()));
            let one_code = (out[0] - x[col]).abs() / largest;
            let two_codes = (out[0] + out[1] - x[col]).abs() / largest;
            assert!(one_code <= 1e-4 && two_codes <= f32::EPSILON, "{one_code} {two_codes}");
        }
    }
}

#[test]
fn gathered_codes_are_those_of_the_chosen_rows() {
    let (cols, mut random) = (288, Random(5));
    let x = random.floats(6 * cols);
    let bytes = self::random(&mut random, DenseType::Q8_0, 3, cols);
    let w = matrix(DenseType::Q8_0, &bytes, cols);
    for kernels in Kernels::available() {
        let all = wide_codes(kernels, &x, cols);
        let product = |codes: &WideCodes| {
            let mut out = vec![0.0; codes.tokens() * w.rows()];
            kernels.block_gemm(&w, 0..w.rows(), codes, &mut Workspace::default(), &mut out);
            out
        };
        let products = product(&all);
        let mut gathered = WideCodes::default();
        gathered.gather(&all, 2, [2, 0].into_iter());
        let rows = [4, 5, 0, 1].map(|row| &products[row * w.rows()..(row + 1) * w.rows()]);
        assert_eq!(product(&gathered), rows.concat());
    }
}
