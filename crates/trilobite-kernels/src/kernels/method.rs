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
