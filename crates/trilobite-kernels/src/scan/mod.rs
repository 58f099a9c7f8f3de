//! A coarse copy of a dense matrix, which gives bounds on the products of its rows.
//!
//! A weight `w` of a row is stored as a seven-bit code in five parts: three bits, which are read
//! for every row, and four single bits. A scan reads none, one or two of these for every row; the
//! others are for rows that need tighter bounds. A code `c` of `b` bits
//! approximates the weight by `scale * u`, where `u = 2^(7-b) (2 c + 1) - 128` is an odd multiple
//! of half a step. Weights beyond `128 scale` are clipped. Each row also has [`Bounds`]: its
//! `scale`, and upper bounds of the Euclidean norms |w| and, for 3 to 7 bits, |w - scale * u|.
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
//! but the norms are those of the scaled row and the scaled vector. What is known of a product by other
//! means need not be bounded: see [`Anchors`].
//!
//! Rows are padded to blocks of 256 columns, each of eight parts of 32. A block of first bits has 96
//! bytes. Bits 1 to 3 of the bytes `i`, `32 + i` and `64 + i` have those of column `i` of the parts 0, 1
//! and 4, and bits 5 to 7 of the parts 2, 3 and 6. Bits 0 of these bytes, the first as the lowest, have
//! those of part 5, and bits 4 of part 7. A block of single bits has 32 bytes: bit `p` of byte `i`
//! belongs to column `i` of part `p`. A plane holds one single bit of the codes of all rows.

/// Calls `$scan::<queries, halves, planes>` for the number of queries in a group.
#[cfg(target_arch = "x86_64")]
macro_rules! scan_group {
    ($precision:expr, $count:expr, $planes:literal, $scan:ident $args:tt) => {
        match ($precision, $count) {
            (Precision::Full, 1) => $scan::<1, 2, $planes> $args,
            (Precision::Full, 2) => $scan::<2, 2, $planes> $args,
            (Precision::Full, 3) => $scan::<3, 2, $planes> $args,
            (Precision::Full, _) => $scan::<4, 2, $planes> $args,
            (Precision::High, 1) => $scan::<1, 1, $planes> $args,
            (Precision::High, 2) => $scan::<2, 1, $planes> $args,
            (Precision::High, 3) => $scan::<3, 1, $planes> $args,
            (Precision::High, 4) => $scan::<4, 1, $planes> $args,
            (Precision::High, 5) => $scan::<5, 1, $planes> $args,
            (Precision::High, 6) => $scan::<6, 1, $planes> $args,
            (Precision::High, 7) => $scan::<7, 1, $planes> $args,
            (Precision::High, _) => $scan::<8, 1, $planes> $args,
        }
    };
}
mod anchors;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod scalar;

pub use self::anchors::Anchors;
use self::anchors::Sizes;
pub(crate) use self::anchors::known;

/// Number of columns of a block.
pub const BLOCK: usize = 256;
/// Number of columns whose bits have the same place in their bytes.
const PART: usize = 32;
/// Number of first bits of a code.
pub const FIRST_BITS: usize = 3;
/// Size in bytes of the first bits of a block.
pub(crate) const CODES: usize = FIRST_BITS * BLOCK / 8;
/// Size in bytes of the single bits of a block.
pub(crate) const BITS: usize = BLOCK / 8;
/// Number of refinements of a code, each a single bit.
pub const REFINEMENTS: usize = 4;
/// Maximum number of refinements that a scan reads for every row.
pub const SCANNED: usize = 2;
/// The upper limit of the values of codes, as multiples of the scale.
const RANGE: i32 = 128;
/// Where the first bits of the columns of a part are in a block.
#[derive(Clone, Copy)]
enum Place {
    /// In neighbouring bits of a byte of the `register`-th 32 bytes.
    Bits { register: usize, shift: u32 },
    /// In a byte of each 32 bytes, the first of which has the lowest bit.
    Spare { shift: u32 },
}

