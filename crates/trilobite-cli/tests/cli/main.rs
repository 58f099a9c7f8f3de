//! Tests of the binary: its results compared with reference outputs, and sources that it must
//! refuse.
//!
//! The checkpoints are those of `models/golden` and, if the environment variable `TRILOBITE_GOLDEN`
//! names one, of another folder with the same layout.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

mod activations;
mod bonsai;
mod chat;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod code;
mod commands;
mod configs;
mod converted;
mod dense;
mod embeddings;
mod eval;
mod eval_own;
mod failures;
#[cfg(target_os = "linux")]
mod faults;
mod fixture;
mod forms;
mod golden;
mod hub;
mod identity;
mod lies;
mod lock;
mod named;
mod npy;
mod projections;
mod pull;
mod real;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod sandbox;
mod sentencepiece;
mod serve;
mod server;
mod speculation;
mod stored;
#[cfg(target_os = "linux")]
mod terminal;
mod tokenizer;
mod trilobite;
mod tune;
mod usage;
mod verify;
