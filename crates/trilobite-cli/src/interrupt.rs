//! Signals that ask a command to end. The first one ends the command in order, so that it can clean
//! up. The second one ends the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

/// Whether a signal has arrived.
static SEEN: AtomicBool = AtomicBool::new(false);
/// The number of the last signal.
static SIGNAL: AtomicUsize = AtomicUsize::new(0);
/// The handler that ends the process at a second Ctrl-C.
static SECOND: OnceLock<SigId> = OnceLock::new();

/// Starts to record Ctrl-C, the end of the terminal, and requests of a service manager or batch
/// system to end. Commands that clean up or report when they are interrupted call this.
pub(crate) fn listen() -> Result<()> {
    listen_to(SIGINT)?;
    listen_to(SIGTERM)?;
    #[cfg(unix)]
    if !ignores_hangup() {
        listen_to(signal_hook::consts::SIGHUP)?;
    }
    Ok(())
}

fn listen_to(signal: i32) -> Result<()> {
    // In this order the first signal finds the flag unset.
    let second = flag::register_conditional_default(signal, &SEEN)?;
    if signal == SIGINT {
        SECOND.get_or_init(|| second);
    }
    flag::register_usize(signal, &SIGNAL, signal.try_into()?)?;
    flag::register(signal, &SEEN)?;
    Ok(())
}

/// Makes Ctrl-C stop the current work and never the process, however often it is pressed. A chat,
/// which has other ways to quit, calls this.
pub(crate) fn outlive_ctrl_c() {
    if let Some(second) = SECOND.get() {
        low_level::unregister(*second);
    }
}

/// Whether the process was started to outlive its terminal, as by `nohup`. Assumes so if the system
/// does not tell.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    let bit = 1 << (signal_hook::consts::SIGHUP - 1);
    ignored.is_none_or(|set| set & bit != 0)
}

/// Makes a write beyond the file size limit an error, as on a full disk. By default the signal
/// ends the process.
pub(crate) fn outlive_file_size_limit() -> Result<()> {
    #[cfg(unix)]
    {
        static PASSED: AtomicBool = AtomicBool::new(false);
        flag::register(signal_hook::consts::SIGXFSZ, &PASSED)?;
    }
    Ok(())
}

/// Whether a signal has arrived since the last [`clear`].
pub(crate) fn seen() -> bool {
    SEEN.load(Ordering::SeqCst)
}

/// The exit status after a signal, if there was one: the status that a shell reports for a process
/// ended by it.
pub(crate) fn exit_status() -> Option<u8> {
    let signal = SIGNAL.load(Ordering::SeqCst);
    seen().then(|| u8::try_from(128 + signal).unwrap_or(u8::MAX))
}

/// Forgets recorded signals.
pub(crate) fn clear() {
    SEEN.store(false, Ordering::SeqCst);
}
