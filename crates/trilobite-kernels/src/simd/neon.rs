//! aarch64: the 32 lanes are eight registers of four.

use super::{LANES, Simd};
use std::arch::aarch64::*;
use std::arch::asm;

/// The proof that the processor has NEON. Only code compiled for it can safely create one.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    #[target_feature(enable = "neon")]
    pub(crate) fn new() -> Neon {
        Neon(())
    }
}

/// Evaluates an expression for each of the eight registers.
macro_rules! each {
    ($i:ident => $register:expr) => {
        each! { $i => $register; 0 1 2 3 4 5 6 7 }
    };
    ($i:ident => $register:expr; $($value:literal)*) => {
        // SAFETY: `self` proves that the processor has the instructions. Pointers come from array
        // references of 32 elements, of which a register covers the four from `4 * $i` on.
        unsafe {
            [$({
                const $i: usize = $value;
                $register
            }),*]
        }
    };
}

impl Simd for Neon {
    type Lanes = [float32x4_t; 8];
    type Part = float32x4_t;
    type Chunk = [float32x4_t; 4];

    const WIDTH: usize = 4;
    const REGISTERS: usize = 32;
    const CHUNKS: usize = 2;

    #[inline(always)]
    fn prefetch(self, address: *const u8, bytes: usize) {
        for line in (0..bytes).step_by(64) {
            let address = address.wrapping_add(line);
            // SAFETY: the instruction is a hint that never faults and changes no register.
            unsafe {
                asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags));
            }
        }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Lanes {
        each!(I => { let _ = I; vdupq_n_f32(x) })
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::Lanes {
        each!(I => vld1q_f32(x.as_ptr().add(4 * I)))
    }

    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::Lanes {
        each!(I => {
            let wide: float32x4_t;
            // The intrinsic for this conversion is newer than the oldest supported compiler.
            asm!(
                "fcvtl {wide:v}.4s, {bits:v}.4h",
                wide = lateout(vreg) wide,
                bits = in(vreg) vld1_u16(x.as_ptr().add(4 * I)),
                options(pure, nomem, nostack, preserves_flags),
            );
            wide
        })
    }

    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::Lanes {
        each!(I => vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(x.as_ptr().add(4 * I)))))
    }

    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::Lanes {
        each!(I => {
            // Eight codes, of which this register takes the lower or the upper four.
            let wide = vmovl_s8(vld1_s8(x.as_ptr().add(I / 2 * 8)));
            let wide = if I % 2 == 0 { vget_low_s16(wide) } else { vget_high_s16(wide) };
            vcvtq_f32_s32(vmovl_s16(wide))
        })
    }

    #[inline(always)]
    fn store(self, x: Self::Lanes, out: &mut [f32; LANES]) {
        each!(I => vst1q_f32(out.as_mut_ptr().add(4 * I), x[I]));
    }

    #[inline(always)]
    fn store_f16(self, x: Self::Lanes, out: &mut [u16; LANES]) {
        each!(I => {
            let bits: uint16x4_t;
            asm!(
                "fcvtn {bits:v}.4h, {wide:v}.4s",
                bits = lateout(vreg) bits,
                wide = in(vreg) x[I],
                options(pure, nomem, nostack, preserves_flags),
            );
            vst1_u16(out.as_mut_ptr().add(4 * I), bits)
        });
    }

    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each!(I => vaddq_f32(a[I], b[I]))
    }

    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each!(I => vmulq_f32(a[I], b[I]))
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        each!(I => vfmaq_f32(c[I], a[I], b[I]))
    }

    #[inline(always)]
    fn sum(self, [a, b, c, d, e, f, g, h]: Self::Lanes) -> f32 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let [a, b] = [
                vaddq_f32(vaddq_f32(a, e), vaddq_f32(c, g)),
                vaddq_f32(vaddq_f32(b, f), vaddq_f32(d, h)),
            ];
            let x = vaddq_f32(a, b);
            let x = vadd_f32(vget_low_f32(x), vget_high_f32(x));
            vget_lane_f32::<0>(x) + vget_lane_f32::<1>(x)
        }
    }

    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::Part {
        // SAFETY: `self` proves that the processor has the instructions; the slice has four floats.
        unsafe { vld1q_f32(x[..4].as_ptr()) }
    }

    #[inline(always)]
    fn store_part(self, x: Self::Part, out: &mut [f32]) {
        // SAFETY: `self` proves that the processor has the instructions; the slice has four floats.
        unsafe { vst1q_f32(out[..4].as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn mul_add_part(self, a: Self::Part, b: Self::Part, c: Self::Part) -> Self::Part {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn add_part(self, a: Self::Part, b: Self::Part) -> Self::Part {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn chunk<const C: usize>(self, x: Self::Lanes) -> Self::Chunk {
        [x[4 * C], x[4 * C + 1], x[4 * C + 2], x[4 * C + 3]]
    }
}
