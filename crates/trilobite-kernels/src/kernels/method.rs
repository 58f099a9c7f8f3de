//! Methods of multiplication.

/// How a ternary matrix is multiplied. All methods give the same products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Multiplies codes with activations.
    MultiplyAdd,
    /// Tabulates sums of a few activations for many tokens, and looks them up by codes.
    LookUp,
    /// Unpacks the codes of some rows, and multiplies them with all tokens.
    Panels,
}

impl Method {
    /// Every method, including those that an instruction set lacks.
    pub const ALL: [Method; 3] = [Method::MultiplyAdd, Method::LookUp, Method::Panels];
}
