//! A coarse copy of a dense matrix: int8 rows from which bounds on the rows' products follow.
//!
//! A row `w` of `n` weights is stored as codes `c` in -127..=127 and three numbers ([`Bounds`]):
//! `scale`, and upper bounds of the Euclidean norms |w| and |w - scale * c|. A vector `x` is stored
//! as a [`Query`]: codes `q`, a `step`, |x| and |x - step * q|. The integer `c . q` is exact, and
//!
//! - by Cauchy and Schwarz `|w . x - scale * c . x| <= |w - scale * c| |x|` and
//!   `|scale * c . x - scale * step * c . q| <= |scale * c| |x - step * q|`, where
//!   `|scale * c| <= |w| + |w - scale * c|`;
//! - a product of `n` floats that is summed in f32, in whatever order and with or without fused
//!   multiply-adds, is within `n u / (1 - n u) * sum |w[i] x[i]| + n m` of `w . x` for `u` = 2^-24
//!   and `m` = 2^-149, the smallest float, and the sum is at most `|w| |x|` (Higham, Accuracy and
//!   Stability of Numerical Algorithms, 3.1). Nothing overflows while `|w| |x|` is below 2^126.
//!
//! Together they enclose the very float that [`Kernels::dense_gemm`](crate::Kernels::dense_gemm)
//! computes. The enclosure itself is computed in f64 and rounded outwards.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
pub(crate) mod scalar;
#[cfg(test)]
mod tests;

/// The largest magnitude of a row's codes.
const CODE: f64 = 127.0;
/// Longest rows: beyond, the bound on the rounding of a sum breaks down.
const MAX_COLS: usize = 1 << 22;
/// What the f64 arithmetic of the bounds can lose, with much to spare: every bound comes from at
/// most 2^22 additions, each of a relative error of 2^-53.
const SLACK: f64 = 1.0 / (1u64 << 30) as f64;
/// Products from here on could overflow in f32.
const HUGE: f64 = (1u128 << 126) as f64;

/// What is known of a row beside its codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// A code of 1 means this weight.
    pub scale: f32,
    /// At least the Euclidean norm of the row.
    pub norm: f32,
    /// At least the Euclidean norm of what the codes miss of the row.
    pub residual: f32,
}

impl Bounds {
    /// Bytes of the bounds of a row.
    pub const BYTES: usize = 12;

    /// The three numbers in little-endian order.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let numbers = [self.scale, self.norm, self.residual];
        for (bytes, number) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
        bytes
    }

    /// The inverse of [`to_bytes`](Bounds::to_bytes).
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Bounds {
        let [scale, norm, residual] =
            std::array::from_fn(|i| f32::from_le_bytes(std::array::from_fn(|b| bytes[4 * i + b])));
        Bounds { scale, norm, residual }
    }

    /// Whether these can be the bounds of a row of finite weights.
    pub fn is_valid(&self) -> bool {
        self.scale.is_finite() && self.norm >= 0.0 && self.residual >= 0.0
    }
}

/// Writes the codes of a row, each an i8, and gives its bounds.
///
/// A row with a weight that is not finite has an infinite residual.
///
/// # Panics
/// If there are not as many codes as weights.
pub fn pack(row: &[f32], codes: &mut [u8]) -> Bounds {
    assert_eq!(row.len(), codes.len(), "codes");
    let largest = row.iter().fold(0.0f32, |max, w| max.max(w.abs()));
    let scale = (f64::from(largest) / CODE) as f32;
    let inverse = if scale > 0.0 { 1.0 / f64::from(scale) } else { 0.0 };
    let (mut norm, mut residual) = (0.0, 0.0);
    for (&w, code) in row.iter().zip(codes) {
        let w = f64::from(w);
        // A scale that is subnormal can be far from largest / 127.
        let rounded = (w * inverse).round_ties_even().clamp(-CODE, CODE);
        *code = rounded as i8 as u8;
        norm += w * w;
        residual += (w - f64::from(scale) * rounded).powi(2);
    }
    if !(norm.is_finite() && scale.is_finite()) {
        return Bounds { scale: 0.0, norm: f32::INFINITY, residual: f32::INFINITY };
    }
    let up = |square: f64| ((square.sqrt() * (1.0 + SLACK)) as f32).next_up();
    Bounds { scale, norm: up(norm), residual: up(residual) }
}

/// A vector that rows are multiplied with: integer codes, and what is needed for bounds.
#[derive(Clone, Debug, Default)]
pub struct Query {
    codes: Vec<i16>,
    /// A code of 1 means this.
    step: f64,
    /// Of a product's distance from its coarse value, the share of the row's residual ...
    per_residual: f64,
    /// ... the share of the row's norm ...
    per_norm: f64,
    /// ... and what every product has.
    constant: f64,
    /// The norm of the vector.
    norm: f64,
}

impl Query {
    /// Takes a vector. `false` if no bounds can be given for it: then it is too long, or not finite.
    pub fn set(&mut self, x: &[f32]) -> bool {
        let n = x.len();
        if n == 0 || n > MAX_COLS || !x.iter().all(|x| x.is_finite()) {
            return false;
        }
        // So that a sum of n products with int8 fits in an i32 in whatever order.
        let most = (i32::MAX as usize / (128 * n)).min(i16::MAX as usize) as f64;
        let largest = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        self.step = f64::from(largest) / most;
        let inverse = if largest > 0.0 { most / f64::from(largest) } else { 0.0 };
        let (mut norm, mut missed) = (0.0, 0.0);
        self.codes.clear();
        self.codes.extend(x.iter().map(|&x| {
            let x = f64::from(x);
            let code = (x * inverse).round_ties_even().clamp(-most, most);
            norm += x * x;
            missed += (x - self.step * code).powi(2);
            code as i16
        }));
        let norm = norm.sqrt() * (1.0 + SLACK);
        // The second part is for the rounding of `step * code`.
        let missed = missed.sqrt() * (1.0 + SLACK) + norm * SLACK;
        let n = n as f64;
        let unit = f64::from(f32::EPSILON) / 2.0;
        let rounding = n * unit / (1.0 - n * unit);
        // SLACK covers the roundings of the coarse value and of the bounds themselves.
        self.per_residual = (norm + missed) * (1.0 + SLACK);
        self.per_norm = (rounding * norm + missed) * (1.0 + SLACK) + self.per_residual * SLACK;
        self.constant = n * f64::from(f32::from_bits(1));
        self.norm = norm;
        true
    }

    /// The codes, for [`Kernels::scan`](crate::Kernels::scan).
    pub fn codes(&self) -> &[i16] {
        &self.codes
    }

    /// The floats between which the product with a row lies, ends included, given the sum of the
    /// products of the codes. `None` if there is no telling.
    pub fn enclose(&self, sum: i32, row: &Bounds) -> Option<(f32, f32)> {
        let (norm, residual) = (f64::from(row.norm), f64::from(row.residual));
        let coarse = f64::from(row.scale) * self.step * f64::from(sum);
        let error = residual * self.per_residual + norm * self.per_norm + self.constant;
        // Written so that NaN fails.
        let safe = coarse.abs() + error < HUGE && norm * self.norm < HUGE;
        safe.then(|| (((coarse - error) as f32).next_down(), ((coarse + error) as f32).next_up()))
    }
}
