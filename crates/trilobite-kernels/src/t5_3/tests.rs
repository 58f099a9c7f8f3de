use super::*;
use crate::random::Random;
use crate::{Codes, Kernels, Layout, reference};

/// The shapes worth trying, `(rows, cols)`: below, at and above triples, blocks, tiles and chunks.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    let cols = [1, 2, 3, 4, 7, 12, 15, 18, 21, 23, 24, 25, 47, 48, 100, 128, 640, 2560, 3072, 3073];
    let rows = [1, 2, 31, 32, 33, 64, 70];
    cols.into_iter().flat_map(move |cols| rows.map(|rows| (rows, cols))).chain([
        (2, 6912),
        (3, 8640),
        (129, 5),
    ])
}

fn packed(trits: &[i8], cols: usize) -> Vec<u8> {
    let mut packed = vec![0xAA; packed_len(trits.len() / cols, cols).unwrap()];
    pack(trits, cols, &mut packed);
    packed
}

fn filled(values: &[i8], cols: usize) -> Codes {
    let mut codes = Codes::new(0, 0);
    codes.reset(values.len() / cols, cols);
    for (row, values) in codes.rows_mut().zip(values.chunks(cols)) {
        row.codes.copy_from_slice(values);
        *row.sum = values.iter().map(|x| i32::from(*x)).sum();
    }
    codes
}

/// Asserts that every kernel computes what the reference does on these weights and activations.
fn check(trits: &[i8], values: &[i8], cols: usize) {
    let (rows, tokens) = (trits.len() / cols, values.len() / cols);
    let expected = reference::gemm(trits, values, cols, rows, tokens);
    let x = filled(values, cols);
    let packed = packed(trits, cols);
    for kernels in Kernels::available() {
        let mut out = vec![i32::MIN; rows * tokens];
        kernels.ternary_gemm(Layout::T5_3, &packed, cols, 0..rows, &x, 0..tokens, &mut out);
        assert_eq!(out, expected, "{kernels:?} {rows}x{cols}, {tokens} tokens");
    }
}

/// The bytes of every plane at the first row of a single tile.
fn first_lane(trits: &[i8]) -> Vec<u8> {
    packed(trits, trits.len()).as_chunks::<TILE>().0.iter().map(|plane| plane[0]).collect()
}

#[test]
fn a_triple_is_an_index_and_a_sign() {
    for (trits, index, sign) in [
        ([0, 0, 0], 1, 0),
        ([1, 0, 0], 2, 0),
        ([-1, 0, 0], 2, 1),
        ([-1, 1, 0], 3, 0),
        ([0, 0, 1], 10, 0),
        ([1, 1, 1], 14, 0),
        ([-1, -1, -1], 14, 1),
        ([1, 1, -1], 6, 1),
    ] {
        // The signs of the triples that are not there are 0.
        assert_eq!(first_lane(&trits), [index | sign << 7], "{trits:?}");
    }
}

#[test]
fn packing_places_the_triples_of_a_block() {
    let zero = [0x01, 0x11, 0x11, 0x01, 0x11];
    assert_eq!(first_lane(&[0; 24]), zero);
    let places = [(0, 0, 0, 7), (1, 0, 0, 6), (1, 4, 0, 5), (2, 0, 0, 4)];
    let places = places.into_iter().chain([(2, 4, 3, 7), (3, 0, 3, 6), (4, 0, 3, 5), (4, 4, 3, 4)]);
    for (triple, (plane, shift, sign_plane, bit)) in places.enumerate() {
        let mut trits = [0; 24];
        trits[3 * triple] = -1;
        let mut expected = zero;
        expected[plane] ^= 3 << shift;
        expected[sign_plane] |= 1 << bit;
        assert_eq!(first_lane(&trits), expected, "triple {triple}");
    }
}

/// The example in the README of trilobite-format.
#[test]
fn the_example_of_the_specification() {
    let mut expected = [[0x01; TILE], [0x11; TILE]];
    (expected[0][0], expected[0][1], expected[1][0]) = (0x89, 0x0c, 0x14);
    assert_eq!(packed(&[1, 0, -1, 0, 1, -1, 1, 1, 0, 0], 5), expected.as_flattened());
}

