mod attend;

use crate::random::Random;
use trilobite_kernels::internals::exp;
use trilobite_kernels::{DenseMatrix, DenseType, Kernels};

const LENGTHS: [usize; 15] = [0, 1, 7, 8, 31, 32, 33, 63, 64, 65, 100, 128, 1000, 2560, 6912];

/// Asserts that `f` gives the same bits on every instruction set. Returns the result.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, f: impl Fn(&Kernels) -> T) -> T {
    let [scalar, others @ ..] = &Kernels::available()[..] else { unreachable!() };
    let expected = f(scalar);
    for kernels in others {
        assert_eq!(f(kernels), expected, "{what}: {kernels:?}");
    }
    expected
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// The result of an in-place operation, after asserting that its bits are the same on every
/// instruction set.
fn in_place(what: &str, x: &[f32], f: impl Fn(&Kernels, &mut [f32])) -> Vec<f32> {
    let bits = same(what, |kernels| {
        let mut x = x.to_vec();
        f(kernels, &mut x);
        bits(&x)
    });
    bits.into_iter().map(f32::from_bits).collect()
}

/// The documented order of every sum: 32 lanes by fused multiply-add, then pairwise.
fn dot_in_order(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 32];
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        lanes[i % 32] = a.mul_add(*b, lanes[i % 32]);
    }
    for width in [16, 8, 4, 2, 1] {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

fn assert_close(actual: &[f32], expected: impl IntoIterator<Item = f64>, tolerance: f64) {
    let expected = expected.into_iter().collect::<Vec<_>>();
    assert_eq!(actual.len(), expected.len());
    for (i, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
        let error = (f64::from(*actual) - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "{i}: {actual} is not {expected}");
    }
}

#[test]
fn exp_is_within_2_ulp() {
    let mut worst = 0.0_f64;
    // Every 61st float whose result is between the smallest normal and the largest finite number,
    // with both signs.
    for magnitude in (0..88.8_f32.to_bits()).step_by(61) {
        for x in [f32::from_bits(magnitude), -f32::from_bits(magnitude)] {
            let expected = f64::from(x).exp();
            if !(f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&expected) {
                continue;
            }
            let ulp = 2_f64.powi(expected.log2().floor() as i32 - 23);
            worst = worst.max((f64::from(exp(x)) - expected).abs() / ulp);
        }
    }
    assert!(worst <= 2.0, "{worst} ulp");
}

#[test]
fn exp_keeps_to_its_limits() {
    assert_eq!(exp(0.0), 1.0);
    for x in [-104.0, -1e10, f32::MIN, f32::NEG_INFINITY] {
        assert_eq!(exp(x).to_bits(), 0, "{x}");
    }
    for x in [88.73, 1e10, f32::MAX, f32::INFINITY] {
        assert_eq!(exp(x), f32::INFINITY, "{x}");
    }
    assert!(exp(f32::NAN).is_nan());
    assert!(exp(-100.0) > 0.0, "subnormal results are not flushed");
}

#[test]
fn dot_keeps_the_stated_order() {
    let mut random = Random(1);
    for n in LENGTHS {
        let (a, b) = (random.floats(n), random.floats(n));
        let dot = same("dot", |kernels| kernels.dot(&a, &b).to_bits());
        assert_eq!(dot, dot_in_order(&a, &b).to_bits(), "{n} elements");
    }
}

#[test]
fn quantisation_is_that_of_the_reference() {
    let mut random = Random(2);
    for n in LENGTHS {
        for magnitude in [0.0, 1e-7, 1.0, 3e4, f32::MAX] {
            let x = random.floats(n).iter().map(|x| x * magnitude).collect::<Vec<_>>();
            let (scale, sum, codes) = quantize(&x);
            let max = x.iter().fold(1e-5_f32, |max, x| max.max(x.abs()));
            let rounded = x.iter().map(|x| (x * scale).round_ties_even().clamp(-128.0, 127.0));
            assert_eq!(scale, 127.0 / max);
            assert!(codes.iter().map(|code| f32::from(*code)).eq(rounded), "{n} of {magnitude}");
            assert_eq!(sum, codes.iter().map(|code| i32::from(*code)).sum::<i32>());
        }
    }
}

#[test]
fn quantisation_rounds_ties_to_even() {
    let (scale, _, codes) = quantize(&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -127.0]);
    assert_eq!((scale, &codes[..]), (1.0, &[127, 0, 2, 2, 0, -2, -2, -127][..]));
}

