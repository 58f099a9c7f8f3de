//! A coarse copy of a dense matrix, which gives bounds on the products of its rows.
//!
//! A weight `w` of a row is stored as a seven-bit code in three parts: five bits, which are read
//! for every row, and two single bits, for rows that need tighter bounds. A code `c` of `b` bits
//! approximates the weight by `scale * u`, where `u = 2^(7-b) (2 c + 1) - 128` is an odd multiple
//! of half a step. Weights beyond `128 scale` are clipped. Each row also has [`Bounds`]: its
//! `scale`, and upper bounds of the Euclidean norms |w| and, for 5, 6 and 7 bits, |w - scale * u|.
//! The scale is chosen to make the norm for 6 bits small. A vector `x` is stored as a [`Query`]:
//! codes `q` of 16 bits, of which a scan may multiply the high halves only, a `step`, |x| and
//! |x - step * q|. The integer `u . q` is exact, and
//!
//! - by Cauchy and Schwarz `|w . x - scale * u . x| <= |w - scale * u| |x|` and
//!   `|scale * u . x - scale * step * u . q| <= |scale * u| |x - step * q|`, where
//!   `|scale * u| <= |w| + |w - scale * u|`;
//! - a product of `n` floats that is summed in f32, in whatever order and with or without fused
//!   multiply-adds, is within `n u / (1 - n u) * sum |w[i] x[i]| + n m` of `w . x` for `u` = 2^-24
//!   and `m` = 2^-149, the smallest float, and the sum is at most `|w| |x|` (Higham, Accuracy and
//!   Stability of Numerical Algorithms, 3.1). Nothing overflows while `|w| |x|` is below 2^126.
//!
//! Together they enclose the exact float that [`Kernels::dense_gemm`](crate::Kernels::dense_gemm)
//! computes. The enclosure itself is computed in f64 and rounded outwards.
//!
//! Some columns of real heads are several times as large as the others and leave few codes for these.
//! Each column can therefore have a positive factor: the code is that of `w[i] / factor[i]`, and the
//! query has `x[i] * factor[i]`. The products `w[i] x[i]` and with them all of the above stay the same,
//! but the norms are those of the scaled row and the scaled vector.
//!
//! Rows are padded to blocks of 256 columns, each of eight parts of 32. A block of codes has 128
//! bytes of low halves, followed by 32 bytes of fifth bits. Byte `32 p + i` of the low halves has
//! those of column `i` of part `p` and, in its high half, of part `p + 4`. A block of single bits
//! has 32 bytes. Bit `p` of byte `i` belongs to column `i` of part `p`.

