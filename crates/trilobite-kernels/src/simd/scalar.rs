//! Any processor, in plain Rust.
//!
//! Methods are calls: unlike those of the instruction sets, they need no processor features of
//! their caller, and inlined they would take half of the crate's compile time.

use super::{LANES, Simd};
use half::f16;

/// Arrays of floats. `F` implements the arithmetic.
#[derive(Clone, Copy)]
pub(crate) struct Scalar<F>(pub(crate) F);

/// Arithmetic on arrays of floats.
pub(crate) trait Arithmetic: Copy {
    /// `c += a * b` in each lane, rounded once. The number of lanes is a multiple of eight and at
    /// most [`LANES`].
    fn multiply_add(self, a: &[f32], b: &[f32], c: &mut [f32]);

    /// Converts half precision to single.
    fn widen(self, x: &[u16; LANES]) -> [f32; LANES];
}

/// Arithmetic in Rust: instructions of the processor if the target has them, otherwise a function
/// call for each lane.
#[derive(Clone, Copy)]
pub(crate) struct InRust;

impl Arithmetic for InRust {
    #[inline(never)]
    fn multiply_add(self, a: &[f32], b: &[f32], c: &mut [f32]) {
        for ((a, b), c) in a.iter().zip(b).zip(c) {
            *c = a.mul_add(*b, *c);
        }
    }

    #[inline(never)]
    fn widen(self, x: &[u16; LANES]) -> [f32; LANES] {
        // The const functions of `half` never test for processor features.
        x.map(|x| f16::from_bits(x).to_f32_const())
    }
}

impl<F: Arithmetic> Simd for Scalar<F> {
    type Lanes = [f32; LANES];
    type Part = [f32; LANES];
    type Chunk = [Self::Part; 1];

    const WIDTH: usize = LANES;
    // A part is all lanes, and 16 registers of four floats hold two.
    const REGISTERS: usize = 2;
    const CHUNKS: usize = 1;

    #[inline]
    fn prefetch(self, _: *const u8, _: usize) {}

    #[inline(never)]
    fn splat(self, x: f32) -> Self::Lanes {
        [x; LANES]
    }

    #[inline(never)]
    fn load(self, x: &[f32; LANES]) -> Self::Lanes {
        *x
    }

    #[inline(never)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::Lanes {
        self.0.widen(x)
    }

    #[inline(never)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::Lanes {
        x.map(|x| f32::from_bits(u32::from(x) << 16))
    }

    #[inline(never)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::Lanes {
        x.map(f32::from)
    }

    #[inline(never)]
    fn store(self, x: Self::Lanes, out: &mut [f32; LANES]) {
        *out = x;
    }

    #[inline(never)]
    fn store_f16(self, x: Self::Lanes, out: &mut [u16; LANES]) {
        *out = x.map(|x| f16::from_f32_const(x).to_bits());
    }

    #[inline(never)]
    fn add(self, mut a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        for i in 0..LANES {
            a[i] += b[i];
        }
        a
    }

    #[inline(never)]
    fn mul(self, mut a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        for i in 0..LANES {
            a[i] *= b[i];
        }
        a
    }

    #[inline(never)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, mut c: Self::Lanes) -> Self::Lanes {
        self.0.multiply_add(&a, &b, &mut c);
        c
    }

    #[inline(never)]
    fn sum(self, mut x: Self::Lanes) -> f32 {
        let mut width = LANES;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                x[i] += x[i + width];
            }
        }
        x[0]
    }

    #[inline(never)]
    fn load_part(self, x: &[f32]) -> Self::Part {
        let mut part = [0.0; LANES];
        part.copy_from_slice(&x[..LANES]);
        part
    }

    #[inline(never)]
    fn store_part(self, x: Self::Part, out: &mut [f32]) {
        out[..LANES].copy_from_slice(&x);
    }

    #[inline(never)]
    fn mul_add_part(self, a: Self::Part, b: Self::Part, c: Self::Part) -> Self::Part {
        self.mul_add(a, b, c)
    }

    #[inline(never)]
    fn add_part(self, a: Self::Part, b: Self::Part) -> Self::Part {
        self.add(a, b)
    }

    #[inline(never)]
    fn chunk<const C: usize>(self, x: Self::Lanes) -> Self::Chunk {
        [x]
    }
}
