//! A coarse copy of a dense matrix, from which bounds on the rows' products follow.
//!
//! A weight `w` of a row is stored as a code of seven bits that comes in three parts: five bits, read
//! for every row, and two single bits for the rows about which five do not tell enough. A code
//! `c` of `b` bits stands for `scale * u`, where `u = 2^(7-b) (2 c + 1) - 128` is an odd multiple of
//! half a step; weights beyond `128 scale` are clipped. Beside the codes a row has ([`Bounds`]) its
//! `scale` and upper bounds of the Euclidean norms |w| and, for 5, 6 and 7 bits, |w - scale * u|: the
//! scale is one that makes the norm for 6 bits small. A vector `x` is stored as a [`Query`]: codes `q`, a
//! `step`, |x| and |x - step * q|. The integer `u . q` is exact, and
//!
//! - by Cauchy and Schwarz `|w . x - scale * u . x| <= |w - scale * u| |x|` and
//!   `|scale * u . x - scale * step * u . q| <= |scale * u| |x - step * q|`, where
//!   `|scale * u| <= |w| + |w - scale * u|`;
//! - a product of `n` floats that is summed in f32, in whatever order and with or without fused
//!   multiply-adds, is within `n u / (1 - n u) * sum |w[i] x[i]| + n m` of `w . x` for `u` = 2^-24
//!   and `m` = 2^-149, the smallest float, and the sum is at most `|w| |x|` (Higham, Accuracy and
//!   Stability of Numerical Algorithms, 3.1). Nothing overflows while `|w| |x|` is below 2^126.
//!
//! Together they enclose the very float that [`Kernels::dense_gemm`](crate::Kernels::dense_gemm)
//! computes. The enclosure itself is computed in f64 and rounded outwards.
//!
//! Rows are padded to blocks of 256 columns, of eight parts of 32. A block of codes is 128 bytes
//! of low halves (byte `32 p + i` has those of column `i` of part `p` and, in the high half, of part `p +
//! 4`), then 32 bytes of fifth bits; a block of single bits is 32 bytes. Bit `p` of byte `i`
//! belongs to column `i` of part `p`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod scalar;
#[cfg(test)]
mod tests;

/// Columns of a block.
pub const BLOCK: usize = 256;
/// Columns whose bits lie at one place of their bytes.
const PART: usize = 32;
/// Bytes of the five-bit codes of a block.
pub(crate) const CODES: usize = 5 * BLOCK / 8;
/// Bytes of single bits of a block.
pub(crate) const BITS: usize = BLOCK / 8;
/// How often a code can be refined, by a bit each time.
pub const REFINEMENTS: usize = 2;
/// What codes stand for, multiples of the scale, is less than this.
const RANGE: i32 = 128;
/// Where codes may begin to clip, in standard deviations of a row; or else at its largest weight.
const CLIPS: [f64; 5] = [2.5, 3.0, 3.4, 4.0, 5.0];
/// Longest rows: beyond, the bound on the rounding of a sum breaks down.
const MAX_COLS: usize = 1 << 22;
/// What the f64 arithmetic of the bounds can lose, with much to spare: every bound comes from at
/// most 2^22 additions, each of a relative error of 2^-53.
const SLACK: f64 = 1.0 / (1u64 << 30) as f64;
/// Products from here on could overflow in f32.
const HUGE: f64 = (1u128 << 126) as f64;

/// The blocks of both halves of a vector's codes, high and low: `256 * high + low`.
pub(crate) type Halves<'a> = [&'a [[i8; BLOCK]]; 2];

/// Bytes of the five-bit codes of a row.
pub fn code_bytes(cols: usize) -> usize {
    cols.div_ceil(BLOCK) * CODES
}

/// Bytes of the refinements of a row: the blocks of the first one, then those of the next.
pub fn refinement_bytes(cols: usize) -> usize {
    cols.div_ceil(BLOCK) * BITS * REFINEMENTS
}

/// What is known of a row beside its codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// What a code stands for is a multiple of this.
    pub scale: f32,
    /// At least the Euclidean norm of the row.
    pub norm: f32,
    /// At least the Euclidean norm of what the codes miss of the row, after as many refinements.
    pub residuals: [f32; 1 + REFINEMENTS],
}

impl Bounds {
    /// The numbers of a row.
    pub const COUNT: usize = 3 + REFINEMENTS;
    /// Their bytes.
    pub const BYTES: usize = 4 * Self::COUNT;

    /// The numbers in little-endian order.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let numbers = [self.scale, self.norm].into_iter().chain(self.residuals);
        for (bytes, number) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
        bytes
    }

    /// The inverse of [`to_bytes`](Bounds::to_bytes).
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Bounds {
        let [scale, norm, residuals @ ..]: [f32; Self::COUNT] =
            std::array::from_fn(|i| f32::from_le_bytes(std::array::from_fn(|b| bytes[4 * i + b])));
        Bounds { scale, norm, residuals }
    }

    /// Whether these can be the bounds of a row of finite weights.
    pub fn is_valid(&self) -> bool {
        let norms = |residual: &f32| *residual >= 0.0;
        self.scale.is_finite() && self.norm >= 0.0 && self.residuals.iter().all(norms)
    }
}

/// The seven-bit code of a weight, given the inverse of the step.
fn code(w: f64, inverse: f64) -> u8 {
    // Rounds down, for what is cut off is positive.
    (w * inverse + f64::from(RANGE / 2)).clamp(0.0, f64::from(RANGE - 1)) as u8
}

/// What a seven-bit code stands for, in multiples of the scale, without its last `cut` bits.
fn value(code: u8, cut: usize) -> i32 {
    ((2 * i32::from(code >> cut) + 1) << cut) - RANGE
}

