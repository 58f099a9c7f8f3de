//! Dense matrices in the types that checkpoints store them in.

use super::simd::{LANES, Simd, pad};

/// Rows that one batch of tokens after another is multiplied with, for the second-level cache.
const ROWS: usize = 32;

/// How the weights of a dense matrix are stored, little-endian and row after row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenseType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// ggml's block_q8_0: for 32 weights an f16 scale and 32 int8 codes; rows are whole blocks.
    Q8_0,
}

impl DenseType {
    /// Bytes of a row of `cols` weights; `None` if rows of this type cannot have that length.
    pub fn row_len(self, cols: usize) -> Option<usize> {
        match self {
            DenseType::F32 => cols.checked_mul(4),
            DenseType::F16 | DenseType::BF16 => cols.checked_mul(2),
            DenseType::Q8_0 => (cols / 32).checked_mul(34).filter(|_| cols.is_multiple_of(32)),
        }
    }
}

/// One dense type; `N` is the bytes of 32 weights.
trait Format<const N: usize> {
    fn load<S: Simd>(simd: S, bytes: &[u8; N]) -> S::Lanes;
}

struct F32;
impl Format<128> for F32 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8; 128]) -> S::Lanes {
        let mut values = [0.0; LANES];
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        simd.load(&values)
    }
}

struct F16;
impl Format<64> for F16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8; 64]) -> S::Lanes {
        simd.load_f16(&halves(bytes))
    }
}

struct Bf16;
impl Format<64> for Bf16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8; 64]) -> S::Lanes {
        simd.load_bf16(&halves(bytes))
    }
}

struct Q8;
impl Format<34> for Q8 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8; 34]) -> S::Lanes {
        let [low, high, codes @ ..] = bytes;
        let scale = simd.load_f16(&[u16::from_le_bytes([*low, *high]); LANES]);
        let mut signed = [0; LANES];
        for (signed, code) in signed.iter_mut().zip(codes) {
            *signed = *code as i8;
        }
        simd.mul(simd.load_i8(&signed), scale)
    }
}

#[inline(always)]
fn halves(bytes: &[u8; 64]) -> [u16; LANES] {
    let mut values = [0; LANES];
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        *value = u16::from_le_bytes(*bytes);
    }
    values
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
    match ty {
        DenseType::F32 => gemm_as::<F32, 128>(simd, w, cols, x, out),
        DenseType::F16 => gemm_as::<F16, 64>(simd, w, cols, x, out),
        DenseType::BF16 => gemm_as::<Bf16, 64>(simd, w, cols, x, out),
        DenseType::Q8_0 => gemm_as::<Q8, 34>(simd, w, cols, x, out),
    }
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
        x_chunks[t] = &x_chunks[t][..w.len()];
    }
    for (i, w) in w.iter().enumerate() {
        simd.prefetch(w);
        let w = F::load(simd, w);
        for t in 0..T {
            acc[t] = simd.mul_add(w, simd.load(&x_chunks[t][i]), acc[t]);
        }
    }
    if !w_tail.is_empty() {
        let w = F::load(simd, &pad(w_tail));
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
    match ty {
        DenseType::F32 => row_as::<F32, 128>(simd, w, out),
        DenseType::F16 => row_as::<F16, 64>(simd, w, out),
        DenseType::BF16 => row_as::<Bf16, 64>(simd, w, out),
        DenseType::Q8_0 => row_as::<Q8, 34>(simd, w, out),
    }
}

#[inline(always)]
fn row_as<F: Format<N>, const N: usize>(simd: impl Simd, w: &[u8], out: &mut [f32]) {
    let ((w, w_tail), (out, out_tail)) = (w.as_chunks(), out.as_chunks_mut());
    for (w, out) in w.iter().zip(out) {
        simd.store(F::load(simd, w), out);
    }
    if !w_tail.is_empty() {
        let mut padded = [0.0; LANES];
        simd.store(F::load(simd, &pad(w_tail)), &mut padded);
        out_tail.copy_from_slice(&padded[..out_tail.len()]);
    }
}
