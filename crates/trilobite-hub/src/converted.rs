//! A cache of converted checkpoints, so that a checkpoint is converted once.
//!
//! A checkpoint has a folder below `converted` in the cache. It contains the converted file, a
//! receipt that describes the sources, and a lock for the process that converts. The file is used
//! as long as the sources and the converter match the receipt and the file itself is unchanged.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trilobite_convert::{Checkpoint, Error as ConvertError, Options, Progress, convert_file};
use trilobite_runtime::Model;

use crate::copies::{LOCK, RECEIPT, Receipt, Stamp, hash, place};
use crate::lock::open_locked;
use crate::record::write_json;
use crate::{Cache, Error, Result};

/// Time between two attempts to take a lock that another process holds.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// An event while a checkpoint is opened.
pub enum Conversion<'a> {
    /// A conversion into this file starts.
    Begun(&'a Path),
    /// Tensors are being converted.
    Progress(Progress<'a>),
    /// Another process is converting the same checkpoint.
    Waiting,
    /// The cached file is not usable.
    Damaged(&'a Error),
    /// The converted file cannot be cached.
    NotKept(&'a Error),
}

/// Receives events and decides whether to continue.
pub type ConversionListener<'a> = dyn FnMut(Conversion<'_>) -> ControlFlow<()> + 'a;

/// Opens the converted model of a checkpoint, which is converted or taken from the folder `cache`.
/// Returns `None` if it cannot be cached.
///
/// # Errors
/// The checkpoint cannot be converted, or the listener stops the conversion.
pub(crate) fn open(
    checkpoint: &Checkpoint,
    source: &Path,
    cache: &Cache,
    listen: &mut ConversionListener<'_>,
) -> Result<Option<Model>> {
    let made = Entry::of(checkpoint, source, cache).map_err(Fault::Keep);
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
    /// The error of the checkpoint.
    Convert(Error),
    /// The error of the cache.
    Keep(Error),
}

impl Stamp {
    fn of(path: &Path) -> Result<Self> {
        let read = || -> std::io::Result<Self> {
            let metadata = fs::metadata(path)?;
            Ok(Stamp { bytes: metadata.len(), modified: metadata.modified()? })
        };
        read().map_err(Error::io(path))
    }
}

/// The time of the last change of a file or its metadata, which programs cannot set.
fn changed(path: &Path) -> Result<(i64, i64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).map_err(Error::io(path))?;
        Ok((metadata.ctime(), metadata.ctime_nsec()))
    }
    #[cfg(not(unix))]
    Ok((0, 0))
}

/// The folder of a checkpoint in the cache.
struct Entry {
    source: PathBuf,
    /// Hash of the converter's version and of the names, sizes and times of the sources.
    fingerprint: String,
    folder: PathBuf,
    file: PathBuf,
}

impl Entry {
    fn of(checkpoint: &Checkpoint, source: &Path, cache: &Cache) -> Result<Self> {
        let source = source.canonicalize().map_err(Error::io(source))?;
        let mut sources = Vec::new();
        for path in checkpoint.paths() {
            let whole = path.canonicalize().map_err(Error::io(path))?;
            sources.push((whole, Stamp::of(path)?, changed(path)?));
        }
        let fingerprint = hash(&format!("{} {source:?} {sources:?}", trilobite_convert::VERSION));
        let folder = cache.converted()?.join(place(&source));
        let file = folder.join(format!("{fingerprint}.gguf"));
        Ok(Entry { source, fingerprint, folder, file })
    }

    fn open(
        &self,
        checkpoint: &Checkpoint,
        listen: &mut ConversionListener<'_>,
    ) -> Result<Model, Fault> {
        match self.kept() {
            Ok(Some(model)) => return Ok(model),
            Ok(None) => {}
            Err(error) => drop(listen(Conversion::Damaged(&error))),
        }
        fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder)).map_err(Fault::Keep)?;
        let _lock = self.lock(listen)?;
        // Another process may have converted it in the meantime.
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
                error @ (ConvertError::Output { .. }
                | ConvertError::OutputPath { .. }
                | ConvertError::Write(_)
                | ConvertError::ReadBack { .. }
                | ConvertError::Verify { .. }),
            ) => return Err(Fault::Keep(error.into())),
            Err(error) => return Err(Fault::Convert(error.into())),
        }
        self.write_receipt().map_err(Fault::Keep)?;
        Model::open(&self.file).map_err(|error| Fault::Convert(error.into()))
    }

    /// The cached model, if it was made from these sources.
    fn kept(&self) -> Result<Option<Model>> {
        let Ok(receipt) = fs::read(self.folder.join(RECEIPT)) else { return Ok(None) };
        let receipt: Receipt = serde_json::from_slice(&receipt)
            .map_err(|source| Error::Json { name: RECEIPT.to_owned(), source })?;
        if receipt.fingerprint != self.fingerprint || !self.file.exists() {
            return Ok(None);
        }
        if receipt.file != Stamp::of(&self.file)? {
            return Err(Error::Changed(self.file.clone()));
        }
        Ok(Some(Model::open(&self.file)?))
    }

    fn write_receipt(&self) -> Result<()> {
        let receipt = Receipt {
            source: self.source.display().to_string(),
            fingerprint: self.fingerprint.clone(),
            file: Stamp::of(&self.file)?,
        };
        write_json(&self.folder.join(RECEIPT), &receipt)
    }

    /// Waits until no other process converts this checkpoint, and takes the lock.
    fn lock(&self, listen: &mut ConversionListener<'_>) -> Result<File, Fault> {
        let path = self.folder.join(LOCK);
        // Without file locks the work may be done twice. The last result is kept.
        loop {
            match open_locked(&path).map_err(Error::io(&path)).map_err(Fault::Keep)? {
                Some(file) => return Ok(file),
                None if listen(Conversion::Waiting).is_break() => {
                    return Err(Fault::Convert(ConvertError::Interrupted.into()));
                }
                None => std::thread::sleep(POLL_INTERVAL),
            }
        }
    }

    /// Removes results of other sources, and the leftovers of a process that was killed.
    fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder).map_err(Error::io(&self.folder))? {
            let path = entry.map_err(Error::io(&self.folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name == RECEIPT || name.ends_with(".gguf") || name.ends_with(".partial") {
                // A system that cannot remove open files removes them next time.
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}
