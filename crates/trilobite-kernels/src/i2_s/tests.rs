use super::*;
use crate::random::Random;
use crate::{Codes, Kernels, Layout, Method, reference};

const LAYOUTS: [Rows; 2] = [Rows::Flat, Rows::Padded];

/// The shapes worth trying, `(rows, cols)`: below, at and above blocks, tiles and chunks.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    let cols =
        [1, 5, 31, 32, 63, 64, 96, 127, 128, 129, 192, 255, 256, 640, 1000, 2048, 2560, 4160];
    let rows = [1, 2, 3, 4, 5, 8, 9, 16, 19];
    cols.into_iter().flat_map(move |cols| rows.map(|rows| (rows, cols))).chain([
        (128, 1),
        (128, 3),
        (64, 100),
        (2, 6912),
        (3, 8640),
        (2, 8640),
        (32, 100),
    ])
}

fn packed(trits: &[i8], cols: usize, layout: Rows) -> Option<Vec<u8>> {
    let mut packed = vec![0xAA; packed_len(trits.len() / cols, cols, layout)?];
    pack(trits, cols, layout, &mut packed);
    Some(packed)
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
    for layout in LAYOUTS {
        let Some(packed) = packed(trits, cols, layout) else { continue };
        for kernels in Kernels::available() {
            for method in Method::ALL {
                let mut out = vec![i32::MIN; rows * tokens];
                let layout = Layout::I2S(layout);
                let (rows, tokens) = (0..rows, 0..tokens);
                kernels.ternary_gemm_by(
                    method,
                    layout,
                    &packed,
                    cols,
                    rows.clone(),
                    &x,
                    tokens.clone(),
                    &mut out,
                );
                assert!(
                    out == expected,
                    "{kernels:?} {method:?} {layout:?} {rows:?}x{cols}, {tokens:?}"
                );
            }
        }
    }
}

#[test]
fn packing_places_an_element_as_bitnet_cpp_does() {
    for element in 0..256 {
        let mut trits = [0; 256];
        trits[element] = 1;
        let packed = packed(&trits, 64, Rows::Flat).unwrap();
        let (block, j) = (element / 128, element % 128);
        let mut expected = [0b01_01_01_01; 64];
        expected[32 * block + j % 32] ^= 0b11 << (6 - 2 * (j / 32));
        assert_eq!(packed, expected, "element {element}");
    }
}

#[test]
fn unpacking_restores_what_was_packed() {
    let mut random = Random(1);
    for (rows, cols) in shapes() {
        let trits = random.trits(rows * cols);
        for layout in LAYOUTS {
            let Some(packed) = packed(&trits, cols, layout) else { continue };
            let mut unpacked = vec![0; trits.len()];
            unpack(&packed, cols, layout, &mut unpacked);
            assert_eq!(unpacked, trits, "{layout:?} {rows}x{cols}");
        }
    }
}

#[test]
fn padded_rows_are_filled_with_zero_trits() {
    let packed = packed(&[1; 2 * 100], 100, Rows::Padded).unwrap();
    let mut trits = [0; 256];
    unpack(&packed, 128, Rows::Padded, &mut trits);
    for row in trits.chunks(128) {
        assert_eq!((&row[..100], &row[100..]), (&[1; 100][..], &[0; 28][..]));
    }
}

#[test]
fn packed_length_exists_only_for_shapes_that_can_be_stored() {
    assert_eq!(packed_len(3, 100, Rows::Flat), None);
    assert_eq!(packed_len(32, 100, Rows::Flat), Some(800));
    assert_eq!(packed_len(3, 100, Rows::Padded), Some(96));
    assert_eq!(packed_len(0, 100, Rows::Flat), Some(0));
    for layout in LAYOUTS {
        assert_eq!(packed_len(usize::MAX, 128, layout), None);
        assert_eq!(packed_len(2, usize::MAX, layout), None);
    }
}

#[test]
#[should_panic = "a weight is not -1, 0 or 1"]
fn packing_refuses_a_weight_that_is_not_ternary() {
    packed(&[2], 1, Rows::Padded);
}

#[test]
fn every_kernel_agrees_with_the_reference_on_every_shape() {
    let mut random = Random(2);
    for (rows, cols) in shapes() {
        let trits = random.trits(rows * cols);
        for tokens in [0, 1, 2, 3, 5, 9, 16] {
            check(&trits, &random.codes(tokens * cols), cols);
        }
    }
}

#[test]
fn every_kernel_agrees_with_the_reference_for_every_number_of_tokens() {
    let mut random = Random(3);
    for cols in [128, 192, 300] {
        let trits = random.trits(20 * cols);
        for tokens in (0..=40).chain([63, 64, 65, 130]) {
            check(&trits, &random.codes(tokens * cols), cols);
        }
    }
}

