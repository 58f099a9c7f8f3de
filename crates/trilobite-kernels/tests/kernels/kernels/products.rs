//! Every layout on every instruction set of the machine, compared with the specification.

use crate::random::Random;
use crate::reference;
use trilobite_kernels::{Codes, Kernels, Layout, TernaryMatrix, Workspace};

/// Trits and codes, and their products.
struct Case {
    trits: Vec<i8>,
    values: Vec<i8>,
    rows: usize,
    cols: usize,
    expected: Vec<i32>,
}

impl Case {
    fn new(trits: &[i8], values: &[i8], cols: usize) -> Case {
        let (rows, tokens) = (trits.len() / cols, values.len() / cols);
        let expected = reference::gemm(trits, values, cols, rows, tokens);
        Case { trits: trits.to_vec(), values: values.to_vec(), rows, cols, expected }
    }

    /// Asserts that every kernel computes these products: for all rows, for ranges of rows, and, in
    /// layouts that have these products, for lists of rows and parts of the columns.
    fn check(&self) {
        let x = codes(&self.values, self.cols);
        for layout in Layout::ALL {
            let Some(packed) = pack(layout, &self.trits, self.cols) else { continue };
            let matrix = TernaryMatrix::new(layout, &packed, self.rows, self.cols).unwrap();
            for kernels in Kernels::available() {
                self.check_ranges(kernels, &matrix, &x);
                match layout {
                    Layout::I2S(_) => self.check_lists(kernels, &matrix, &x),
                    Layout::I2T => self.check_columns(kernels, &matrix, &x),
                    Layout::T5_3 => {}
                    _ => panic!("further products of {layout:?} are not tested"),
                }
            }
        }
    }

    fn check_ranges(&self, kernels: &Kernels, matrix: &TernaryMatrix<'_>, x: &Codes) {
        let rows = self.rows;
        let workspace = &mut Workspace::default();
        for method in kernels.methods() {
            for range in [0..rows, rows / 3..rows - rows / 4, rows - 1..rows, rows / 2..rows / 2] {
                let mut out = vec![i32::MIN; range.len() * x.tokens()];
                kernels.ternary_gemm_by(method, matrix, range.clone(), x, workspace, &mut out);
                let expected = self.expected.chunks(rows).flat_map(|sums| &sums[range.clone()]);
                assert!(
                    out.iter().eq(expected),
                    "{method:?}, {range:?}: {}",
                    self.name(kernels, matrix, x)
                );
            }
        }
    }

    fn check_lists(&self, kernels: &Kernels, matrix: &TernaryMatrix<'_>, x: &Codes) {
        for step in [1, 2, 7, 1000] {
            let list =
                (0..self.rows as u32).skip(self.rows % step / 2).step_by(step).collect::<Vec<_>>();
            let mut out = vec![i32::MIN; list.len() * x.tokens()];
            kernels.ternary_rows(matrix, &list, x, &mut out);
            let sums = self.expected.chunks(self.rows);
            let expected = sums.flat_map(|sums| list.iter().map(|row| sums[*row as usize]));
            assert!(out.into_iter().eq(expected), "{list:?}: {}", self.name(kernels, matrix, x));
        }
    }

    fn check_columns(&self, kernels: &Kernels, matrix: &TernaryMatrix<'_>, x: &Codes) {
        let (cols, tokens) = (self.cols, x.tokens());
        for split in [0, cols / 3] {
            let mut sums = vec![0; self.expected.len()];
            for part in [0..split, split..cols] {
                let mut out = vec![i32::MIN; sums.len()];
                let live = part.clone().filter(|k| (0..tokens).any(|t| x.row(t)[*k] != 0)).count();
                let read =
                    kernels.ternary_part(matrix, part, x, &mut Workspace::default(), &mut out);
                assert_eq!(read, live, "columns read: {}", self.name(kernels, matrix, x));
                sums.iter_mut().zip(out).for_each(|(sum, out)| *sum += out);
            }
            assert!(sums == self.expected, "split at {split}: {}", self.name(kernels, matrix, x));
        }
    }

    fn name(&self, kernels: &Kernels, matrix: &TernaryMatrix<'_>, x: &Codes) -> String {
        let (layout, tokens) = (matrix.layout().name(), x.tokens());
        format!("{kernels:?} {layout} {}x{}, {tokens} tokens", self.rows, self.cols)
    }
}

fn pack(layout: Layout, trits: &[i8], cols: usize) -> Option<Vec<u8>> {
    let mut packed = vec![0xAA; layout.packed_len(trits.len() / cols, cols)?];
    layout.pack(trits, cols, &mut packed);
    Some(packed)
}

