//! Unpacking blocks to planes of codes, as `reference` specifies.

use super::codes::PLANES;
use super::simd::Crumbs;

/// A type with blocks of `N` bytes and `B` blocks in a chunk of 256 columns.
pub(super) trait Crumb<const N: usize, const B: usize> {
    /// The codes of a chunk. The weights are the codes minus 1, times the step.
    fn planes<S: Crumbs>(simd: S, chunk: &[[u8; N]; B]) -> [S::Plane; PLANES];
    /// The step of each 64 columns, an f16.
    fn steps(chunk: &[[u8; N]; B]) -> [u16; 4];
}

/// Calls a function for the format of a type.
macro_rules! dispatch {
    ($ty:expr, $f:ident::<$($generic:tt),*>($($arg:expr),*)) => {
        match $ty {
            DenseType::Q1_0 => $f::<$($generic,)* format::Q1_0, 18, 2>($($arg),*),
            DenseType::Q2_0 => $f::<$($generic,)* format::Q2_0, 18, 4>($($arg),*),
            DenseType::PQ2_0 => $f::<$($generic,)* format::PQ2_0, 34, 2>($($arg),*),
            DenseType::PTQ1_0 => $f::<$($generic,)* format::PTQ1_0, 28, 2>($($arg),*),
            _ => unreachable!("a type of at most two bits"),
        }
    };
}
pub(super) use dispatch;

pub(super) struct Q1_0;
pub(super) struct Q2_0;
pub(super) struct PQ2_0;
pub(super) struct PTQ1_0;

impl Crumb<18, 2> for Q1_0 {
    #[inline(always)]
    fn planes<S: Crumbs>(simd: S, [a, b]: &[[u8; 18]; 2]) -> [S::Plane; PLANES] {
        simd.doubled_bits(simd.nibbles_to_bytes([part(a, 2), part(b, 2)]))
    }

    #[inline(always)]
    fn steps([a, b]: &[[u8; 18]; 2]) -> [u16; 4] {
        twice([step(a, 0), step(b, 0)])
    }
}

impl Crumb<18, 4> for Q2_0 {
    #[inline(always)]
    fn planes<S: Crumbs>(simd: S, [a, b, c, d]: &[[u8; 18]; 4]) -> [S::Plane; PLANES] {
        simd.pairs_of_bits(simd.quarters([part(a, 2), part(b, 2), part(c, 2), part(d, 2)]))
    }

    #[inline(always)]
    fn steps([a, b, c, d]: &[[u8; 18]; 4]) -> [u16; 4] {
        [step(a, 0), step(b, 0), step(c, 0), step(d, 0)]
    }
}

impl Crumb<34, 2> for PQ2_0 {
    #[inline(always)]
    fn planes<S: Crumbs>(simd: S, [a, b]: &[[u8; 34]; 2]) -> [S::Plane; PLANES] {
        simd.pairs_of_bits(simd.halves([part(a, 2), part(b, 2)]))
    }

    #[inline(always)]
    fn steps([a, b]: &[[u8; 34]; 2]) -> [u16; 4] {
        twice([step(a, 0), step(b, 0)])
    }
}

impl Crumb<28, 2> for PTQ1_0 {
    #[inline(always)]
    fn planes<S: Crumbs>(simd: S, chunk: &[[u8; 28]; 2]) -> [S::Plane; PLANES] {
        let packed = four_a_byte(chunk);
        simd.pairs_of_bits(simd.halves([part(&packed, 0), part(&packed, 32)]))
    }

    #[inline(always)]
    fn steps([a, b]: &[[u8; 28]; 2]) -> [u16; 4] {
        twice([step(a, 26), step(b, 26)])
    }
}

/// The codes of blocks of PTQ1_0, four adjacent ones a byte, as PQ2_0 has them.
///
/// The loops are long enough to be compiled to vectors.
#[inline(always)]
fn four_a_byte([a, b]: &[[u8; 28]; 2]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..28].copy_from_slice(a);
    bytes[32..60].copy_from_slice(b);
    let mut codes = [0; 256];
    for (n, power) in [1, 3, 9, 27, 81].into_iter().enumerate() {
        // Trit n of each byte, plus 1. A byte holds five trits in base 3, as a fraction of 256.
        let mut trits = [0; 64];
        for (trit, byte) in trits.iter_mut().zip(&bytes) {
            *trit = ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as u8;
        }
        for (codes, trits) in codes.chunks_exact_mut(128).zip(trits.chunks_exact(32)) {
            // Trit n of byte m is column 16 n + m, after the first 16 bytes 80 + 8 n + m, and in the
            // last two 120 + 2 n + m.
            codes[16 * n..][..16].copy_from_slice(&trits[..16]);
            codes[80 + 8 * n..][..8].copy_from_slice(&trits[16..24]);
            if n < 4 {
                codes[120 + 2 * n..][..2].copy_from_slice(&trits[24..26]);
            }
        }
    }
    let mut packed = [0; 64];
    for (byte, codes) in packed.iter_mut().zip(codes.as_chunks().0) {
        // Moves the four codes to the bits 24, 26, 28 and 30. What is below does not overlap.
        *byte = (u32::from_le_bytes(*codes).wrapping_mul(0x0104_1040) >> 24) as u8;
    }
    packed
}

/// The step at byte `at` of a block.
#[inline(always)]
fn step(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*part(block, at))
}

#[inline(always)]
fn twice([a, b]: [u16; 2]) -> [u16; 4] {
    [a, a, b, b]
}

/// The `M` bytes from `at` on. Every caller passes constants.
#[inline(always)]
fn part<const M: usize>(items: &[u8], at: usize) -> &[u8; M] {
    match items[at..].first_chunk() {
        Some(part) => part,
        None => unreachable!("a part of a block lies within it"),
    }
}