#[test]
fn every_kernel_agrees_with_the_reference_for_many_rows() {
    let mut random = Random(5);
    for (rows, cols) in [(192, 1000), (1281, 128), (2569, 256)] {
        check(&random.trits(rows * cols), &random.codes(33 * cols), cols);
    }
}

#[test]
fn codes_that_are_not_used_do_no_harm() {
    let (rows, cols, tokens) = (200, 256, 40);
    let x = filled(&vec![-128; tokens * cols], cols);
    for kernels in Kernels::available() {
        for method in Method::ALL {
            let (layout, packed) = (Layout::I2S(Rows::Flat), vec![0xff; rows * cols / 4]);
            let (rows, tokens) = (0..rows, 0..tokens);
            let mut out = vec![0; rows.len() * tokens.len()];
            kernels.ternary_gemm_by(method, layout, &packed, cols, rows, &x, tokens, &mut out);
        }
    }
}

#[test]
fn every_kernel_is_exact_at_the_extremes() {
    for cols in [127, 2048, 2049, 4096, 8640] {
        for weight in [-1, 0, 1] {
            for code in [-128, -127, 127] {
                check(&vec![weight; 5 * cols], &vec![code; 21 * cols], cols);
            }
        }
    }
}

#[test]
fn a_part_of_the_rows_and_tokens_is_that_part_of_the_whole() {
    let (rows, cols, tokens) = (16, 200, 37);
    let mut random = Random(4);
    let (trits, values) = (random.trits(rows * cols), random.codes(tokens * cols));
    let whole = reference::gemm(&trits, &values, cols, rows, tokens);
    let x = filled(&values, cols);
    for layout in LAYOUTS {
        let packed = packed(&trits, cols, layout).unwrap();
        for (part, batch) in [(3..12, 1..36), (15..16, 6..7), (0..1, 0..37), (4..4, 0..7)] {
            let each = Method::ALL
                .map(|method| Kernels::available().into_iter().map(move |k| (k, method)));
            for (kernels, method) in each.into_iter().flatten() {
                let mut out = vec![0; part.len() * batch.len()];
                let (part, batch) = (part.clone(), batch.clone());
                kernels.ternary_gemm_by(
                    method,
                    Layout::I2S(layout),
                    &packed,
                    cols,
                    part.clone(),
                    &x,
                    batch.clone(),
                    &mut out,
                );
                let expected = batch.flat_map(|t| &whole[t * rows..][part.clone()]);
                assert!(out.iter().eq(expected), "{kernels:?} {method:?} {layout:?} {part:?}");
            }
        }
    }
}

#[test]
fn chosen_rows_are_those_of_the_whole() {
    let mut random = Random(6);
    for (rows, cols) in [(1, 5), (9, 127), (64, 100), (150, 640), (70, 4160)] {
        let trits = random.trits(rows * cols);
        for tokens in [1, 2, 3, 4, 5, 9] {
            let values = random.codes(tokens * cols);
            let whole = reference::gemm(&trits, &values, cols, rows, tokens);
            let x = filled(&values, cols);
            for layout in LAYOUTS {
                let Some(packed) = packed(&trits, cols, layout) else { continue };
                for one_in in [1, 2, 5, 1000] {
                    let chosen = (0..rows as u32).filter(|_| random.bits().is_multiple_of(one_in));
                    let chosen = chosen.collect::<Vec<_>>();
                    let expected = whole
                        .chunks(rows)
                        .flat_map(|sums| chosen.iter().map(|row| &sums[*row as usize]));
                    for kernels in Kernels::available() {
                        let mut out = vec![i32::MIN; chosen.len() * tokens];
                        kernels.ternary_rows(
                            layout,
                            &packed,
                            cols,
                            &chosen,
                            &x,
                            0..tokens,
                            &mut out,
                        );
                        assert!(
                            out.iter().eq(expected.clone()),
                            "{kernels:?} {layout:?} {rows}x{cols} {chosen:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic = "rows of 128"]
fn a_chosen_row_beyond_the_last_is_refused() {
    let kernels = Kernels::detect().unwrap();
    let x = filled(&[1; 128], 128);
    kernels.ternary_rows(Rows::Flat, &[0; 64], 128, &[0, 2], &x, 0..1, &mut [0; 2]);
}

#[test]
fn codes_keep_their_zeros_when_the_shape_changes() {
    let mut codes = Codes::new(3, 300);
    for (tokens, cols) in [(3, 300), (2, 7), (3, 129), (1, 300), (4, 300)] {
        codes.reset(tokens, cols);
        codes.rows_mut().for_each(|row| row.codes.fill(-1));
        for t in 0..tokens {
            let padded = codes.padded(t);
            assert!(padded[..BLOCK].iter().all(|x| *x == 0));
            assert!(padded[BLOCK..][..cols].iter().all(|x| *x == -1));
            assert!(padded[BLOCK + cols..].len() >= BLOCK);
            assert!(padded[BLOCK + cols..].iter().all(|x| *x == 0));
        }
    }
}
