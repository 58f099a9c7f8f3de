//! The machine on which a comparison runs.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::Result;
use serde::Serialize;

use super::args::Args;
use super::measure::Machine;
use super::process;
use super::spread::Spread;

/// The properties of a machine that can explain differences between reports.
#[derive(Serialize)]
pub(super) struct Fingerprint {
    pub(super) date: String,
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) threads: usize,
    /// The instruction set that the engine chose.
    pub(super) isa: String,
    /// The processor's features: AVX, AMX, NEON and the like.
    pub(super) cpu_flags: String,
    pub(super) memory_bytes: Option<u64>,
    pub(super) bandwidth_bytes_per_s: Option<Spread>,
    pub(super) governor: String,
    pub(super) kernel: String,
    pub(super) trilobite: String,
    pub(super) rustc: String,
    pub(super) revision: String,
    pub(super) command: String,
}

const UNKNOWN: &str = "not available";

pub(super) fn fingerprint(binary: &Path, args: &Args, measured: &Machine) -> Result<Fingerprint> {
    let said = |program: &Path, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).current_dir(crate::repository::root());
        process::run(&mut command).ok().map(|output| output.stdout.trim().to_owned())
    };
    let file = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let info = file("/proc/cpuinfo").unwrap_or_default();
    let of_cpu = |names: &[&str]| {
        info.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            names.contains(&name.trim()).then(|| value.trim().to_owned())
        })
    };
    let flags = of_cpu(&["flags", "Features"]).unwrap_or_default();
    let vector = ["avx", "amx", "asimd", "sve", "i8mm", "bf16", "f16c", "fma"];
    let flags = flags.split(' ').filter(|flag| vector.iter().any(|name| flag.starts_with(name)));
    let memory = file("/proc/meminfo").and_then(|text| {
        let line = text.lines().next()?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let unknown = || UNKNOWN.to_owned();
    let revision = said(Path::new("git"), &["rev-parse", "--short=12", "HEAD"]).map(|revision| {
        let changed = said(Path::new("git"), &["status", "--porcelain", "--untracked-files=no"]);
        let changed = changed.is_some_and(|changes| !changes.is_empty());
        if changed { format!("{revision} with changes") } else { revision }
    });
    let words = std::env::args()
        .skip(1)
        .map(|word| shlex::try_quote(&word).map_or(word.clone(), |quoted| quoted.into_owned()));
    Ok(Fingerprint {
        date: date(SystemTime::now()),
        cpu: of_cpu(&["model name", "Model"]).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads: args.threads(),
        isa: measured.isa.clone().unwrap_or_else(unknown),
        cpu_flags: flags.collect::<Vec<_>>().join(" "),
        memory_bytes: memory.map(|kib| kib * 1024),
        bandwidth_bytes_per_s: measured.bandwidth_bytes_per_s.clone(),
        governor: file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .unwrap_or_else(unknown),
        kernel: said(Path::new("uname"), &["-sr"]).unwrap_or_else(unknown),
        trilobite: said(binary, &["--version"]).unwrap_or_else(unknown),
        rustc: said(Path::new("rustc"), &["--version"]).unwrap_or_else(unknown),
        revision: match (revision, &args.trilobite) {
            (None, _) => unknown(),
            // The binary may have been built from any revision.
            (Some(revision), Some(_)) => format!("{revision} (but --trilobite named the binary)"),
            (Some(revision), None) => revision,
        },
        command: format!("cargo xtask {}", words.collect::<Vec<_>>().join(" ")),
    })
}

/// A time in UTC, to the minute.
fn date(time: SystemTime) -> String {
    let text = httpdate::fmt_http_date(time);
    // "Sun, 22 Nov 2026 20:08:31 GMT"
    text.get(5..22).map_or(text.clone(), |part| format!("{part} UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_short() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_378_111);
        assert_eq!(date(time), "22 Nov 2026 20:08 UTC");
    }
}
