//! The records of the layouts of ternary weights that decode a model fastest, one for each machine.
//!
//! They are stored in the model's folder of converted checkpoints. A record is used as long as the
//! sources, the converter and the machine match it.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use trilobite_convert::{HeadScan, Layout, Options};

use crate::Result;
use crate::converted::Entry;
use crate::copies::TUNED;
use crate::record::write_json;

/// The properties of a machine on which speeds depend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The name of the processor, if it is known.
    pub cpu: Option<String>,
    /// The instruction set of the kernels.
    pub isa: String,
}

/// The decoding speed of a model in one layout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayoutSpeed {
    /// The layout.
    #[serde(with = "name")]
    pub layout: Layout,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Tokens per second.
    pub tokens_per_s: Speed,
}

/// The speeds of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

/// The layout that decodes a model fastest on a machine, and how it was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// The chosen layout.
    #[serde(with = "name")]
    pub layout: Layout,
    /// The layout that [`Layout::Auto`] stands for.
    #[serde(with = "name")]
    pub auto: Layout,
    /// The choice of a coarse head in the files that were measured.
    #[serde(with = "name")]
    pub head_scan: HeadScan,
    /// The machine.
    #[serde(flatten)]
    pub machine: Machine,
    /// Number of threads.
    pub threads: usize,
    /// Number of tokens decoded in a run.
    pub tokens: usize,
    /// Number of runs.
    pub runs: usize,
    /// The time in UTC.
    pub date: String,
    /// The version of the engine.
    pub engine: String,
    /// All layouts that were measured.
    pub speeds: Vec<LayoutSpeed>,
}

/// Layouts and options as their names.
mod name {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        value: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// An element of the file's list.
#[derive(Serialize, Deserialize)]
struct StoredRecord {
    /// The path of the model, for people.
    source: String,
    /// Hash of the sources and the converter.
    sources: String,
    #[serde(flatten)]
    tuned: Tuned,
}

impl Tuned {
    /// The record in a model's folder, if it matches the sources and the machine.
    pub(crate) fn read(entry: &Entry, machine: &Machine) -> Option<Tuned> {
        Self::all(entry).find(|tuned| tuned.machine == *machine)
    }

    /// The records in a model's folder that match the sources and name a layout that was measured.
    /// There are none in a damaged file.
    pub(crate) fn all(entry: &Entry) -> impl Iterator<Item = Tuned> {
        let json = std::fs::read(entry.folder.join(TUNED)).unwrap_or_default();
        let stored: Vec<StoredRecord> = serde_json::from_slice(&json).unwrap_or_default();
        let valid = stored.into_iter().filter(|stored| stored.sources == entry.sources);
        let measured = |tuned: &Tuned| tuned.speeds.iter().any(|of| of.layout == tuned.layout);
        valid.map(|stored| stored.tuned).filter(measured)
    }

    /// Writes the record into a model's folder, in place of an earlier one for the machine.
    pub(crate) fn write(&self, entry: &Entry) -> Result<()> {
        let others = Self::all(entry).filter(|tuned| tuned.machine != self.machine);
        let stored = |tuned| StoredRecord {
            source: entry.source.display().to_string(),
            sources: entry.sources.clone(),
            tuned,
        };
        let all: Vec<_> = others.chain([self.clone()]).map(stored).collect();
        write_json(&entry.folder.join(TUNED), &all)
    }

    /// The options of a conversion to this layout.
    pub fn options(&self) -> Options {
        options(self.layout, self.auto, self.head_scan)
    }
}

/// The options of a file in a layout for decoding. Unlike a file for other programs, it has a coarse
/// copy of the head with every layout.
pub(crate) fn options(layout: Layout, auto: Layout, head_scan: HeadScan) -> Options {
    match layout == auto {
        true => Options::default(),
        false => Options { layout, head_scan, ..Options::default() },
    }
}