/// The places of the parts. So parts that AVX-512 loads together are in neighbouring registers.
const PLACES: [Place; BLOCK / PART] = [
    Place::Bits { register: 0, shift: 1 },
    Place::Bits { register: 1, shift: 1 },
    Place::Bits { register: 0, shift: 5 },
    Place::Bits { register: 1, shift: 5 },
    Place::Bits { register: 2, shift: 1 },
    Place::Spare { shift: 0 },
    Place::Bits { register: 2, shift: 5 },
    Place::Spare { shift: 4 },
];

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

/// Size in bytes of the first bits of a row.
pub fn code_bytes(cols: usize) -> usize {
    cols.div_ceil(BLOCK) * CODES
}

/// Size in bytes of a refinement of a row.
pub fn refinement_bytes(cols: usize) -> usize {
    cols.div_ceil(BLOCK) * BITS
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

    /// The floats in the order of files.
    pub fn to_array(self) -> [f32; Self::COUNT] {
        let mut numbers = [self.scale, self.norm, 0.0, 0.0, 0.0, 0.0, 0.0];
        numbers[2..].copy_from_slice(&self.residuals);
        numbers
    }

    /// Whether these can be the bounds of a row of finite weights.
    pub fn is_valid(&self) -> bool {
        let norms = |residual: &f32| *residual >= 0.0;
        self.scale.is_finite() && self.norm >= 0.0 && self.residuals.iter().all(norms)
    }
}

/// The bounds of rows as they are stored: the scales of all rows, their norms, and their residuals for
/// each number of refinements, little-endian floats.
#[derive(Clone, Copy, Debug)]
pub struct RowBounds<'a> {
    numbers: [&'a [[u8; 4]]; Bounds::COUNT],
}

impl<'a> RowBounds<'a> {
    /// The bounds in these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        let numbers = bytes.as_chunks().0;
        let rows = numbers.len() / Bounds::COUNT;
        Self { numbers: std::array::from_fn(|number| &numbers[number * rows..][..rows]) }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.numbers[0].len()
    }

    /// The bounds of a row.
    #[inline]
    pub fn row(&self, row: usize) -> Bounds {
        let [scale, norm, residuals @ ..] =
            self.numbers.map(|numbers| f32::from_le_bytes(numbers[row]));
        Bounds { scale, norm, residuals }
    }

    /// The residual of a row with so many refinements.
    #[inline]
    pub fn residual(&self, row: usize, refinements: usize) -> f32 {
        f32::from_le_bytes(self.numbers[2 + refinements][row])
    }

    /// The scale, the norm and a residual of a row.
    #[inline(always)]
    fn some(&self, row: usize, refinements: usize) -> [f32; 3] {
        let [scale, norm] = [0, 1].map(|number| f32::from_le_bytes(self.numbers[number][row]));
        [scale, norm, self.residual(row, refinements)]
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

/// A row whose columns are divided by their factors.
fn scaled<'a>(row: &'a [f32], factors: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
    assert_eq!(factors.len(), row.len(), "factors");
    row.iter().zip(factors).map(|(&w, &factor)| f64::from(w) / f64::from(factor))
}

/// The scale and the norms of a row whose columns have these factors, one for each. The residuals of
/// a row with a weight that is not finite are infinite.
pub fn bounds(row: &[f32], factors: &[f32]) -> Bounds {
    // SLACK covers the rounding of the quotients.
    let row: Vec<f64> = scaled(row, factors).collect();
    let norm: f64 = row.iter().map(|w| w.powi(2)).sum();
    if !(norm.sqrt() as f32).is_finite() || row.is_empty() {
        let [norm, residual] = [f32::INFINITY; 2];
        return Bounds { scale: 0.0, norm, residuals: [residual; _] };
    }
    let scale = best_scale(&row, norm);
    let up = |square: f64| ((square.sqrt() * (1.0 + SLACK)) as f32).next_up();
    let residuals = std::array::from_fn(|level| up(missed(&row, scale, REFINEMENTS - level)));
    Bounds { scale, norm: up(norm), residuals }
}

