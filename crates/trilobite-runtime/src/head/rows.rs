//! The rows of a head and of its coarse copy, and the bits that only some of them need.

use std::ops::Range;

use trilobite_kernels::scan::{
    Precision, Query, REFINEMENTS, RowBounds, SCANNED, code_bytes, refinement_bytes,
};
use trilobite_kernels::{DenseMatrix, Kernels};

/// Rows from which a thread selects those to refine.
pub(super) const GROUP: usize = 512;

/// A head with its coarse copy.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// The weights, `[rows][cols]`, as floats.
    pub(crate) weights: DenseMatrix<'a>,
    /// The first bits of the codes of the coarse copy, rows of [`code_bytes`].
    pub(crate) codes: &'a [u8],
    /// The further bits of the codes, `[REFINEMENTS][rows]`, each of [`refinement_bytes`].
    pub(crate) refinements: &'a [u8],
    /// Bounds of the coarse copy.
    pub(crate) bounds: RowBounds<'a>,
    /// Factors of the columns of the coarse copy, `[cols]`.
    pub(crate) factors: &'a [f32],
}

/// An integer with the same order as the float. Both zeros map to the same integer.
pub(super) fn ordered(value: f32) -> i32 {
    let bits = (value + 0.0).to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

/// The float of an [`ordered`] integer.
pub(super) fn float(ordered: i32) -> f32 {
    f32::from_bits((ordered ^ ((ordered >> 31) as u32 >> 1) as i32) as u32)
}

/// What is known of the rows that a thread refines at a time.
pub(super) struct Group {
    pub(super) sums: [i32; GROUP],
    pub(super) known: [f32; GROUP],
    /// Number of refinements in the sums.
    pub(super) scanned: usize,
}

impl Head<'_> {
    /// The codes of some rows, and the refinements that a scan can read.
    pub(super) fn codes(&self, rows: Range<usize>) -> (&[u8], [&[u8]; SCANNED]) {
        let of = |bytes: usize| rows.start * bytes..rows.end * bytes;
        let cols = self.weights.cols();
        let plane = |refinement| &self.plane(refinement)[of(refinement_bytes(cols))];
        (&self.codes[of(code_bytes(cols))], std::array::from_fn(plane))
    }

    /// A refinement of all rows.
    fn plane(&self, refinement: usize) -> &[u8] {
        let bytes = self.refinements.len() / REFINEMENTS;
        &self.refinements[refinement * bytes..][..bytes]
    }

    /// Reads further bits of the rows from `first` on whose upper bounds reach the threshold, and
    /// excludes the rows whose tighter upper bounds do not. Returns how many rows were refined.
    pub(super) fn refine(
        &self,
        kernels: &Kernels,
        (query, precision): (&Query, Precision),
        threshold: i32,
        first: usize,
        Group { sums, known, scanned }: &mut Group,
        upper: &mut [i32],
    ) -> [usize; REFINEMENTS] {
        let (mut ids, mut len) = ([0; GROUP], 0);
        for (i, &end) in upper.iter().enumerate() {
            (ids[len], sums[len], known[len]) = ((first + i) as u32, sums[i], known[i]);
            len += usize::from(end >= threshold);
        }
        // The scan has read some for all rows.
        let mut looked = [upper.len(); REFINEMENTS];
        for (refinement, looked) in looked.iter_mut().enumerate().skip(*scanned) {
            *looked = len;
            let (some, sums, bits) = (&ids[..len], &mut sums[..len], self.plane(refinement));
            kernels.refine_scan(bits, refinement, some, query, precision, sums);
            let mut left = 0;
            for i in 0..len {
                let row = ids[i] as usize;
                let sum = (sums[i], known[i]);
                let ends = query.enclose(precision, refinement + 1, sum, self.bounds, row);
                let end = ordered(ends.1);
                upper[row - first] = end;
                (ids[left], sums[left], known[left]) = (ids[i], sums[i], known[i]);
                left += usize::from(end >= threshold);
            }
            len = left;
        }
        looked
    }
}
