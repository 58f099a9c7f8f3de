//! An exchange of lines with a process in the sandbox, which may not reply, or reply endlessly.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::time::Duration;

use tempfile::TempDir;

use crate::error::{Error, Result};

/// Maximum length of a line from the sandbox in bytes.
const MAX_LINE: u64 = 64 << 20;
/// Time limit for starting Python.
const START: Duration = Duration::from_secs(60);
/// Maximum number of bytes read of an error message.
const MAX_MESSAGE: u64 = 1 << 12;

/// A process in the sandbox. Dropping it kills everything in the sandbox.
pub(crate) struct Session {
    launcher: Child,
    input: Sender<Vec<u8>>,
    lines: Receiver<Vec<u8>>,
    _folder: Option<TempDir>,
}

/// The result of waiting for a line.
pub(crate) enum Reply {
    /// A line, without its end.
    Line(Vec<u8>),
    /// No line within the time limit.
    Late,
    /// The process has ended, or its line is too long.
    Ended,
}

impl Session {
    /// Starts a launcher and waits until its script is ready.
    pub(super) fn start(mut command: Command, folder: Option<TempDir>) -> Result<Self> {
        let failed = |message: String| Error::Sandbox(message);
        let mut launcher = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("it does not start: {error}")))?;
        let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
            (launcher.stdin.take(), launcher.stdout.take(), launcher.stderr.take())
        else {
            return Err(failed("it has no pipes".to_owned()));
        };
        // Threads serve the pipes, so that a process that neither reads nor writes blocks nothing.
        let (input, waiting) = channel::<Vec<u8>>();
        std::thread::spawn(move || {
            for line in waiting {
                if stdin.write_all(&line).is_err() {
                    return;
                }
            }
        });
        let (found, lines) = sync_channel(1);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let mut line = Vec::new();
                let read = stdout.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
                if read.is_err() || line.pop() != Some(b'\n') || found.send(line).is_err() {
                    return;
                }
            }
        });
        let mut session = Self { launcher, input, lines, _folder: folder };
        match session.receive(START) {
            Reply::Line(line) if line == b"\"ready\"" => Ok(session),
            _ => {
                session.kill();
                let mut message = String::new();
                let _ = stderr.by_ref().take(MAX_MESSAGE).read_to_string(&mut message);
                let message = message.trim();
                Err(failed(match message.strip_prefix("sandbox: ") {
                    Some(message) => message.to_owned(),
                    None => format!("Python does not start: {message}"),
                }))
            }
        }
    }

    /// Sends a line.
    pub(crate) fn send(&self, line: &[u8]) {
        // A process that no longer reads does not reply either, which `receive` reports.
        let _ = self.input.send([line, b"\n"].concat());
    }

    /// Waits for a line.
    pub(crate) fn receive(&self, limit: Duration) -> Reply {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Reply::Line(line),
            Err(RecvTimeoutError::Timeout) => Reply::Late,
            Err(RecvTimeoutError::Disconnected) => Reply::Ended,
        }
    }

    fn kill(&mut self) {
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
    }
}
