//! The pieces of an answer.

use crate::call::Call;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// More reasoning.
    Reasoning(String),
    /// More text.
    Text(String),
    /// A complete tool call.
    Call(Call),
}
