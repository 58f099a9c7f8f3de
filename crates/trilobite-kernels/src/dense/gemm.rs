//! Dense matrices times float activations.

use super::DenseType;
use super::blocks::{self, Weights};
use crate::float::simd::{LANES, Simd, pad};

/// Rows that one batch of tokens after another is multiplied with, for the second-level cache.
const ROWS: usize = 32;

/// One dense type; `N` is the bytes of a block, in which every 32 weights are a group. The types
/// without blocks have one of a single group, and their last may be shorter.
trait Format<const N: usize> {
    /// Groups of a block.
    const GROUPS: usize;
    /// What the groups of a block share.
    type Shared;
    fn shared<S: Simd>(simd: S, block: &[u8; N]) -> Self::Shared;
    /// The weights of group `G`.
    fn load<S: Simd, const G: usize>(simd: S, block: &[u8; N], shared: &Self::Shared) -> S::Lanes;
}

/// A type whose groups share nothing.
macro_rules! plain {
    ($name:ident, $bytes:literal, |$simd:ident, $block:ident| $load:expr) => {
        struct $name;
        impl Format<$bytes> for $name {
            const GROUPS: usize = 1;
            type Shared = ();
            #[inline(always)]
            fn shared<S: Simd>(_: S, _: &[u8; $bytes]) {}
            #[inline(always)]
            fn load<S: Simd, const G: usize>($simd: S, $block: &[u8; $bytes], _: &()) -> S::Lanes {
                $load
            }
        }
    };
}

plain!(F32, 128, |simd, block| {
    let mut values = [0.0; LANES];
    for (value, bytes) in values.iter_mut().zip(block.as_chunks().0) {
        *value = f32::from_le_bytes(*bytes);
    }
    simd.load(&values)
});
plain!(F16, 64, |simd, block| simd.load_f16(&halves(block)));
plain!(Bf16, 64, |simd, block| simd.load_bf16(&halves(block)));
plain!(Q8, 34, |simd, block| {
    let [low, high, codes @ ..] = block;
    let scale = simd.load_f16(&[u16::from_le_bytes([*low, *high]); LANES]);
    let mut signed = [0; LANES];
    for (signed, code) in signed.iter_mut().zip(codes) {
        *signed = *code as i8;
    }
    simd.mul(simd.load_i8(&signed), scale)
});

/// A type that is decoded as the specification says.
macro_rules! specified {
    ($name:ident, $bytes:literal, $groups:literal, $decode:path) => {
        struct $name;
        impl Format<$bytes> for $name {
            const GROUPS: usize = $groups;
            type Shared = Weights<$groups>;
            #[inline(always)]
            fn shared<S: Simd>(_: S, block: &[u8; $bytes]) -> Self::Shared {
                $decode(block)
            }
            #[inline(always)]
            fn load<S: Simd, const G: usize>(
                simd: S,
                _: &[u8; $bytes],
                weights: &Self::Shared,
            ) -> S::Lanes {
                simd.load(&weights[G])
            }
        }
    };
}

specified!(Q4_0, 18, 1, blocks::q4_0);
specified!(Q4_1, 20, 1, blocks::q4_1);
specified!(Q5_0, 22, 1, blocks::q5_0);
specified!(Q5_1, 24, 1, blocks::q5_1);
specified!(Q4K, 144, 8, blocks::q4_k);
specified!(Q5K, 176, 8, blocks::q5_k);
specified!(Q6K, 210, 8, blocks::q6_k);
specified!(Tq1, 54, 8, blocks::tq1_0);
specified!(Tq2, 66, 8, blocks::tq2_0);

/// Evaluates an expression for each group of a block of format `$format`.
macro_rules! groups {
    ($format:ident, $group:ident => $body:expr) => {
        groups! { $format, $group => $body; 0 1 2 3 4 5 6 7 }
    };
    ($format:ident, $group:ident => $body:expr; $($value:literal)*) => {
        $({
            const $group: usize = $value;
            if $group < $format::GROUPS {
                $body
            }
        })*
    };
}

#[inline(always)]
fn halves(bytes: &[u8; 64]) -> [u16; LANES] {
    let mut values = [0; LANES];
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        *value = u16::from_le_bytes(*bytes);
    }
    values
}

/// Calls a function for the format of a type.
macro_rules! dispatch {
    ($ty:expr, $f:ident($($arg:expr),*)) => {
        match $ty {
            DenseType::F32 => $f::<F32, 128>($($arg),*),
            DenseType::F16 => $f::<F16, 64>($($arg),*),
            DenseType::BF16 => $f::<Bf16, 64>($($arg),*),
            DenseType::Q4_0 => $f::<Q4_0, 18>($($arg),*),
            DenseType::Q4_1 => $f::<Q4_1, 20>($($arg),*),
            DenseType::Q5_0 => $f::<Q5_0, 22>($($arg),*),
            DenseType::Q5_1 => $f::<Q5_1, 24>($($arg),*),
            DenseType::Q8_0 => $f::<Q8, 34>($($arg),*),
            DenseType::Q4K => $f::<Q4K, 144>($($arg),*),
            DenseType::Q5K => $f::<Q5K, 176>($($arg),*),
            DenseType::Q6K => $f::<Q6K, 210>($($arg),*),
            DenseType::TQ1_0 => $f::<Tq1, 54>($($arg),*),
            DenseType::TQ2_0 => $f::<Tq2, 66>($($arg),*),
        }
    };
}