#[test]
fn quantisation_of_what_is_not_finite_is_determined() {
    assert_eq!(quantize(&[1.0, f32::NAN, -0.5]), (127.0, 127 - 64, vec![127, 0, -64]));
    assert_eq!(quantize(&[f32::NAN; 40]).2, [0; 40]);
    assert_eq!(quantize(&[1.0, f32::NEG_INFINITY]), (0.0, 0, vec![0, 0]));
}

fn quantize(x: &[f32]) -> (f32, i32, Vec<i8>) {
    same("quantize_row", |kernels| {
        let mut codes = vec![99; x.len()];
        let (scale, sum) = kernels.quantize_row(x, &mut codes);
        (scale, sum, codes)
    })
}

#[test]
fn norm_and_activations_agree_with_double_precision() {
    let mut random = Random(3);
    for n in LENGTHS {
        let x = random.floats(n).iter().map(|x| x * 20.0).collect::<Vec<_>>();
        let y = random.floats(n);
        let wide = || x.iter().map(|x| f64::from(*x)).zip(y.iter().map(|y| f64::from(*y)));

        let mean = wide().map(|(x, _)| x * x).sum::<f64>() / n as f64;
        let norm = in_place("rms_norm", &x, |k, out| k.rms_norm(&x, &y, 1e-5, out));
        assert_close(&norm, wide().map(|(x, w)| x / (mean + 1e-5).sqrt() * w), 1e-6);

        let relu2 = in_place("relu2_mul", &x, |k, gate| k.relu2_mul(gate, &y));
        assert_close(&relu2, wide().map(|(x, up)| x.max(0.0).powi(2) * up), 1e-6);

        let silu = in_place("silu_mul", &x, |k, gate| k.silu_mul(gate, &y));
        assert_close(&silu, wide().map(|(x, up)| x / (1.0 + (-x).exp()) * up), 1e-6);

        let gelu = in_place("gelu_mul", &x, |k, gate| k.gelu_mul(gate, &y));
        let tanh =
            |x: f64| ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh();
        assert_close(&gelu, wide().map(|(x, up)| x / 2.0 * (1.0 + tanh(x)) * up), 1e-6);

        let max = wide().fold(f64::MIN, |max, (x, _)| max.max(x));
        let sum = wide().map(|(x, _)| (x - max).exp()).sum::<f64>();
        let softmax = in_place("softmax", &x, |k, x| k.softmax(x));
        assert_close(&softmax, wide().map(|(x, _)| (x - max).exp() / sum), 2e-7);
    }
}

#[test]
fn softmax_gives_a_masked_position_nothing() {
    let x = [0.0, f32::NEG_INFINITY, 0.0];
    assert_eq!(in_place("softmax", &x, |k, x| k.softmax(x)), [0.5, 0.0, 0.5]);
    assert!(Kernels::available().iter().all(|k| {
        let mut x = [f32::NEG_INFINITY; 2];
        k.softmax(&mut x);
        x.iter().all(|x| x.is_nan())
    }));
}

#[test]
fn activations_far_from_zero_saturate() {
    let gate = [-1e30, -200.0, 0.0, 200.0];
    let silu = in_place("silu_mul", &gate, |k, gate| k.silu_mul(gate, &[1.0; 4]));
    assert_eq!(silu, [0.0, 0.0, 0.0, 200.0]);
    let gelu = in_place("gelu_mul", &gate, |k, gate| k.gelu_mul(gate, &[1.0; 4]));
    assert_eq!(gelu, [0.0, 0.0, 0.0, 200.0]);
}

