//! Float kernels. Each is written once, over 32 lanes, and compiled for every instruction set.

pub(crate) mod attend;
pub(crate) mod elementwise;
pub(crate) mod exp;
