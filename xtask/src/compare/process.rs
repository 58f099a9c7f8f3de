//! Runs other programs, and watches their memory and the load of the machine.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// Maximum processor time of other processes during a measured run, as a fraction of the machine's.
pub(super) const OTHERS: f64 = 0.06;

/// The output of a program.
pub(super) struct Output {
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// The largest observed resident size, if the system reports it.
    pub(super) peak_resident_bytes: Option<u64>,
    /// The fraction of all processor time that other processes took, if the system reports it.
    pub(super) others: Option<f64>,
}

/// Runs a program to its end. A nonzero exit status is an error with the last line of its standard
/// error.
pub(super) fn run(command: &mut Command) -> Result<Output> {
    watched(command, Duration::from_millis(20), &mut |_, _| {})
}

/// Runs a program to its end. Returns its resident size over time: seconds since the start, and bytes.
pub(super) fn memory(command: &mut Command) -> Result<Vec<(f64, u64)>> {
    let mut sizes = Vec::new();
    let mut note = |seconds, bytes| sizes.push((seconds, bytes));
    watched(command, Duration::from_millis(5), &mut note)?;
    Ok(sizes)
}

/// Runs a program, and passes its resident size to `note` at intervals.
fn watched(
    command: &mut Command,
    interval: Duration,
    note: &mut dyn FnMut(f64, u64),
) -> Result<Output> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let mut work = || -> Result<Output> {
        let before = Work::now();
        let start = Instant::now();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = read_aside(child.stdout.take());
        let stderr = read_aside(child.stderr.take());
        let mut note = |bytes| note(start.elapsed().as_secs_f64(), bytes);
        let (status, peak_resident_bytes) = wait(&mut child, interval, &mut note)?;
        let seconds = start.elapsed().as_secs_f64();
        let join = |thread: std::thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
        };
        let (stdout, stderr) = (join(stdout), join(stderr));
        if !status.success() {
            let said = stderr.lines().rev().find(|line| !line.trim().is_empty());
            let said = said.unwrap_or("it said nothing").trim();
            bail!("{status}: {}", said.strip_prefix("error: ").unwrap_or(said));
        }
        let others = before.zip(Work::now()).map(|(before, after)| after.others(&before, seconds));
        Ok(Output { stdout, stderr, peak_resident_bytes, others })
    };
    work().with_context(|| shown)
}

/// Runs several `trilobite pull`. After a server has not answered, no more are run, and all fail
/// for that reason.
#[derive(Default)]
pub(super) struct Pulls {
    silent: Option<String>,
}

impl Pulls {
    pub(super) fn run(&mut self, command: &mut Command) -> Result<()> {
        if let Some(reason) = &self.silent {
            bail!("{reason}");
        }
        run(command).map(drop).map_err(|error| {
            let text = format!("{error:#}");
            let Some(at) = text.find("no answer from ") else { return error };
            // The reason is the server, not the first file.
            anyhow!("{}", self.silent.insert(text[at..].to_owned()))
        })
    }
}

/// Reads a pipe on a thread, so that the program never waits for its reader.
fn read_aside(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // After an error the bytes read so far count.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Waits for a program and looks at its resident size at intervals. Returns the largest.
fn wait(
    child: &mut Child,
    interval: Duration,
    note: &mut dyn FnMut(u64),
) -> Result<(std::process::ExitStatus, Option<u64>)> {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = None;
    loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let bytes = |name: &str| -> Option<u64> {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(rest.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
        };
        peak = peak.max(bytes("VmHWM:"));
        if let Some(size) = bytes("VmRSS:") {
            note(size);
        }
        if let Some(status) = child.try_wait()? {
            return Ok((status, peak));
        }
        std::thread::sleep(interval);
    }
}

/// Processor time in clock ticks since the machine started.
struct Work {
    all: f64,
    children: f64,
    processors: f64,
}

/// Clock ticks per second. Linux uses hundredths in these files on every architecture.
const TICKS: f64 = 100.0;

impl Work {
    fn now() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let mut numbers = stat.lines().next()?.split_whitespace().skip(1);
        let mut all = 0.0;
        for (index, number) in numbers.by_ref().take(8).enumerate() {
            // Everything except idle time and waiting for a disk.
            if index != 3 && index != 4 {
                all += number.parse::<f64>().ok()?;
            }
        }
        let processors = stat.lines().filter(|line| line.starts_with("cpu")).count() - 1;
        let own = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The fields follow the name, which ends with the last closing parenthesis.
        let (_, fields) = own.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some(Work { all, children: ticks(13)? + ticks(14)?, processors: processors as f64 })
    }

    fn others(&self, before: &Work, seconds: f64) -> f64 {
        let others = (self.all - before.all) - (self.children - before.children);
        (others / TICKS / seconds / self.processors).max(0.0)
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_kept_and_its_last_words_are_the_error() {
        let shell = |script: &str| run(Command::new("sh").args(["-c", script]));
        let output = shell("echo out; echo err >&2; head -c 300000 /dev/zero | wc -c").unwrap();
        assert!(output.stdout.starts_with("out\n") && output.stdout.contains("300000"));
        assert_eq!(output.stderr, "err\n");
        let error = shell("echo first >&2; echo 'error: no model' >&2; exit 3").err().unwrap();
        assert_eq!(format!("{error:#}"), "sh: exit status: 3: no model");
    }

    #[test]
    fn a_server_that_does_not_answer_is_asked_once() {
        let folder = tempfile::tempdir().unwrap();
        let asked = folder.path().join("asked");
        let mut pulls = Pulls::default();
        let mut error = |said: &str| {
            let script = format!("echo x >> {}; echo 'error: {said}' >&2; exit 1", asked.display());
            format!("{:#}", pulls.run(Command::new("sh").args(["-c", &script])).unwrap_err())
        };
        assert_eq!(error("no such model"), "sh: exit status: 1: no such model");
        let reason = "no answer from hub.example: connection refused";
        for file in ["a: https://hub.example/a to /x/a", "b: https://hub.example/b to /x/b"] {
            assert_eq!(error(&format!("{file}: {reason}")), reason);
        }
        assert_eq!(std::fs::read_to_string(asked).unwrap(), "x\nx\n");
    }
}
