//! A cache of converted checkpoints and GGUF files, so that each is converted once.
//!
//! A source has a folder below `converted` in the cache. It contains a lock for the process that
//! converts, and for each set of options in use a converted file with a receipt, which describes the
//! sources. A file is used as long as the sources, the options and the converter match its receipt and
//! the file itself is unchanged.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use trilobite_convert::{
    Checkpoint, Error as ConvertError, Options, Progress, convert_file, is_converted,
};
use trilobite_runtime::Model;

use crate::copies::{LOCK, TUNED, hash, origin, place};
use crate::lock::open_locked;
use crate::record::write_json;
use crate::{Cache, Error, Result};

/// Time between two attempts to take a lock that another process holds.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Minimum size in bytes of a checkpoint whose conversion is cached. Smaller ones take at most a
/// fifth of a second to convert.
pub(crate) const MIN_CACHED_BYTES: u64 = 16 << 20;
/// The name of the folder of the files that are compared, in a checkpoint's folder.
pub(crate) const TRIALS: &str = "tuning";

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

/// Opens the converted model of a checkpoint, which is converted or taken from its folder in the
/// cache. Returns `None` if it cannot be cached. `choose` gives the options again after a wait for
/// another process, which may have changed the choice.
///
/// # Errors
/// The checkpoint cannot be converted, or the listener stops the conversion.
pub(crate) fn open(
    entry: Result<Entry>,
    checkpoint: &Checkpoint,
    choose: &dyn Fn(&Entry) -> Options,
    listen: &mut ConversionListener<'_>,
) -> Result<Option<Model>> {
    match entry.map_err(Fault::Keep).and_then(|entry| entry.open(checkpoint, choose, listen)) {
        Ok(model) => Ok(Some(model)),
        Err(Fault::Convert(error)) => Err(error),
        Err(Fault::Keep(error)) => {
            let _ = listen(Conversion::NotKept(&error));
            Ok(None)
        }
    }
}

pub(crate) enum Fault {
    /// The error of the checkpoint.
    Convert(Error),
    /// The error of the cache.
    Keep(Error),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        let (Fault::Convert(error) | Fault::Keep(error)) = fault;
        error
    }
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

/// The sources of a converted file, and the state of the file after it was written.
#[derive(Serialize, Deserialize)]
struct Receipt {
    /// The path of the checkpoint, for people.
    source: String,
    /// Hash of the sources and the converter.
    sources: String,
    file: Stamp,
}

/// The folder of a checkpoint in the cache, and the options of its conversion.
pub(crate) struct Entry {
    pub(crate) source: PathBuf,
    /// Hash of the converter's version and of the names, sizes and times of the sources.
    pub(crate) sources: String,
    pub(crate) options: Options,
    pub(crate) folder: PathBuf,
}

impl Entry {
    pub(crate) fn of(checkpoint: &Checkpoint, source: &Path, cache: &Cache) -> Result<Self> {
        let source = source.canonicalize().map_err(Error::io(source))?;
        let mut sources = Vec::new();
        for path in checkpoint.paths() {
            let whole = path.canonicalize().map_err(Error::io(path))?;
            sources.push((whole, Stamp::of(path)?, changed(path)?));
        }
        let sources = hash(&format!("{} {source:?} {sources:?}", trilobite_convert::VERSION));
        let folder = cache.converted()?.join(place(&source));
        Ok(Entry { source, sources, options: Options::default(), folder })
    }

    /// The path of the converted file.
    pub(crate) fn file(&self) -> PathBuf {
        self.file_of(&self.options)
    }

    /// The path of a file with other options. Its name is a hash of everything that decides the contents.
    fn file_of(&self, options: &Options) -> PathBuf {
        self.folder.join(format!("{}.gguf", hash(&format!("{} {options:?}", self.sources))))
    }

    /// The path of the file's receipt.
    fn receipt(&self) -> PathBuf {
        self.file().with_extension("json")
    }

    fn open(
        mut self,
        checkpoint: &Checkpoint,
        choose: &dyn Fn(&Entry) -> Options,
        listen: &mut ConversionListener<'_>,
    ) -> Result<Model, Fault> {
        match self.kept() {
            Ok(Some(model)) => {
                // The files of a comparison that was killed.
                if self.folder.join(TRIALS).exists()
                    && let Ok(Some(_lock)) = self.try_lock()
                {
                    self.clear_trials();
                }
                return Ok(model);
            }
            Ok(None) => {}
            Err(error) => drop(listen(Conversion::Damaged(&error))),
        }
        let _lock = self.lock(listen)?;
        let opened = self.open_locked(checkpoint, choose, listen);
        // Nothing may have been converted.
        self.remove_if_empty();
        opened
    }

