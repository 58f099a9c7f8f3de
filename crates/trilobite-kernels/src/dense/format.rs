//! Blocks of weights to lanes, fast: what `reference` specifies, over a [`Simd`].

use crate::float::simd::{LANES, Simd};

/// Rows of narrow weights that are multiplied with one token side by side.
pub(super) const ROWS: usize = 4;

/// One dense type; `N` is the bytes of a block, in which every 32 weights are a group. The types
/// without blocks have one of a single group, and their last may be shorter.
pub(super) trait Format<const N: usize> {
    /// Groups of a block.
    const GROUPS: usize = 1;
    /// Whether the last block may be shorter.
    const TAILS: bool = false;
    /// What the groups of a block share.
    type Shared;
    fn shared<S: Simd>(simd: S, block: &[u8; N]) -> Self::Shared;
    /// What the groups of each of some rows' blocks share.
    #[inline(always)]
    fn shared_abreast<S: Simd>(simd: S, blocks: [&[u8; N]; ROWS]) -> [Self::Shared; ROWS] {
        let [a, b, c, d] = blocks;
        [Self::shared(simd, a), Self::shared(simd, b), Self::shared(simd, c), Self::shared(simd, d)]
    }
    /// The weights of group `G`.
    fn load<S: Simd, const G: usize>(simd: S, block: &[u8; N], shared: &Self::Shared) -> S::Lanes;
}

/// Evaluates an expression for each constant below `$end`, at most 8, in straight code: a loop that
/// is left a loop would keep the registers of its arrays in memory.
macro_rules! unroll {
    ($i:ident < $end:expr => $body:expr) => {
        unroll! { $i < $end => $body; 0 1 2 3 4 5 6 7 }
    };
    ($i:ident < $end:expr => $body:expr; $($value:literal)*) => {
        $({
            const $i: usize = $value;
            if $i < $end {
                $body
            }
        })*
    };
}
pub(super) use unroll;

/// Calls a function for the format of a type.
macro_rules! dispatch {
    ($ty:expr, $f:ident($($arg:expr),*)) => {
        match $ty {
            DenseType::F32 => $f::<format::F32, 128>($($arg),*),
            DenseType::F16 => $f::<format::F16, 64>($($arg),*),
            DenseType::BF16 => $f::<format::BF16, 64>($($arg),*),
            DenseType::Q4_0 => $f::<format::Q4_0, 18>($($arg),*),
            DenseType::Q4_1 => $f::<format::Q4_1, 20>($($arg),*),
            DenseType::Q5_0 => $f::<format::Q5_0, 22>($($arg),*),
            DenseType::Q5_1 => $f::<format::Q5_1, 24>($($arg),*),
            DenseType::Q8_0 => $f::<format::Q8_0, 34>($($arg),*),
            DenseType::Q4K => $f::<format::Q4K, 144>($($arg),*),
            DenseType::Q5K => $f::<format::Q5K, 176>($($arg),*),
            DenseType::Q6K => $f::<format::Q6K, 210>($($arg),*),
            DenseType::TQ1_0 => $f::<format::TQ1_0, 54>($($arg),*),
            DenseType::TQ2_0 => $f::<format::TQ2_0, 66>($($arg),*),
        }
    };
}
pub(super) use dispatch;

