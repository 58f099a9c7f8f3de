//! The choice between ways to multiply.

/// How a ternary matrix is multiplied; the products are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Codes are multiplied with activations.
    MultiplyAdd,
    /// Sums of a few activations are tabulated for many tokens, and codes point into the tables.
    LookUp,
}

impl Method {
    /// Both.
    pub const ALL: [Method; 2] = [Method::MultiplyAdd, Method::LookUp];
    /// The fewest rows and tokens that repay tables. From there on look-up was at least 1.1 times
    /// as fast as multiply-add (AVX2 on Zen 5, one thread), and 1.5 times with 1280 rows and 128
    /// tokens; with half as many rows or tokens it could be slower.
    const LOOK_UP: (usize, usize) = (192, 32);

    /// The faster one for this many rows and tokens at a time.
    pub fn fastest(rows: usize, tokens: usize) -> Method {
        let (least_rows, least_tokens) = Method::LOOK_UP;
        if rows >= least_rows && tokens >= least_tokens {
            Method::LookUp
        } else {
            Method::MultiplyAdd
        }
    }
}
