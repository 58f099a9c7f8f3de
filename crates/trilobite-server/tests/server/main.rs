//! Tests of a server with clients over local sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod chat;
mod client;
mod completions;
mod connections;
mod embeddings;
mod errors;
mod fixture;
mod forms;
mod guard;
mod lifecycle;
mod misc;
