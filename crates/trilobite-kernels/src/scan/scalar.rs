//! Plain Rust, one code at a time.

/// See [`Kernels::scan`](crate::Kernels::scan), which checks the lengths.
pub(crate) fn gemv(codes: &[u8], x: &[i16], out: &mut [i32]) {
    for (row, out) in codes.chunks_exact(x.len()).zip(out) {
        *out = row.iter().zip(x).map(|(&c, &x)| i32::from(c as i8) * i32::from(x)).sum();
    }
}
