//! Any processor, in plain Rust.

use super::codes::{LANES, PLANE_LEN, PLANES};
use super::simd::{BytePlanes, Places};
use crate::simd::scalar::{Arithmetic, Scalar};
use half::f16;

impl<F: Arithmetic> BytePlanes for Scalar<F> {
    type Plane = [u8; PLANE_LEN];

    const TOKENS: usize = 1;

    #[inline(never)]
    fn store_plane(self, x: Self::Plane, out: &mut [u8; PLANE_LEN]) {
        *out = x;
    }

    #[inline(never)]
    fn halves(self, x: [&[u8; 32]; 2]) -> Self::Plane {
        std::array::from_fn(|i| x[i / 32][i % 32])
    }

    #[inline(never)]
    fn quarters(self, x: [&[u8; 16]; 4]) -> Self::Plane {
        std::array::from_fn(|i| x[i / 16][i % 16])
    }

    #[inline(never)]
    fn nibbles_to_bytes(self, x: [&[u8; 16]; 2]) -> Self::Plane {
        std::array::from_fn(|i| x[i / 32][i % 32 / 2] >> (i % 2 * 4))
    }

    #[inline(never)]
    fn trits(self, x: [&[u8; 16]; 4], places: &Places) -> Self::Plane {
        std::array::from_fn(|i| {
            let byte = x[i / 16][usize::from(places.bytes[i / 16][i % 16])];
            let fraction = byte.wrapping_mul(places.powers[i / 16][i % 16]);
            ((u16::from(fraction) * 3) >> 8) as u8
        })
    }

    #[inline(never)]
    fn pairs_of_bits(self, x: Self::Plane) -> [Self::Plane; PLANES] {
        std::array::from_fn(|p| x.map(|x| x >> (2 * p) & 3))
    }

    #[inline(never)]
    fn doubled_bits(self, x: Self::Plane) -> [Self::Plane; PLANES] {
        std::array::from_fn(|p| x.map(|x| (x >> p & 1) << 1))
    }

    #[inline(never)]
    fn dot_planes(
        self,
        w: &[Self::Plane; PLANES],
        x: &[[i8; PLANE_LEN]; PLANES],
        mut c: Self::Sums,
    ) -> Self::Sums {
        for (w, x) in w.iter().zip(x) {
            let fours = w.as_chunks::<4>().0.iter().zip(x.as_chunks::<4>().0);
            for (c, (w, x)) in c.iter_mut().zip(fours) {
                for (w, x) in w.iter().zip(x) {
                    *c += i32::from(*w) * i32::from(*x);
                }
            }
        }
        c
    }

    #[inline(never)]
    fn load_sums(self, x: &[i32; LANES]) -> Self::Sums {
        *x
    }

    #[inline(never)]
    fn store_sums(self, x: Self::Sums, out: &mut [i32; LANES]) {
        *out = x;
    }

    #[inline(never)]
    fn whole(self, x: Self::Rows) -> Self::Sums {
        std::array::from_fn(|i| {
            i32::from_le_bytes([x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]])
        })
    }

    #[inline(never)]
    fn sub_sums(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        std::array::from_fn(|i| a[i].wrapping_sub(b[i]))
    }

    #[inline(never)]
    fn join(self, high: Self::Sums, low: Self::Sums) -> Self::Sums {
        std::array::from_fn(|i| 256 * high[i] + low[i])
    }

    #[inline(never)]
    fn steps(self, x: [u16; 4]) -> Self::Half {
        // The const function of `half` never tests for processor features.
        let x = x.map(|x| f16::from_bits(x).to_f32_const());
        std::array::from_fn(|i| x[i / 4])
    }
}