#[test]
fn rope_rotates_its_pairs_and_leaves_the_rest() {
    let mut random = Random(4);
    for pairs in [0, 1, 5, 32, 48, 50, 64, 128] {
        let x = random.floats(2 * pairs + 3);
        let angles = random.floats(pairs);
        let cos = angles.iter().map(|angle| angle.cos()).collect::<Vec<_>>();
        let sin = angles.iter().map(|angle| angle.sin()).collect::<Vec<_>>();
        let neox = in_place("rope_neox", &x, |k, x| k.rope_neox(x, &cos, &sin));
        let adjacent = in_place("rope_adjacent", &x, |k, x| k.rope_adjacent(x, &cos, &sin));
        for i in 0..pairs {
            for (rotated, [a, b]) in [(&neox, [i, i + pairs]), (&adjacent, [2 * i, 2 * i + 1])] {
                assert_eq!(rotated[a], x[a] * cos[i] - x[b] * sin[i]);
                assert_eq!(rotated[b], x[b] * cos[i] + x[a] * sin[i]);
            }
        }
        assert_eq!(
            (&neox[2 * pairs..], &adjacent[2 * pairs..]),
            (&x[2 * pairs..], &x[2 * pairs..])
        );
    }
}

#[test]
fn every_f16_widens_exactly() {
    let bytes = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let matrix = DenseMatrix::new(DenseType::F16, &bytes, 1, 1 << 16).unwrap();
    let wide = in_place("dense_row", &[0.0; 1 << 16], |k, out| k.dense_row(&matrix, 0, out));
    for (h, wide) in (0..=u16::MAX).map(half::f16::from_bits).zip(wide) {
        assert!(wide == h.to_f32_const() || wide.is_nan() && h.is_nan(), "{h:?}");
    }
}

#[test]
fn f16_rounds_to_nearest_even() {
    let mut x = (0..u32::MAX / 65521).map(|i| f32::from_bits(i * 65521)).collect::<Vec<_>>();
    // Between adjacent f16: the midpoint and its neighbours, in the subnormal range and at the
    // limits.
    for h in (0..0x7c00).step_by(7).chain([0x7bff]) {
        let [low, high] = [h, h + 1].map(|h| half::f16::from_bits(h).to_f32_const());
        let middle = if high.is_finite() { (low + high) / 2.0 } else { 65520.0 };
        x.extend([middle.next_down(), middle, middle.next_up()]);
    }
    let f16 = same("to_f16", |kernels| {
        let mut out = vec![0; x.len()];
        kernels.to_f16(&x, &mut out);
        out
    });
    for (x, f16) in x.iter().zip(f16) {
        assert_eq!(f16, half::f16::from_f32_const(*x).to_bits(), "{x:e}");
    }
}

#[test]
fn dense_rows_hold_the_stored_values() {
    let row = |ty, bytes: &[u8], cols| {
        let matrix = DenseMatrix::new(ty, bytes, 2, cols).unwrap();
        in_place("dense_row", &vec![0.0; cols], |k, out| k.dense_row(&matrix, 1, out))
    };
    assert_eq!(row(DenseType::F32, &[0, 0, 0, 0, 0, 0, 0xc0, 0x3f], 1), [1.5]);
    assert_eq!(row(DenseType::BF16, &[0, 0, 0xc0, 0x3f], 1), [1.5]);
    assert_eq!(row(DenseType::F16, &[0, 0, 0x00, 0x3e], 1), [1.5]);
    let mut blocks = [0; 68];
    blocks[34..38].copy_from_slice(&[0x00, 0x38, 3, 0xfe]); // scale 0.5, codes 3 and -2
    assert_eq!(row(DenseType::Q8_0, &blocks, 32)[..3], [1.5, -1.0, 0.0]);
}
