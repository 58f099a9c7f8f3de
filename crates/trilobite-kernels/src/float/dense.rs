//! Dense matrices in the types that checkpoints store them in.

use super::half::Half;
use super::lanes::{LANES, Lanes, fma, pad, sum};

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
    fn widen(half: impl Half, bytes: &[u8; N]) -> Lanes;
}

struct F32;
impl Format<128> for F32 {
    #[inline(always)]
    fn widen(_: impl Half, bytes: &[u8; 128]) -> Lanes {
        let mut lanes = [0.0; LANES];
        for (lane, bytes) in lanes.iter_mut().zip(bytes.as_chunks().0) {
            *lane = f32::from_le_bytes(*bytes);
        }
        lanes
    }
}

struct F16;
impl Format<64> for F16 {
    #[inline(always)]
    fn widen(half: impl Half, bytes: &[u8; 64]) -> Lanes {
        let mut lanes = [0.0; LANES];
        for (lanes, bytes) in lanes.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks::<16>().0) {
            let mut bits = [0; 8];
            for (bits, bytes) in bits.iter_mut().zip(bytes.as_chunks().0) {
                *bits = u16::from_le_bytes(*bytes);
            }
            *lanes = half.widen(bits);
        }
        lanes
    }
}

struct Bf16;
impl Format<64> for Bf16 {
    #[inline(always)]
    fn widen(_: impl Half, bytes: &[u8; 64]) -> Lanes {
        let mut lanes = [0.0; LANES];
        for (lane, bytes) in lanes.iter_mut().zip(bytes.as_chunks().0) {
            *lane = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        }
        lanes
    }
}

struct Q8;
impl Format<34> for Q8 {
    #[inline(always)]
    fn widen(half: impl Half, bytes: &[u8; 34]) -> Lanes {
        let [low, high, codes @ ..] = bytes;
        let scale = half.widen([u16::from_le_bytes([*low, *high]), 0, 0, 0, 0, 0, 0, 0])[0];
        let mut lanes = [0.0; LANES];
        for (lane, code) in lanes.iter_mut().zip(codes) {
            *lane = f32::from(*code as i8) * scale;
        }
        lanes
    }
}

/// See [`Kernels::dense_gemm`](crate::Kernels::dense_gemm), which checks the lengths. `w` holds
/// exactly the rows wanted, and `out` is `[tokens][rows]` for at least one token.
#[inline(always)]
pub(crate) fn gemm(
    half: impl Half,
    ty: DenseType,
    w: &[u8],
    cols: usize,
    x: &[f32],
    out: &mut [f32],
) {
    match ty {
        DenseType::F32 => gemm_as::<F32, 128>(half, w, cols, x, out),
        DenseType::F16 => gemm_as::<F16, 64>(half, w, cols, x, out),
        DenseType::BF16 => gemm_as::<Bf16, 64>(half, w, cols, x, out),
        DenseType::Q8_0 => gemm_as::<Q8, 34>(half, w, cols, x, out),
    }
}

#[inline(always)]
fn gemm_as<F: Format<N>, const N: usize>(
    half: impl Half,
    w: &[u8],
    cols: usize,
    x: &[f32],
    out: &mut [f32],
) {
    let tokens = x.len() / cols;
    let rows = out.len() / tokens;
    let row_len = w.len() / rows;
    for (r, w) in w.chunks_exact(row_len).enumerate() {
        for (t, x) in x.chunks_exact(cols).enumerate() {
            [out[t * rows + r]] = dots::<F, N, 1>(half, w, [x]);
        }
    }
}

/// The dot products of one row with `T` tokens.
#[inline(always)]
fn dots<F: Format<N>, const N: usize, const T: usize>(
    half: impl Half,
    w: &[u8],
    x: [&[f32]; T],
) -> [f32; T] {
    let mut acc = [[0.0; LANES]; T];
    let (w, w_tail) = w.as_chunks();
    let split = x.map(|x| x.as_chunks());
    for (i, w) in w.iter().enumerate() {
        let w = F::widen(half, w);
        for (acc, (x, _)) in acc.iter_mut().zip(split) {
            fma(acc, &w, &x[i]);
        }
    }
    if !w_tail.is_empty() {
        let w = F::widen(half, &pad(w_tail));
        for (acc, (_, x)) in acc.iter_mut().zip(split) {
            fma(acc, &w, &pad(x));
        }
    }
    acc.map(sum)
}

/// See [`Kernels::dense_row`](crate::Kernels::dense_row); `w` is the row.
#[inline(always)]
pub(crate) fn row(half: impl Half, ty: DenseType, w: &[u8], out: &mut [f32]) {
    match ty {
        DenseType::F32 => row_as::<F32, 128>(half, w, out),
        DenseType::F16 => row_as::<F16, 64>(half, w, out),
        DenseType::BF16 => row_as::<Bf16, 64>(half, w, out),
        DenseType::Q8_0 => row_as::<Q8, 34>(half, w, out),
    }
}

#[inline(always)]
fn row_as<F: Format<N>, const N: usize>(half: impl Half, w: &[u8], out: &mut [f32]) {
    let ((w, w_tail), (out, out_tail)) = (w.as_chunks(), out.as_chunks_mut());
    for (w, out) in w.iter().zip(out) {
        *out = F::widen(half, w);
    }
    if !w_tail.is_empty() {
        out_tail.copy_from_slice(&F::widen(half, &pad(w_tail))[..out_tail.len()]);
    }
}
