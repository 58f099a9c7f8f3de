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
}
