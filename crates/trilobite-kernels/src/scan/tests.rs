use super::*;
use crate::random::Random;
use crate::{DenseType, Kernels};

/// The product of a row and a vector as `dense_gemm` computes it.
fn product(kernels: &Kernels, row: &[f32], x: &[f32]) -> f32 {
    let bytes: Vec<u8> = row.iter().flat_map(|w| w.to_le_bytes()).collect();
    let mut out = [0.0];
    kernels.dense_gemm(DenseType::F32, &bytes, row.len(), 0..1, x, 1, &mut out);
    out[0]
}

/// The enclosure of a product. `None` if there is none.
fn enclosed(kernels: &Kernels, row: &[f32], x: &[f32]) -> Option<(f32, f32)> {
    let mut query = Query::default();
    let mut codes = vec![0; row.len()];
    let bounds = pack(row, &mut codes);
    if !query.set(x) {
        return None;
    }
    let mut sum = [0];
    kernels.scan(&codes, query.codes(), &mut sum);
    query.enclose(sum[0], &bounds)
}

#[test]
fn every_instruction_set_computes_the_exact_sums() {
    let mut random = Random(1);
    for cols in [1, 2, 15, 16, 17, 31, 33, 100, 256, 2560, 2563] {
        for rows in [1, 3, 4, 5, 11] {
            let most = (i32::MAX as usize / (128 * cols)).min(i16::MAX as usize) as i16;
            for extreme in [false, true] {
                let codes: Vec<i8> =
                    if extreme { vec![-128; rows * cols] } else { random.codes(rows * cols) };
                let bytes: Vec<u8> = codes.iter().map(|&c| c as u8).collect();
                let x: Vec<i16> = (0..cols)
                    .map(|_| if extreme { -most } else { random.bits() as i16 % most })
                    .collect();
                let expected: Vec<i32> = codes
                    .chunks(cols)
                    .map(|row| {
                        let terms = row.iter().zip(&x).map(|(&c, &x)| i64::from(c) * i64::from(x));
                        terms.sum::<i64>().try_into().unwrap()
                    })
                    .collect();
                for kernels in Kernels::available() {
                    let mut out = vec![7; rows];
                    kernels.scan(&bytes, &x, &mut out);
                    assert_eq!(out, expected, "{kernels:?} {rows}x{cols}");
                }
            }
        }
    }
}

#[test]
fn products_lie_within_their_bounds() {
    let kernels = Kernels::detect().unwrap();
    let mut random = Random(2);
    for round in 0..6_000 {
        let n = [1, 3, 32, 64, 100, 576, 2560][round % 7];
        // Weights and activations between the smallest and nearly the largest magnitudes.
        let w_size = 2f32.powi((random.bits() % 160) as i32 - 100);
        let x_size = 2f32.powi((random.bits() % 160) as i32 - 100);
        let mut row: Vec<f32> = random.floats(n).iter().map(|w| w * w_size).collect();
        let mut x: Vec<f32> = random.floats(n).iter().map(|x| x * x_size).collect();
        match round % 5 {
            // One weight or activation far above the others.
            1 => row[n / 2] *= 1000.0,
            2 => x[n / 3] *= 1000.0,
            // What the codes miss points along the vector, and so does all rounding.
            3 => {
                let mut codes = vec![0; n];
                let scale = pack(&row, &mut codes).scale;
                for ((x, w), code) in x.iter_mut().zip(&row).zip(codes) {
                    *x = (w - f32::from(code as i8) * scale).clamp(-1e30, 1e30);
                }
            }
            // Everything cancels.
            4 => {
                for i in 0..n / 2 {
                    (row[2 * i + 1], x[2 * i + 1]) = (row[2 * i], -x[2 * i]);
                }
            }
            _ => {}
        }
        let exact = product(kernels, &row, &x);
        match enclosed(kernels, &row, &x) {
            Some((low, high)) => {
                assert!(low <= exact && exact <= high, "{round}: {low} {exact} {high}");
            }
            None => {
                let norm = |v: &[f32]| v.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                assert!(norm(&row) * norm(&x) > HUGE / 16.0, "{round}: no bounds");
            }
        }
    }
}

#[test]
fn bounds_are_tight_enough_to_be_of_use() {
    // The residual of n codes is that of a uniform rounding error, largest / 127 / sqrt(12) each.
    let row = Random(3).floats(2560);
    let bounds = pack(&row, &mut [0; 2560]);
    let expected = f64::from(bounds.scale) * (2560.0f64 / 12.0).sqrt();
    let ratio = f64::from(bounds.residual) / expected;
    assert!((0.95..1.05).contains(&ratio), "{ratio}");
    let x = Random(4).floats(2560);
    let (low, high) = enclosed(Kernels::detect().unwrap(), &row, &x).unwrap();
    let norm = f64::from(bounds.norm) * (2560.0f64 / 3.0).sqrt();
    assert!(f64::from(high - low) / 2.0 < 0.006 * norm, "{low}..{high} of {norm}");
}

#[test]
fn zeros_are_enclosed_by_little_more_than_zero() {
    let kernels = Kernels::detect().unwrap();
    for (row, x) in [([0.0; 40], [1.0; 40]), ([1.0; 40], [0.0; 40]), ([-0.0; 40], [0.0; 40])] {
        let (low, high) = enclosed(kernels, &row, &x).unwrap();
        assert!(-1e-40 < low && low < 0.0 && 0.0 < high && high < 1e-40, "{low} {high}");
    }
}

#[test]
fn what_is_not_finite_has_no_bounds() {
    let kernels = Kernels::detect().unwrap();
    let one = [1.0; 4];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(enclosed(kernels, &one, &[1.0, bad, 1.0, 1.0]), None);
        assert_eq!(enclosed(kernels, &[1.0, bad, 1.0, 1.0], &one), None);
    }
    assert_eq!(enclosed(kernels, &[3e38; 4], &one), None);
    assert_eq!(enclosed(kernels, &[1e25; 4], &[1e25; 4]), None);
    assert!(!Query::default().set(&[]));
    let valid = Bounds { scale: 1.0, norm: 2.0, residual: 0.1 };
    assert!(valid.is_valid());
    assert_eq!(Bounds::from_bytes(&valid.to_bytes()), valid);
    assert!(!Bounds { scale: f32::NAN, ..valid }.is_valid());
    assert!(!Bounds { norm: f32::NAN, ..valid }.is_valid());
    assert!(!Bounds { residual: -1.0, ..valid }.is_valid());
}
