//! Packing and validation, the part of a layout that is independent of products.

/// The packing of a layout. Unpacked matrices are row-major.
pub(crate) trait Packing {
    /// Size in bytes of a `rows` x `cols` matrix. `None` if the layout cannot hold it.
    fn packed_len(&self, rows: usize, cols: usize) -> Option<usize>;

    /// Packs the trits of rows of `cols` weights. Panics on other values, on incomplete rows, and
    /// if `out` does not have [`packed_len`](Packing::packed_len) bytes.
    fn pack(&self, trits: &[i8], cols: usize, out: &mut [u8]);

    /// Unpacks trits: the inverse of [`pack`](Packing::pack). Invalid codes unpack to 2.
    fn unpack(&self, packed: &[u8], cols: usize, trits: &mut [i8]);

    /// Row and column of the first weight, in the order of the bytes, with an invalid code. They
    /// may lie in the padding.
    fn find_invalid(&self, packed: &[u8], rows: usize, cols: usize) -> Option<(usize, usize)>;

    /// Whether all weights, and the padding, are zero.
    fn is_zero(&self, packed: &[u8], cols: usize) -> bool;
}

/// The number of rows of `cols` weights.
///
/// # Panics
/// If `weights` is not a multiple of `cols`.
pub(crate) fn row_count(weights: usize, cols: usize) -> usize {
    let rows = weights.checked_div(cols).unwrap_or(0);
    assert_eq!(rows * cols, weights, "weights are whole rows of {cols}");
    rows
}
