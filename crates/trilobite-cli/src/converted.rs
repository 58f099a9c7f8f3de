//! Checkpoints that were converted to be run, kept from one run to the next.
//!
//! A checkpoint has a folder below `converted` in the cache. In it are the converted file, a receipt
//! for what it was made from, and a lock for whoever makes it. The file is used as long as the sources
//! and the converter are those of the receipt and nobody has written to it since.

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
/// Name of the receipt in a checkpoint's folder.
const RECEIPT: &str = "converted.json";

/// What happens while a checkpoint is opened.
pub(crate) enum Conversion<'a> {
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
pub(crate) type Listener<'a> = dyn FnMut(Conversion<'_>) -> ControlFlow<()> + 'a;

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
    let made = cache.and_then(|cache| Entry::of(checkpoint, source, &cache)).map_err(Fault::Keep);
    match made.and_then(|entry| entry.open(checkpoint, listen)) {
        Ok(model) => Ok(Some(model)),
        Err(Fault::Convert(error)) => Err(error),
        Err(Fault::Keep(error)) => {
            let _ = listen(Conversion::NotKept(&error));
            Ok(None)
        }
    }
}

enum Fault {
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
#[derive(Serialize, Deserialize)]
struct Receipt {
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
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c), "_");
        let place = hash(&format!("{source:?}"));
        let folder = cache.join(format!("{name:.64}-{place}"));
        let file = folder.join(format!("{fingerprint}.gguf"));
        Ok(Entry { source, fingerprint, folder, file })
    }

    fn open(&self, checkpoint: &Checkpoint, listen: &mut Listener<'_>) -> Result<Model, Fault> {
        match self.kept() {
            Ok(Some(model)) => return Ok(model),
            Ok(None) => {}
            Err(error) => drop(listen(Conversion::Damaged(&error))),
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| self.folder.display().to_string())
            .map_err(Fault::Keep)?;
        let _lock = self.lock(listen)?;
        // Made by another process meanwhile.
        if let Ok(Some(model)) = self.kept() {
            return Ok(model);
        }
        self.clear().map_err(Fault::Keep)?;
        let _ = listen(Conversion::Begun(&self.file));
        let mut progress = |progress: Progress<'_>| listen(Conversion::Progress(progress));
        let done = convert_file(checkpoint, &Options::default(), &self.file, true, &mut progress);
        match done {
            Ok(_) => {}
            Err(
                error @ (Error::Output { .. }
                | Error::OutputPath { .. }
                | Error::Write(_)
                | Error::ReadBack { .. }
                | Error::Verify { .. }),
            ) => return Err(Fault::Keep(error.into())),
            Err(error) => return Err(Fault::Convert(error.into())),
        }
        self.write_receipt().map_err(Fault::Keep)?;
        Model::open(&self.file).map_err(|error| Fault::Convert(error.into()))
    }

    /// The model that is kept, if it was made from these sources.
    fn kept(&self) -> Result<Option<Model>> {
        let Ok(receipt) = fs::read(self.folder.join(RECEIPT)) else { return Ok(None) };
        let receipt: Receipt = serde_json::from_slice(&receipt).context(RECEIPT)?;
        if receipt.fingerprint != self.fingerprint || !self.file.exists() {
            return Ok(None);
        }
        if receipt.file != Stamp::of(&self.file)? {
            bail!("{}: it was changed after it was written", self.file.display());
        }
        let model = Model::open(&self.file);
        Ok(Some(model.with_context(|| self.file.display().to_string())?))
    }

    fn write_receipt(&self) -> Result<()> {
        let receipt = Receipt {
            source: self.source.display().to_string(),
            fingerprint: self.fingerprint.clone(),
            file: Stamp::of(&self.file)?,
        };
        let json = serde_json::to_string_pretty(&receipt)?;
        output::write_file(&self.folder.join(RECEIPT), |out| Ok(writeln!(out, "{json}")?))
    }

    /// Waits until no other process converts this checkpoint.
    fn lock(&self, listen: &mut Listener<'_>) -> Result<File, Fault> {
        let path = self.folder.join("lock");
        let file = File::create(&path).with_context(|| path.display().to_string());
        let file = file.map_err(Fault::Keep)?;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if listen(Conversion::Waiting).is_break() {
                return Err(Fault::Convert(Error::Interrupted.into()));
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
            if name == RECEIPT || name.ends_with(".gguf") || name.ends_with(".partial") {
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