/// Writes the first bits of the codes of a row whose columns have these factors, given the scale of
/// its [`bounds`].
///
/// # Panics
/// If the length of `codes` is not [`code_bytes`], or there is not a factor for every column.
pub fn pack(row: &[f32], factors: &[f32], scale: f32, codes: &mut [u8]) {
    assert_eq!(codes.len(), code_bytes(row.len()), "codes");
    codes.fill(0);
    let blocks = codes.as_chunks_mut::<CODES>().0.iter_mut();
    for (out, codes) in blocks.zip(block_codes(row, factors, scale)) {
        let registers = out.as_chunks_mut::<PART>().0;
        for (codes, place) in codes.as_chunks::<PART>().0.iter().zip(PLACES) {
            for (i, code) in codes.iter().enumerate() {
                let first = code >> REFINEMENTS;
                match place {
                    Place::Bits { register, shift } => registers[register][i] |= first << shift,
                    Place::Spare { shift } => {
                        for (bit, register) in registers.iter_mut().enumerate() {
                            register[i] |= (first >> bit & 1) << shift;
                        }
                    }
                }
            }
        }
    }
}

/// Writes a refinement of the codes of a row, as [`pack`] writes the first bits.
///
/// # Panics
/// If the length of `bits` is not [`refinement_bytes`], or there is not a factor for every column.
pub fn pack_refinement(
    row: &[f32],
    factors: &[f32],
    scale: f32,
    refinement: usize,
    bits: &mut [u8],
) {
    assert_eq!(bits.len(), refinement_bytes(row.len()), "bits");
    assert!(refinement < REFINEMENTS, "refinements");
    bits.fill(0);
    let blocks = bits.as_chunks_mut::<BITS>().0.iter_mut();
    for (out, codes) in blocks.zip(block_codes(row, factors, scale)) {
        for (part, codes) in codes.as_chunks::<PART>().0.iter().enumerate() {
            for (out, code) in out.iter_mut().zip(codes) {
                *out |= (code >> (REFINEMENTS - 1 - refinement) & 1) << part;
            }
        }
    }
}

/// The seven-bit codes of a row in blocks. Those of columns beyond the row are 0.
fn block_codes<'a>(
    row: &'a [f32],
    factors: &'a [f32],
    scale: f32,
) -> impl Iterator<Item = [u8; BLOCK]> + 'a {
    let inverse = inverse(scale);
    let mut weights = scaled(row, factors);
    (0..row.len().div_ceil(BLOCK)).map(move |_| {
        let mut codes = [0; BLOCK];
        for (out, w) in codes.iter_mut().zip(&mut weights) {
            *out = code(w, inverse);
        }
        codes
    })
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
    /// The norm of what the anchors leave of the vector, and an upper bound of that of the whole.
    norm: f64,
    whole: f64,
    /// What the anchors leave of the vector.
    rest: Vec<f64>,
    /// How much of each anchor is in the vector, in units of the anchor's products.
    parts: Vec<f32>,
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
    /// whose difference from its codes has at most the norm `missed`. Of products with `known`, which
    /// is added to the vector, `known.constant` is unknown.
    fn new(n: usize, step: f64, total: f64, norm: f64, missed: f64, known: Sizes) -> Self {
        let n = n as f64;
        let unit = f64::from(f32::EPSILON) / 2.0;
        let rounding = n * unit / (1.0 - n * unit);
        // SLACK covers the rounding of the coarse value and of the bounds themselves.
        let per_residual = (norm + missed) * (1.0 + SLACK);
        // The whole product and those with the anchors are summed in f32.
        let summed = norm + 2.0 * known.norm;
        let coarse = (per_residual + known.norm) * SLACK;
        let per_norm = (rounding * summed + missed) * (1.0 + SLACK) + coarse;
        let constant = n * f64::from(f32::from_bits(1)) + known.constant;
        Self { total, step, per_residual, per_norm, constant }
    }
}

