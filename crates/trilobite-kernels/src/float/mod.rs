//! Float kernels: each body is written once, over 32 lanes, and compiled for every instruction set.

mod attend;
mod elementwise;
mod exp;
pub(crate) mod simd;
#[cfg(test)]
mod tests;

/// Compiles every float kernel with the given attributes; `$simd` proves the instruction set.
macro_rules! compile {
    ([$($target:tt)*] $simd:expr) => {
        use super::{attend as attention, elementwise, simd};
        use crate::dense::{self, DenseType, WideCodes, WideGroup, blocks};
        use crate::kv::{Block, Visible};
        use std::ops::Range;

        $($target)*
        pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
            simd::dot($simd, a, b)
        }

        $($target)*
        pub(crate) fn quantize_row(x: &[f32], codes: &mut [i8]) -> (f32, i32) {
            elementwise::quantize_row(x, codes)
        }

        $($target)*
        pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
            elementwise::rms_norm($simd, x, weight, eps, out)
        }

        $($target)*
        pub(crate) fn relu2_mul(gate: &mut [f32], up: &[f32]) {
            elementwise::relu2_mul(gate, up)
        }

        $($target)*
        pub(crate) fn silu_mul(gate: &mut [f32], up: &[f32]) {
            elementwise::silu_mul(gate, up)
        }

        $($target)*
        pub(crate) fn gelu_mul(gate: &mut [f32], up: &[f32]) {
            elementwise::gelu_mul(gate, up)
        }

        $($target)*
        pub(crate) fn softmax(x: &mut [f32]) {
            elementwise::softmax($simd, x)
        }

        $($target)*
        pub(crate) fn rope_neox(head: &mut [f32], cos: &[f32], sin: &[f32]) {
            elementwise::rope_neox(head, cos, sin)
        }

        $($target)*
        pub(crate) fn rope_adjacent(head: &mut [f32], cos: &[f32], sin: &[f32]) {
            elementwise::rope_adjacent(head, cos, sin)
        }

        $($target)*
        pub(crate) fn to_f16(x: &[f32], out: &mut [u16]) {
            elementwise::to_f16($simd, x, out)
        }

        $($target)*
        pub(crate) fn attend_scores(
            q: &[f32], keys: Block<'_>, visible: Visible, scale: f32, out: &mut [f32],
        ) {
            attention::scores($simd, q, keys, visible, scale, out)
        }

        $($target)*
        pub(crate) fn attend_values(
            weights: &[f32], values: Block<'_>, panels: Range<usize>, visible: Visible,
            out: &mut [f32],
        ) {
            attention::values($simd, weights, values, panels, visible, out)
        }

        $($target)*
        pub(crate) fn dense_gemm(
            ty: DenseType, w: &[u8], cols: usize, x: &[f32], out: &mut [f32],
        ) {
            dense::gemm($simd, ty, w, cols, x, out)
        }

        $($target)*
        pub(crate) fn wide_codes(
            x: &[f32], codes: &mut [WideGroup], steps: &mut [f32], sums: &mut [[f32; blocks::GROUPS]],
        ) {
            blocks::wide_codes($simd, x, codes, steps, sums)
        }

        $($target)*
        pub(crate) fn block_gemm(ty: DenseType, w: &[u8], x: &WideCodes, out: &mut [f32]) {
            blocks::gemm($simd, ty, w, x, out)
        }

        $($target)*
        pub(crate) fn dense_row(ty: DenseType, w: &[u8], out: &mut [f32]) {
            dense::row($simd, ty, w, out)
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(feature = "c-kernels")]
pub(crate) mod c;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;
