//! Running the binary.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Result, ensure};

/// The binary with these arguments, in a fixed environment.
pub(crate) fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trilobite"));
    command.args(args).stdin(Stdio::null()).env_remove("TRILOBITE_ISA");
    command
}

/// The standard output of a command. A nonzero exit status is an error with its standard error.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output()?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "{command:?}: {status}: {said}");
    Ok(String::from_utf8(stdout)?)
}

/// A command run by a shell after `script`, such as a limit or a umask.
#[cfg(unix)]
pub(crate) fn after(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{script}; exec \"$@\""), "sh"]);
    shell.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Converts a source.
pub(crate) fn convert(source: &Path, out: &Path) -> Result<()> {
    convert_to("auto", source, out)
}

/// Converts a source to a layout.
pub(crate) fn convert_to(layout: &str, source: &Path, out: &Path) -> Result<()> {
    stdout(command(["convert", "--layout", layout]).arg(source).arg("-o").arg(out))?;
    Ok(())
}

/// Token ids as the value of a flag.
pub(crate) fn comma_separated(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// The bytes of the .npy file that `logits` writes, with extra arguments and environment variables.
pub(crate) fn logits(
    model: &Path,
    tokens: &[u32],
    args: &[&str],
    environment: &[(&str, &str)],
) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("logits.npy");
    let mut command = command(["logits", "--tokens", &comma_separated(tokens)]);
    command.args(args).envs(environment.iter().copied()).arg("-o").arg(&out).arg(model);
    stdout(&mut command)?;
    Ok(std::fs::read(out)?)
}
