//! Upper limits of sizes, far above those of any model. Rows of at most 2^22 weights also keep the
//! integer sums of the kernels within 32 bits.
#![allow(missing_docs, reason = "the names say what they limit")]

pub const VOCAB: u64 = 1 << 24;
pub const CONTEXT: u64 = 1 << 31;
pub const WIDTH: u64 = 1 << 22;
pub const LAYERS: u64 = 1 << 12;
pub const HEADS: u64 = 1 << 16;
