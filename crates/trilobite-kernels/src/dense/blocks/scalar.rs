//! Any processor, in plain Rust.

use super::codes::WideGroup;
use super::simd::{Half, Integers, LANES, ROWS_LEN};
use crate::simd::scalar::{Arithmetic, Scalar};
use half::f16;

impl<F: Arithmetic> Integers for Scalar<F> {
    type Rows = [u8; ROWS_LEN];
    type Sums = [i32; LANES];
    type Half = [f32; LANES];

    #[inline(never)]
    fn quads(self, x: &[u8], distance: usize) -> [Self::Rows; 4] {
        let mut quads = [[0; ROWS_LEN]; 4];
        for r in 0..LANES {
            for (i, quad) in quads.iter_mut().enumerate() {
                quad[4 * r..4 * r + 4].copy_from_slice(&x[r * distance + 4 * i..][..4]);
            }
        }
        quads
    }

    #[inline(never)]
    fn store_rows(self, x: Self::Rows, out: &mut [u8; ROWS_LEN]) {
        *out = x;
    }

    #[inline(never)]
    fn shift(self, x: Self::Rows, by: usize, mask: u8) -> Self::Rows {
        x.map(|x| x >> by & mask)
    }

    #[inline(never)]
    fn times_16(self, x: Self::Rows) -> Self::Rows {
        x.map(|x| x << 4)
    }

    #[inline(never)]
    fn or(self, mut a: Self::Rows, b: Self::Rows) -> Self::Rows {
        for (a, b) in a.iter_mut().zip(b) {
            *a |= b;
        }
        a
    }

    #[inline(never)]
    fn bits<const I: usize>(self, x: Self::Rows, value: u8) -> Self::Rows {
        std::array::from_fn(|i| {
            let bit = 4 * I + i % 4;
            (x[i / 4 * 4 + bit / 8] >> (bit % 8) & 1) * value
        })
    }

    #[inline(never)]
    fn bytes_of(self, x: Self::Rows) -> [Self::Half; 4] {
        [0, 1, 2, 3].map(|at| std::array::from_fn(|r| f32::from(x[4 * r + at] as i8)))
    }

    #[inline(never)]
    fn f16_pairs(self, x: Self::Rows) -> [Self::Half; 2] {
        // The const function of `half` never tests for processor features.
        let half = |at| f16::from_le_bytes([x[at], x[at + 1]]).to_f32_const();
        [0, 2].map(|at| std::array::from_fn(|r| half(4 * r + at)))
    }

    fn arrange(self, _: &mut WideGroup) {}

    #[inline(never)]
    fn splat_sums(self, x: i32) -> Self::Sums {
        [x; LANES]
    }

    #[inline(never)]
    fn add_sums(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
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
}
