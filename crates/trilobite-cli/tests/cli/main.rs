//! The built binary against reference outputs, and against sources that it has to refuse.
//!
//! The checkpoints are those of `models/golden` and, when the environment variable `TRILOBITE_GOLDEN`
//! names one, of another folder of the same layout.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod chat;
mod commands;
mod dense;
mod eval;
mod failures;
mod fixture;
mod golden;
mod identity;
mod npy;
mod pull;
mod real;
mod server;
mod tokenizer;
mod trilobite;
