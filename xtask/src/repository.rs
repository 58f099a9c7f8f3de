//! The folder of the repository, and commands that run in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the repository, independent of the current folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A `cargo` command in the root of the repository, with the environment of a user's. Removes the
/// variables with which the outer cargo describes the xtask package, because they would make cargo
/// rebuild other packages.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let about =
            ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_"];
        if about.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command in the root of the repository and passes its output through. A nonzero exit
/// status is an error.
pub(crate) fn shell(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.current_dir(root());
    run(&mut command, args)
}

/// Runs a command with arguments and passes its output through. A nonzero exit status is an error.
pub(crate) fn run(command: &mut Command, args: &[&str]) -> Result<()> {
    let shown = format!("{} {}", command.get_program().display(), args.join(" "));
    println!("$ {shown}");
    let status = command.args(args).status().with_context(|| format!("`{shown}` did not start"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo sets the same variables for tests as for programs that it runs.
    #[test]
    fn cargo_does_not_hear_of_this_package() {
        let cargo = cargo();
        let removed: Vec<_> = cargo.get_envs().filter(|(_, value)| value.is_none()).collect();
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION_MAJOR"] {
            assert!(std::env::var_os(name).is_some(), "{name}");
            assert!(removed.iter().any(|(removed, _)| *removed == name), "{name}");
        }
    }
}
