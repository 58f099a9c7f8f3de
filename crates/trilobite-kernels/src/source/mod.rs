//! Loops over the weights of a checkpoint: exact widening, checks, and conversion to trits and codes.
//!
//! The crate that converts checkpoints is built without optimisation and calls these for every row.

pub mod groups;
pub mod trits;

use half::f16;
use half::slice::HalfFloatSliceExt;

/// The element type of stored weights, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// Unsigned bytes.
    U8,
    /// Signed bytes.
    I8,
}

impl Element {
    /// Size of an element in bytes.
    pub const fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
            Element::U8 | Element::I8 => 1,
        }
    }

    /// Replaces the contents of `out` by the elements, converted exactly. Bytes after the last whole
    /// element are ignored.
    pub fn widen(self, bytes: &[u8], out: &mut Vec<f32>) {
        out.clear();
        match self {
            Element::F32 => out.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            Element::Bf16 => out.extend(bytes.as_chunks().0.iter().map(|&b| bf16(b))),
            Element::F16 => {
                // `half` converts slices with the processor's instructions.
                out.resize(bytes.len() / 2, 0.0);
                let mut halves = [f16::ZERO; 256];
                for (bytes, out) in bytes.chunks(512).zip(out.chunks_mut(256)) {
                    for (half, &b) in halves.iter_mut().zip(bytes.as_chunks().0) {
                        *half = f16::from_le_bytes(b);
                    }
                    halves[..out.len()].convert_to_f32_slice(out);
                }
            }
            Element::U8 => out.extend(bytes.iter().map(|&b| f32::from(b))),
            Element::I8 => out.extend(bytes.iter().map(|&b| f32::from(b as i8))),
        }
    }

    /// Index of the first element that is NaN or infinite. The search runs only if a test of all
    /// elements, which the compiler vectorises, fails.
    pub fn first_not_finite(self, bytes: &[u8]) -> Option<usize> {
        fn search<const N: usize>(bytes: &[u8], bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
            let elements = bytes.as_chunks::<N>().0;
            let any = elements.iter().fold(false, |any, &b| any | bad(b));
            if any { elements.iter().position(|&b| bad(b)) } else { None }
        }
        // An exponent of all ones.
        match self {
            Element::F32 => search(bytes, |b| u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000),
            Element::Bf16 => search(bytes, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
            Element::F16 => search(bytes, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
            Element::U8 | Element::I8 => None,
        }
    }
}

fn bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// The sum of the magnitudes, in f64. The order of the additions depends only on the length.
pub fn sum_of_magnitudes(weights: &[f32]) -> f64 {
    // Sixteen running sums, which the compiler vectorises.
    let mut lanes = [0.0f64; 16];
    let (chunks, rest) = weights.as_chunks::<16>();
    for chunk in chunks {
        for (lane, w) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(w.abs());
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|w| f64::from(w.abs())).sum::<f64>()
}

/// The largest magnitude, 0 if there are no weights. NaN is ignored.
pub fn largest_magnitude(weights: &[f32]) -> f32 {
    weights.iter().fold(0.0, |max, w| max.max(w.abs()))
}

/// Whether every weight is `-a`, 0 or `a`.
pub fn has_one_magnitude(weights: &[f32], a: f32) -> bool {
    weights.iter().fold(true, |all, w| all & ((*w == 0.0) | (w.abs() == a)))
}

/// Index of the first weight that is NaN or infinite.
pub fn first_not_finite(weights: &[f32]) -> Option<usize> {
    weights.iter().position(|w| !w.is_finite())
}

/// Whether two rows have the same weights. Zeros of both signs are equal, NaN is not.
pub fn same(a: &[f32], b: &[f32]) -> bool {
    a == b
}

/// Whether every weight is representable in F16.
pub fn fits_f16(weights: &[f32]) -> bool {
    weights.iter().all(|w| f16::from_f32(*w).to_f32() == *w)
}

/// Appends the codes of `bits` bits in `bytes`, lowest first, to `out`.
///
/// # Panics
/// If a byte is not whole codes: `bits` is not 1, 2, 4 or 8.
pub fn unpack_codes(bytes: &[u8], bits: usize, out: &mut Vec<u8>) {
    assert!(matches!(bits, 1 | 2 | 4 | 8), "a byte holds whole codes, not of {bits} bits");
    let mask = u8::MAX >> (8 - bits);
    out.extend(bytes.iter().flat_map(|byte| (0..8 / bits).map(move |i| byte >> (i * bits) & mask)));
}

/// Appends `code * scale + bias` for every code to `out`. A scale and a bias are those of `group`
/// codes.
///
/// # Panics
/// If `group` is 0, or if there is not one scale and one bias for every group.
pub fn scale_codes(codes: &[u8], group: usize, scales: &[f32], biases: &[f32], out: &mut Vec<f32>) {
    let groups = codes.len().div_ceil(group);
    assert_eq!(
        (scales.len(), biases.len()),
        (groups, groups),
        "scales and biases of {groups} groups"
    );
    let steps = scales.iter().zip(biases);
    for (codes, (scale, bias)) in codes.chunks(group).zip(steps) {
        out.extend(codes.iter().map(|code| f32::from(*code) * scale + bias));
    }
}

/// A block of Q4_1: a scale and a bias in F16, and codes of 4 bits in the order 0, 16, 1, 17 and so on.
pub fn q4_1(scale: f32, bias: f32, codes: &[u8; 32]) -> [u8; 20] {
    let mut out = [0; 20];
    out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(bias).to_le_bytes());
    for (i, out) in out[4..].iter_mut().enumerate() {
        *out = codes[i] | codes[i + 16] << 4;
    }
    out
}
