//! Ctrl-C: the first ends what is running, the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The exit status of a process that Ctrl-C ended.
pub(crate) const EXIT_STATUS: u8 = 130;

/// From now on Ctrl-C sets a flag.
pub(crate) fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(EXIT_STATUS.into());
        }
    })?;
    Ok(())
}

/// Whether Ctrl-C was pressed since the last [`clear`].
pub(crate) fn seen() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Forgets a Ctrl-C.
pub(crate) fn clear() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}
