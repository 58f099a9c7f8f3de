//! Unpacking blocks to planes of codes, as `reference` specifies.

use super::codes::{PLANE_LEN, PLANES};
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
    fn planes<S: Crumbs>(simd: S, chunk: &[[u8; 18]; 2]) -> [S::Plane; PLANES] {
        simd.doubled_bits(simd.nibbles_to_bytes(chunk.each_ref().map(|block| part(block, 2))))
    }

    #[inline(always)]
    fn steps([a, b]: &[[u8; 18]; 2]) -> [u16; 4] {
        twice([step(a, 0), step(b, 0)])
    }
}

impl Crumb<18, 4> for Q2_0 {
    #[inline(always)]
    fn planes<S: Crumbs>(simd: S, chunk: &[[u8; 18]; 4]) -> [S::Plane; PLANES] {
        simd.pairs_of_bits(simd.quarters(chunk.each_ref().map(|block| part(block, 2))))
    }

    #[inline(always)]
    fn steps(chunk: &[[u8; 18]; 4]) -> [u16; 4] {
        chunk.each_ref().map(|block| step(block, 0))
    }
}

impl Crumb<34, 2> for PQ2_0 {
    #[inline(always)]
    fn planes<S: Crumbs>(simd: S, chunk: &[[u8; 34]; 2]) -> [S::Plane; PLANES] {
        simd.pairs_of_bits(simd.halves(chunk.each_ref().map(|block| part(block, 2))))
    }

    #[inline(always)]
    fn steps([a, b]: &[[u8; 34]; 2]) -> [u16; 4] {
        twice([step(a, 0), step(b, 0)])
    }
}

impl Crumb<28, 2> for PTQ1_0 {
    #[inline(always)]
    fn planes<S: Crumbs>(simd: S, chunk: &[[u8; 28]; 2]) -> [S::Plane; PLANES] {
        let mut planes = [[0; PLANE_LEN]; PLANES];
        for (i, block) in chunk.iter().enumerate() {
            let at = i * PLANE_LEN / 2;
            // Trit n of byte m of 16 is column 16 n + m: byte 4 n + m / 4 of plane m % 4.
            let bytes: [u8; 16] = std::array::from_fn(|i| block[i % 4 * 4 + i / 4]);
            for n in 0..5 {
                for (plane, trits) in planes.iter_mut().zip(trits(&bytes, n).as_chunks().0) {
                    let trits: &[u8; 4] = trits;
                    plane[at + 4 * n..][..4].copy_from_slice(trits);
                }
            }
            // Trit n of byte m of 8 is column 80 + 8 n + m.
            let bytes: [u8; 8] = std::array::from_fn(|i| block[16 + i % 2 * 4 + i / 2]);
            for n in 0..5 {
                for (plane, trits) in planes.iter_mut().zip(trits(&bytes, n).as_chunks().0) {
                    let trits: &[u8; 2] = trits;
                    plane[at + 20 + 2 * n..][..2].copy_from_slice(trits);
                }
            }
            // Trit n of byte m of 2 is column 120 + 2 n + m.
            for n in 0..4 {
                let [a, b] = trits(&[block[24], block[25]], n);
                planes[2 * n % 4][at + 30 + n / 2] = a;
                planes[2 * n % 4 + 1][at + 30 + n / 2] = b;
            }
        }
        planes.map(|plane| simd.load_plane(&plane))
    }

    #[inline(always)]
    fn steps([a, b]: &[[u8; 28]; 2]) -> [u16; 4] {
        twice([step(a, 26), step(b, 26)])
    }
}

/// Trit `n` of each byte, plus 1. A byte holds five trits in base 3, as a fraction of 256.
#[inline(always)]
fn trits<const M: usize>(bytes: &[u8; M], n: usize) -> [u8; M] {
    let power = [1, 3, 9, 27, 81][n];
    bytes.map(|byte| ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as u8)
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
