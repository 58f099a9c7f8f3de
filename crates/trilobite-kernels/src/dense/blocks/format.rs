//! Decoding blocks of weights to integers and factors, as `tests/kernels/dense/reference.rs` specifies.

use super::codes::GROUPS;
use super::simd::Integers;

/// A type with blocks of `N` bytes and `B` blocks in a chunk of 256 columns.
pub(super) trait Format<const N: usize, const B: usize> {
    /// Whether half groups have steps of their own.
    const HALVES: bool = false;
    /// Whether weights have minimums.
    const MINIMUMS: bool = false;
    fn factors<S: Integers>(simd: S, chunk: &[[u8; N]; B]) -> Factors;
    /// The codes of group `G`, without scale and minimum.
    fn codes<S: Integers, const G: usize>(simd: S, chunk: &[[u8; N]; B]) -> S::Words;
}

/// The factors of a chunk. Those that a type does not have are not computed.
pub(super) struct Factors {
    /// One for each group, or for each lower half of a group.
    pub(super) steps: [f32; GROUPS],
    /// One for each upper half of a group.
    pub(super) upper_steps: [f32; GROUPS],
    /// One for each group, to be added to its weights.
    pub(super) minimums: [f32; GROUPS],
}

impl Factors {
    /// Sets the factors of all but the first `valid` groups to zero.
    pub(super) fn keep(&mut self, valid: usize) {
        for factors in [&mut self.steps, &mut self.upper_steps, &mut self.minimums] {
            factors[valid..].fill(0.0);
        }
    }
}

const NO_STEPS: [f32; GROUPS] = [0.0; GROUPS];
const NO_MINIMUMS: [f32; GROUPS] = [0.0; GROUPS];

