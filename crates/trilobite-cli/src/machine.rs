//! What can be said about the machine that runs this.

use serde_json::{Value, json};

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Processor, cores, system.
pub(crate) fn describe() -> Value {
    json!({
        "cpu": cpu_name(),
        "cores": cores(),
        "architecture": std::env::consts::ARCH,
        "os": std::env::consts::OS,
    })
}

/// The processor's name, where the system tells it.
pub(crate) fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The largest resident size of this process so far in bytes, where the system tells it.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