/// A type of one group a block.
macro_rules! single {
    ($name:ident, $bytes:literal, $tails:literal, |$simd:ident, $block:ident| $load:expr) => {
        pub(super) struct $name;
        impl Format<$bytes> for $name {
            const TAILS: bool = $tails;
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

single!(F32, 128, true, |simd, block| {
    let mut values = [0.0; LANES];
    for (value, bytes) in values.iter_mut().zip(block.as_chunks().0) {
        *value = f32::from_le_bytes(*bytes);
    }
    simd.load(&values)
});
single!(F16, 64, true, |simd, block| simd.load_f16(&halves(block)));
single!(BF16, 64, true, |simd, block| simd.load_bf16(&halves(block)));
single!(Q8_0, 34, false, |simd, block| {
    let codes = simd.bytes(part(block, 2));
    simd.mul(simd.widen(codes), simd.f16(part(block, 0)))
});

/// A type of one group a block, which begins with a scale, or a scale and a minimum, in f16.
macro_rules! scaled {
    ($name:ident, $bytes:literal, $count:literal, |$simd:ident, $block:ident, $factors:ident| $load:expr) => {
        pub(super) struct $name;
        impl Format<$bytes> for $name {
            type Shared = [f32; $count];
            #[inline(always)]
            fn shared<S: Simd>(simd: S, block: &[u8; $bytes]) -> [f32; $count] {
                let factors = simd.f16x4(part(block, 0));
                *part(&factors, 0)
            }
            #[inline(always)]
            fn shared_abreast<S: Simd>(
                simd: S,
                [a, b, c, d]: [&[u8; $bytes]; ROWS],
            ) -> [[f32; $count]; ROWS] {
                let mut factors = [[0.0; $count]; ROWS];
                for i in 0..$count {
                    let bits = |block| u64::from(u16::from_le_bytes(*part(block, 2 * i)));
                    let bits = bits(a) | bits(b) << 16 | bits(c) << 32 | bits(d) << 48;
                    let values = simd.f16x4(&bits.to_le_bytes());
                    for (factors, value) in factors.iter_mut().zip(values) {
                        factors[i] = value;
                    }
                }
                factors
            }
            #[inline(always)]
            fn load<S: Simd, const G: usize>(
                $simd: S,
                $block: &[u8; $bytes],
                $factors: &[f32; $count],
            ) -> S::Lanes {
                $load
            }
        }
    };
}

scaled!(Q4_0, 18, 1, |simd, block, factors| {
    let [scale] = *factors;
    simd.nibbles(part(block, 2), 8, simd.splat(scale), simd.splat(-0.0))
});
scaled!(Q4_1, 20, 2, |simd, block, factors| {
    let [scale, minimum] = *factors;
    simd.nibbles(part(block, 4), 0, simd.splat(scale), simd.splat(minimum))
});
scaled!(Q5_0, 22, 1, |simd, block, factors| {
    let [scale] = *factors;
    let codes = simd.sub(five_bits(simd, part(block, 2), part(block, 6)), 16);
    simd.mul(simd.widen(codes), simd.splat(scale))
});
scaled!(Q5_1, 24, 2, |simd, block, factors| {
    let [scale, minimum] = *factors;
    let codes = five_bits(simd, part(block, 4), part(block, 8));
    simd.mul_add(simd.widen(codes), simd.splat(scale), simd.splat(minimum))
});

pub(super) struct Q4K;
impl Format<144> for Q4K {
    const GROUPS: usize = 8;
    type Shared = Factors;
    #[inline(always)]
    fn shared<S: Simd>(simd: S, block: &[u8; 144]) -> Factors {
        Factors::new(simd, part(block, 0))
    }
    #[inline(always)]
    fn load<S: Simd, const G: usize>(simd: S, block: &[u8; 144], f: &Factors) -> S::Lanes {
        let codes = part(block, 16 + G / 2 * 32);
        simd.half_bytes(codes, G % 2 == 1, f.0[G], f.0[8 + G])
    }
}

pub(super) struct Q5K;
impl Format<176> for Q5K {
    const GROUPS: usize = 8;
    type Shared = Factors;
    #[inline(always)]
    fn shared<S: Simd>(simd: S, block: &[u8; 176]) -> Factors {
        Factors::new(simd, part(block, 0))
    }
    #[inline(always)]
    fn load<S: Simd, const G: usize>(simd: S, block: &[u8; 176], f: &Factors) -> S::Lanes {
        let (upper, lower) = (part(block, 16), part(block, 48 + G / 2 * 32));
        let upper = simd.shift(simd.bytes(upper), 4 - G as i32, 16);
        let lower = simd.shift(simd.bytes(lower), -4 * (G as i32 % 2), 15);
        let codes = simd.widen(simd.or(lower, upper));
        simd.mul_add(codes, simd.splat(f.0[G]), simd.splat(f.0[8 + G]))
    }
}

pub(super) struct Q6K;
impl Format<210> for Q6K {
    const GROUPS: usize = 8;
    /// The scales of half groups.
    type Shared = [f32; 16];
    #[inline(always)]
    fn shared<S: Simd>(simd: S, block: &[u8; 210]) -> [f32; 16] {
        let [.., scale] = simd.f16x4(part(block, 202));
        simd.scaled(part(block, 192), scale, scale)
    }
    #[inline(always)]
    fn load<S: Simd, const G: usize>(simd: S, block: &[u8; 210], scales: &[f32; 16]) -> S::Lanes {
        let (lower, upper) = (part(block, G / 4 * 64 + G % 2 * 32), part(block, 128 + G / 4 * 32));
        let upper = simd.shift(simd.bytes(upper), 4 - 2 * (G as i32 % 4), 48);
        let lower = simd.shift(simd.bytes(lower), -4 * (G as i32 / 2 % 2), 15);
        let codes = simd.sub(simd.or(lower, upper), 32);
        simd.mul(simd.widen(codes), simd.pair(scales[2 * G], scales[2 * G + 1]))
    }
}

pub(super) struct TQ2_0;
impl Format<66> for TQ2_0 {
    const GROUPS: usize = 8;
    type Shared = f32;
    #[inline(always)]
    fn shared<S: Simd>(simd: S, block: &[u8; 66]) -> f32 {
        let [.., scale] = simd.f16x4(part(block, 58));
        scale
    }
    #[inline(always)]
    fn load<S: Simd, const G: usize>(simd: S, block: &[u8; 66], scale: &f32) -> S::Lanes {
        let codes = simd.bytes(part(block, G / 4 * 32));
        let codes = simd.sub(simd.shift(codes, -2 * (G as i32 % 4), 3), 1);
        simd.mul(simd.widen(codes), simd.splat(*scale))
    }
}

pub(super) struct TQ1_0;
impl Format<54> for TQ1_0 {
    const GROUPS: usize = 8;
    type Shared = ([[i8; LANES]; 8], f32);
    #[inline(always)]
    fn shared<S: Simd>(simd: S, block: &[u8; 54]) -> Self::Shared {
        let mut codes = [[0; LANES]; 8];
        let mut places = codes.as_flattened_mut();
        // Bytes come in runs, each of which has all its first trits, then all its second ones.
        for (first, len, trits) in [(0, 32, 5), (32, 16, 5), (48, 4, 4)] {
            let mut power = 1_u8;
            for _ in 0..trits {
                let (now, later) = places.split_at_mut(len);
                for (code, byte) in now.iter_mut().zip(&block[first..first + len]) {
                    *code = ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as i8 - 1;
                }
                (places, power) = (later, power.wrapping_mul(3));
            }
        }
        let [.., scale] = simd.f16x4(part(block, 46));
        (codes, scale)
    }
    #[inline(always)]
    fn load<S: Simd, const G: usize>(simd: S, _: &[u8; 54], shared: &Self::Shared) -> S::Lanes {
        simd.mul(simd.load_i8(&shared.0[G]), simd.splat(shared.1))
    }
}

/// The scales of eight groups, then their minimums, to be added.
pub(super) struct Factors([f32; 16]);

impl Factors {
    #[inline(always)]
    fn new(simd: impl Simd, bytes: &[u8; 16]) -> Factors {
        let [scale, minimum, ..] = simd.f16x4(part(bytes, 0));
        // Four factors at a time: see `reference::factors`.
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
        Factors(simd.scaled(part(factors.as_flattened(), 0), scale, -minimum))
    }
}

#[inline(always)]
fn five_bits<S: Simd>(simd: S, upper: &[u8; 4], lower: &[u8; 16]) -> S::Bytes {
    simd.or(simd.split(lower), simd.bits(u32::from_le_bytes(*upper), 16))
}

#[inline(always)]
fn halves(bytes: &[u8; 64]) -> [u16; LANES] {
    let mut values = [0; LANES];
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        *value = u16::from_le_bytes(*bytes);
    }
    values
}

/// The `M` items from `at` on, which every caller states as constants.
#[inline(always)]
fn part<T, const M: usize>(items: &[T], at: usize) -> &[T; M] {
    match items[at..].first_chunk() {
        Some(part) => part,
        None => unreachable!("a part of a block lies within it"),
    }
}
