//! Tests of faults around a command: streams, signals, special files, and texts that control the
//! terminal.

mod files;
mod signals;
mod steering;
mod streams;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::trilobite::command;

/// Timeout of operations that are normally immediate.
const LONG: Duration = Duration::from_secs(60);

/// Waits until `found` returns a value.
#[track_caller]
fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < LONG, "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A running command, killed if the test fails before it ends.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -$0 $1", name, &self.0.id().to_string()]);
        assert!(kill.status().unwrap().success());
    }

    /// Waits for the end, which must come soon.
    #[track_caller]
    fn end(&mut self) -> Output {
        let status = wait_for(|| self.0.try_wait().unwrap());
        let mut stderr = Vec::new();
        std::io::Read::read_to_end(self.0.stderr.as_mut().unwrap(), &mut stderr).unwrap();
        Output { status, stdout: Vec::new(), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Exit status and the one line on standard error.
#[track_caller]
fn line_of(output: &Output) -> (Option<i32>, String) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(said.lines().count() == 1 && said.ends_with('\n'), "{said:?}");
    (output.status.code(), said.trim_end().to_owned())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn conversion(source: &Path, out: &Path) -> Command {
    let mut command = command(["convert", "--head-scan", "none", "--force"]);
    command.arg(source).arg("-o").arg(out);
    command
}
