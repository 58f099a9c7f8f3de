//! Any processor, in plain Rust.

use super::codes::{GROUP, GROUPS, WideGroup};
use super::simd::{Half, Integers, LANES, plain_bytes};
use crate::simd::scalar::{Arithmetic, Scalar};
use half::f16;

impl<F: Arithmetic> Integers for Scalar<F> {
    type Bytes = [u8; GROUP];
    type Words = [i16; GROUP];
    type Sums = [i32; LANES];
    type Half = [f32; LANES];
    type Four = [[i32; 4]; 2];
    type Eight = [f32; GROUPS];

    const FEW_TOKENS: usize = 1;
    const TOKENS_AT_ONCE: usize = 1;
    const PANELS_AT_ONCE: usize = 1;

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
    fn pair(self, x: &WideGroup, i: usize) -> Self::Words {
        std::array::from_fn(|word| x.0[2 * i + word % 2])
    }

    #[inline(never)]
    fn sum_four<const HALVES: bool>(self, x: [Self::Sums; 4]) -> Self::Four {
        [0, LANES / 2].map(|at| x.map(|x| x[at..at + LANES / 2].iter().sum()))
    }

    #[inline(never)]
    fn eight(self, x: [Self::Four; 2]) -> Self::Eight {
        std::array::from_fn(|g| {
            let [lower, upper] = x[g / 4];
            (lower[g % 4] + upper[g % 4]) as f32
        })
    }

    #[inline(never)]
    fn eight_halves(self, x: [Self::Four; 2]) -> [Self::Eight; 2] {
        [0, 1].map(|half| std::array::from_fn(|g| x[g / 4][half][g % 4] as f32))
    }

    #[inline(never)]
    fn splat_eight(self, x: f32) -> Self::Eight {
        [x; GROUPS]
    }

    #[inline(never)]
    fn load_eight(self, x: &[f32; GROUPS]) -> Self::Eight {
        *x
    }

    #[inline(never)]
    fn mul_eight(self, a: Self::Eight, b: Self::Eight) -> Self::Eight {
        std::array::from_fn(|g| a[g] * b[g])
    }

    #[inline(never)]
    fn mul_add_eight(self, a: Self::Eight, b: Self::Eight, mut c: Self::Eight) -> Self::Eight {
        self.0.multiply_add(&a, &b, &mut c);
        c
    }

    #[inline(never)]
    fn keep_eight(self, mut x: Self::Eight, n: usize) -> Self::Eight {
        x[n..].fill(0.0);
        x
    }

    #[inline(never)]
    fn sum_eight(self, mut x: Self::Eight) -> f32 {
        for width in [4, 2, 1] {
            for i in 0..width {
                x[i] += x[i + width];
            }
        }
        x[0]
    }

    #[inline(never)]
    fn mul_half(self, a: Self::Half, b: Self::Half) -> Self::Half {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(never)]
    fn add_half(self, a: Self::Half, b: Self::Half) -> Self::Half {
        std::array::from_fn(|i| a[i] + b[i])
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
