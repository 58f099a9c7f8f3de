//! The comparison of the layouts of a model: the files to measure, and the record of the result.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use trilobite_convert::{
    Checkpoint, Layout, Layouts, Progress, convert_file, is_converted, layouts,
};

use crate::converted::{ConversionListener, Entry, MIN_CACHED_BYTES, TRIALS};
use crate::copies::TUNED;
use crate::tuned::{Tuned, options};
use crate::{Cache, Error, Result, resolve};

/// A model whose layouts are compared. No other process converts the model in the meantime.
///
/// Dropping it removes its files.
pub struct Tuning {
    checkpoint: Checkpoint,
    layouts: Layouts,
    entry: Entry,
    _lock: File,
}

impl Tuning {
    /// Opens a checkpoint, a GGUF file or a stored model by name.
    ///
    /// # Errors
    /// The model does not exist, is damaged or is not supported, has no choice of layouts, or the
    /// cache cannot be written. The listener may end the wait for another process.
    pub fn start(
        cache: &Cache,
        model: &Path,
        listen: &mut ConversionListener<'_>,
    ) -> Result<Tuning> {
        let path = resolve(cache, model)?;
        let checkpoint = Checkpoint::open(&path)?;
        let layouts = layouts(&checkpoint)?.ok_or(Error::NotTernary)?;
        if let [only] = layouts.possible[..] {
            return Err(Error::OneLayout(only));
        }
        let entry = Entry::of(&checkpoint, &path, cache)?;
        let lock = entry.lock(listen)?;
        let tuning = Tuning { checkpoint, layouts, entry, _lock: lock };
        tuning.entry.clear_trials();
        let trials = tuning.entry.folder.join(TRIALS);
        fs::create_dir(&trials).map_err(Error::io(&trials))?;
        Ok(tuning)
    }

    /// The layouts to compare.
    pub fn layouts(&self) -> &Layouts {
        &self.layouts
    }

    /// The path of the record.
    pub fn record(&self) -> PathBuf {
        self.entry.folder.join(TUNED)
    }

    fn trial(&self, layout: Layout) -> PathBuf {
        self.entry.folder.join(TRIALS).join(format!("{layout}.gguf"))
    }

    /// Converts the model to a layout and returns the path of the file.
    ///
    /// # Errors
    /// The model is damaged, the file cannot be written, or the listener stops the conversion.
    pub fn convert(
        &self,
        layout: Layout,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<PathBuf> {
        let Layouts { auto, head_scan, .. } = self.layouts;
        let (options, file) = (options(layout, auto, head_scan), self.trial(layout));
        convert_file(&self.checkpoint, &options, &file, true, progress)?;
        Ok(file)
    }

    /// Records the result, and keeps the file of its layout as the cached conversion of the model.
    /// Returns the path of that file; `None` if a conversion of the model would not be cached.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn finish(mut self, tuned: &Tuned) -> Result<Option<PathBuf>> {
        tuned.write(&self.entry)?;
        // Machines without a record convert the model again if they open it.
        let in_use: Vec<_> = Tuned::all(&self.entry).map(|tuned| tuned.options()).collect();
        self.entry.keep_only(&in_use)?;
        let options = tuned.options();
        let small = self.checkpoint.bytes() < MIN_CACHED_BYTES;
        if small || is_converted(&self.checkpoint, &options)? {
            return Ok(None);
        }
        self.entry.options = options;
        let file = self.entry.file();
        if !matches!(self.entry.kept(), Ok(Some(_))) {
            fs::rename(self.trial(tuned.layout), &file).map_err(Error::io(&file))?;
            self.entry.write_receipt()?;
        }
        Ok(Some(file))
    }
}

impl Drop for Tuning {
    fn drop(&mut self) {
        self.entry.clear_trials();
        self.entry.remove_if_empty();
    }
}