fn codes(values: &[i8], cols: usize) -> Codes {
    let mut codes = Codes::new(0, 0);
    codes.reset(values.len() / cols, cols);
    for (row, values) in codes.rows_mut().zip(values.chunks(cols)) {
        row.codes.copy_from_slice(values);
        *row.sum = values.iter().map(|x| i32::from(*x)).sum();
    }
    codes
}

/// Codes of which about `live` in 8 are nonzero.
fn sparse(random: &mut Random, n: usize, live: u64) -> Vec<i8> {
    (0..n).map(|_| if random.bits() % 8 < live { random.bits() as i8 } else { 0 }).collect()
}

/// Numbers of columns and rows around the block sizes of layouts and the tile sizes of kernels.
const COLS: [usize; 34] = [
    1, 2, 3, 4, 5, 7, 12, 15, 18, 21, 23, 24, 25, 31, 32, 47, 48, 63, 64, 96, 100, 127, 128, 129,
    192, 255, 256, 640, 1000, 2048, 2560, 3072, 3073, 4160,
];
const ROWS: [usize; 13] = [1, 2, 3, 4, 5, 8, 9, 16, 19, 31, 32, 33, 70];
/// Further `(rows, cols)`.
const SHAPES: [(usize, usize); 13] = [
    (128, 1),
    (128, 3),
    (129, 5),
    (64, 65),
    (64, 100),
    (256, 127),
    (200, 129),
    (640, 300),
    (1000, 640),
    (2, 6912),
    (3, 8640),
    (2, 8640),
    // The activations of 33 tokens exceed a megabyte.
    (33, 40_000),
];

#[test]
fn every_kernel_agrees_with_the_reference_on_every_shape() {
    let mut random = Random(2);
    let shapes = COLS.into_iter().flat_map(|cols| ROWS.map(|rows| (rows, cols))).chain(SHAPES);
    for (rows, cols) in shapes {
        let trits = random.trits(rows * cols);
        for tokens in [0, 1, 2, 3, 5, 9, 33] {
            Case::new(&trits, &random.codes(tokens * cols), cols).check();
        }
    }
}

#[test]
fn every_kernel_agrees_with_the_reference_for_every_number_of_tokens() {
    let mut random = Random(3);
    for cols in [24, 128, 192, 301] {
        let trits = random.trits(40 * cols);
        for tokens in (0..=40).chain([63, 64, 65, 130]) {
            Case::new(&trits, &random.codes(tokens * cols), cols).check();
        }
    }
}

#[test]
fn every_kernel_agrees_with_the_reference_for_many_rows() {
    let mut random = Random(5);
    for (rows, cols) in [(192, 1000), (1281, 128), (2569, 256)] {
        Case::new(&random.trits(rows * cols), &random.codes(33 * cols), cols).check();
    }
}

#[test]
fn every_kernel_agrees_with_the_reference_however_many_activations_are_zero() {
    let mut random = Random(6);
    let (rows, cols) = (260, 900);
    let trits = random.trits(rows * cols);
    for tokens in [1, 2, 4, 8, 33] {
        for live in [0, 1, 4, 7] {
            Case::new(&trits, &sparse(&mut random, tokens * cols, live), cols).check();
        }
        for one in [0, 1, 63, 64, 127, 899] {
            let mut values = vec![0; tokens * cols];
            values[(tokens - 1) * cols + one] = -77;
            Case::new(&trits, &values, cols).check();
        }
    }
}

/// With so many rows a part of the columns does not fit in a cache.
#[test]
fn every_kernel_agrees_with_the_reference_if_tokens_have_few_columns_in_common() {
    let mut random = Random(8);
    let (rows, cols) = (20_000, 150);
    let trits = random.trits(rows * cols);
    for tokens in [2, 5] {
        Case::new(&trits, &sparse(&mut random, tokens * cols, 2), cols).check();
    }
}

#[test]
fn every_kernel_is_exact_at_the_extremes() {
    for cols in [63, 127, 2048, 2049, 3072, 4096, 6912, 8640] {
        for weight in [-1, 0, 1] {
            for code in [-128, -127, 127] {
                Case::new(&vec![weight; 5 * cols], &vec![code; 21 * cols], cols).check();
            }
        }
    }
}

