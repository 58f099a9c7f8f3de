//! What the flags of a processor's features do not tell.

use std::arch::x86_64::__cpuid;
use std::sync::LazyLock;

/// A kind of x86-64 processor for which other kernels or prefetches measured fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    /// AMD's family 19h: Zen 3 and Zen 4, of which Zen 4 was measured. Its registers of 512 bits are
    /// processed in halves.
    Zen4,
    /// Another of AMD, of which Zen 5 was measured.
    Amd,
    Other,
}

impl Processor {
    /// The processor of this machine.
    #[inline]
    pub(crate) fn this() -> Processor {
        static THIS: LazyLock<Processor> = LazyLock::new(detect);
        *THIS
    }
}

fn detect() -> Processor {
    // SAFETY: every x86-64 processor has the instruction and its functions 0, the vendor's name, and
    // 1, the family.
    #[allow(unused_unsafe, reason = "safe in newer versions of Rust")]
    let (name, version) = unsafe { (__cpuid(0), __cpuid(1).eax) };
    let name = [name.ebx, name.edx, name.ecx].map(u32::to_le_bytes);
    if name.as_flattened() != b"AuthenticAMD" {
        return Processor::Other;
    }
    // A family above 15 is the sum of two fields.
    match (version >> 8 & 0xf) + (version >> 20 & 0xff) {
        0x19 => Processor::Zen4,
        _ => Processor::Amd,
    }
}
