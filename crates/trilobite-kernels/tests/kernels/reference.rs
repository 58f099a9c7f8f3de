//! The specification of ternary products, on unpacked trits. Never optimised.

/// `out[t * rows + r] = sum_k trits[r][k] * codes[t][k]`, exactly.
pub(crate) fn gemm(
    trits: &[i8],
    codes: &[i8],
    cols: usize,
    rows: usize,
    tokens: usize,
) -> Vec<i32> {
    let mut out = Vec::new();
    for t in 0..tokens {
        for r in 0..rows {
            let row = &trits[r * cols..(r + 1) * cols];
            let codes = &codes[t * cols..(t + 1) * cols];
            out.push(row.iter().zip(codes).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum());
        }
    }
    out
}
