use crate::random::Random;
use half::f16;
use trilobite_kernels::internals::multiply_add;
use trilobite_kernels::{DenseMatrix, DenseType, Isa, Kernels};

/// Number of lanes to multiply and add at a time.
const LANES: usize = 32;

/// Asserts that `a * b + c` is rounded once in every lane. Any NaN is accepted.
fn check(a: &[f32], b: &[f32], c: &[f32]) {
    let mut sums = c.to_vec();
    multiply_add(a, b, &mut sums);
    for (i, sum) in sums.into_iter().enumerate() {
        let (a, b, c) = (a[i], b[i], c[i]);
        let expected = a.mul_add(b, c);
        let same = sum.to_bits() == expected.to_bits() || sum.is_nan() && expected.is_nan();
        assert!(same, "{a:e} * {b:e} + {c:e} is {sum:e}, not {expected:e}");
    }
}

/// Checks `count` lanes of three numbers each.
fn check_all(count: usize, mut lane: impl FnMut() -> [f32; 3]) {
    for _ in 0..count / LANES {
        let lanes: [_; LANES] = std::array::from_fn(|_| lane());
        let [a, b, c] = [0, 1, 2].map(|i| lanes.map(|lane| lane[i]));
        check(&a, &b, &c);
    }
}

#[test]
fn products_of_any_bits_are_added_and_rounded_once() {
    let mut random = Random(1);
    let mut any = || f32::from_bits(random.bits() as u32);
    check_all(1 << 21, || [any(), any(), any()]);
}

#[test]
fn products_near_the_sum_are_added_and_rounded_once() {
    let mut random = Random(2);
    check_all(1 << 21, || {
        let [a, b, c] = [0, 1, 2].map(|_| 1.0 + (random.bits() >> 41) as f32 / 8_388_608.0);
        let exponent = (random.bits() % 61) as i32 - 30;
        let sign = if random.bits().is_multiple_of(2) { 1.0 } else { -1.0 };
        [sign * a, b, c * 2f32.powi(exponent)]
    });
}

#[test]
fn sums_beside_the_middle_of_two_floats_are_rounded_once() {
    let mut random = Random(3);
    // All exponents of the sum, down to those of subnormal numbers.
    for exponent in (-149..=127).rev().step_by(3) {
        let last = (exponent - 23).max(-149);
        let (digits, last) = (exponent - last + 1, f64::from(last));
        check_all(1 << 13, || {
            let c = (random.bits() % (1 << digits)) as f64 * last.exp2();
            // Half of the last place times 1 - i^2 / 2^46. A double cannot hold the sum exactly for
            // small i: it rounds to the midpoint, while the exact sum is beside it.
            let i = (random.bits() % 4 * (random.bits() % 100)) as f64 / 8_388_608.0;
            let first = f64::from((random.bits() % 40) as i32) - 20.0 + (last / 2.0).floor();
            let second = last - 1.0 - first;
            let sign = if random.bits().is_multiple_of(2) { 1.0 } else { -1.0 };
            let (a, b) = (sign * (1.0 + i) * first.exp2(), (1.0 - i) * second.exp2());
            [a as f32, b as f32, c as f32]
        });
    }
}

#[test]
fn any_multiple_of_eight_lanes_is_added() {
    for lanes in [8, 16, 24, 32] {
        let ones = vec![1.5; lanes];
        check(&ones, &ones, &ones);
    }
}

#[test]
fn all_numbers_of_half_precision_are_widened() {
    let tables = Kernels::available();
    let kernels = tables.iter().find(|kernels| kernels.isa == Isa::C).unwrap();
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let matrix = DenseMatrix::new(DenseType::F16, &bytes, 1, 1 << 16).unwrap();
    let mut wide = vec![0.0; 1 << 16];
    kernels.dense_row(&matrix, 0, &mut wide);
    for (bits, wide) in (0..=u16::MAX).zip(wide) {
        let expected = f16::from_bits(bits).to_f32_const();
        assert_eq!(wide.to_bits(), expected.to_bits(), "{bits:#x}");
    }
}
