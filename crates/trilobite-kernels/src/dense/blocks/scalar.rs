//! Any processor, in plain Rust.

use super::codes::{GROUP, WideGroup};
use super::simd::{Half, Integers, LANES, plain_bytes};
use crate::simd::scalar::{Arithmetic, Scalar};
use half::f16;

impl<F: Arithmetic> Integers for Scalar<F> {
    type Bytes = [u8; GROUP];
    type Words = [i16; GROUP];
    type Sums = [i32; LANES];
    type Half = [f32; LANES];

    plain_bytes!(never);

    #[inline(never)]
    fn load_words(self, x: &WideGroup) -> Self::Words {
        x.0
    }

    #[inline(never)]
    fn store_words(self, x: Self::Words, out: &mut WideGroup) {
        out.0 = x;
    }

    #[inline(never)]
    fn words(self, x: Self::Bytes) -> Self::Words {
        x.map(|x| i16::from(x as i8))
    }

    #[inline(never)]
    fn mul_words(self, mut x: Self::Words, low: i16, high: i16) -> Self::Words {
        for (i, x) in x.iter_mut().enumerate() {
            *x *= if i < GROUP / 2 { low } else { high };
        }
        x
    }

    #[inline(never)]
    fn zero_sums(self) -> Self::Sums {
        [0; LANES]
    }

    #[inline(never)]
    fn products(self, a: Self::Words, b: Self::Words) -> Self::Sums {
        self.dot(a, b, [0; LANES])
    }

    #[inline(never)]
    fn dot(self, a: Self::Words, b: Self::Words, mut c: Self::Sums) -> Self::Sums {
        for (i, (a, b)) in a.into_iter().zip(b).enumerate() {
            c[i / 2] += i32::from(a) * i32::from(b);
        }
        c
    }

    #[inline(never)]
    fn scale(self, a: Self::Sums, factor: &i32, c: Self::Sums) -> Self::Sums {
        self.scale_halves(a, &[*factor; 2], c)
    }

    #[inline(never)]
    fn scale_halves(self, a: Self::Sums, factors: &[i32; 2], mut c: Self::Sums) -> Self::Sums {
        for (i, (a, c)) in a.into_iter().zip(&mut c).enumerate() {
            *c += a * factors[2 * i / LANES];
        }
        c
    }

    #[inline(never)]
    fn floats(self, x: Self::Sums) -> Self::Half {
        x.map(|x| x as f32)
    }

    #[inline(never)]
    fn splat_half(self, x: f32) -> Self::Half {
        [x; LANES]
    }

    #[inline(never)]
    fn load_half(self, x: &Half) -> Self::Half {
        x.0
    }

    #[inline(never)]
    fn store_half(self, x: Self::Half, out: &mut Half) {
        out.0 = x;
    }

    #[inline(never)]
    fn mul_add_half(self, a: Self::Half, b: Self::Half, mut c: Self::Half) -> Self::Half {
        self.0.multiply_add(&a, &b, &mut c);
        c
    }

    #[inline(never)]
    fn mul_add_lower(self, a: &[f32; 8], b: &[f32; 8], mut c: Self::Half) -> Self::Half {
        self.0.multiply_add(a, b, &mut c[..8]);
        c
    }

    #[inline(never)]
    fn sum_half(self, mut x: Self::Half) -> f32 {
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                x[i] += x[i + width];
            }
        }
        x[0]
    }

    #[inline(never)]
    fn f16x2(self, &[a, b, c, d]: &[u8; 4]) -> [f32; 2] {
        // The const function of `half` never tests for processor features.
        [[a, b], [c, d]].map(|bytes| f16::from_le_bytes(bytes).to_f32_const())
    }

    #[inline(never)]
    fn f16x16(self, bytes: [&[u8; 4]; 8]) -> [[f32; 8]; 2] {
        let values = bytes.map(|bytes| self.f16x2(bytes));
        [values.map(|[first, _]| first), values.map(|[_, second]| second)]
    }
}
