//! Packing floats as a dense type.

use super::types::DenseType;
use half::{bf16, f16};

impl DenseType {
    /// Whether [`pack_row`](DenseType::pack_row) supports the type.
    pub const fn packs(self) -> bool {
        use DenseType::{BF16, F16, F32, Q4_0, Q8_0};
        matches!(self, F32 | F16 | BF16 | Q8_0 | Q4_0)
    }

    /// Packs a row as ggml's reference quantisation does. F16 and BF16 round to nearest, ties to
    /// even. Q8_0 and Q4_0 have the scale that maps the largest magnitude of a block to 127 or -8;
    /// codes are rounded with that scale before the scale itself is rounded to f16.
    ///
    /// # Errors
    /// A value that the type cannot represent: it is not finite, or rounds to infinity. `out` is
    /// then unspecified.
    ///
    /// # Panics
    /// If `out` does not have [`row_len`](DenseType::row_len) bytes, or if the type is not
    /// supported.
    pub fn pack_row(self, row: &[f32], out: &mut [u8]) -> Result<(), f32> {
        assert_eq!(Some(out.len()), self.row_len(row.len()), "bytes of {} weights", row.len());
        assert!(self.packs(), "{self:?} is only read");
        match self {
            DenseType::F16 => pack(row, out, |&[x]: &[f32; 1]| {
                Ok(finite(f16::from_f32(x), f16::is_finite, x)?.to_le_bytes())
            }),
            DenseType::BF16 => pack(row, out, |&[x]: &[f32; 1]| {
                Ok(finite(bf16::from_f32(x), bf16::is_finite, x)?.to_le_bytes())
            }),
            DenseType::Q8_0 => pack(row, out, q8_0),
            DenseType::Q4_0 => pack(row, out, q4_0),
            _ => pack(row, out, |&[x]: &[f32; 1]| Ok(finite(x, f32::is_finite, x)?.to_le_bytes())),
        }
    }
}

/// Packs a row as TQ2_0, which must represent every weight exactly: a block of 256 holds `-d`, 0 and
/// `d` only, for a number `d` that is an f16. Zeros of both signs become zeros.
///
/// # Errors
/// The index of a weight that is something else. `out` is then unspecified.
///
/// # Panics
/// If `row` is not whole blocks, or `out` does not have their bytes.
pub fn pack_tq2_0(row: &[f32], out: &mut [u8]) -> Result<(), usize> {
    let expected = DenseType::TQ2_0.row_len(row.len());
    assert_eq!(Some(out.len()), expected, "bytes of {} weights", row.len());
    let blocks = row.as_chunks().0.iter().zip(out.as_chunks_mut().0);
    for (i, (row, out)) in blocks.enumerate() {
        tq2_0(row, out).map_err(|at| i * row.len() + at)?;
    }
    Ok(())
}

/// Packs a block: two halves of 32 bytes, each with four planes of 32 codes, lowest bits first, and
/// the scale.
fn tq2_0(row: &[f32; 256], out: &mut [u8; 66]) -> Result<(), usize> {
    let Some(first) = row.iter().position(|x| *x != 0.0) else {
        *out = [0b01_01_01_01; 66];
        out[64..].fill(0);
        return Ok(());
    };
    let size = row[first].abs();
    let d = f16::from_f32(size);
    if d.to_f32() != size || !size.is_finite() {
        return Err(first);
    }
    let is_trit = |x: &f32| x.abs() == size || *x == 0.0;
    if !row.iter().fold(true, |all, x| all & is_trit(x)) {
        return Err(row.iter().position(|x| !is_trit(x)).unwrap_or(first));
    }
    let halves = out[..64].as_chunks_mut::<32>().0.iter_mut().zip(row.as_chunks::<128>().0);
    for (bytes, row) in halves {
        for (i, byte) in bytes.iter_mut().enumerate() {
            let code = |plane: usize| {
                let x = row[plane * 32 + i];
                1 + u8::from(x > 0.0) - u8::from(x < 0.0)
            };
            *byte = code(0) | code(1) << 2 | code(2) << 4 | code(3) << 6;
        }
    }
    out[64..].copy_from_slice(&d.to_le_bytes());
    Ok(())
}

/// Packs a row block by block.
fn pack<const W: usize, const N: usize>(
    row: &[f32],
    out: &mut [u8],
    block: impl Fn(&[f32; W]) -> Result<[u8; N], f32>,
) -> Result<(), f32> {
    for (row, out) in row.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        *out = block(row)?;
    }
    Ok(())
}

/// The rounded value of `x`. The error is `x` itself if the result is not finite.
fn finite<T: Copy>(rounded: T, is_finite: impl Fn(T) -> bool, x: f32) -> Result<T, f32> {
    if is_finite(rounded) { Ok(rounded) } else { Err(x) }
}

/// The value with the largest magnitude, the first of several. A NaN or infinity takes precedence.
fn largest(block: &[f32; 32]) -> f32 {
    let of = |max: f32, &x: &f32| if x.abs() > max.abs() || x.is_nan() { x } else { max };
    block.iter().fold(0.0, of)
}

fn scale_bytes(scale: f32, largest: f32) -> Result<[u8; 2], f32> {
    Ok(finite(f16::from_f32(scale), f16::is_finite, largest)?.to_le_bytes())
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn q8_0(block: &[f32; 32]) -> Result<[u8; 34], f32> {
    let largest = largest(block);
    let scale = largest.abs() / 127.0;
    let mut out = [0; 34];
    out[..2].copy_from_slice(&scale_bytes(scale, largest)?);
    for (code, x) in out[2..].iter_mut().zip(block) {
        *code = (x * inverse(scale)).round() as i8 as u8;
    }
    Ok(out)
}

fn q4_0(block: &[f32; 32]) -> Result<[u8; 18], f32> {
    let largest = largest(block);
    let scale = largest / -8.0;
    let mut out = [0; 18];
    out[..2].copy_from_slice(&scale_bytes(scale, largest)?);
    let code = |x: f32| ((x * inverse(scale) + 8.5) as u8).min(15);
    for (i, byte) in out[2..].iter_mut().enumerate() {
        *byte = code(block[i]) | code(block[i + 16]) << 4;
    }
    Ok(out)
}