/// Calls `$scan::<queries, halves>` for the number of queries in a group.
#[cfg(target_arch = "x86_64")]
macro_rules! scan_group {
    ($precision:expr, $count:expr, $scan:ident $args:tt) => {
        match ($precision, $count) {
            (Precision::Full, 1) => $scan::<1, 2> $args,
            (Precision::Full, 2) => $scan::<2, 2> $args,
            (Precision::Full, 3) => $scan::<3, 2> $args,
            (Precision::Full, _) => $scan::<4, 2> $args,
            (Precision::High, 1) => $scan::<1, 1> $args,
            (Precision::High, 2) => $scan::<2, 1> $args,
            (Precision::High, 3) => $scan::<3, 1> $args,
            (Precision::High, 4) => $scan::<4, 1> $args,
            (Precision::High, 5) => $scan::<5, 1> $args,
            (Precision::High, 6) => $scan::<6, 1> $args,
            (Precision::High, 7) => $scan::<7, 1> $args,
            (Precision::High, _) => $scan::<8, 1> $args,
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod scalar;

/// Number of columns of a block.
pub const BLOCK: usize = 256;
/// Number of columns whose bits have the same place in their bytes.
const PART: usize = 32;
/// Size in bytes of the five-bit codes of a block.
pub(crate) const CODES: usize = 5 * BLOCK / 8;
/// Size in bytes of the single bits of a block.
pub(crate) const BITS: usize = BLOCK / 8;
/// Number of refinements of a code. Each adds a bit.
pub const REFINEMENTS: usize = 2;
/// The upper limit of the values of codes, as multiples of the scale.
const RANGE: i32 = 128;
/// The clipping thresholds to try, in standard deviations of a row. The largest weight is tried
/// too.
const CLIPS: [f64; 5] = [2.5, 3.0, 3.4, 4.0, 5.0];
/// Maximum row length. The bound on the rounding of a sum fails for longer rows.
const MAX_COLS: usize = 1 << 22;
/// A generous bound on the relative error of the f64 arithmetic of the bounds: each comes from at
/// most 2^22 additions with a relative error of 2^-53.
const SLACK: f64 = 1.0 / (1u64 << 30) as f64;
/// The limit above which products could overflow in f32.
const HUGE: f64 = (1u128 << 126) as f64;

/// The high or the low halves of a block of a vector's codes. Aligned so that no load of 64 codes
/// crosses a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct HalfBlock(pub(crate) [i8; BLOCK]);

/// Size in bytes of the five-bit codes of a row.
pub fn code_bytes(cols: usize) -> usize {
    cols.div_ceil(BLOCK) * CODES
}

/// Size in bytes of the refinements of a row: the blocks of the first, then those of the second.
pub fn refinement_bytes(cols: usize) -> usize {
    cols.div_ceil(BLOCK) * BITS * REFINEMENTS
}

/// The scale and the norms of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The unit of the values of codes.
    pub scale: f32,
    /// An upper bound of the Euclidean norm of the row.
    pub norm: f32,
    /// Upper bounds of the Euclidean norm of the row's difference from its codes, for each number
    /// of refinements.
    pub residuals: [f32; 1 + REFINEMENTS],
}

impl Bounds {
    /// The number of floats.
    pub const COUNT: usize = 3 + REFINEMENTS;
    /// Their size in bytes.
    pub const BYTES: usize = 4 * Self::COUNT;

    /// The floats in little-endian order.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let numbers = [self.scale, self.norm].into_iter().chain(self.residuals);
        for (bytes, number) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
        bytes
    }

    /// Reads the floats: the inverse of [`to_bytes`](Bounds::to_bytes).
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
    // The cast truncates, which rounds down because the value is positive.
    (w * inverse + f64::from(RANGE / 2)).clamp(0.0, f64::from(RANGE - 1)) as u8
}

/// The value of a seven-bit code without its last `cut` bits, as a multiple of the scale.
fn value(code: u8, cut: usize) -> i32 {
    ((2 * i32::from(code >> cut) + 1) << cut) - RANGE
}

/// The inverse of the step of a scale.
fn inverse(scale: f32) -> f64 {
    if scale > 0.0 { 0.5 / f64::from(scale) } else { 0.0 }
}

/// The squared norm of a row's difference from its codes without their last `cut` bits.
fn missed(row: &[f64], scale: f32, cut: usize) -> f64 {
    // Shows that no shift overflows, which would be checked for every weight.
    let cut = cut % 8;
    let inverse = inverse(scale);
    let missed =
        |&w: &f64| (w - f64::from(scale) * f64::from(value(code(w, inverse), cut))).powi(2);
    row.iter().map(missed).sum()
}

/// Writes the codes of a row and their refinements, and returns its bounds.
///
/// A row with a weight that is not finite has infinite residuals.
///
/// # Panics
/// If the lengths of `codes` and `refinements` are not [`code_bytes`] and [`refinement_bytes`], or
/// there is not a factor for every column.
pub fn pack(row: &[f32], factors: &[f32], codes: &mut [u8], refinements: &mut [u8]) -> Bounds {
    assert_eq!(factors.len(), row.len(), "factors");
    assert_eq!(codes.len(), code_bytes(row.len()), "codes");
    assert_eq!(refinements.len(), refinement_bytes(row.len()), "refinements");
    codes.fill(0);
    refinements.fill(0);
    // SLACK covers the rounding of the quotients.
    let row: Vec<f64> =
        row.iter().zip(factors).map(|(&w, &factor)| f64::from(w) / f64::from(factor)).collect();
    let norm: f64 = row.iter().map(|w| w.powi(2)).sum();
    if !(norm.sqrt() as f32).is_finite() || row.is_empty() {
        let [norm, residual] = [f32::INFINITY; 2];
        return Bounds { scale: 0.0, norm, residuals: [residual; _] };
    }
    let scale = best_scale(&row, norm);
    let (codes, refinements) =
        (codes.as_chunks_mut::<CODES>().0, refinements.as_chunks_mut::<BITS>().0);
    let blocks = codes.len();
    let inverse = inverse(scale);
    for (b, weights) in row.chunks(BLOCK).enumerate() {
        for (column, &w) in weights.iter().enumerate() {
            let (part, i) = (column / PART, column % PART);
            let code = code(w, inverse);
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
    let residuals = std::array::from_fn(|level| up(missed(&row, scale, REFINEMENTS - level)));
    Bounds { scale, norm: up(norm), residuals }
}

/// The best of a few scales: the one with the smallest residual for six bits.
fn best_scale(row: &[f64], norm: f64) -> f32 {
    let largest = row.iter().fold(0.0f64, |max, w| max.max(w.abs()));
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

/// How much of a vector's codes is multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The high halves, which takes half the work and gives wider bounds.
    High,
    /// Both halves.
    #[default]
    Full,
}

/// A vector to multiply with rows: its integer codes, and the numbers for the bounds.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// The high and the low halves of the codes `base * high + low`, in whole blocks. Apart, because
    /// the high halves of several queries fit in the first-level cache.
    halves: [Vec<HalfBlock>; 2],
    /// The unit of the high halves. It is even and no larger than necessary, so that the high halves
    /// are as precise as an i8 can be.
    base: i32,
    /// The bounds of products with the high halves, and with both.
    high: Errors,
    full: Errors,
    /// The norm of the vector.
    norm: f64,
}

/// What bounds the difference between a product with a row and the product of their codes.
#[derive(Clone, Copy, Debug, Default)]
struct Errors {
    /// The sum of the codes, an integer.
    total: f64,
    /// The value of a code of 1.
    step: f64,
    /// The error bound of a product per unit of the row's residual ...
    per_residual: f64,
    /// ... per unit of the row's norm ...
    per_norm: f64,
    /// ... and the constant part.
    constant: f64,
}

impl Errors {
    /// The errors for `n` codes that have a `step` and the sum `total`, of a vector with this norm
    /// whose difference from its codes has at most the norm `missed`.
    fn new(n: usize, step: f64, total: f64, norm: f64, missed: f64) -> Self {
        let n = n as f64;
        let unit = f64::from(f32::EPSILON) / 2.0;
        let rounding = n * unit / (1.0 - n * unit);
        // SLACK covers the rounding of the coarse value and of the bounds themselves.
        let per_residual = (norm + missed) * (1.0 + SLACK);
        let per_norm = (rounding * norm + missed) * (1.0 + SLACK) + per_residual * SLACK;
        Self { total, step, per_residual, per_norm, constant: n * f64::from(f32::from_bits(1)) }
    }
}

impl Query {
    /// Sets the vector. Returns `false` if it has no bounds, because it is too long or not finite.
    pub fn set(&mut self, x: &[f32]) -> bool {
        self.set_values(x.len(), x.iter().map(|&x| f64::from(x)))
    }

    /// Sets the vector for rows whose columns have these factors, one for each. Returns `false` if it
    /// has no bounds.
    pub fn set_scaled(&mut self, x: &[f32], factors: &[f32]) -> bool {
        let pairs = x.iter().zip(factors);
        // Products of two f32 are exact.
        let values = pairs.map(|(&x, &factor)| f64::from(x) * f64::from(factor));
        factors.len() == x.len() && self.set_values(x.len(), values)
    }

    fn set_values(&mut self, n: usize, values: impl Iterator<Item = f64> + Clone) -> bool {
        if n == 0 || n > MAX_COLS || !values.clone().all(f64::is_finite) {
            return false;
        }
        // Limits codes so that both halves are an i8, and a sum of n products with seven-bit codes
        // fits in an i32.
        let most = (i32::MAX as usize / (RANGE as usize * n)).min(127 * 256 + 127) as f64;
        let largest = values.clone().fold(0.0f64, |max, x| max.max(x.abs()));
        let step = largest / most;
        let inverse = if largest > 0.0 { most / largest } else { 0.0 };
        let base = 2 * (most as i32 / 255 + 1);
        let mut norm = 0.0;
        // The squared norms of what the high halves and both halves miss, and their sums.
        let (mut missed, mut totals) = ([0.0; 2], [0.0; 2]);
        for half in &mut self.halves {
            half.clear();
            half.resize(n.div_ceil(BLOCK), HalfBlock([0; BLOCK]));
        }
        let [high, low] = &mut self.halves;
        let columns =
            high.iter_mut().zip(low).flat_map(|(high, low)| high.0.iter_mut().zip(&mut low.0));
        for (x, (high, low)) in values.zip(columns) {
            let code = (x * inverse).round_ties_even().clamp(-most, most);
            norm += x * x;
            let code = code as i32;
            let upper = (code + base / 2).div_euclid(base);
            (*high, *low) = (upper as i8, (code - upper * base) as i8);
            for (i, code) in [upper * base, code].into_iter().enumerate() {
                missed[i] += (x - step * f64::from(code)).powi(2);
                totals[i] += f64::from(code);
            }
        }
        let norm = norm.sqrt() * (1.0 + SLACK);
        // The second term covers the rounding of `step * code`.
        let [high, full] = missed.map(|missed| missed.sqrt() * (1.0 + SLACK) + norm * SLACK);
        let unit = f64::from(base);
        self.high = Errors::new(n, unit * step, totals[0] / unit, norm, high);
        self.full = Errors::new(n, step, totals[1], norm, full);
        (self.norm, self.base) = (norm, base);
        true
    }

    /// The unit of the high halves.
    pub(crate) fn base(&self) -> i32 {
        self.base
    }

    /// The number of blocks of codes.
    pub(crate) fn blocks(&self) -> usize {
        self.halves[0].len()
    }

    /// The first `blocks` blocks of the first `HALVES` halves of the codes: the high ones, then the low
    /// ones.
    #[inline(always)]
    pub(crate) fn halves<const HALVES: usize>(&self, blocks: usize) -> [&[HalfBlock]; HALVES] {
        const { assert!(HALVES <= 2) }
        let mut halves = [[].as_slice(); HALVES];
        for (half, codes) in halves.iter_mut().zip(&self.halves) {
            *half = &codes[..blocks];
        }
        halves
    }

    /// The interval of floats, inclusive, that contains the product with a row. `sum` is the sum of
    /// the products of codes with the given number of refinements and the codes of this vector in
    /// the given precision. The interval is infinite if nothing is known.
    #[inline]
    pub fn enclose(
        &self,
        precision: Precision,
        sum: i32,
        refinements: usize,
        row: &Bounds,
    ) -> (f32, f32) {
        let (errors, residual) = (self.errors(precision), row.residuals[refinements]);
        self.interval(errors, sum, refinements, row.scale, row.norm, residual)
    }

    fn errors(&self, precision: Precision) -> &Errors {
        match precision {
            Precision::High => &self.high,
            Precision::Full => &self.full,
        }
    }

    /// See [`enclose`](Self::enclose). Has no branches, so that a loop is compiled to vectors.
    #[inline(always)]
    fn interval(
        &self,
        errors: &Errors,
        sum: i32,
        refinements: usize,
        scale: f32,
        norm: f32,
        residual: f32,
    ) -> (f32, f32) {
        let (norm, residual) = (f64::from(norm), f64::from(residual));
        // Integers far below 2^53, which are exact.
        let unit = f64::from(1 << (REFINEMENTS - refinements));
        let sum = (2.0 * f64::from(sum) + errors.total) * unit - f64::from(RANGE) * errors.total;
        let coarse = f64::from(scale) * errors.step * sum;
        let error = residual * errors.per_residual + norm * errors.per_norm + errors.constant;
        let low = ((coarse - error) as f32).next_down();
        let high = ((coarse + error) as f32).next_up();
        // Written so that NaN fails the test.
        let known = (coarse.abs() + error < HUGE) & (norm * self.norm < HUGE);
        (if known { low } else { f32::NEG_INFINITY }, if known { high } else { f32::INFINITY })
    }
}

/// See [`Kernels::enclose`](crate::Kernels::enclose), which checks the lengths.
#[inline(always)]
pub(crate) fn enclose(
    query: &Query,
    precision: Precision,
    sums: &[i32],
    rows: &[[u8; Bounds::BYTES]],
    low: &mut [f32],
    high: &mut [f32],
) {
    /// Number of rows whose bounds are gathered at a time.
    const ROWS: usize = 16;
    let errors = *query.errors(precision);
    let sums = sums.chunks(ROWS).zip(rows.chunks(ROWS));
    let ends = low.chunks_mut(ROWS).zip(high.chunks_mut(ROWS));
    for ((some, rows), (low, high)) in sums.zip(ends) {
        let (mut sums, mut bounds) = ([0; ROWS], [[0.0; ROWS]; 3]);
        sums[..some.len()].copy_from_slice(some);
        for (i, row) in rows.iter().enumerate() {
            let row = Bounds::from_bytes(row);
            (bounds[0][i], bounds[1][i], bounds[2][i]) = (row.scale, row.norm, row.residuals[0]);
        }
        let [scales, norms, residuals] = bounds;
        let mut ends = [[0.0; ROWS]; 2];
        for i in 0..ROWS {
            (ends[0][i], ends[1][i]) =
                query.interval(&errors, sums[i], 0, scales[i], norms[i], residuals[i]);
        }
        low.copy_from_slice(&ends[0][..low.len()]);
        high.copy_from_slice(&ends[1][..high.len()]);
    }
}
