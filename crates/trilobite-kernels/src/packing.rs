//! What a layout of ternary matrices is, apart from its products.

/// A layout's way to pack trits. Matrices are row-major where they are not packed.
pub(crate) trait Packing {
    /// Bytes of a `rows` x `cols` matrix; `None` if the layout cannot hold it.
    fn packed_len(&self, rows: usize, cols: usize) -> Option<usize>;

    /// Packs the trits of rows of `cols` weights, and panics if there are other values, no whole rows,
    /// or another number of bytes than [`packed_len`](Packing::packed_len).
    fn pack(&self, trits: &[i8], cols: usize, out: &mut [u8]);

    /// The inverse. Codes that the layout does not use become 2.
    fn unpack(&self, packed: &[u8], cols: usize, trits: &mut [i8]);

    /// Row and column of the first weight, in the order of the bytes, whose code the layout does not
    /// use. They may lie in the padding.
    fn find_unused(&self, packed: &[u8], rows: usize, cols: usize) -> Option<(usize, usize)>;

    /// Whether all weights are zeros, and the padding.
    fn is_zero(&self, packed: &[u8], cols: usize) -> bool;
}

/// Rows of `cols` weights.
///
/// # Panics
/// If the weights are not whole rows.
pub(crate) fn row_count(weights: usize, cols: usize) -> usize {
    let rows = weights.checked_div(cols).unwrap_or(0);
    assert_eq!(rows * cols, weights, "weights are whole rows of {cols}");
    rows
}
