//! Operations on thirty-two floats at a time, and the order of all float sums.
//!
//! Element `i` goes to lane `i % 32` with a fused multiply-add, the tail is padded with zeros, and
//! the lanes are added pairwise: 16 + 16, 8 + 8, 4 + 4, 2 + 2, 1 + 1. Thirty-two lanes fill whole
//! registers of every instruction set. Each can therefore keep this order without losing speed, and
//! the result has the same bits on all of them.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(feature = "c-kernels")]
pub(crate) mod c;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "x86_64")]
pub(crate) mod prefetch;
pub(crate) mod scalar;

/// Number of lanes of a sum.
pub(crate) const LANES: usize = 32;
/// Prefetch distance of weights in bytes, on most machines: the one that measured fastest with
/// weights from memory.
pub(crate) const AHEAD: usize = 8192;

/// The prefetch distance of ternary weights in bytes on this machine.
#[inline]
pub(crate) fn ahead() -> usize {
    #[cfg(target_arch = "x86_64")]
    return prefetch::Prefetch::fastest().distance(AHEAD);
    #[cfg(not(target_arch = "x86_64"))]
    AHEAD
}

/// The float operations of an instruction set, on 32 lanes. A value of the type proves that the
/// processor has the instructions.
///
/// All implementations give the same bits. Conversions to f16 round to nearest, ties to even.
pub(crate) trait Simd: Copy {
    type Lanes: Copy;
    /// A part of the lanes: those of one register.
    type Part: Copy;
    /// The parts of all lanes, or of half of them: four chunks and a few more fit in the registers.
    type Chunk: Copy + AsRef<[Self::Part]> + AsMut<[Self::Part]>;

    /// Number of lanes of a part.
    const WIDTH: usize;
    /// Number of parts that the vector registers hold.
    const REGISTERS: usize;
    /// Number of chunks in the lanes: 1 or 2.
    const CHUNKS: usize;

    /// Prefetches some bytes from an address on, which may be outside the program's memory.
    fn prefetch(self, address: *const u8, bytes: usize);
    /// Whether dense weights in blocks and cached keys and values are better prefetched with
    /// [`prefetch_second`](Simd::prefetch_second).
    #[inline(always)]
    fn prefers_second_level(self) -> bool {
        false
    }
    /// Prefetches to the second level, if the instruction set can choose.
    #[inline(always)]
    fn prefetch_second(self, address: *const u8, bytes: usize) {
        self.prefetch(address, bytes);
    }
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
    /// The pairwise sums of the lanes of several vectors.
    #[inline(always)]
    fn sums(self, x: &[[f32; LANES]], out: &mut [f32]) {
        for (x, out) in x.iter().zip(out) {
            *out = self.sum(self.load(x));
        }
    }

    /// Loads the first `WIDTH` floats.
    fn load_part(self, x: &[f32]) -> Self::Part;
    /// Stores to the first `WIDTH` floats.
    fn store_part(self, x: Self::Part, out: &mut [f32]);
    /// `a * b + c`, rounded once.
    fn mul_add_part(self, a: Self::Part, b: Self::Part, c: Self::Part) -> Self::Part;

    fn add_part(self, a: Self::Part, b: Self::Part) -> Self::Part;

    /// Chunk `C` of the lanes. What computes only the other chunk is removed by the compiler.
    fn chunk<const C: usize>(self, x: Self::Lanes) -> Self::Chunk;

    #[inline(always)]
    fn add_chunk(self, mut a: Self::Chunk, b: Self::Chunk) -> Self::Chunk {
        for (a, b) in a.as_mut().iter_mut().zip(b.as_ref()) {
            *a = self.add_part(*a, *b);
        }
        a
    }

    /// `a * b + c`, rounded once.
    #[inline(always)]
    fn mul_add_chunk(self, a: Self::Chunk, b: Self::Chunk, mut c: Self::Chunk) -> Self::Chunk {
        for ((a, b), c) in a.as_ref().iter().zip(b.as_ref()).zip(c.as_mut()) {
            *c = self.mul_add_part(*a, *b, *c);
        }
        c
    }

    /// Stores to the lanes of chunk `C`.
    #[inline(always)]
    fn store_chunk<const C: usize>(self, x: Self::Chunk, out: &mut [f32; LANES]) {
        let out = &mut out[LANES / Self::CHUNKS * C..];
        for (x, out) in x.as_ref().iter().zip(out.chunks_exact_mut(Self::WIDTH)) {
            self.store_part(*x, out);
        }
    }
}

/// The values, padded with zeros.
#[inline(always)]
pub(crate) fn pad<T: Copy + Default, const N: usize>(x: &[T]) -> [T; N] {
    let mut padded = [T::default(); N];
    padded[..x.len()].copy_from_slice(x);
    padded
}

/// The dot product of two vectors of equal length.
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
