//! The specification of the blocks of every type. Never optimised.

use half::f16;

/// Number of weights in a group.
const GROUP: usize = 32;

/// The weights are `step * code`, plus the minimum if there is one.
pub(super) struct Group {
    /// The steps of both halves, multiplied by the integer scales in types that have them. These
    /// products are exact.
    pub(super) steps: [f32; 2],
    pub(super) codes: [i32; GROUP],
    pub(super) minimum: Option<f32>,
}

impl Group {
    fn new(step: f32, minimum: Option<f32>, code: impl FnMut(usize) -> i32) -> Group {
        Group { steps: [step; 2], codes: std::array::from_fn(code), minimum }
    }

    /// Exact products, and one rounded addition.
    pub(super) fn weights(&self) -> [f32; GROUP] {
        std::array::from_fn(|i| {
            let product = self.steps[i / (GROUP / 2)] * self.codes[i] as f32;
            self.minimum.map_or(product, |minimum| product + minimum)
        })
    }
}

/// The f16 at byte `at`.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32_const()
}

/// The 4-bit code of weight `i` of 32. The first 16 are the lower halves of the bytes.
fn nibble(codes: &[u8], i: usize) -> u8 {
    codes[i % 16] >> (i / 16 * 4) & 15
}

/// The fifth bit of the code of weight `i`. The bits are adjacent.
fn fifth_bit(bits: &[u8], i: usize) -> u8 {
    (bits[i / 8] >> (i % 8) & 1) << 4
}

pub(super) fn q4_0(block: &[u8; 18]) -> [Group; 1] {
    [Group::new(half(block, 0), None, |i| i32::from(nibble(&block[2..], i)) - 8)]
}

pub(super) fn q4_1(block: &[u8; 20]) -> [Group; 1] {
    let (d, m) = (half(block, 0), half(block, 2));
    [Group::new(d, Some(m), |i| i32::from(nibble(&block[4..], i)))]
}

pub(super) fn q5_0(block: &[u8; 22]) -> [Group; 1] {
    let code = |i| nibble(&block[6..], i) | fifth_bit(&block[2..], i);
    [Group::new(half(block, 0), None, |i| i32::from(code(i)) - 16)]
}

pub(super) fn q5_1(block: &[u8; 24]) -> [Group; 1] {
    let code = |i| nibble(&block[8..], i) | fifth_bit(&block[4..], i);
    [Group::new(half(block, 0), Some(half(block, 2)), |i| i32::from(code(i)))]
}

pub(super) fn q8_0(block: &[u8; 34]) -> [Group; 1] {
    [Group::new(half(block, 0), None, |i| i32::from(block[2 + i] as i8))]
}

/// The 6-bit factors of the scales and the minimums of eight groups, from 12 bytes. The lower six
/// bits of the first four bytes are scales 0 to 3, those of the next four are minimums 0 to 3. The
/// last four bytes hold the lower four bits of the others, whose upper two bits are the upper bits
/// of the first eight bytes.
pub(super) fn factors(bytes: &[u8]) -> ([u8; 8], [u8; 8]) {
    let lower = |i: usize| bytes[i] & 63;
    let upper = |i: usize| bytes[i] >> 6 << 4;
    let scales = |i| if i < 4 { lower(i) } else { bytes[i + 4] & 15 | upper(i - 4) };
    let minimums = |i| if i < 4 { lower(i + 4) } else { bytes[i + 4] >> 4 | upper(i) };
    (std::array::from_fn(scales), std::array::from_fn(minimums))
}

pub(super) fn q4_k(block: &[u8; 144]) -> [Group; 8] {
    let (d, m) = (half(block, 0), half(block, 2));
    let (scales, minimums) = factors(&block[4..16]);
    std::array::from_fn(|group| {
        // Two groups share 32 bytes.
        let codes = &block[16 + group / 2 * 32..];
        let (step, minimum) = (d * f32::from(scales[group]), -m * f32::from(minimums[group]));
        Group::new(step, Some(minimum), |i| i32::from(codes[i] >> (group % 2 * 4) & 15))
    })
}

