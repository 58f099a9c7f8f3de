mod products;

use crate::random::Random;
use trilobite_kernels::internals::{
    SCALAR_FINGERPRINT, choose, detected, faulty, fingerprint, passing,
};
use trilobite_kernels::{
    Codes, DenseMatrix, DenseType, Isa, Kernels, Layout, TernaryMatrix, Workspace,
};

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
fn an_instruction_set_that_is_unknown_or_missing_is_an_error_with_the_available_ones() {
    let available = Kernels::available().iter().map(|kernels| kernels.isa).collect::<Vec<_>>();
    let missing = Isa::ALL.into_iter().filter(|isa| !available.contains(isa)).map(Isa::name);
    let names = available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
    for value in ["", "AVX2", "avx512", "scalar "].into_iter().chain(missing) {
        let expected =
            format!("TRILOBITE_ISA is {value:?}, but this machine and build have: {names}");
        assert_eq!(choose(Some(value)).unwrap_err().to_string(), expected);
    }
}

#[test]
fn every_instruction_set_of_the_machine_passes_its_self_test() {
    let isas = |tables: Vec<Kernels>| tables.iter().map(|table| table.isa).collect::<Vec<_>>();
    let machine = isas(detected());
    assert_eq!(isas(passing(detected())), machine);
    assert_eq!(Kernels::available().len(), 1 + machine.len());
    for isa in Isa::ALL {
        if isa != Isa::Scalar && !machine.contains(&isa) {
            eprintln!("not tested, because this machine lacks it: {}", isa.name());
        }
    }
}

#[test]
fn the_recorded_fingerprint_is_that_of_the_scalar_results() {
    assert_eq!(fingerprint(Kernels::available()[0]), SCALAR_FINGERPRINT);
}

#[test]
fn an_instruction_set_that_computes_something_else_fails_its_self_test() {
    for (kernel, table) in faulty() {
        assert!(passing(vec![table]).is_empty(), "a wrong {kernel} passes");
    }
}

#[test]
fn products_over_no_columns_are_zero() {
    let workspace = &mut Workspace::default();
    for kernels in Kernels::available() {
        let mut codes = Codes::new(0, 0);
        codes.reset(2, 0);
        for layout in Layout::ALL {
            let matrix = TernaryMatrix::new(layout, &[], 3, 0).unwrap();
            let mut out = [7; 6];
            kernels.ternary_gemm(&matrix, 0..3, &codes, workspace, &mut out);
            assert_eq!(out, [0; 6]);
        }
        let matrix = DenseMatrix::new(DenseType::BF16, &[], 3, 0).unwrap();
        let mut out = [7.0; 6];
        kernels.dense_gemm(&matrix, 0..3, &[], workspace, &mut out);
        assert_eq!(out, [0.0; 6]);
    }
}

#[test]
fn a_matrix_has_the_bytes_of_its_shape() {
    for layout in Layout::ALL {
        let len = layout.packed_len(3, 128).unwrap();
        for bytes in [0, len - 1, len, len + 1] {
            let matrix =
                TernaryMatrix::new(layout, &vec![0; bytes], 3, 128).map(|m| (m.rows(), m.cols()));
            assert_eq!(matrix, (bytes == len).then_some((3, 128)), "{layout:?}");
        }
        assert!(TernaryMatrix::new(layout, &[], usize::MAX, 128).is_none());
    }
    assert!(TernaryMatrix::new(Layout::ALL[0], &[0; 75], 3, 100).is_none());
    for (bytes, rows, cols) in
        [(68, 1, 64), (67, 1, 64), (69, 1, 64), (34, 1, 40), (0, usize::MAX, 64)]
    {
        let bytes = vec![0; bytes];
        let matrix = DenseMatrix::new(DenseType::Q8_0, &bytes, rows, cols);
        assert_eq!(matrix.is_some(), bytes.len() == 68, "{rows}x{cols}");
    }
}

#[test]
fn layouts_have_names() {
    for layout in Layout::ALL {
        assert_eq!(layout.name().parse::<Layout>().unwrap(), layout);
    }
    let error = "i2s".parse::<Layout>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "no layout of ternary matrices is called \"i2s\"; there are: i2_s, i2_r, i2_t, t5_3"
    );
}

/// Shapes of packed matrices, with and without padding, in which to find invalid codes.
const SHAPES: [(usize, usize); 12] = [
    (1, 1),
    (1, 128),
    (3, 300),
    (33, 47),
    (64, 96),
    (70, 129),
    (128, 3),
    (40, 25),
    (129, 200),
    (300, 640),
    (2, 3073),
    (9, 6000),
];

#[test]
fn invalid_codes_are_where_unpacking_finds_them() {
    let mut random = Random(7);
    for (layout, (rows, cols)) in
        Layout::ALL.into_iter().flat_map(|l| SHAPES.map(|shape| (l, shape)))
    {
        let Some(len) = layout.packed_len(rows, cols) else { continue };
        let mut packed = vec![0; len];
        layout.pack(&random.trits(rows * cols), cols, &mut packed);
        assert_eq!(layout.find_invalid(&packed, rows, cols), None, "{layout:?} {rows}x{cols}");
        for _ in 0..200 {
            let mut damaged = packed.clone();
            let (at, bits) = (random.bits() as usize % len, random.bits() as u8);
            damaged[at] = bits;
            let mut trits = vec![0; rows * cols];
            layout.unpack(&damaged, cols, &mut trits);
            let found = layout.find_invalid(&damaged, rows, cols);
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
fn unpacking_restores_what_was_packed() {
    let mut random = Random(1);
    for (layout, (rows, cols)) in
        Layout::ALL.into_iter().flat_map(|l| SHAPES.map(|shape| (l, shape)))
    {
        let Some(len) = layout.packed_len(rows, cols) else { continue };
        let trits = random.trits(rows * cols);
        let (mut packed, mut unpacked) = (vec![0xAA; len], vec![7; trits.len()]);
        layout.pack(&trits, cols, &mut packed);
        layout.unpack(&packed, cols, &mut unpacked);
        assert_eq!(unpacked, trits, "{layout:?} {rows}x{cols}");
    }
}

#[test]
fn only_zeros_are_zero() {
    for (layout, (rows, cols)) in
        Layout::ALL.into_iter().flat_map(|l| SHAPES.map(|shape| (l, shape)))
    {
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
