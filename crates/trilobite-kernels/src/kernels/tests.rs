use super::*;

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
        assert!(error.to_string().contains("scalar, avx2"), "{error}");
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
