//! Norms, activation functions, softmax, rotary embedding and int8 quantisation, one row at a time.

use super::exp::exp;
use crate::simd::{LANES, Simd, dot, pad, total};

/// See [`Kernels::quantize_row`](crate::Kernels::quantize_row).
#[inline(always)]
pub(crate) fn quantize_row(x: &[f32], codes: &mut [i8]) -> (f32, i32) {
    // Comparisons with NaN are false, so a NaN never becomes the maximum.
    let max = largest(x, 0.0, f32::abs);
    let scale = 127.0 / if max > 1e-5 { max } else { 1e-5 };
    let mut sum = 0;
    for (code, x) in codes.iter_mut().zip(x) {
        let scaled = x * scale;
        let scaled = if scaled.is_nan() { 0.0 } else { scaled };
        // Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits.
        // |scaled| exceeds 127 only by rounding, so no clamp is needed afterwards.
        let rounded = (scaled + 12_582_912.0).to_bits() as i32 - 12_582_912_f32.to_bits() as i32;
        *code = rounded as i8;
        sum += rounded;
    }
    (scale, sum)
}

/// The largest of `floor` and `f(x)`, ignoring NaN.
#[inline(always)]
fn largest(x: &[f32], floor: f32, f: impl Fn(f32) -> f32) -> f32 {
    let mut max = [floor; LANES];
    let (x, tail) = x.as_chunks::<LANES>();
    for x in x {
        for i in 0..LANES {
            let y = f(x[i]);
            max[i] = if y > max[i] { y } else { max[i] };
        }
    }
    tail.iter().map(|x| f(*x)).chain(max).fold(floor, |max, y| if y > max { y } else { max })
}

/// See [`Kernels::rms_norm`](crate::Kernels::rms_norm).
#[inline(always)]
pub(crate) fn rms_norm(simd: impl Simd, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = 1.0 / (dot(simd, x, x) / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// See [`Kernels::relu2_mul`](crate::Kernels::relu2_mul).
#[inline(always)]
pub(crate) fn relu2_mul(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        let relu = if *gate < 0.0 { 0.0 } else { *gate };
        *gate = relu * relu * up;
    }
}

/// See [`Kernels::silu_mul`](crate::Kernels::silu_mul).
#[inline(always)]
pub(crate) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// See [`Kernels::gelu_mul`](crate::Kernels::gelu_mul).
#[inline(always)]
pub(crate) fn gelu_mul(gate: &mut [f32], up: &[f32]) {
    // (1 + tanh(y)) / 2 is 1 / (1 + exp(-2 y)), here with -2 y = -2 sqrt(2 / pi) (x + ..).
    const SCALE: f32 = -1.595_769;
    for (gate, up) in gate.iter_mut().zip(up) {
        let x = *gate;
        let y = (x * x).mul_add(0.044_715 * x, x);
        *gate = x / (1.0 + exp(SCALE * y)) * up;
    }
}

/// See [`Kernels::softmax`](crate::Kernels::softmax).
#[inline(always)]
pub(crate) fn softmax(simd: impl Simd, x: &mut [f32]) {
    let max = largest(x, f32::NEG_INFINITY, |x| x);
    for x in x.iter_mut() {
        *x = exp(*x - max);
    }
    let sum = total(simd, x);
    for x in x.iter_mut() {
        *x /= sum;
    }
}

/// See [`Kernels::rope_neox`](crate::Kernels::rope_neox).
#[inline(always)]
pub(crate) fn rope_neox(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// See [`Kernels::rope_adjacent`](crate::Kernels::rope_adjacent).
#[inline(always)]
pub(crate) fn rope_adjacent(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    for (([a, b], cos), sin) in head.as_chunks_mut().0.iter_mut().zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// See [`Kernels::to_f16`](crate::Kernels::to_f16).
#[inline(always)]
pub(crate) fn to_f16(simd: impl Simd, x: &[f32], out: &mut [u16]) {
    let ((x, x_tail), (out, out_tail)) = (x.as_chunks(), out.as_chunks_mut());
    for (x, out) in x.iter().zip(out) {
        simd.store_f16(simd.load(x), out);
    }
    let mut padded = [0; LANES];
    simd.store_f16(simd.load(&pad(x_tail)), &mut padded);
    out_tail.copy_from_slice(&padded[..x_tail.len()]);
}
