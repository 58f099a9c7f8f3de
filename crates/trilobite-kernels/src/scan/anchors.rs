//! Products that are known, so that only what is left of a vector needs bounds.
//!
//! The hidden states before a head have much in common: half of their energy or more lies along a few
//! directions. Let `a` be some vectors, the anchors, whose products `p = w . a` with every row are
//! computed once. A vector `x = sum c a + r` then has the product `sum c p + w . r`, whatever the
//! numbers `c` are, and with the projections of `x` on the anchors |r|, to which the bounds are
//! proportional, is much smaller than |x|.
//!
//! A product is stored as an i8 times a step, of which it misses half a step at most. The sum of
//! products is computed in f32.

use super::Query;

/// Number of rows whose products are stored together.
const ROWS: usize = 16;

/// Vectors whose products with all rows are known.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    rows: usize,
    /// The anchors times the factors of the columns, `[anchors][columns]`.
    vectors: Vec<f64>,
    /// What is known of each.
    units: Vec<Unit>,
    /// The products in steps, `[rows / ROWS][anchors]`. Those beyond the rows are 0.
    products: Vec<[i8; ROWS]>,
}

/// What is known of an anchor.
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// The value of a code of its products.
    step: f64,
    /// Upper bound of the norm, with the factors.
    norm: f64,
    /// The inverse of the squared norm.
    inverse: f64,
}

/// The sizes of the part of a vector that anchors take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    /// An upper bound of the sum of the norms of the multiples of anchors.
    pub(super) norm: f64,
    /// An upper bound of what the rounding of their products adds to a product.
    pub(super) constant: f64,
}

impl Anchors {
    /// No anchors, for a number of rows.
    pub fn none(rows: usize) -> Self {
        Self { rows, ..Self::default() }
    }

    /// Makes anchors of vectors, `[anchors][columns]`, for columns with these factors. `products` are
    /// theirs with every row, `[anchors][rows]`, as computed by
    /// [`Kernels::dense_gemm`](crate::Kernels::dense_gemm). Vectors that are zero, and those that are
    /// not finite or have products that are not, are left out.
    ///
    /// # Panics
    /// If there are not as many products as vectors and `rows` require.
    pub fn new(rows: usize, factors: &[f32], vectors: &[f32], products: &[f32]) -> Self {
        let (cols, rows_or_one) = (factors.len().max(1), rows.max(1));
        assert_eq!(vectors.len() / cols * rows, products.len(), "products");
        let mut new = Self::none(rows);
        let mut codes: Vec<Vec<i8>> = Vec::new();
        for (vector, products) in vectors.chunks_exact(cols).zip(products.chunks(rows_or_one)) {
            let scaled = vector.iter().zip(factors);
            let scaled = scaled.map(|(&a, &factor)| f64::from(a) * f64::from(factor));
            let square: f64 = scaled.clone().map(|a| a * a).sum();
            let sound = products.iter().all(|p| p.is_finite()) && square.is_finite();
            if !sound || square < f64::MIN_POSITIVE / super::SLACK {
                continue;
            }
            let largest = products.iter().fold(0.0f32, |max, p| max.max(p.abs()));
            let step = f64::from(largest) / f64::from(i8::MAX);
            let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
            new.vectors.extend(scaled);
            // Positive, so that the cast rounds to the nearest.
            let code = |p: &f32| ((f64::from(*p) * inverse + 127.5) as i32 - 127) as i8;
            codes.push(products.iter().map(code).collect());
            let norm = square.sqrt() * (1.0 + super::SLACK);
            new.units.push(Unit { step, norm, inverse: 1.0 / square });
        }
        for first in (0..rows).step_by(ROWS) {
            new.products.extend(codes.iter().map(|codes| {
                let mut some = [0; ROWS];
                some.iter_mut().zip(&codes[first..]).for_each(|(to, code)| *to = *code);
                some
            }));
        }
        new
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of anchors.
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Whether there are no anchors.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Subtracts from `x`, a vector times the factors, its parts along the anchors, which are given in
    /// units of their products.
    pub(super) fn project(&self, x: &mut [f64], parts: &mut Vec<f32>) -> Sizes {
        parts.clear();
        let mut sizes = Sizes::default();
        for (unit, a) in self.units.iter().zip(self.vectors.chunks_exact(x.len().max(1))) {
            let product = super::dot(x, a);
            // The same number of steps is subtracted here and multiplied with the products.
            let steps = (product * unit.inverse * unit.step) as f32;
            let part = if unit.step > 0.0 { f64::from(steps) / unit.step } else { 0.0 };
            x.iter_mut().zip(a).for_each(|(x, a)| *x -= part * a);
            parts.push(steps);
            let size = part.abs() * (1.0 + super::SLACK);
            sizes.norm += size * unit.norm;
            // Half a step for the code, and the errors of a sum of f32: each addition and the
            // product have a relative error of 2^-24, and no partial sum is beyond the largest.
            let rounding = (self.len() + 1) as f64 * f64::from(f32::EPSILON) * f64::from(i8::MAX);
            sizes.constant += size * unit.step * (0.5 + rounding + super::SLACK);
            // The smallest float for each product of the sum that computed the anchor's product.
            sizes.constant += size * x.len() as f64 * f64::from(f32::from_bits(1));
        }
        sizes
    }
}

/// See [`Kernels::known`](crate::Kernels::known).
#[inline(always)]
pub(crate) fn known(query: &Query, anchors: &Anchors, first: usize, out: &mut [f32]) {
    if query.parts.is_empty() {
        return out.fill(0.0);
    }
    let products = anchors.products.chunks_exact(query.parts.len()).skip(first / ROWS);
    let (all, rest) = out.as_chunks_mut::<ROWS>();
    let (all_products, mut rest_products) = (products.clone(), products.skip(all.len()));
    for (out, products) in all.iter_mut().zip(all_products) {
        *out = sums(&query.parts, products);
    }
    if let Some(products) = rest_products.next() {
        let sums = sums(&query.parts, products);
        rest.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum);
    }
}

/// The known parts of the products of some rows.
#[inline(always)]
fn sums(parts: &[f32], products: &[[i8; ROWS]]) -> [f32; ROWS] {
    let mut sums = [0.0; ROWS];
    for (part, products) in parts.iter().zip(products) {
        for (sum, product) in sums.iter_mut().zip(products) {
            *sum += part * f32::from(*product);
        }
    }
    sums
}