/// The inverse of the step of a scale.
fn inverse(scale: f32) -> f64 {
    if scale > 0.0 { 0.5 / f64::from(scale) } else { 0.0 }
}

/// The square of what codes miss of a row without their last `cut` bits.
fn missed(row: &[f32], scale: f32, cut: usize) -> f64 {
    let inverse = inverse(scale);
    let missed = |w: &f32| {
        let w = f64::from(*w);
        (w - f64::from(scale) * f64::from(value(code(w, inverse), cut))).powi(2)
    };
    row.iter().map(missed).sum()
}

/// Writes the codes of a row and their refinements, and gives its bounds.
///
/// A row with a weight that is not finite has infinite residuals.
///
/// # Panics
/// If `codes` and `refinements` are not as long as [`code_bytes`] and [`refinement_bytes`] say.
pub fn pack(row: &[f32], codes: &mut [u8], refinements: &mut [u8]) -> Bounds {
    assert_eq!(codes.len(), code_bytes(row.len()), "codes");
    assert_eq!(refinements.len(), refinement_bytes(row.len()), "refinements");
    codes.fill(0);
    refinements.fill(0);
    let norm: f64 = row.iter().map(|&w| f64::from(w).powi(2)).sum();
    if !norm.is_finite() || row.is_empty() {
        let [norm, residual] = [f32::INFINITY; 2];
        return Bounds { scale: 0.0, norm, residuals: [residual; _] };
    }
    let scale = best_scale(row, norm);
    let (codes, refinements) =
        (codes.as_chunks_mut::<CODES>().0, refinements.as_chunks_mut::<BITS>().0);
    let blocks = codes.len();
    let inverse = inverse(scale);
    for (b, weights) in row.chunks(BLOCK).enumerate() {
        for (column, &w) in weights.iter().enumerate() {
            let (part, i) = (column / PART, column % PART);
            let code = code(f64::from(w), inverse);
            let (low, fifth) = (code >> REFINEMENTS & 15, code >> (REFINEMENTS + 4));
            codes[b][part % 4 * PART + i] |= low << (part / 4 * 4);
            codes[b][BLOCK / 2 + i] |= fifth << part;
            for refinement in 0..REFINEMENTS {
                let bit = code >> (REFINEMENTS - 1 - refinement) & 1;
                refinements[refinement * blocks + b][i] |= bit << part;
            }
        }
    }
    let up = |square: f64| ((square.sqrt() * (1.0 + SLACK)) as f32).next_up();
    let residuals = std::array::from_fn(|level| up(missed(row, scale, REFINEMENTS - level)));
    Bounds { scale, norm: up(norm), residuals }
}

/// The scale that makes what six bits miss smallest, of a few.
fn best_scale(row: &[f32], norm: f64) -> f32 {
    let largest = f64::from(row.iter().fold(0.0f32, |max, w| max.max(w.abs())));
    let scale = |range: f64| (range / f64::from(RANGE)) as f32;
    let deviation = (norm / row.len() as f64).sqrt();
    let clips = CLIPS.map(|clip| clip * deviation).into_iter().filter(|clip| *clip < largest);
    let mut best = (f64::INFINITY, 0.0);
    for scale in clips.chain([largest]).map(scale) {
        let missed = missed(row, scale, 1);
        if missed < best.0 {
            best = (missed, scale);
        }
    }
    best.1
}

/// A vector that rows are multiplied with: integer codes, and what is needed for bounds.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The high halves of the codes, in whole blocks, and the low ones.
    halves: [Vec<i8>; 2],
    /// The sum of the codes.
    total: i64,
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
        // So that both halves of a code are an i8, and a sum of n products with codes of seven bits
        // fits in an i32.
        let most = (i32::MAX as usize / (RANGE as usize * n)).min(127 * 256 + 127) as f64;
        let largest = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        self.step = f64::from(largest) / most;
        let inverse = if largest > 0.0 { most / f64::from(largest) } else { 0.0 };
        let (mut norm, mut missed) = (0.0, 0.0);
        self.total = 0;
        for half in &mut self.halves {
            half.clear();
            half.resize(n.next_multiple_of(BLOCK), 0);
        }
        let [high, low] = &mut self.halves;
        for ((&x, high), low) in x.iter().zip(high).zip(low) {
            let x = f64::from(x);
            let code = (x * inverse).round_ties_even().clamp(-most, most);
            norm += x * x;
            missed += (x - self.step * code).powi(2);
            let code = code as i16;
            *low = code as i8;
            *high = ((code - i16::from(*low)) >> 8) as i8;
            self.total += i64::from(code);
        }
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

    /// The codes, for the kernels.
    pub(crate) fn halves(&self) -> Halves<'_> {
        [self.halves[0].as_chunks().0, self.halves[1].as_chunks().0]
    }

    /// The floats between which the product with a row lies, ends included, given the sum of the
    /// products of the codes after as many refinements. Infinite if there is no telling.
    #[inline]
    pub fn enclose(&self, sum: i32, refinements: usize, row: &Bounds) -> (f32, f32) {
        let (norm, residual) = (f64::from(row.norm), f64::from(row.residuals[refinements]));
        let sum = ((2 * i64::from(sum) + self.total) << (REFINEMENTS - refinements))
            - i64::from(RANGE) * self.total;
        let coarse = f64::from(row.scale) * self.step * sum as f64;
        let error = residual * self.per_residual + norm * self.per_norm + self.constant;
        // Written so that NaN fails.
        if coarse.abs() + error < HUGE && norm * self.norm < HUGE {
            (((coarse - error) as f32).next_down(), ((coarse + error) as f32).next_up())
        } else {
            (f32::NEG_INFINITY, f32::INFINITY)
        }
    }
}