pub(super) fn q5_k(block: &[u8; 176]) -> [Group; 8] {
    let (d, m) = (half(block, 0), half(block, 2));
    let (scales, minimums) = factors(&block[4..16]);
    let bits = &block[16..48];
    std::array::from_fn(|group| {
        let codes = &block[48 + group / 2 * 32..];
        let (step, minimum) = (d * f32::from(scales[group]), -m * f32::from(minimums[group]));
        Group::new(step, Some(minimum), |i| {
            i32::from(codes[i] >> (group % 2 * 4) & 15 | (bits[i] >> group & 1) << 4)
        })
    })
}

pub(super) fn q6_k(block: &[u8; 210]) -> [Group; 8] {
    let d = half(block, 208);
    std::array::from_fn(|group| {
        // Each half of the block has 64 bytes of lower and 32 of upper bits for its four groups.
        let (part, group) = (group / 4, group % 4);
        let lower = &block[part * 64 + group % 2 * 32..];
        let upper = &block[128 + part * 32..];
        let scales = &block[192 + part * 8 + group * 2..];
        let steps = [scales[0], scales[1]].map(|scale| d * f32::from(scale as i8));
        let codes = Group::new(d, None, |i| {
            let code = lower[i] >> (group / 2 * 4) & 15 | (upper[i] >> (group * 2) & 3) << 4;
            i32::from(code) - 32
        });
        Group { steps, ..codes }
    })
}

pub(super) fn tq1_0(block: &[u8; 54]) -> [Group; 8] {
    let d = half(block, 52);
    // A byte holds five trits in base 3, as a fraction of 256, rounded up. The bytes form runs.
    // Each run stores all its first trits, then all its second ones, and so on.
    let trit = |i: usize| {
        let (first, len, i) = match i {
            0..160 => (0, 32, i),
            160..240 => (32, 16, i - 160),
            _ => (48, 4, i - 240),
        };
        let fraction = block[first + i % len].wrapping_mul(3_u8.pow((i / len) as u32));
        i32::from(((u16::from(fraction) * 3) >> 8) as u8) - 1
    };
    std::array::from_fn(|group| Group::new(d, None, |i| trit(GROUP * group + i)))
}

pub(super) fn tq2_0(block: &[u8; 66]) -> [Group; 8] {
    // Four groups share 32 bytes.
    let code = |group: usize, i| block[group / 4 * 32 + i] >> (group % 4 * 2) & 3;
    std::array::from_fn(|group| {
        Group::new(half(block, 64), None, |i| i32::from(code(group, i)) - 1)
    })
}

pub(super) fn q1_0(block: &[u8; 18]) -> [Group; 4] {
    let bit = |i: usize| i32::from(block[2 + i / 8] >> (i % 8) & 1);
    std::array::from_fn(|group| {
        Group::new(half(block, 0), None, |i| 2 * bit(GROUP * group + i) - 1)
    })
}

/// The 2-bit code of weight `i` of a block of Q2_0 or PQ2_0. Four adjacent weights share a byte.
fn two_bits(block: &[u8], i: usize) -> i32 {
    i32::from(block[2 + i / 4] >> (i % 4 * 2) & 3)
}

pub(super) fn q2_0(block: &[u8; 18]) -> [Group; 2] {
    std::array::from_fn(|group| {
        Group::new(half(block, 0), None, |i| two_bits(block, GROUP * group + i) - 1)
    })
}

pub(super) fn pq2_0(block: &[u8; 34]) -> [Group; 4] {
    std::array::from_fn(|group| {
        Group::new(half(block, 0), None, |i| two_bits(block, GROUP * group + i) - 1)
    })
}

pub(super) fn ptq1_0(block: &[u8; 28]) -> [Group; 4] {
    // Bytes as in TQ1_0, in runs of 16, 8 and 2.
    let trit = |i: usize| {
        let (first, len, i) = match i {
            0..80 => (0, 16, i),
            80..120 => (16, 8, i - 80),
            _ => (24, 2, i - 120),
        };
        let fraction = block[first + i % len].wrapping_mul(3_u8.pow((i / len) as u32));
        i32::from(((u16::from(fraction) * 3) >> 8) as u8) - 1
    };
    std::array::from_fn(|group| Group::new(half(block, 26), None, |i| trit(GROUP * group + i)))
}
