//! The float kernels, compiled for every instruction set.

/// Compiles every float kernel with the given attributes. `$simd` proves the instruction set.
macro_rules! compile {
    ([$($target:tt)*] $simd:expr) => {
        use crate::float::{attend as attention, elementwise};
        use crate::simd;
        use crate::dense::{
            self, BlockBuffers, DenseMatrix, FloatBuffer, NarrowCodes, NarrowGroup, SplitChunk, SplitCodes,
            SplitForm, WideCodes, WideGroup,
            blocks::{self, Multiply}, low_bit,
        };
        use crate::kv::{Block, Visible};
        use crate::scan::{self, Anchors, Precision, Query, RowBounds};
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
            w: DenseMatrix<'_>, x: &[f32], buffer: &mut FloatBuffer, out: &mut [f32],
        ) {
            dense::gemm($simd, w, x, buffer, out)
        }

        $($target)*
        pub(crate) fn wide_codes(
            x: &[f32], codes: &mut [WideGroup], steps: &mut [f32],
            sums: &mut [[f32; blocks::GROUPS]],
        ) {
            blocks::codes($simd, x, codes, steps, sums)
        }

        $($target)*
        pub(crate) fn block_gemm(
            w: DenseMatrix<'_>, x: &WideCodes, buffers: &mut BlockBuffers, out: &mut [f32],
        ) {
            $simd.multiply(w, x, buffers, out)
        }

        $($target)*
        pub(crate) fn narrow_codes(
            x: &[f32], codes: &mut [NarrowGroup], steps: &mut [f32],
            sums: &mut [[f32; blocks::GROUPS]],
        ) {
            blocks::codes($simd, x, codes, steps, sums)
        }

        $($target)*
        pub(crate) fn narrow_gemm(
            w: DenseMatrix<'_>, x: &NarrowCodes, buffers: &mut BlockBuffers, out: &mut [f32],
        ) {
            $simd.multiply(w, x, buffers, out)
        }

        $($target)*
        pub(crate) fn split_codes(
            x: &[f32], form: SplitForm, chunks: &mut [SplitChunk], steps: &mut [f32],
        ) {
            low_bit::split_codes(x, form, chunks, steps)
        }

        $($target)*
        pub(crate) fn low_bit_gemm(
            w: DenseMatrix<'_>, x: &SplitCodes, buffers: &mut low_bit::LowBitBuffers, out: &mut [f32],
        ) {
            low_bit::gemm($simd, w, x, buffers, out)
        }

        $($target)*
        pub(crate) fn dense_row(w: DenseMatrix<'_>, out: &mut [f32]) {
            dense::row($simd, w, out)
        }

        $($target)*
        pub(crate) fn known(query: &Query, anchors: &Anchors, first: usize, out: &mut [f32]) {
            scan::known(query, anchors, first, out)
        }

        $($target)*
        pub(crate) fn enclose(
            query: &Query, precision: Precision, refinements: usize, sums: (&[i32], &[f32]),
            rows: (RowBounds<'_>, usize), ends: [&mut [f32]; 2],
        ) {
            scan::enclose(query, precision, refinements, sums, rows, ends)
        }
    };
}

pub(super) mod scalar {
    compile! { [] simd::scalar::Scalar(simd::scalar::InRust) }
}

#[cfg(feature = "c-kernels")]
pub(super) mod c {
    compile! { [] simd::scalar::Scalar(simd::c::InC) }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2 {
    compile! { [#[target_feature(enable = "avx2,fma,f16c")]] simd::avx2::Avx2::<false>::new() }
}

/// Only the kernels that the instructions of AVX-VNNI make faster.
#[cfg(target_arch = "x86_64")]
pub(super) mod avx_vnni {
    use crate::dense::blocks::Multiply;
    use crate::dense::{BlockBuffers, DenseMatrix, NarrowCodes, SplitCodes, low_bit};
    use crate::simd::avx2::Avx2;

    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    pub(crate) fn low_bit_gemm(
        w: DenseMatrix<'_>,
        x: &SplitCodes,
        buffers: &mut low_bit::LowBitBuffers,
        out: &mut [f32],
    ) {
        low_bit::gemm(Avx2::<true>::new(), w, x, buffers, out)
    }

    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    pub(crate) fn narrow_gemm(
        w: DenseMatrix<'_>,
        x: &NarrowCodes,
        buffers: &mut BlockBuffers,
        out: &mut [f32],
    ) {
        Avx2::<true>::new().multiply(w, x, buffers, out)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    compile! {
        [#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vnni")]]
        simd::avx512::Avx512::new()
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) mod neon {
    compile! { [#[target_feature(enable = "neon")]] simd::neon::Neon::new() }
}
