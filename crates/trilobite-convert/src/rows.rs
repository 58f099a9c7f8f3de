//! The order of the rows of queries and keys.

/// The row of a Hugging Face query or key projection that becomes row `row`, for RoPE that turns
/// adjacent rows `2i` and `2i + 1` of a head instead of `i` and `i + head_dim / 2`. Without a
/// `head_dim` rows stay where they are.
pub(crate) fn source_row(row: usize, head_dim: Option<usize>) -> usize {
    match head_dim {
        None => row,
        Some(dim) => {
            let (head, within) = (row / dim, row % dim);
            head * dim + within % 2 * (dim / 2) + within / 2
        }
    }
}
