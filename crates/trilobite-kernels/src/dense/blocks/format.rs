//! Decoding blocks of weights to integers and factors, as `tests/kernels/dense/reference.rs` specifies.
//! Sixteen rows are decoded together, each in its own lane.

use super::codes::GROUPS;
use super::simd::{Half, Integers};

/// The bytes of sixteen rows from the start of a chunk on.
#[derive(Clone, Copy)]
pub(super) struct RowBytes<'a> {
    pub(super) bytes: &'a [u8],
    /// Number of bytes from row to row.
    pub(super) distance: usize,
}

impl RowBytes<'_> {
    /// Sixteen bytes of each row from byte `at` on: see [`Integers::quads`].
    #[inline(always)]
    fn quads<S: Integers>(self, simd: S, at: usize) -> [S::Rows; 4] {
        simd.quads(&self.bytes[at..], self.distance)
    }
}

/// The factors of a chunk of sixteen rows. Those that a type does not have are not stored.
pub(super) struct Factors<'a> {
    /// The steps of the groups, or of their lower and upper halves.
    pub(super) steps: &'a mut [[Half; 2]; GROUPS],
    /// One for each group, to be added to its weights.
    pub(super) minimums: &'a mut [Half; GROUPS],
}

/// A type with blocks of `N` bytes and `B` blocks in a chunk of 256 columns.
pub(super) trait Format<const N: usize, const B: usize> {
    /// Whether half groups have steps of their own.
    const HALVES: bool = false;
    /// Whether weights have minimums.
    const MINIMUMS: bool = false;
    /// Number of adjacent groups that share bytes, a set.
    const SET: usize = 1;
    /// What is subtracted from codes: a power of two, or 0.
    const BIAS: u8 = 0;
    /// Number of bits of a code. Codes of eight bits are signed.
    const BITS: u32;
    /// Stores the factors of the first `valid` groups.
    fn factors<S: Integers>(simd: S, rows: RowBytes<'_>, valid: usize, out: Factors<'_>);
    /// Decodes the groups of a set, without bias, scale and minimum. The quads of a group are in order.
    fn codes<S: Integers>(simd: S, rows: RowBytes<'_>, set: usize, out: &mut impl Quads<S>);
}

/// Receives decoded weights.
pub(super) trait Quads<S: Integers> {
    /// Receives the codes of the columns `4 i` to `4 i + 3` of a group of the set. Both are constants.
    fn quad(&mut self, simd: S, group: usize, i: usize, codes: S::Rows);
}

/// The maximum number of groups of a set.
pub(super) const MAX_SET: usize = 4;

/// Calls a function for the format of a type. Types before its name's arguments and constants in
/// brackets are further generic arguments.
macro_rules! dispatch {
    ($ty:expr, $f:ident $(::<$($before:ident),*>)? $([$($constant:tt),*])? ($($arg:expr),*)) => {
        dispatch!(@ $ty, $f, [$($($before),*)?], [$($($constant),*)?], ($($arg),*))
    };
    (@ $ty:expr, $f:ident, [$($before:ident),*], [$($constant:tt),*], $args:tt) => {
        match $ty {
            DenseType::Q4_0 => $f::<$($before,)* format::Q4_0, 18, 8 $(, $constant)*>$args,
            DenseType::Q4_1 => $f::<$($before,)* format::Q4_1, 20, 8 $(, $constant)*>$args,
            DenseType::Q5_0 => $f::<$($before,)* format::Q5_0, 22, 8 $(, $constant)*>$args,
            DenseType::Q5_1 => $f::<$($before,)* format::Q5_1, 24, 8 $(, $constant)*>$args,
            DenseType::Q8_0 => $f::<$($before,)* format::Q8_0, 34, 8 $(, $constant)*>$args,
            DenseType::Q4K => $f::<$($before,)* format::Q4K, 144, 1 $(, $constant)*>$args,
            DenseType::Q5K => $f::<$($before,)* format::Q5K, 176, 1 $(, $constant)*>$args,
            DenseType::Q6K => $f::<$($before,)* format::Q6K, 210, 1 $(, $constant)*>$args,
            DenseType::F32 | DenseType::F16 | DenseType::BF16 => {
                unreachable!("a type with blocks")
            }
            _ => unreachable!("a type of more than two bits"),
        }
    };
}
pub(super) use dispatch;

/// Implements a type with one group a block, which starts with a step, and in some types a minimum,
/// in f16.
macro_rules! grouped {
    ($name:ident, $bytes:literal, $minimums:literal, $bias:literal, $bits:literal, |$simd:ident, $rows:ident, $at:ident, $out:ident| $codes:expr) => {
        pub(super) struct $name;
        impl Format<$bytes, GROUPS> for $name {
            const MINIMUMS: bool = $minimums;
            const BIAS: u8 = $bias;
            const BITS: u32 = $bits;
            #[inline(always)]
            fn factors<S: Integers>(simd: S, rows: RowBytes<'_>, valid: usize, out: Factors<'_>) {
                let groups = out.steps.iter_mut().zip(out.minimums).take(valid);
                for (g, ([out, _], out_minimum)) in groups.enumerate() {
                    let [step, minimum] = simd.f16_pairs(rows.quads(simd, g * $bytes)[0]);
                    simd.store_half(step, out);
                    if $minimums {
                        simd.store_half(minimum, out_minimum);
                    }
                }
            }
            #[inline(always)]
            fn codes<S: Integers>(
                $simd: S,
                $rows: RowBytes<'_>,
                group: usize,
                $out: &mut impl Quads<S>,
            ) {
                let $at = group * $bytes;
                $codes
            }
        }
    };
}

grouped!(Q4_0, 18, false, 8, 4, |simd, rows, at, out| nibbles(simd, rows, at + 2, out));
grouped!(Q4_1, 20, true, 0, 4, |simd, rows, at, out| nibbles(simd, rows, at + 4, out));
grouped!(Q5_0, 22, false, 16, 5, |simd, rows, at, out| five_bits(simd, rows, at + 2, out));
grouped!(Q5_1, 24, true, 0, 5, |simd, rows, at, out| five_bits(simd, rows, at + 4, out));
grouped!(Q8_0, 34, false, 0, 8, |simd, rows, at, out| {
    unroll!(HALF < 2 => {
        let codes = rows.quads(simd, at + 2 + 16 * HALF);
        unroll!(I < 4 => out.quad(simd, 0, 4 * HALF + I, codes[I]); 0 1 2 3);
    }; 0 1);
});

/// The lower halves of sixteen bytes, then the upper halves.
#[inline(always)]
fn nibbles<S: Integers>(simd: S, rows: RowBytes<'_>, at: usize, out: &mut impl Quads<S>) {
    let bytes = rows.quads(simd, at);
    unroll!(I < 8 => out.quad(simd, 0, I, simd.shift(bytes[I % 4], I / 4 * 4, 15)));
}

/// Codes of 32 fifth bits, which are adjacent, followed by the other bits.
#[inline(always)]
fn five_bits<S: Integers>(simd: S, rows: RowBytes<'_>, at: usize, out: &mut impl Quads<S>) {
    let [bits, ..] = rows.quads(simd, at);
    let bytes = rows.quads(simd, at + 4);
    unroll!(I < 8 => {
        let lower = simd.shift(bytes[I % 4], I / 4 * 4, 15);
        out.quad(simd, 0, I, simd.or(lower, simd.bits::<I>(bits, 16)));
    });
}

/// Implements a type whose blocks are chunks.
macro_rules! chunked {
    (
        $name:ident, $bytes:literal, $halves:literal, $minimums:literal, $set:literal, $bias:literal, $bits:literal,
        |$simd:ident, $rows:ident, $s:ident, $out:ident| $codes:expr, $factors:expr
    ) => {
        pub(super) struct $name;
        impl Format<$bytes, 1> for $name {
            const HALVES: bool = $halves;
            const MINIMUMS: bool = $minimums;
            const SET: usize = $set;
            const BIAS: u8 = $bias;
            const BITS: u32 = $bits;
            #[inline(always)]
            fn factors<S: Integers>(simd: S, rows: RowBytes<'_>, _: usize, out: Factors<'_>) {
                $factors(simd, rows, out);
            }
            #[inline(always)]
            fn codes<S: Integers>(
                $simd: S,
                $rows: RowBytes<'_>,
                $s: usize,
                $out: &mut impl Quads<S>,
            ) {
                $codes
            }
        }
    };
}

chunked!(
    Q4K,
    144,
    false,
    true,
    2,
    0,
    4,
    |simd, rows, set, out| {
        // Two groups share 32 bytes.
        unroll!(HALF < 2 => {
            let bytes = rows.quads(simd, 16 + set * 32 + 16 * HALF);
            unroll!(GROUP < 2 => {
                unroll!(I < 4 => {
                    let codes = simd.shift(bytes[I], 4 * GROUP, 15);
                    out.quad(simd, GROUP, 4 * HALF + I, codes);
                }; 0 1 2 3);
            }; 0 1);
        }; 0 1);
    },
    six_bits
);
chunked!(
    Q5K,
    176,
    false,
    true,
    2,
    0,
    5,
    |simd, rows, set, out| {
        unroll!(HALF < 2 => {
            let bytes = rows.quads(simd, 48 + set * 32 + 16 * HALF);
            let upper = rows.quads(simd, 16 + 16 * HALF);
            unroll!(GROUP < 2 => {
                unroll!(I < 4 => {
                    let upper = simd.times_16(simd.shift(upper[I], 2 * set + GROUP, 1));
                    let codes = simd.or(simd.shift(bytes[I], 4 * GROUP, 15), upper);
                    out.quad(simd, GROUP, 4 * HALF + I, codes);
                }; 0 1 2 3);
            }; 0 1);
        }; 0 1);
    },
    six_bits
);
chunked!(
    Q6K,
    210,
    true,
    false,
    4,
    32,
    6,
    |simd, rows, set, out| {
        // Four groups share 64 bytes of lower and 32 of upper bits.
        unroll!(HALF < 2 => {
            let at = set * 64 + 16 * HALF;
            let bytes = [rows.quads(simd, at), rows.quads(simd, at + 32)];
            let upper = rows.quads(simd, 128 + set * 32 + 16 * HALF);
            unroll!(GROUP < 4 => {
                unroll!(I < 4 => {
                    let upper = simd.times_16(simd.shift(upper[I], 2 * GROUP, 3));
                    let lower = simd.shift(bytes[GROUP % 2][I], GROUP / 2 * 4, 15);
                    out.quad(simd, GROUP, 4 * HALF + I, simd.or(lower, upper));
                }; 0 1 2 3);
            }; 0 1 2 3);
        }; 0 1);
    },
    scaled_halves
);

/// The 16 scales of Q6_K, with a common step.
#[inline(always)]
fn scaled_halves<S: Integers>(simd: S, rows: RowBytes<'_>, out: Factors<'_>) {
    let scales = rows.quads(simd, 192);
    let [.., last] = rows.quads(simd, 194);
    let [_, step] = simd.f16_pairs(last);
    for (steps, scales) in out.steps.as_chunks_mut::<2>().0.iter_mut().zip(scales) {
        for (out, scale) in steps.as_flattened_mut().iter_mut().zip(simd.bytes_of(scales)) {
            // Exact, because a scale has seven bits and a step eleven.
            simd.store_half(simd.mul_half(scale, step), out);
        }
    }
}

/// A step, the step of the minimums, and six-bit factors for both: see `factors` in
/// `tests/kernels/dense/reference.rs`.
#[inline(always)]
fn six_bits<S: Integers>(simd: S, rows: RowBytes<'_>, out: Factors<'_>) {
    let [both, a, b, c] = rows.quads(simd, 0);
    let [step, minimum] = simd.f16_pairs(both);
    let minimum = simd.mul_half(minimum, simd.splat_half(-1.0));
    let last = simd.or(simd.shift(c, 0, 15), simd.shift(a, 2, 48));
    let steps = [simd.shift(a, 0, 63), last];
    let last = simd.or(simd.shift(c, 4, 15), simd.shift(b, 2, 48));
    let minimums = [simd.shift(b, 0, 63), last];
    for (out, factors) in out.steps.as_chunks_mut::<4>().0.iter_mut().zip(steps) {
        for (out, factor) in out.iter_mut().zip(simd.bytes_of(factors)) {
            // Exact, because a factor has six bits and a step eleven.
            simd.store_half(simd.mul_half(factor, step), &mut out[0]);
        }
    }
    for (out, factors) in out.minimums.as_chunks_mut::<4>().0.iter_mut().zip(minimums) {
        for (out, factor) in out.iter_mut().zip(simd.bytes_of(factors)) {
            simd.store_half(simd.mul_half(factor, minimum), out);
        }
    }
}
