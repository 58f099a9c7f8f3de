//! Equality by SymPy in a Python process.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The script that compares expressions.
const SCRIPT: &str = include_str!("symbolic.py");
/// Time limit of a comparison, as in math-evaluation-harness. After it the answers are not equal.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit for starting Python.
const START: Duration = Duration::from_secs(120);

/// Compares expressions with SymPy.
pub(crate) struct Symbolic {
    python: PathBuf,
    version: String,
    process: RefCell<Option<Process>>,
}

impl Symbolic {
    /// Starts Python.
    ///
    /// # Errors
    /// Python, SymPy or SymPy's LaTeX parser is missing.
    pub(crate) fn new(python: &Path) -> Result<Self> {
        let (process, version) = Process::start(python)?;
        Ok(Self { python: python.to_owned(), version, process: RefCell::new(Some(process)) })
    }

    /// The version of SymPy.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Whether two expressions are equal.
    ///
    /// # Errors
    /// Python was killed for taking too long and cannot be started again.
    pub(crate) fn equal(&self, a: &str, b: &str) -> Result<bool> {
        let mut slot = self.process.borrow_mut();
        let mut process = match slot.take() {
            Some(process) => process,
            None => Process::start(&self.python)?.0,
        };
        let verdict = process.ask(a, b);
        // Without a verdict the process hangs or has ended. Dropping it kills it.
        if verdict.is_some() {
            *slot = Some(process);
        }
        Ok(verdict == Some(true))
    }
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: Receiver<String>,
}

impl Process {
    /// Starts the process. Also returns the version of its SymPy.
    fn start(python: &Path) -> Result<(Self, String)> {
        let fail = |message| Error::Python { program: python.to_owned(), message };
        let mut child = Command::new(python)
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| fail(error.to_string()))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(stdout), Some(mut stderr)) = pipes else {
            return Err(fail("no pipes".to_owned()));
        };
        let (sender, output) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let process = Self { child, input, output };
        let version = process.output.recv_timeout(START).ok();
        let version = version.and_then(|line| serde_json::from_str(&line).ok());
        let Some(version) = version else {
            drop(process);
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said);
            let last = said.trim().lines().last().unwrap_or("no answer").to_owned();
            return Err(fail(last));
        };
        Ok((process, version))
    }

    /// The verdict, or `None` after the time limit.
    fn ask(&mut self, a: &str, b: &str) -> Option<bool> {
        writeln!(self.input, "{}", json!([a, b])).ok()?;
        let line = self.output.recv_timeout(TIMEOUT).ok()?;
        serde_json::from_str::<Value>(&line).ok()?.as_bool()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