impl Query {
    /// Sets the vector for rows whose columns have these factors, one for each, and whose products
    /// with the anchors are known. Returns `false` if it has no bounds, because it is too long or not
    /// finite.
    pub fn set(&mut self, x: &[f32], factors: &[f32], anchors: &Anchors) -> bool {
        let n = x.len();
        if factors.len() != n || n == 0 || n > MAX_COLS {
            return false;
        }
        self.rest.clear();
        // Products of two f32 are exact.
        let values = x.iter().zip(factors).map(|(&x, &factor)| f64::from(x) * f64::from(factor));
        self.rest.extend(values);
        let known = anchors.project(&mut self.rest, &mut self.parts);
        if !self.rest.iter().all(|x| x.is_finite()) {
            return false;
        }
        let values = &self.rest;
        // Limits codes so that both halves are an i8, and a sum of n products with seven-bit codes
        // fits in an i32.
        let most = (i32::MAX as usize / (RANGE as usize * n)).min(127 * 256 + 127) as f64;
        let largest = values.iter().fold(0.0f64, |max, x| max.max(x.abs()));
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
        for (&x, (high, low)) in values.iter().zip(columns) {
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
        // The second term covers the rounding of `step * code` and of what the anchors leave.
        let rounding = (norm + 2.0 * known.norm) * SLACK;
        let [high, full] = missed.map(|missed| missed.sqrt() * (1.0 + SLACK) + rounding);
        let unit = f64::from(base);
        self.high = Errors::new(n, unit * step, totals[0] / unit, norm, high, known);
        self.full = Errors::new(n, step, totals[1], norm, full, known);
        (self.norm, self.whole, self.base) = (norm, norm + known.norm, base);
        true
    }

    /// The norm of what the anchors leave of the vector.
    pub fn norm(&self) -> f64 {
        self.norm
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
    /// the given precision, and `known` is what the [`Anchors`] tell. The interval is infinite if
    /// nothing is known.
    #[inline]
    pub fn enclose(
        &self,
        precision: Precision,
        refinements: usize,
        (sum, known): (i32, f32),
        rows: RowBounds<'_>,
        row: usize,
    ) -> (f32, f32) {
        let bounds = rows.some(row, refinements);
        self.interval(self.errors(precision), refinements, (sum, known), bounds)
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
        refinements: usize,
        (sum, known): (i32, f32),
        [scale, norm, residual]: [f32; 3],
    ) -> (f32, f32) {
        let (norm, residual) = (f64::from(norm), f64::from(residual));
        // Integers far below 2^53, which are exact.
        let unit = f64::from(1 << (REFINEMENTS - refinements));
        let sum = 2.0 * f64::from(sum) + (unit - f64::from(RANGE)) * errors.total;
        let coarse = f64::from(scale) * errors.step * sum + f64::from(known);
        let error = residual * errors.per_residual + norm * errors.per_norm + errors.constant;
        let low = ((coarse - error) as f32).next_down();
        let high = ((coarse + error) as f32).next_up();
        // Written so that NaN fails the test.
        let known = (coarse.abs() + error < HUGE) & (norm * self.whole < HUGE);
        (if known { low } else { f32::NEG_INFINITY }, if known { high } else { f32::INFINITY })
    }
}

/// See [`Kernels::enclose`](crate::Kernels::enclose), which checks the lengths.
#[inline(always)]
pub(crate) fn enclose(
    query: &Query,
    precision: Precision,
    refinements: usize,
    (sums, known): (&[i32], &[f32]),
    (rows, first): (RowBounds<'_>, usize),
    [low, high]: [&mut [f32]; 2],
) {
    let errors = *query.errors(precision);
    let numbers = [0, 1, 2 + refinements].map(|number| &rows.numbers[number][first..]);
    let [scales, norms, residuals] = numbers.map(|numbers| &numbers[..sums.len()]);
    let (known, low, high) =
        (&known[..sums.len()], &mut low[..sums.len()], &mut high[..sums.len()]);
    for i in 0..sums.len() {
        let bounds = [scales[i], norms[i], residuals[i]].map(f32::from_le_bytes);
        (low[i], high[i]) = query.interval(&errors, refinements, (sums[i], known[i]), bounds);
    }
}

/// The sum of the products of two vectors of equal length.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    /// Number of sums side by side, so that no addition waits for the one before.
    const LANES: usize = 8;
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f64>()
}
