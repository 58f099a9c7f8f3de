//! `cargo xtask ci`: every check that a change must pass.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Checks formatting, lints, documentation and tests, as the continuous integration does.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<()> {
    let cargo = |args: &[&str]| crate::repository::run(&mut crate::repository::cargo(), args);
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    let doc = &["doc", "--workspace", "--no-deps", "--locked"];
    crate::repository::run(crate::repository::cargo().env("RUSTDOCFLAGS", "-D warnings"), doc)?;
    cargo(&["test", "--workspace", "--locked"])?;
    // With the standard library's checks of unsafe code, which the tests of the README leave out.
    let checked = &["test", "-p", "trilobite-kernels", "--features", "c-kernels", "--locked"];
    crate::repository::run(
        crate::repository::cargo().env("CARGO_PROFILE_TEST_DEBUG_ASSERTIONS", "true"),
        checked,
    )?;
    if crate::instructions::available() {
        crate::instructions::run(&crate::instructions::Args::default())?;
    } else {
        println!("valgrind is not installed: the instructions of the kernels are not counted");
    }
    minimum_version()
}

/// Checks the workspace with the oldest Rust version that it supports, if that is installed.
fn minimum_version() -> Result<()> {
    let manifest = include_str!("../../Cargo.toml");
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .context("Cargo.toml states no rust-version")?
        .trim_matches('"');
    let rustup = || {
        let mut rustup = Command::new("rustup");
        rustup.current_dir(crate::repository::root()).args(["run", version, "cargo"]);
        rustup
    };
    let installed = rustup().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        println!("Rust {version} is not installed: the minimum version is not checked");
        return Ok(());
    }
    crate::repository::run(&mut rustup(), &["check", "--workspace", "--all-targets", "--locked"])
}
