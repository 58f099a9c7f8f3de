//! Signals that ask a command to end: the first ends what is running, which cleans up behind itself,
//! the second ends the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

/// Whether one has come.
static SEEN: AtomicBool = AtomicBool::new(false);
/// The last one.
static SIGNAL: AtomicUsize = AtomicUsize::new(0);
/// What ends the process at a second Ctrl-C.
static SECOND: OnceLock<SigId> = OnceLock::new();

/// From now on Ctrl-C, the end of the terminal, and the request of a service or a batch system to end
/// are noted: for a command that cleans up, or has something to say, when it is broken off.
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
    // In this order: the first signal finds no flag set.
    let second = flag::register_conditional_default(signal, &SEEN)?;
    if signal == SIGINT {
        SECOND.get_or_init(|| second);
    }
    flag::register_usize(signal, &SIGNAL, signal.try_into()?)?;
    flag::register(signal, &SEEN)?;
    Ok(())
}

/// From now on Ctrl-C ends what is running and never the process, however often it is pressed: for a
/// chat, which has other ways to be left.
pub(crate) fn outlive_ctrl_c() {
    if let Some(second) = SECOND.get() {
        low_level::unregister(*second);
    }
}

/// Whether the process was started to outlive its terminal, as by `nohup`. Where the system does not
/// tell, it may have been.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    let bit = 1 << (signal_hook::consts::SIGHUP - 1);
    ignored.is_none_or(|set| set & bit != 0)
}

/// A write behind the limit on the size of files is an error, as on a full disk, and not the end of
/// the process.
pub(crate) fn outlive_file_size_limit() -> Result<()> {
    #[cfg(unix)]
    {
        static PASSED: AtomicBool = AtomicBool::new(false);
        flag::register(signal_hook::consts::SIGXFSZ, &PASSED)?;
    }
    Ok(())
}

/// Whether a signal has come since the last [`clear`].
pub(crate) fn seen() -> bool {
    SEEN.load(Ordering::SeqCst)
}

/// The exit status of a process that was asked to end, if it was: that which a shell shows for one
/// that the signal ended.
pub(crate) fn exit_status() -> Option<u8> {
    let signal = SIGNAL.load(Ordering::SeqCst);
    seen().then(|| u8::try_from(128 + signal).unwrap_or(u8::MAX))
}

/// Forgets a signal.
pub(crate) fn clear() {
    SEEN.store(false, Ordering::SeqCst);
}
