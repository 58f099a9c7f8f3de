//! The order of the rows of queries and keys.

/// The source row of output row `row` in a query or key projection. Hugging Face pairs the rows `i`
/// and `i + head_dim / 2` of a head for RoPE; the output pairs the adjacent rows `2i` and `2i + 1`.
/// Without a `head_dim` the order is unchanged.
pub(crate) fn source_row(row: usize, head_dim: Option<usize>) -> usize {
    match head_dim {
        None => row,
        Some(dim) => {
            let (head, within) = (row / dim, row % dim);
            head * dim + within % 2 * (dim / 2) + within / 2
        }
    }
}