#[test]
fn a_last_block_takes_the_planes_that_it_uses() {
    for (triples, planes) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (8, 5)] {
        assert_eq!(packed_len(1, 3 * triples), Some(TILE * planes));
        assert_eq!(packed_len(33, 48 + 3 * triples - 2), Some(2 * TILE * (10 + planes)));
    }
    assert_eq!(packed_len(0, 100), Some(0));
    assert_eq!(packed_len(100, 0), Some(0));
    assert_eq!(packed_len(usize::MAX, 1), None);
    assert_eq!(packed_len(usize::MAX / 64, 2560), None);
    assert_eq!(packed_len(1, usize::MAX), None);
}

#[test]
fn unpacking_restores_what_was_packed() {
    let mut random = Random(1);
    for (rows, cols) in shapes() {
        let trits = random.trits(rows * cols);
        let mut unpacked = vec![7; trits.len()];
        unpack(&packed(&trits, cols), cols, &mut unpacked);
        assert_eq!(unpacked, trits, "{rows}x{cols}");
    }
}

#[test]
#[should_panic = "a weight is not -1, 0 or 1"]
fn packing_refuses_a_weight_that_is_not_ternary() {
    packed(&[2], 1);
}

#[test]
fn every_kernel_agrees_with_the_reference_on_every_shape() {
    let mut random = Random(2);
    for (rows, cols) in shapes() {
        let trits = random.trits(rows * cols);
        for tokens in [0, 1, 2, 5] {
            check(&trits, &random.codes(tokens * cols), cols);
        }
    }
}

#[test]
fn every_kernel_agrees_with_the_reference_for_every_number_of_tokens() {
    let mut random = Random(3);
    for cols in [24, 192, 301] {
        let trits = random.trits(40 * cols);
        for tokens in (0..=17).chain([63, 64, 65, 130]) {
            check(&trits, &random.codes(tokens * cols), cols);
        }
    }
}

#[test]
fn every_kernel_is_exact_at_the_extremes() {
    for cols in [127, 3072, 6912] {
        for weight in [-1, 0, 1] {
            for code in [-128, -127, 127] {
                check(&vec![weight; 33 * cols], &vec![code; 5 * cols], cols);
            }
        }
    }
}

/// Every triple of weights in every place of a block, with each sum of activations that is possible.
#[test]
fn every_kernel_is_exact_for_every_triple_and_sum() {
    let trits: Vec<i8> =
        (0..27).flat_map(|n| [n % 3 - 1, n / 3 % 3 - 1, n / 9 - 1].repeat(9)).collect();
    for code in i8::MIN..=i8::MAX {
        let values: Vec<i8> = (0..27).map(|i| if i % 3 == 0 { code } else { 127 }).collect();
        check(&trits, &values, 27);
        let values: Vec<i8> = (0..27).map(|i| if i % 3 == 2 { code } else { -128 }).collect();
        check(&trits, &values, 27);
    }
}

#[test]
fn a_part_of_the_rows_and_tokens_is_that_part_of_the_whole() {
    let (rows, cols, tokens) = (70, 200, 7);
    let mut random = Random(4);
    let (trits, values) = (random.trits(rows * cols), random.codes(tokens * cols));
    let whole = reference::gemm(&trits, &values, cols, rows, tokens);
    let x = filled(&values, cols);
    let packed = packed(&trits, cols);
    let parts =
        [(3..12, 1..6), (69..70, 6..7), (0..1, 0..7), (4..4, 0..7), (31..65, 2..3), (32..64, 0..7)];
    for (part, batch) in parts {
        for kernels in Kernels::available() {
            let mut out = vec![0; part.len() * batch.len()];
            let (part, batch) = (part.clone(), batch.clone());
            let of = (part.clone(), batch.clone());
            kernels.ternary_gemm(Layout::T5_3, &packed, cols, of.0, &x, of.1, &mut out);
            let expected = batch.flat_map(|t| &whole[t * rows..][part.clone()]);
            assert!(out.iter().eq(expected), "{kernels:?} {part:?}");
        }
    }
}

#[test]
fn bytes_that_packing_never_writes_do_no_harm() {
    let x = filled(&[127; 2 * 100], 100);
    for byte in 0..=u8::MAX {
        let packed = vec![byte; packed_len(33, 100).unwrap()];
        for kernels in Kernels::available() {
            kernels.ternary_gemm(Layout::T5_3, &packed, 100, 0..33, &x, 0..2, &mut [0; 66]);
        }
        let mut trits = [0; 3300];
        unpack(&packed, 100, &mut trits);
        let used = |nibble| (1..=14).contains(&nibble);
        assert_eq!(trits.contains(&2), !(used(byte & 15) && used(byte >> 4)), "{byte:#04x}");
        assert!(!trits.contains(&-2));
    }
}