/// Every triple of weights in every place of eight, with every possible sum of activations.
#[test]
fn every_kernel_is_exact_for_every_triple_and_sum() {
    let trits: Vec<i8> =
        (0..27).flat_map(|n| [n % 3 - 1, n / 3 % 3 - 1, n / 9 - 1].repeat(9)).collect();
    for code in i8::MIN..=i8::MAX {
        let values: Vec<i8> = (0..27).map(|i| if i % 3 == 0 { code } else { 127 }).collect();
        Case::new(&trits, &values, 27).check();
        let values: Vec<i8> = (0..27).map(|i| if i % 3 == 2 { code } else { -128 }).collect();
        Case::new(&trits, &values, 27).check();
    }
}

#[test]
fn sums_of_very_many_columns_do_not_overflow() {
    let (rows, cols) = (3, 70_000);
    Case::new(&vec![1; rows * cols], &vec![-128; cols], cols).check();
}

#[test]
fn codes_that_are_not_used_do_no_harm() {
    let all_bytes = (0..=u8::MAX).map(|byte| (byte, 32, 100, 2));
    for (byte, rows, cols, tokens) in
        all_bytes.chain([(0xff, 200, 256, 40), (0xff, 256, 70_000, 1)])
    {
        let x = codes(&vec![-128; tokens * cols], cols);
        for layout in Layout::ALL {
            let packed = vec![byte; layout.packed_len(rows, cols).unwrap()];
            let matrix = TernaryMatrix::new(layout, &packed, rows, cols).unwrap();
            for kernels in Kernels::available() {
                let (workspace, out) = (&mut Workspace::default(), &mut vec![0; rows * tokens]);
                for method in kernels.methods() {
                    kernels.ternary_gemm_by(method, &matrix, 0..rows, &x, workspace, out);
                }
                match layout {
                    Layout::I2S(_) => kernels.ternary_rows(&matrix, &[0], &x, &mut out[..tokens]),
                    Layout::I2T => {
                        kernels.ternary_part(&matrix, 0..cols, &x, workspace, out);
                    }
                    Layout::T5_3 => {}
                    _ => panic!("further products of {layout:?} are not tested"),
                }
            }
        }
    }
}

/// A workspace can be reused for products of different shapes.
#[test]
fn a_workspace_leaves_no_trace() {
    let mut random = Random(7);
    let workspace = &mut Workspace::default();
    for (rows, cols, tokens) in
        [(200, 700, 40), (33, 100, 3), (130, 257, 64), (1, 5, 1), (65, 300, 17)]
    {
        let case = Case::new(&random.trits(rows * cols), &random.codes(tokens * cols), cols);
        let x = codes(&case.values, cols);
        for layout in Layout::ALL {
            let Some(packed) = pack(layout, &case.trits, cols) else { continue };
            let matrix = TernaryMatrix::new(layout, &packed, rows, cols).unwrap();
            for kernels in Kernels::available() {
                for method in kernels.methods() {
                    let mut out = vec![i32::MIN; rows * tokens];
                    kernels.ternary_gemm_by(method, &matrix, 0..rows, &x, workspace, &mut out);
                    assert!(out == case.expected, "{}", case.name(kernels, &matrix, &x));
                }
            }
        }
    }
}

fn small(layout: Layout) -> (Vec<u8>, Codes) {
    (vec![0; layout.packed_len(2, 128).unwrap()], codes(&[1; 128], 128))
}

#[test]
#[should_panic = "rows up to 3 of 2"]
fn rows_beyond_the_last_are_refused() {
    let (packed, x) = small(Layout::T5_3);
    let matrix = TernaryMatrix::new(Layout::T5_3, &packed, 2, 128).unwrap();
    let kernels = Kernels::detect().unwrap();
    kernels.ternary_gemm(&matrix, 0..3, &x, &mut Workspace::default(), &mut [0; 3]);
}

#[test]
#[should_panic = "rows up to 3 of 2"]
fn a_chosen_row_beyond_the_last_is_refused() {
    let layout = Layout::ALL[0];
    let (packed, x) = small(layout);
    let matrix = TernaryMatrix::new(layout, &packed, 2, 128).unwrap();
    Kernels::detect().unwrap().ternary_rows(&matrix, &[0, 2], &x, &mut [0; 2]);
}

#[test]
#[should_panic = "codes of a token"]
fn activations_of_another_width_are_refused() {
    let (packed, _) = small(Layout::T5_3);
    let matrix = TernaryMatrix::new(Layout::T5_3, &packed, 2, 128).unwrap();
    let (x, kernels) = (codes(&[1; 127], 127), Kernels::detect().unwrap());
    kernels.ternary_gemm(&matrix, 0..2, &x, &mut Workspace::default(), &mut [0; 2]);
}
