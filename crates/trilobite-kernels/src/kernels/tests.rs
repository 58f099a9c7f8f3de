use super::*;
use crate::random::Random;

#[test]
fn the_highest_instruction_set_is_chosen_unless_a_lower_one_is_named() {
    let highest = Kernels::available().pop().unwrap().isa;
    assert_eq!(choose(None).unwrap().isa, highest);
    for kernels in Kernels::available() {
        assert_eq!(choose(Some(kernels.isa.name())).unwrap().isa, kernels.isa);
    }
    assert_eq!(choose(Some("scalar")).unwrap().isa, Isa::Scalar);
}

#[test]
fn an_instruction_set_that_is_unknown_or_missing_is_an_error() {
    for value in ["", "AVX2", "avx512", "scalar "] {
        let error = choose(Some(value)).unwrap_err();
        assert!(matches!(&error, Error::UnknownIsa { value: v, .. } if v == value), "{error}");
        assert!(error.to_string().contains("scalar, c, avx2"), "{error}");
    }
    for isa in Isa::ALL {
        let there = Kernels::available().iter().any(|kernels| kernels.isa == isa);
        assert_eq!(choose(Some(isa.name())).is_ok(), there);
    }
}

#[test]
fn every_instruction_set_of_the_machine_passes_its_self_test() {
    let expected = self_test::results(&scalar());
    let detected = detected();
    for kernels in &detected {
        assert_eq!(self_test::results(kernels), expected, "{kernels:?}");
    }
    assert_eq!(Kernels::available().len(), 1 + detected.len());
    for isa in Isa::ALL {
        if isa != Isa::Scalar && !detected.iter().any(|kernels| kernels.isa == isa) {
            eprintln!("not tested, because this machine lacks it: {}", isa.name());
        }
    }
}

#[test]
fn an_instruction_set_that_computes_something_else_fails_its_self_test() {
    let expected = self_test::results(&scalar());
    let mut wrong = scalar();
    wrong.dot = |_, _| 0.0;
    assert_ne!(self_test::results(&wrong), expected);
    let mut wrong = scalar();
    wrong.i2_s_gemm = |_, _, _, _, _, _, out| out.fill(1);
    assert_ne!(self_test::results(&wrong), expected);
    let mut wrong = scalar();
    wrong.i2_s_rows = |_, _, _, _, _, _, out| out.fill(1);
    assert_ne!(self_test::results(&wrong), expected);
    let mut wrong = scalar();
    wrong.i2_t_add = |_, _, _, sums| sums.fill(1);
    assert_ne!(self_test::results(&wrong), expected);
    let mut wrong = scalar();
    wrong.i2_t_repack = |_, _, columns, out| {
        *out = vec![0; 1 << 20];
        columns
    };
    assert_ne!(self_test::results(&wrong), expected);
    let mut wrong = scalar();
    wrong.t5_3_gemm = |_, _, _, _, _, _, out| out.fill(1);
    assert_ne!(self_test::results(&wrong), expected);
}

#[test]
fn products_over_no_columns_are_zero() {
    for kernels in Kernels::available() {
        let mut codes = Codes::new(0, 0);
        codes.reset(2, 0);
        let mut out = [7; 6];
        let layout = Layout::I2S(i2_s::Rows::Padded);
        kernels.ternary_gemm(layout, &[], 0, 0..3, &codes, 0..2, &mut out);
        assert_eq!(out, [0; 6]);
        let mut out = [7.0; 6];
        kernels.dense_gemm(DenseType::BF16, &[], 0, 0..3, &[], 2, &mut out);
        assert_eq!(out, [0.0; 6]);
    }
}

#[test]
#[should_panic = "rows 0..3 of 128"]
fn weights_that_are_too_short_are_refused() {
    let mut codes = Codes::new(1, 128);
    codes.reset(1, 128);
    let layout = Layout::I2S(i2_s::Rows::Flat);
    let kernels = Kernels::detect().unwrap();
    kernels.ternary_gemm(layout, &[0; 64], 128, 0..3, &codes, 0..1, &mut [0; 3]);
}

const LAYOUTS: [Layout; 4] =
    [Layout::I2S(i2_s::Rows::Flat), Layout::I2S(i2_s::Rows::Padded), Layout::I2T, Layout::T5_3];

/// The shapes of packed matrices, with and without padding, that codes are looked at in.
const SHAPES: [(usize, usize); 6] = [(1, 128), (3, 300), (64, 96), (128, 3), (40, 25), (9, 6000)];

#[test]
fn unused_codes_are_where_unpacking_finds_them() {
    let mut random = Random(7);
    for (layout, (rows, cols)) in LAYOUTS.into_iter().flat_map(|l| SHAPES.map(|shape| (l, shape))) {
        let Some(len) = layout.packed_len(rows, cols) else { continue };
        let mut packed = vec![0; len];
        layout.pack(&random.trits(rows * cols), cols, &mut packed);
        assert_eq!(layout.find_unused(&packed, rows, cols), None, "{layout:?} {rows}x{cols}");
        for _ in 0..200 {
            let mut damaged = packed.clone();
            let (at, bits) = (random.bits() as usize % len, random.bits() as u8);
            damaged[at] = bits;
            let mut trits = vec![0; rows * cols];
            layout.unpack(&damaged, cols, &mut trits);
            let found = layout.find_unused(&damaged, rows, cols);
            let within = found.filter(|&(row, col)| row < rows && col < cols);
            let expected = trits.contains(&2);
            assert_eq!(within.is_some(), expected, "{layout:?} {rows}x{cols}: {bits:#x} at {at}");
            if let Some((row, col)) = within {
                assert_eq!(trits[row * cols + col], 2, "{layout:?} {rows}x{cols}: {row}, {col}");
            }
        }
    }
}

#[test]
fn only_zeros_are_zero() {
    for (layout, (rows, cols)) in LAYOUTS.into_iter().flat_map(|l| SHAPES.map(|shape| (l, shape))) {
        let Some(len) = layout.packed_len(rows, cols) else { continue };
        let mut packed = vec![0; len];
        for at in [None, Some(0), Some(rows * cols / 2), Some(rows * cols - 1)] {
            for trit in [-1, 1] {
                let mut trits = vec![0; rows * cols];
                at.into_iter().for_each(|at: usize| trits[at] = trit);
                layout.pack(&trits, cols, &mut packed);
                let zero = layout.is_zero(&packed, cols);
                assert_eq!(zero, at.is_none(), "{layout:?} {rows}x{cols}: {at:?}");
            }
        }
    }
}
