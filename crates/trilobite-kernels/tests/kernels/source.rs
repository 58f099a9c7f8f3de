use half::{bf16, f16};
use trilobite_kernels::source::groups::{outliers, scale};
use trilobite_kernels::source::trits::{self, tq1_0};
use trilobite_kernels::source::{
    Element, has_one_magnitude, largest_magnitude, scale_codes, sum_of_magnitudes, unpack_codes,
};

#[test]
fn every_tq1_0_byte_is_five_trits() {
    // The bytes of the 243 values, rounded as in llama.cpp.
    for value in 0..243u32 {
        let byte = (value * 256).div_ceil(243) as u8;
        let mut block = [0; 54];
        block[0] = byte;
        let mut trits = [0; 256];
        tq1_0(&[block], &mut trits);
        let found = (0..5).fold(0, |number, n| number * 3 + (trits[32 * n] + 1) as u32);
        assert_eq!(found, value);
    }
}

#[test]
fn the_scale_is_the_magnitude_that_leaves_the_fewest_outliers() {
    let of = |weights: &[f32]| scale(weights).unwrap();
    assert_eq!(of(&[0.0, -0.5, 0.5, -0.0, 0.5]), 0.5);
    assert_eq!(of(&[3.0, -0.5, 0.5, 0.5]), 0.5, "an outlier can be the largest");
    assert_eq!(of(&[0.25, -0.5, 0.5, -0.5]), 0.5, "or the smallest");
    assert_eq!(of(&[1.0, -0.5, 0.5, 0.0]), 0.5, "twice the scale is a code");
    assert_eq!(of(&[1.0, -0.5, 1.0, 0.0]), 0.5);
    assert_eq!(of(&[0.0, -0.0]), 0.0);
    assert_eq!(of(&[0.1, 0.5, 0.5]), 0.5, "F16 does not hold 0.1");
    assert_eq!(scale(&[0.5, f32::NAN]), None);
}

#[test]
fn elements_widen_exactly() {
    let values = [0.0, -0.0, 1.0, -1.5, 65504.0, 6e-8, f32::INFINITY];
    // More than the buffer of halves, and not a multiple of it.
    let values: Vec<f32> = values.into_iter().cycle().take(600).collect();
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut wide = vec![7.0];
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Element::F32.widen(&bytes, &mut wide);
    assert_eq!(bits(&wide), bits(&values));
    let halves: Vec<f16> = values.iter().map(|x| f16::from_f32(*x)).collect();
    let bytes: Vec<u8> = halves.iter().flat_map(|x| x.to_le_bytes()).collect();
    Element::F16.widen(&bytes, &mut wide);
    assert_eq!(bits(&wide), bits(&halves.iter().map(|x| x.to_f32()).collect::<Vec<_>>()));
    assert_eq!(Element::F16.first_not_finite(&bytes), Some(6));
    let halves: Vec<bf16> = values.iter().map(|x| bf16::from_f32(*x)).collect();
    let bytes: Vec<u8> = halves.iter().flat_map(|x| x.to_le_bytes()).collect();
    Element::Bf16.widen(&bytes, &mut wide);
    assert_eq!(bits(&wide), bits(&halves.iter().map(|x| x.to_f32()).collect::<Vec<_>>()));
    assert_eq!(Element::Bf16.first_not_finite(&bytes), Some(6));
    Element::U8.widen(&[0, 200], &mut wide);
    assert_eq!(wide, [0.0, 200.0]);
    Element::I8.widen(&[0, 200], &mut wide);
    assert_eq!(wide, [0.0, -56.0]);
}

#[test]
fn magnitudes_are_those_of_all_weights() {
    let weights: Vec<f32> = (0..37).map(|i| (i - 20) as f32).collect();
    assert_eq!(sum_of_magnitudes(&weights), f64::from(20 * 21 / 2 + 16 * 17 / 2));
    assert_eq!(largest_magnitude(&weights), 20.0);
    assert!(has_one_magnitude(&[2.0, -2.0, 0.0, -0.0], 2.0));
    assert!(!has_one_magnitude(&[2.0, -2.0, 1.0], 2.0));
    assert!(!has_one_magnitude(&[0.0, f32::NAN], 0.0));
}

#[test]
fn weights_become_trits() {
    let weights = [0.0, 1.0, -1.0, 0.5, -0.6, 3.0];
    let of = |convert: fn(&[f32], &mut [i8])| {
        let mut trits = [9; 6];
        convert(&weights, &mut trits);
        trits
    };
    assert_eq!(of(trits::signs), [0, 1, -1, 1, -1, 1]);
    assert_eq!(of(trits::exact), [0, 1, -1, 2, 2, 2]);
    assert_eq!(of(|weights, trits| trits::round(weights, 1.0, trits)), [0, 1, -1, 0, -1, 1]);
    assert_eq!(trits::first_invalid(&[0, 1, -1, 2, 2]), Some(3));
    assert_eq!(trits::first_invalid(&[0, 1, -1]), None);
}

#[test]
fn columns_are_taken_and_set() {
    let rows: [i8; 6] = [1, 2, 3, 4, 5, 6];
    let mut column = Vec::new();
    trits::push_column(&rows, 3, 1, &mut column);
    assert_eq!(column, [2, 5]);
    let mut trits = [0; 6];
    trits::set_column(&[7, 8, 9], 3, 2, &mut trits);
    assert_eq!(trits, [0, 0, 7, 0, 0, 8]);
}

#[test]
fn codes_unpack_lowest_first() {
    let mut codes = Vec::new();
    unpack_codes(&[0b11_10_01_00, 0x5a], 2, &mut codes);
    assert_eq!(codes, [0, 1, 2, 3, 2, 2, 1, 1]);
    let mut weights = Vec::new();
    scale_codes(&codes, 4, &[1.0, 2.0], &[-1.0, 0.5], &mut weights);
    assert_eq!(weights, [-1.0, 0.0, 1.0, 2.0, 4.5, 4.5, 2.5, 2.5]);
}

#[test]
fn a_row_has_at_most_a_quarter_of_outliers() {
    let mut row = [1.0f32; 64];
    row[3] = 0.3;
    let found = outliers(&row, 32).unwrap();
    assert_eq!((found.found, found.only_signs), (vec![(3, 0.3)], false));
    assert!(outliers(&[1.0, -1.0], 2).unwrap().only_signs);
    assert_eq!(outliers(&[f32::NAN, 1.0], 2), None);
    let row: Vec<f32> = (1..65).map(|i| i as f32).collect();
    assert_eq!(outliers(&row, 32), None);
}
