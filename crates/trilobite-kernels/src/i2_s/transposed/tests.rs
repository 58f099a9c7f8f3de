use crate::random::Random;
use crate::{Codes, ColumnList, Kernels, Layout, Method, reference};
use std::ops::Range;

/// Rows and columns below, at and above blocks, pairs of them and the rows added in registers.
const SHAPES: [(usize, usize); 9] = [
    (1, 1),
    (5, 3),
    (127, 64),
    (128, 65),
    (129, 200),
    (256, 129),
    (300, 640),
    (384, 128),
    (640, 1000),
];

fn packed(trits: &[i8], cols: usize) -> Vec<u8> {
    let mut packed = vec![0xAA; Layout::I2T.packed_len(trits.len() / cols, cols).unwrap()];
    Layout::I2T.pack(trits, cols, &mut packed);
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

/// Activations of which about `live` of 8 are not zero.
fn sparse(random: &mut Random, n: usize, live: u64) -> Vec<i8> {
    (0..n).map(|_| if random.bits() % 8 < live { random.bits() as i8 } else { 0 }).collect()
}

/// Asserts that every kernel computes what the reference does, at once and in parts.
fn check(trits: &[i8], values: &[i8], cols: usize) {
    let (rows, tokens) = (trits.len() / cols, values.len() / cols);
    let expected = reference::gemm(trits, values, cols, rows, tokens);
    let (packed, x) = (packed(trits, cols), filled(values, cols));
    let part = |kernels: &Kernels, part: Range<usize>| {
        let mut out = vec![i32::MIN; rows * tokens];
        let list = &mut ColumnList::with_capacity(0, 0);
        let count = part.clone().filter(|i| (0..tokens).any(|t| x.row(t)[*i] != 0)).count();
        let read = kernels.ternary_part(&packed, rows, part, &x, 0..tokens, list, &mut out);
        assert_eq!(read, count, "columns read");
        out
    };
    for kernels in Kernels::available() {
        assert!(part(kernels, 0..cols) == expected, "{kernels:?} {rows}x{cols}, {tokens}");
        let (first, second) = (part(kernels, 0..cols / 3), part(kernels, cols / 3..cols));
        let sums = first.iter().zip(&second).map(|(a, b)| a + b).collect::<Vec<_>>();
        assert!(sums == expected, "parts: {kernels:?} {rows}x{cols}, {tokens}");
        for method in Method::ALL {
            for range in [0..rows, rows / 3..rows - rows / 4] {
                let mut out = vec![i32::MIN; range.len() * tokens];
                let (layout, batch) = (Layout::I2T, 0..tokens);
                let some = range.clone();
                kernels.ternary_gemm_by(method, layout, &packed, cols, some, &x, batch, &mut out);
                let expected = expected.chunks(rows).flat_map(|sums| &sums[range.clone()]);
                assert!(out.iter().eq(expected), "{kernels:?} {method:?} {range:?}x{cols}");
            }
        }
    }
}

#[test]
fn unpacking_restores_what_was_packed() {
    let mut random = Random(1);
    for (rows, cols) in SHAPES {
        let trits = random.trits(rows * cols);
        let mut unpacked = vec![0; trits.len()];
        Layout::I2T.unpack(&packed(&trits, cols), cols, &mut unpacked);
        assert_eq!(unpacked, trits, "{rows}x{cols}");
    }
}

#[test]
fn every_kernel_agrees_with_the_reference_on_every_shape() {
    let mut random = Random(2);
    for (rows, cols) in SHAPES {
        let trits = random.trits(rows * cols);
        for tokens in [1, 2, 3, 4, 5, 7, 11, 12, 40] {
            check(&trits, &sparse(&mut random, tokens * cols, 4), cols);
        }
    }
}

#[test]
fn every_kernel_agrees_with_the_reference_however_many_activations_are_zero() {
    let mut random = Random(3);
    let (rows, cols) = (260, 900);
    let trits = random.trits(rows * cols);
    for tokens in [1, 2, 4] {
        for live in [0, 1, 7, 8] {
            check(&trits, &sparse(&mut random, tokens * cols, live), cols);
        }
        for one in [0, 1, 63, 64, 127, 899] {
            let mut values = vec![0; tokens * cols];
            values[(tokens - 1) * cols + one] = -77;
            check(&trits, &values, cols);
        }
    }
}

#[test]
fn every_kernel_is_exact_at_the_extremes() {
    for cols in [63, 64, 128, 4096] {
        for weight in [-1, 0, 1] {
            for code in [-128, -127, 127] {
                check(&vec![weight; 130 * cols], &vec![code; 5 * cols], cols);
            }
        }
    }
}

#[test]
fn sums_of_very_many_rows_do_not_overflow() {
    let (rows, cols) = (3, 70_000);
    check(&vec![1; rows * cols], &vec![-128; cols], cols);
}

#[test]
fn codes_that_are_not_used_do_no_harm() {
    let (rows, cols) = (256, 70_000);
    let x = filled(&vec![-128; cols], cols);
    for kernels in Kernels::available() {
        let mut out = vec![0; rows];
        let (packed, list) = (vec![0xff; rows * cols / 4], &mut ColumnList::with_capacity(1, cols));
        kernels.ternary_part(&packed, rows, 0..cols, &x, 0..1, list, &mut out);
    }
}
