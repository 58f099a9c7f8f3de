//! Checkpoints that were converted to be run, kept from one run to the next.
//!
//! A checkpoint has a folder below `converted` in the cache. In it are the converted file, a record of
//! what it was made from, and a lock for whoever makes it. The file is used as long as the sources and
//! the converter are those of the record and nobody has written to it since.

use std::fs::{self, File, TryLockError};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use trilobite_convert::{Checkpoint, Error, Options, Progress, convert_file};
use trilobite_runtime::Model;

use crate::output;

/// Time between two looks at a lock that another process holds.
const PAUSE: Duration = Duration::from_millis(100);
const RECORD: &str = "converted.json";

/// What happens meanwhile.
pub(crate) enum Event<'a> {
    /// A conversion into this file begins.
    Begun(&'a Path),
    Progress(Progress<'a>),
    /// Another process is still converting the same checkpoint.
    Waiting,
    /// The file that was kept cannot be used.
    Damaged(&'a anyhow::Error),
    /// A converted file cannot be kept.
    NotKept(&'a anyhow::Error),
}

/// Hears of events and says whether to go on.
pub(crate) type Listener<'a> = dyn FnMut(Event<'_>) -> ControlFlow<()> + 'a;

/// The converted model of a checkpoint, made now or kept in the folder `cache`; `None` where it
/// cannot be kept.
///
/// # Errors
/// The checkpoint cannot be converted, or the listener asked to stop.
pub(crate) fn open(
    checkpoint: &Checkpoint,
    source: &Path,
    cache: Result<PathBuf>,
    listen: &mut Listener<'_>,
) -> Result<Option<Model>> {
    let made = cache.and_then(|cache| Entry::of(checkpoint, source, &cache)).map_err(Failure::Keep);
    match made.and_then(|entry| entry.open(checkpoint, listen)) {
        Ok(model) => Ok(Some(model)),
        Err(Failure::Convert(error)) => Err(error),
        Err(Failure::Keep(error)) => {
            let _ = listen(Event::NotKept(&error));
            Ok(None)
        }
    }
}

enum Failure {
    /// The checkpoint is at fault.
    Convert(anyhow::Error),
    /// The cache is.
    Keep(anyhow::Error),
}

/// Size and times of a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified: SystemTime,
}

impl Stamp {
    fn of(path: &Path) -> Result<Self> {
        let read = || -> std::io::Result<Self> {
            let metadata = fs::metadata(path)?;
            Ok(Stamp { bytes: metadata.len(), modified: metadata.modified()? })
        };
        read().with_context(|| path.display().to_string())
    }
}

/// When a file or its description changed, which no program can set.
fn changed(path: &Path) -> Result<(i64, i64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
        Ok((metadata.ctime(), metadata.ctime_nsec()))
    }
    #[cfg(not(unix))]
    Ok((0, 0))
}

/// What a converted file was made from, and what it was then.
#[derive(PartialEq, Serialize, Deserialize)]
struct Record {
    /// For people who look into the cache.
    source: String,
    fingerprint: String,
    file: Stamp,
}

/// The place of a checkpoint in the cache.
struct Entry {
    source: PathBuf,
    /// Hash of the converter's version and of the names, sizes and times of the sources.
    fingerprint: String,
    folder: PathBuf,
    file: PathBuf,
}

impl Entry {
    fn of(checkpoint: &Checkpoint, source: &Path, cache: &Path) -> Result<Self> {
        let source = source.canonicalize().with_context(|| source.display().to_string())?;
        let mut sources = Vec::new();
        for path in checkpoint.paths() {
            sources.push((path.canonicalize()?, Stamp::of(path)?, changed(path)?));
        }
        let fingerprint = hash(&format!("{} {source:?} {sources:?}", trilobite_convert::VERSION));
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let stem = stem.replace(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c), "_");
        let place = hash(&format!("{source:?}"));
        let folder = cache.join(format!("{stem:.64}-{place}"));
        let file = folder.join(format!("{fingerprint}.gguf"));
        Ok(Entry { source, fingerprint, folder, file })
    }

    fn open(&self, checkpoint: &Checkpoint, listen: &mut Listener<'_>) -> Result<Model, Failure> {
        if let Some(model) = self.kept_or_told(listen) {
            return Ok(model);
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| self.folder.display().to_string())
            .map_err(Failure::Keep)?;
        let _lock = self.lock(listen)?;
        // Made by another process meanwhile.
        if let Ok(Some(model)) = self.kept() {
            return Ok(model);
        }
        self.clear().map_err(Failure::Keep)?;
        let _ = listen(Event::Begun(&self.file));
        let mut progress = |progress: Progress<'_>| listen(Event::Progress(progress));
        let done = convert_file(checkpoint, &Options::default(), &self.file, true, &mut progress);
        match done {
            Ok(_) => {}
            Err(
                error @ (Error::Output { .. }
                | Error::OutputPath { .. }
                | Error::Write(_)
                | Error::Verify { .. }),
            ) => return Err(Failure::Keep(error.into())),
            Err(error) => return Err(Failure::Convert(error.into())),
        }
        self.record().map_err(Failure::Keep)?;
        Model::open(&self.file).map_err(|error| Failure::Convert(error.into()))
    }

    fn kept_or_told(&self, listen: &mut Listener<'_>) -> Option<Model> {
        self.kept().unwrap_or_else(|error| {
            let _ = listen(Event::Damaged(&error));
            None
        })
    }

    /// The model that is kept, if it was made from these sources.
    fn kept(&self) -> Result<Option<Model>> {
        let Ok(record) = fs::read(self.folder.join(RECORD)) else { return Ok(None) };
        let record: Record = serde_json::from_slice(&record).context(RECORD)?;
        if record.fingerprint != self.fingerprint || !self.file.exists() {
            return Ok(None);
        }
        if record.file != Stamp::of(&self.file)? {
            bail!("{}: it was changed after it was written", self.file.display());
        }
        let model = Model::open(&self.file);
        Ok(Some(model.with_context(|| self.file.display().to_string())?))
    }

    fn record(&self) -> Result<()> {
        let record = Record {
            source: self.source.display().to_string(),
            fingerprint: self.fingerprint.clone(),
            file: Stamp::of(&self.file)?,
        };
        let json = serde_json::to_string_pretty(&record)?;
        output::write_file(&self.folder.join(RECORD), |out| Ok(writeln!(out, "{json}")?))
    }

    /// Waits until no other process converts this checkpoint.
    fn lock(&self, listen: &mut Listener<'_>) -> Result<File, Failure> {
        let path = self.folder.join("lock");
        let file = File::create(&path).with_context(|| path.display().to_string());
        let file = file.map_err(Failure::Keep)?;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if listen(Event::Waiting).is_break() {
                return Err(Failure::Convert(Error::Interrupted.into()));
            }
            std::thread::sleep(PAUSE);
        }
        // Where files cannot be locked, the work may be done twice: the last result counts.
        Ok(file)
    }

    /// Removes what was made from other sources, and what a process that was killed has left.
    fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name == RECORD || name.ends_with(".gguf") || name.ends_with(".partial") {
                // A system that keeps open files from being removed has them removed next time.
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

/// 16 digits of a SHA-256.
fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