    /// Opens the converted model while this process holds the lock.
    fn open_locked(
        &mut self,
        checkpoint: &Checkpoint,
        choose: &dyn Fn(&Entry) -> Options,
        listen: &mut ConversionListener<'_>,
    ) -> Result<Model, Fault> {
        // Another process may have converted it in the meantime, or measured which options are best.
        self.options = choose(self);
        if let Ok(Some(model)) = self.kept() {
            return Ok(model);
        }
        let convert = |error: ConvertError| Fault::Convert(error.into());
        if is_converted(checkpoint, &self.options).map_err(convert)? {
            return Model::open(&self.source).map_err(|error| Fault::Convert(error.into()));
        }
        self.clear().map_err(Fault::Keep)?;
        self.clear_trials();
        let file = &self.file();
        let _ = listen(Conversion::Begun(file));
        let mut progress = |progress: Progress<'_>| listen(Conversion::Progress(progress));
        let done = convert_file(checkpoint, &self.options, file, true, &mut progress);
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
        Model::open(file).map_err(|error| Fault::Convert(error.into()))
    }

    /// The cached model, if it was made from these sources with these options.
    pub(crate) fn kept(&self) -> Result<Option<Model>> {
        let (file, path) = (self.file(), self.receipt());
        let Ok(receipt) = fs::read(&path) else { return Ok(None) };
        let receipt: Receipt = serde_json::from_slice(&receipt)
            .map_err(|source| Error::Json { name: path.display().to_string(), source })?;
        if receipt.sources != self.sources || !file.exists() {
            return Ok(None);
        }
        if receipt.file != Stamp::of(&file)? {
            return Err(Error::Changed(file));
        }
        Ok(Some(Model::open(&file)?))
    }

    pub(crate) fn write_receipt(&self) -> Result<()> {
        let receipt = Receipt {
            source: self.source.display().to_string(),
            sources: self.sources.clone(),
            file: Stamp::of(&self.file())?,
        };
        write_json(&self.receipt(), &receipt)
    }

    /// Creates the folder, waits until no other process converts this checkpoint, and takes the
    /// lock.
    pub(crate) fn lock(&self, listen: &mut ConversionListener<'_>) -> Result<File, Fault> {
        // Without file locks the work may be done twice. The last result is kept.
        loop {
            fs::create_dir_all(&self.folder)
                .map_err(Error::io(&self.folder))
                .map_err(Fault::Keep)?;
            if let Some(lock) = self.try_lock().map_err(Fault::Keep)? {
                return Ok(lock);
            }
            if listen(Conversion::Waiting).is_break() {
                return Err(Fault::Convert(ConvertError::Interrupted.into()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Takes the lock unless another process has it, or removes it together with the folder.
    fn try_lock(&self) -> Result<Option<File>> {
        let path = self.folder.join(LOCK);
        match open_locked(&path) {
            Ok(lock) => Ok(lock.filter(|_| path.exists())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Removes the folder if it has nothing but the lock, which this process holds.
    pub(crate) fn remove_if_empty(&self) {
        if origin(&self.folder).is_none() {
            // A folder in which another process has made a new lock stays.
            let _ = fs::remove_file(self.folder.join(LOCK));
            let _ = fs::remove_dir(&self.folder);
        }
    }

    /// Removes the files of a comparison of layouts, also those of a process that was killed.
    pub(crate) fn clear_trials(&self) {
        // What cannot be removed only takes up space.
        let _ = fs::remove_dir_all(self.folder.join(TRIALS));
    }

    /// Removes results of other sources and converters, and the leftovers of a process that was killed.
    fn clear(&self) -> Result<()> {
        self.keep(|path| {
            let json = fs::read(path.with_extension("json")).ok();
            let receipt = json.and_then(|json| serde_json::from_slice::<Receipt>(&json).ok());
            receipt.is_some_and(|receipt| receipt.sources == self.sources)
        })
    }

    /// Removes all results but those with these options.
    pub(crate) fn keep_only(&self, options: &[Options]) -> Result<()> {
        let files: Vec<_> = options.iter().map(|options| self.file_of(options)).collect();
        self.keep(|path| files.contains(&path.with_extension("gguf")))
    }

    /// Removes converted files and receipts that are not wanted.
    fn keep(&self, wanted: impl Fn(&Path) -> bool) -> Result<()> {
        for entry in fs::read_dir(&self.folder).map_err(Error::io(&self.folder))? {
            let path = entry.map_err(Error::io(&self.folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let converted = name.ends_with(".gguf") || name.ends_with(".json") && name != TUNED;
            if name.ends_with(".partial") || converted && !wanted(&path) {
                // A system that cannot remove open files removes them next time.
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use trilobite_convert::{Layout, ignore_progress};

    use super::*;

    #[test]
    fn a_file_in_the_layout_that_another_process_has_chosen_is_opened_itself() {
        let home = tempfile::tempdir().unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden");
        let golden = Checkpoint::open(golden.join("bitnet_gguf")).unwrap();
        let path = home.path().join("m.gguf");
        convert_file(&golden, &Options::default(), &path, false, &mut ignore_progress).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let mut entry = Entry::of(&checkpoint, &path, &Cache::at(home.path())).unwrap();
        entry.options.layout = Layout::T5_3;
        let file = entry.file();
        let chosen = |_: &Entry| Options::default();
        let opened = open(Ok(entry), &checkpoint, &chosen, &mut |_| ControlFlow::Continue(()));
        assert!(opened.unwrap().is_some());
        assert!(!file.exists());
        assert!(!file.parent().unwrap().exists(), "no empty folder is left");
    }
}