/// Calls a function for the format of a type.
macro_rules! dispatch {
    ($ty:expr, $f:ident($($arg:expr),*)) => {
        match $ty {
            DenseType::Q4_0 => $f::<format::Q4_0, 18, 8>($($arg),*),
            DenseType::Q4_1 => $f::<format::Q4_1, 20, 8>($($arg),*),
            DenseType::Q5_0 => $f::<format::Q5_0, 22, 8>($($arg),*),
            DenseType::Q5_1 => $f::<format::Q5_1, 24, 8>($($arg),*),
            DenseType::Q8_0 => $f::<format::Q8_0, 34, 8>($($arg),*),
            DenseType::Q4K => $f::<format::Q4K, 144, 1>($($arg),*),
            DenseType::Q5K => $f::<format::Q5K, 176, 1>($($arg),*),
            DenseType::Q6K => $f::<format::Q6K, 210, 1>($($arg),*),
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
    ($name:ident, $bytes:literal, $minimums:literal, |$simd:ident, $block:ident| $codes:expr) => {
        pub(super) struct $name;
        impl Format<$bytes, GROUPS> for $name {
            const MINIMUMS: bool = $minimums;
            #[inline(always)]
            fn factors<S: Integers>(simd: S, chunk: &[[u8; $bytes]; GROUPS]) -> Factors {
                let firsts = chunk.each_ref().map(|block| part(block, 0));
                let [steps, minimums] = simd.f16x16(firsts);
                Factors { steps, upper_steps: NO_STEPS, minimums }
            }
            #[inline(always)]
            fn codes<S: Integers, const G: usize>(
                $simd: S,
                chunk: &[[u8; $bytes]; GROUPS],
            ) -> S::Words {
                let $block = &chunk[G];
                $codes
            }
        }
    };
}

grouped!(Q4_0, 18, false, |simd, block| simd.nibbles(part(block, 2), 8));
grouped!(Q4_1, 20, true, |simd, block| simd.nibbles(part(block, 4), 0));
grouped!(Q5_0, 22, false, |simd, block| simd.five_bits(part(block, 6), part(block, 2), 16));
grouped!(Q5_1, 24, true, |simd, block| simd.five_bits(part(block, 8), part(block, 4), 0));
grouped!(Q8_0, 34, false, |simd, block| simd.words(simd.bytes(part(block, 2))));

/// Implements a type whose blocks are chunks.
macro_rules! chunked {
    (
        $name:ident, $bytes:literal, $halves:literal, $minimums:literal,
        |$simd:ident, $block:ident, $group:ident| $codes:expr, $factors:expr
    ) => {
        pub(super) struct $name;
        impl Format<$bytes, 1> for $name {
            const HALVES: bool = $halves;
            const MINIMUMS: bool = $minimums;
            #[inline(always)]
            fn factors<S: Integers>($simd: S, [$block]: &[[u8; $bytes]; 1]) -> Factors {
                $factors
            }
            #[inline(always)]
            fn codes<S: Integers, const G: usize>(
                $simd: S,
                [$block]: &[[u8; $bytes]; 1],
            ) -> S::Words {
                let $group = const { G as i32 };
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
    |simd, block, group| {
        simd.half_bytes(part(block, 16 + group as usize / 2 * 32), group % 2 == 1)
    },
    six_bits(simd, part(block, 0))
);
chunked!(
    Q5K,
    176,
    false,
    true,
    |simd, block, group| {
        let (upper, lower) = (part(block, 16), part(block, 48 + group as usize / 2 * 32));
        let upper = simd.shift(simd.bytes(upper), 4 - group, 16);
        simd.words(simd.or(simd.shift(simd.bytes(lower), -4 * (group % 2), 15), upper))
    },
    six_bits(simd, part(block, 0))
);
chunked!(
    Q6K,
    210,
    true,
    false,
    |simd, block, group| {
        let place = group as usize;
        let lower = part(block, place / 4 * 64 + place % 2 * 32);
        let upper = part(block, 128 + place / 4 * 32);
        let upper = simd.shift(simd.bytes(upper), 4 - 2 * (group % 4), 48);
        let lower = simd.shift(simd.bytes(lower), -4 * (group / 2 % 2), 15);
        simd.words(simd.sub(simd.or(lower, upper), 32))
    },
    {
        let scales = simd.widen_bytes(part(block, 192));
        let [_, step] = simd.f16x2(part(block, 206));
        let (mut steps, mut upper_steps) = (NO_STEPS, NO_STEPS);
        for g in 0..GROUPS {
            // Exact, because a scale has seven bits and a step eleven.
            steps[g] = f32::from(scales[2 * g] as i8) * step;
            upper_steps[g] = f32::from(scales[2 * g + 1] as i8) * step;
        }
        Factors { steps, upper_steps, minimums: NO_MINIMUMS }
    }
);

/// A step, the step of the minimums, and six-bit factors for both: see `factors` in
/// `tests/kernels/dense/reference.rs`.
#[inline(always)]
fn six_bits(simd: impl Integers, bytes: &[u8; 16]) -> Factors {
    let word = |at| u32::from_le_bytes(*part(bytes, at));
    let [a, b, c] = [word(4), word(8), word(12)];
    let upper = |first: u32| first >> 2 & 0x3030_3030;
    let factors = [
        a & 0x3f3f_3f3f,
        c & 0x0f0f_0f0f | upper(a),
        b & 0x3f3f_3f3f,
        c >> 4 & 0x0f0f_0f0f | upper(b),
    ];
    let factors = factors.map(u32::to_le_bytes);
    let factors = simd.widen_bytes(part(factors.as_flattened(), 0));
    let [step, minimum] = simd.f16x2(part(bytes, 0));
    let (mut steps, mut minimums) = (NO_STEPS, NO_MINIMUMS);
    for g in 0..GROUPS {
        // Exact, because a factor has six bits and a step eleven.
        steps[g] = factors[g] as f32 * step;
        minimums[g] = factors[GROUPS + g] as f32 * -minimum;
    }
    Factors { steps, upper_steps: NO_STEPS, minimums }
}

/// The `M` bytes from `at` on. Every caller passes constants.
#[inline(always)]
fn part<const M: usize>(items: &[u8], at: usize) -> &[u8; M] {
    match items[at..].first_chunk() {
        Some(part) => part,
        None => unreachable!("a part of a block lies within it"),
    }
}