/// See [`Kernels::dense_gemm`](crate::Kernels::dense_gemm), which checks the lengths. `w` holds
/// exactly the rows wanted, and `out` is `[tokens][rows]` for at least one token.
#[inline(always)]
pub(crate) fn gemm(
    simd: impl Simd,
    ty: DenseType,
    w: &[u8],
    cols: usize,
    x: &[f32],
    out: &mut [f32],
) {
    dispatch!(ty, gemm_as(simd, w, cols, x, out))
}

#[inline(always)]
fn gemm_as<F: Format<N>, const N: usize>(
    simd: impl Simd,
    w: &[u8],
    cols: usize,
    x: &[f32],
    out: &mut [f32],
) {
    let tokens = x.len() / cols;
    let rows = out.len() / tokens;
    let row_len = w.len() / rows;
    for first in (0..rows).step_by(ROWS) {
        let w = &w[first * row_len..rows.min(first + ROWS) * row_len];
        let mut t = 0;
        while t < tokens {
            let x = &x[t * cols..];
            let out = &mut out[t * rows + first..];
            t += match tokens - t {
                1 => gemm_tokens::<F, N, 1>(simd, w, row_len, x, cols, out, rows),
                2 => gemm_tokens::<F, N, 2>(simd, w, row_len, x, cols, out, rows),
                _ => gemm_tokens::<F, N, 3>(simd, w, row_len, x, cols, out, rows),
            };
        }
    }
}

/// The products of some rows with the first `T` tokens of `x`; returns `T`.
#[inline(always)]
fn gemm_tokens<F: Format<N>, const N: usize, const T: usize>(
    simd: impl Simd,
    w: &[u8],
    row_len: usize,
    x: &[f32],
    cols: usize,
    out: &mut [f32],
    stride: usize,
) -> usize {
    for (r, w) in w.chunks_exact(row_len).enumerate() {
        let dots = dots::<F, N, T>(simd, w, x, cols);
        for (t, dot) in dots.into_iter().enumerate() {
            out[t * stride + r] = dot;
        }
    }
    T
}

/// The dot products of one row with the first `T` tokens of `x`.
#[inline(always)]
fn dots<F: Format<N>, const N: usize, const T: usize>(
    simd: impl Simd,
    w: &[u8],
    x: &[f32],
    cols: usize,
) -> [f32; T] {
    let mut acc = [simd.splat(0.0); T];
    let (w, w_tail) = w.as_chunks();
    let mut x_chunks = [[].as_slice(); T];
    let mut x_tails = [[].as_slice(); T];
    for t in 0..T {
        (x_chunks[t], x_tails[t]) = x[t * cols..][..cols].as_chunks();
        x_chunks[t] = &x_chunks[t][..w.len() * F::GROUPS];
    }
    for (i, w) in w.iter().enumerate() {
        simd.prefetch(w);
        let shared = F::shared(simd, w);
        groups!(F, G => {
            let w = F::load::<_, G>(simd, w, &shared);
            for t in 0..T {
                acc[t] = simd.mul_add(w, simd.load(&x_chunks[t][F::GROUPS * i + G]), acc[t]);
            }
        });
    }
    if !w_tail.is_empty() {
        let w = pad(w_tail);
        let w = F::load::<_, 0>(simd, &w, &F::shared(simd, &w));
        for t in 0..T {
            acc[t] = simd.mul_add(w, simd.load(&pad(x_tails[t])), acc[t]);
        }
    }
    let mut dots = [0.0; T];
    for t in 0..T {
        dots[t] = simd.sum(acc[t]);
    }
    dots
}

/// See [`Kernels::dense_row`](crate::Kernels::dense_row); `w` is the row.
#[inline(always)]
pub(crate) fn row(simd: impl Simd, ty: DenseType, w: &[u8], out: &mut [f32]) {
    dispatch!(ty, row_as(simd, w, out))
}

#[inline(always)]
fn row_as<F: Format<N>, const N: usize>(simd: impl Simd, w: &[u8], out: &mut [f32]) {
    let ((w, w_tail), (out, out_tail)) = (w.as_chunks(), out.as_chunks_mut());
    for (w, out) in w.iter().zip(out.chunks_exact_mut(F::GROUPS)) {
        let shared = F::shared(simd, w);
        groups!(F, G => simd.store(F::load::<_, G>(simd, w, &shared), &mut out[G]));
    }
    if !w_tail.is_empty() {
        let mut padded = [0.0; LANES];
        let w = pad(w_tail);
        simd.store(F::load::<_, 0>(simd, &w, &F::shared(simd, &w)), &mut padded);
        out_tail.copy_from_slice(&padded[..out_tail.len()]);
    }
}
