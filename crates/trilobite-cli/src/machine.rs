//! Information about this machine.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};
use trilobite_hub::Machine;
use trilobite_kernels::Kernels;

/// Number of cores available to this process.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processor, the number of cores and the system.
pub(crate) fn describe() -> Value {
    json!({
        "cpu": cpu_name(),
        "cores": cores(),
        "architecture": std::env::consts::ARCH,
        "os": std::env::consts::OS,
    })
}

/// The processor and the instruction set in use, on which speeds depend.
pub(crate) fn processor() -> Result<Machine> {
    Ok(Machine { cpu: cpu_name(), isa: Kernels::detect()?.isa.name().to_owned() })
}

/// The name of the processor, if the system tells it.
pub(crate) fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The peak resident memory of this process in bytes, if the system tells it.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Energy counters of the processor packages (RAPL).
pub(crate) struct Energy {
    packages: Vec<PathBuf>,
}

impl Energy {
    /// The counters, if the kernel lets this user read them.
    pub(crate) fn counters() -> Option<Self> {
        Self::below(Path::new("/sys/class/powercap"))
    }

    fn below(folder: &Path) -> Option<Self> {
        let mut packages = Vec::new();
        for entry in std::fs::read_dir(folder).ok()? {
            let path = entry.ok()?.path();
            let name = std::fs::read_to_string(path.join("name")).unwrap_or_default();
            if name.starts_with("package-") {
                packages.push(path);
            }
        }
        let energy = Energy { packages };
        (!energy.packages.is_empty() && energy.read().is_some()).then_some(energy)
    }

    /// The counter of each package in microjoules.
    pub(crate) fn read(&self) -> Option<Vec<u64>> {
        self.packages.iter().map(|package| number(&package.join("energy_uj"))).collect()
    }

    /// Joules between two readings.
    pub(crate) fn joules(&self, before: &[u64], after: &[u64]) -> Option<f64> {
        let mut sum = 0;
        for (package, (&before, &after)) in self.packages.iter().zip(before.iter().zip(after)) {
            sum += match after >= before {
                true => after - before,
                // The counter has wrapped around.
                false => {
                    after + number(&package.join("max_energy_range_uj"))?.checked_sub(before)?
                }
            };
        }
        Some(sum as f64 / 1e6)
    }
}

fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_is_summed_over_packages_and_counters_that_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Energy::below(folder.path()).is_none());
        let zones = [
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:1", "package-1"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:2", "psys"),
        ];
        for (zone, name) in zones {
            let zone = folder.path().join(zone);
            std::fs::create_dir(&zone).unwrap();
            for (file, text) in
                [("name", name), ("energy_uj", "900"), ("max_energy_range_uj", "1000000")]
            {
                std::fs::write(zone.join(file), format!("{text}\n")).unwrap();
            }
        }
        let energy = Energy::below(folder.path()).unwrap();
        assert_eq!(energy.read().unwrap(), [900, 900]);
        // 500,000 of one counter; of the other, 100 up to its maximum and 99,900 after it.
        let joules = energy.joules(&[0, 999_900], &[500_000, 99_900]).unwrap();
        assert!((joules - 0.6).abs() < 1e-9, "{joules}");
    }
}
