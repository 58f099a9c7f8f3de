//! Prefetching on x86-64: what is fastest depends on the processor.

use crate::processor::Processor;
use std::arch::x86_64::*;

/// The caches that weights from memory are prefetched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefetch {
    /// All levels.
    All,
    /// The first level, without a copy in the second.
    First,
    /// The second level and beyond, from where the processor itself fetches them to the first.
    Second,
}

impl Prefetch {
    /// The fastest way for ternary weights, dense weights in blocks, the coarse copy of the head, and
    /// cached keys and values.
    ///
    /// On Zen 4 a prefetch to the first level holds one of its few fill buffers until memory answers.
    /// With [`Second`](Self::Second) I2_S and T5_3 decoded 1.3 to 1.5 times as fast as with
    /// [`All`](Self::All), and attention over 4,000 positions in f32 took half of the time.
    #[inline]
    pub(crate) fn fastest() -> Prefetch {
        match Processor::this() {
            Processor::Zen4 => Prefetch::Second,
            Processor::Amd | Processor::Other => Prefetch::All,
        }
    }

    /// The fastest way for weights of two bits that are multiplied with some tokens.
    ///
    /// For one token [`First`](Self::First) was up to a sixth faster on Zen 5. On Intel's Emerald
    /// Rapids it took up to 1.3 times as long, and on Zen 4 twice as long with transposed matrices.
    #[inline]
    pub(crate) fn fastest_of_two_bits(tokens: usize) -> Prefetch {
        match Processor::this() {
            Processor::Amd if tokens == 1 => Prefetch::First,
            _ => Prefetch::fastest(),
        }
    }

    /// The distance in bytes of this way, if `bytes` is that of the others. Lines in the second level
    /// must still be there when they are needed, but it has room for more of them.
    #[inline]
    pub(crate) fn distance(self, bytes: usize) -> usize {
        match self {
            Prefetch::Second => 4 * bytes,
            Prefetch::All | Prefetch::First => bytes,
        }
    }

    /// Prefetches the cache line at an address, which may be outside the program's memory.
    #[inline(always)]
    pub(crate) fn line(self, address: *const i8) {
        self.lines([address]);
    }

    /// Prefetches some bytes from an address on.
    #[inline(always)]
    pub(crate) fn bytes(self, address: *const u8, bytes: usize) {
        self.lines((0..bytes).step_by(64).map(|line| address.wrapping_add(line).cast()));
    }

    /// Prefetches the cache lines at some addresses. The way is chosen once for all of them.
    #[inline(always)]
    pub(crate) fn lines(self, addresses: impl IntoIterator<Item = *const i8>) {
        let addresses = addresses.into_iter();
        // SAFETY: a prefetch reads nothing, whatever the address; SSE is in every x86-64.
        unsafe {
            match self {
                Prefetch::All => addresses.for_each(|at| _mm_prefetch::<_MM_HINT_T0>(at)),
                Prefetch::First => addresses.for_each(|at| _mm_prefetch::<_MM_HINT_NTA>(at)),
                Prefetch::Second => addresses.for_each(|at| _mm_prefetch::<_MM_HINT_T1>(at)),
            }
        }
    }
}
