//! Unpacking blocks to planes of codes, as `tests/kernels/dense/reference.rs` specifies.

use super::codes::{ColumnOrder, PLANES};
use super::simd::{BytePlanes, Places};

/// A type with blocks of `N` bytes and `B` blocks in a chunk of 256 columns.
pub(super) trait LowBitFormat<const N: usize, const B: usize> {
    /// The order of the columns in the planes.
    const ORDER: ColumnOrder = ColumnOrder::Adjacent;
    /// The codes of a chunk. The weights are the codes minus 1, times the step.
    fn planes<S: BytePlanes>(simd: S, chunk: &[[u8; N]; B]) -> [S::Plane; PLANES];
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
            DenseType::TQ1_0 => $f::<$($generic,)* format::TQ1_0, 54, 1>($($arg),*),
            DenseType::TQ2_0 => $f::<$($generic,)* format::TQ2_0, 66, 1>($($arg),*),
            _ => unreachable!("a type of at most two bits"),
        }
    };
}
pub(super) use dispatch;

pub(super) struct Q1_0;
pub(super) struct Q2_0;
pub(super) struct PQ2_0;
pub(super) struct PTQ1_0;
pub(super) struct TQ1_0;
pub(super) struct TQ2_0;

impl LowBitFormat<18, 2> for Q1_0 {
    #[inline(always)]
    fn planes<S: BytePlanes>(simd: S, [a, b]: &[[u8; 18]; 2]) -> [S::Plane; PLANES] {
        simd.doubled_bits(simd.nibbles_to_bytes([part(a, 2), part(b, 2)]))
    }

    #[inline(always)]
    fn steps([a, b]: &[[u8; 18]; 2]) -> [u16; 4] {
        twice([step(a, 0), step(b, 0)])
    }
}

impl LowBitFormat<18, 4> for Q2_0 {
    #[inline(always)]
    fn planes<S: BytePlanes>(simd: S, [a, b, c, d]: &[[u8; 18]; 4]) -> [S::Plane; PLANES] {
        simd.pairs_of_bits(simd.quarters([part(a, 2), part(b, 2), part(c, 2), part(d, 2)]))
    }

    #[inline(always)]
    fn steps([a, b, c, d]: &[[u8; 18]; 4]) -> [u16; 4] {
        [step(a, 0), step(b, 0), step(c, 0), step(d, 0)]
    }
}

impl LowBitFormat<34, 2> for PQ2_0 {
    #[inline(always)]
    fn planes<S: BytePlanes>(simd: S, [a, b]: &[[u8; 34]; 2]) -> [S::Plane; PLANES] {
        simd.pairs_of_bits(simd.halves([part(a, 2), part(b, 2)]))
    }

    #[inline(always)]
    fn steps([a, b]: &[[u8; 34]; 2]) -> [u16; 4] {
        twice([step(a, 0), step(b, 0)])
    }
}

impl LowBitFormat<28, 2> for PTQ1_0 {
    const ORDER: ColumnOrder = ColumnOrder::Apart;

    #[inline(always)]
    fn planes<S: BytePlanes>(simd: S, [a, b]: &[[u8; 28]; 2]) -> [S::Plane; PLANES] {
        // Sixteen bytes have columns 0 to 79, eight 80 to 119, two the others. The last ten are at
        // the end of a part.
        let (a, b): ([&[u8; 16]; 2], [&[u8; 16]; 2]) =
            ([part(a, 0), part(a, 10)], [part(b, 0), part(b, 10)]);
        [
            simd.trits(
                [a[0], a[0], b[0], b[0]],
                const { &places([ALL[0], ALL[1], ALL[0], ALL[1]]) },
            ),
            simd.trits(
                [a[0], a[0], b[0], b[0]],
                const { &places([ALL[2], ALL[3], ALL[2], ALL[3]]) },
            ),
            simd.trits(
                [a[0], a[1], b[0], b[1]],
                const { &places([ALL[4], runs(6, 8, 0), ALL[4], runs(6, 8, 0)]) },
            ),
            simd.trits(
                [a[1], a[1], b[1], b[1]],
                const { &places([runs(6, 8, 2), LAST, runs(6, 8, 2), LAST]) },
            ),
        ]
    }

    #[inline(always)]
    fn steps([a, b]: &[[u8; 28]; 2]) -> [u16; 4] {
        twice([step(a, 26), step(b, 26)])
    }
}

impl LowBitFormat<54, 1> for TQ1_0 {
    const ORDER: ColumnOrder = ColumnOrder::Apart;

    #[inline(always)]
    fn planes<S: BytePlanes>(simd: S, [block]: &[[u8; 54]; 1]) -> [S::Plane; PLANES] {
        // Thirty-two bytes have columns 0 to 159, sixteen 160 to 239, four the others.
        let [a, b, c, d]: [&[u8; 16]; 4] =
            [part(block, 0), part(block, 16), part(block, 32), part(block, 36)];
        [
            simd.trits([a, b, a, b], const { &places([ALL[0], ALL[0], ALL[4], ALL[4]]) }),
            simd.trits([a, b, c, c], const { &places([ALL[1], ALL[1], ALL[0], ALL[1]]) }),
            simd.trits([a, b, c, c], const { &places([ALL[2], ALL[2], ALL[2], ALL[3]]) }),
            simd.trits([a, b, c, d], const { &places([ALL[3], ALL[3], ALL[4], runs(12, 4, 0)]) }),
        ]
    }

    #[inline(always)]
    fn steps([block]: &[[u8; 54]; 1]) -> [u16; 4] {
        [step(block, 52); 4]
    }
}

impl LowBitFormat<66, 1> for TQ2_0 {
    const ORDER: ColumnOrder = ColumnOrder::Apart;

    #[inline(always)]
    fn planes<S: BytePlanes>(simd: S, [block]: &[[u8; 66]; 1]) -> [S::Plane; PLANES] {
        simd.pairs_of_bits(simd.halves([part(block, 0), part(block, 32)]))
    }

    #[inline(always)]
    fn steps([block]: &[[u8; 66]; 1]) -> [u16; 4] {
        [step(block, 64); 4]
    }
}

/// The byte and the power of each of sixteen trits.
type Run = [(u8, u8); 16];

const fn places(runs: [Run; 4]) -> Places {
    let mut places = Places { bytes: [[0; 16]; 4], powers: [[0; 16]; 4] };
    let mut i = 0;
    while i < 64 {
        (places.bytes[i / 16][i % 16], places.powers[i / 16][i % 16]) = runs[i / 16][i % 16];
        i += 1;
    }
    places
}

/// Trit `n` of sixteen bytes, for each `n`.
const ALL: [Run; 5] =
    [runs(0, 16, 0), runs(0, 16, 1), runs(0, 16, 2), runs(0, 16, 3), runs(0, 16, 4)];

/// The last trits of eight bytes, then four of two.
const LAST: Run = {
    let (mut last, four) = (runs(6, 8, 4), runs(14, 2, 0));
    let mut i = 8;
    while i < 16 {
        last[i] = four[i - 8];
        i += 1;
    }
    last
};

/// Trit `first` of some bytes, then the next trits of the same bytes, and so on.
const fn runs(from: u8, bytes: u8, first: u32) -> Run {
    let mut places = [(0, 0); 16];
    let mut i = 0;
    while i < 16 {
        // More than five trits are not used.
        let trit = (first + (i / bytes) as u32) % 5;
        places[i as usize] = (from + i % bytes, 3_u8.pow(trit));
        i += 1;
    }
    places
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
