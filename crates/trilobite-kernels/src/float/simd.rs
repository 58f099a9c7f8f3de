//! Thirty-two floats at a time, and the one order in which every float is summed.
//!
//! Element `i` goes to lane `i % 32` with a fused multiply-add, the tail is padded with zeros, and
//! the lanes are added pairwise: 16 + 16, 8 + 8, 4 + 4, 2 + 2, 1 + 1. Thirty-two lanes fill whole
//! registers of every instruction set, so each can keep this order without losing speed, and the
//! result has the same bits on all of them.

/// Lanes of a sum.
pub(crate) const LANES: usize = 32;

/// An instruction set's way to handle 32 floats. A value of the type proves that the processor has
/// the instructions.
///
/// All implementations give the same bits. Conversions to f16 round to nearest, ties to even.
pub(crate) trait Simd: Copy {
    type Lanes: Copy;
    /// As many of the lanes as one register has: a part.
    type Part: Copy;
    /// Thirty-two bytes.
    type Bytes: Copy;

    /// Lanes of a part.
    const WIDTH: usize;
    /// Vector registers.
    const REGISTERS: usize;

    /// Asks for the memory at an address, which need not be one.
    fn prefetch(self, address: *const u8);
    fn splat(self, x: f32) -> Self::Lanes;
    fn load(self, x: &[f32; LANES]) -> Self::Lanes;
    fn load_f16(self, x: &[u16; LANES]) -> Self::Lanes;
    fn load_bf16(self, x: &[u16; LANES]) -> Self::Lanes;
    fn load_i8(self, x: &[i8; LANES]) -> Self::Lanes;
    fn store(self, x: Self::Lanes, out: &mut [f32; LANES]);
    fn store_f16(self, x: Self::Lanes, out: &mut [u16; LANES]);
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;
    /// The pairwise sum of the lanes.
    fn sum(self, x: Self::Lanes) -> f32;
    /// The pairwise sums of the lanes of each.
    #[inline(always)]
    fn sums(self, x: &[[f32; LANES]], out: &mut [f32]) {
        for (x, out) in x.iter().zip(out) {
            *out = self.sum(self.load(x));
        }
    }

    /// The first `WIDTH` floats.
    fn load_part(self, x: &[f32]) -> Self::Part;
    /// To the first `WIDTH` floats.
    fn store_part(self, x: Self::Part, out: &mut [f32]);
    /// `a * b + c`, rounded once.
    fn mul_add_part(self, a: Self::Part, b: Self::Part, c: Self::Part) -> Self::Part;

    /// The f16 in two bytes, in every lane.
    fn f16(self, bytes: &[u8; 2]) -> Self::Lanes;
    /// Four f16.
    fn f16x4(self, bytes: &[u8; 8]) -> [f32; 4];
    /// Signed bytes, the first eight times `a`, the others times `b`.
    fn scaled(self, x: &[u8; 16], a: f32, b: f32) -> [f32; 16];
    /// `low` in the lower sixteen lanes, `high` in the others.
    fn pair(self, low: f32, high: f32) -> Self::Lanes;
    fn bytes(self, x: &[u8; LANES]) -> Self::Bytes;
    /// The lower halves of the bytes, then the upper ones.
    fn split(self, x: &[u8; LANES / 2]) -> Self::Bytes;
    /// `value` where the bits, lowest first, are set, and 0 elsewhere.
    fn bits(self, bits: u32, value: u8) -> Self::Bytes;
    /// Each byte shifted to the left, or to the right if `by` is negative, by a constant, and masked.
    fn shift(self, x: Self::Bytes, by: i32, mask: u8) -> Self::Bytes;
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    fn sub(self, a: Self::Bytes, b: u8) -> Self::Bytes;
    /// The bytes as signed integers.
    fn widen(self, x: Self::Bytes) -> Self::Lanes;

    /// `(q - bias) * scale + offset` for the lower halves `q` of the bytes, then for the upper ones.
    #[inline(always)]
    fn nibbles(
        self,
        x: &[u8; LANES / 2],
        bias: u8,
        scale: Self::Lanes,
        offset: Self::Lanes,
    ) -> Self::Lanes {
        self.mul_add(self.widen(self.sub(self.split(x), bias)), scale, offset)
    }
    /// `q * scale + offset` for the lower or the upper halves `q` of the bytes.
    #[inline(always)]
    fn half_bytes(self, x: &[u8; LANES], upper: bool, scale: f32, offset: f32) -> Self::Lanes {
        let codes = self.shift(self.bytes(x), if upper { -4 } else { 0 }, 15);
        self.mul_add(self.widen(codes), self.splat(scale), self.splat(offset))
    }
}

/// The operations on bytes in plain Rust, for a `Simd` whose `Bytes` are an array.
macro_rules! plain_bytes {
    () => {
        #[inline(always)]
        fn scaled(self, x: &[u8; 16], a: f32, b: f32) -> [f32; 16] {
            let mut out = [0.0; 16];
            for (i, out) in out.iter_mut().enumerate() {
                *out = f32::from(x[i] as i8) * if i < 8 { a } else { b };
            }
            out
        }

        #[inline(always)]
        fn bytes(self, x: &[u8; LANES]) -> Self::Bytes {
            *x
        }

        #[inline(always)]
        fn split(self, x: &[u8; LANES / 2]) -> Self::Bytes {
            let mut out = [0; LANES];
            for (i, byte) in x.iter().enumerate() {
                (out[i], out[i + LANES / 2]) = (byte & 15, byte >> 4);
            }
            out
        }

        #[inline(always)]
        fn bits(self, bits: u32, value: u8) -> Self::Bytes {
            let mut out = [0; LANES];
            for (i, out) in out.iter_mut().enumerate() {
                *out = (bits >> i & 1) as u8 * value;
            }
            out
        }

        #[inline(always)]
        fn shift(self, x: Self::Bytes, by: i32, mask: u8) -> Self::Bytes {
            x.map(|x| if by < 0 { x >> -by & mask } else { x << by & mask })
        }

        #[inline(always)]
        fn or(self, mut a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
            for i in 0..LANES {
                a[i] |= b[i];
            }
            a
        }

        #[inline(always)]
        fn sub(self, a: Self::Bytes, b: u8) -> Self::Bytes {
            a.map(|a| a.wrapping_sub(b))
        }

        #[inline(always)]
        fn widen(self, x: Self::Bytes) -> Self::Lanes {
            self.load_i8(&x.map(|x| x as i8))
        }
    };
}
pub(crate) use plain_bytes;

/// The values with zeros after them.
#[inline(always)]
pub(crate) fn pad<T: Copy + Default, const N: usize>(x: &[T]) -> [T; N] {
    let mut padded = [T::default(); N];
    padded[..x.len()].copy_from_slice(x);
    padded
}

/// The dot product of two equally long vectors.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let mut acc = simd.splat(0.0);
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks(), b.as_chunks());
    for (a, b) in a.iter().zip(b) {
        acc = simd.mul_add(simd.load(a), simd.load(b), acc);
    }
    if !a_tail.is_empty() {
        acc = simd.mul_add(simd.load(&pad(a_tail)), simd.load(&pad(b_tail)), acc);
    }
    simd.sum(acc)
}

/// The sum of a vector.
#[inline(always)]
pub(crate) fn total<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let one = simd.splat(1.0);
    let mut acc = simd.splat(0.0);
    let (x, tail) = x.as_chunks();
    for x in x {
        acc = simd.mul_add(simd.load(x), one, acc);
    }
    if !tail.is_empty() {
        acc = simd.mul_add(simd.load(&pad(tail)), one, acc);
    }
    simd.sum(acc)
}
