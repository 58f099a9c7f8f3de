//! Keys and values in a folder, which outlive the server.
//!
//! A file holds a page: 32 tokens. Its name is the key of the text up to its end, so prompts with a
//! common prefix share files, and models can share a folder. A thread writes them, and removes the
//! least recently used ones when the folder holds too much.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use trilobite_runtime::{Error, Forward, PAGE, Sequence, TextKey};

use crate::error::{Error as Failure, Result};
use crate::metrics::ModelMetrics;

/// The suffix of file names.
const SUFFIX: &str = ".kv";
/// Sequences that wait to be written. Their pages stay in memory.
const WAITING: usize = 2;
/// Maximum number of pages to read between two steps, so that other answers do not wait long.
const PAGES: usize = 16;
/// Minimum age of an unfinished file that counts as abandoned.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A folder for keys and values that outlive the server.
#[derive(Clone, Debug)]
pub struct PromptFolder {
    /// Its path. It is created if it does not exist.
    pub path: PathBuf,
    /// Maximum bytes of its files.
    pub bytes: u64,
}

impl PromptFolder {
    /// Opens the folder for a model.
    ///
    /// # Errors
    /// Nothing can be written there, or the writing thread cannot be started.
    pub(super) fn open(&self, forward: &Forward, metrics: ModelMetrics) -> Result<DiskCache> {
        let failed = |source| Failure::PromptFolder { path: self.path.clone(), source };
        std::fs::create_dir_all(&self.path).map_err(failed)?;
        tempfile::tempfile_in(&self.path).map_err(failed)?;
        let disk = DiskCache::new(self.path.clone(), self.bytes, forward, metrics);
        disk.map_err(Failure::Thread)
    }
}

/// A folder of pages, for one model.
pub(super) struct DiskCache {
    folder: PathBuf,
    /// The key of an empty text.
    key: TextKey,
    sender: Option<SyncSender<Sequence>>,
    writer: Option<JoinHandle<()>>,
    metrics: ModelMetrics,
}

impl DiskCache {
    /// Creates the cache of a model in a folder that takes at most `most` bytes, and starts its
    /// thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn new(
        folder: PathBuf,
        most: u64,
        forward: &Forward,
        metrics: ModelMetrics,
    ) -> std::io::Result<Self> {
        let key = TextKey::new(forward);
        let (sender, sequences) = sync_channel(WAITING);
        let writer = PageWriter { folder: folder.clone(), key, most };
        let thread = std::thread::Builder::new().name("prompt cache".to_owned());
        let writer = thread.spawn(move || writer.work(&sequences))?;
        Ok(Self { folder, key, sender: Some(sender), writer: Some(writer), metrics })
    }

    /// Writes the whole pages of a sequence soon, unless too many others wait.
    pub(super) fn store(&self, sequence: &Sequence) {
        if sequence.len() >= PAGE
            && let Some(sender) = &self.sender
        {
            let _ = sender.try_send(sequence.fork());
        }
    }

    /// Extends a sequence by pages of `tokens` that are in the folder: by at most `room`, and not too
    /// many at a time. Damaged files are removed.
    pub(super) fn extend(&self, sequence: &mut Sequence, tokens: &[u32], room: usize) {
        let first = sequence.len() / PAGE;
        let mut key = self.key;
        for (index, page) in tokens.chunks_exact(PAGE).enumerate() {
            let next = key.then(page);
            if index >= first {
                let path = path(&self.folder, next);
                if index - first >= room.min(PAGES) || !path.exists() {
                    return;
                }
                match sequence.load_page(&path, key, index, page) {
                    Ok(()) => touch(&path),
                    Err(Error::CacheFile { .. }) => {
                        self.metrics.damaged_pages.inc();
                        let _ = std::fs::remove_file(&path);
                        return;
                    }
                    // Another process may have removed it, or memory is short.
                    Err(_) => return,
                }
                self.metrics.loaded_pages.inc();
            }
            key = next;
        }
    }
}

impl Drop for DiskCache {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(writer) = self.writer.take() {
            // The panic hook has reported a panic of the thread.
            let _ = writer.join();
        }
    }
}

/// The state of the writing thread.
struct PageWriter {
    folder: PathBuf,
    key: TextKey,
    most: u64,
}

impl PageWriter {
    fn work(&self, sequences: &Receiver<Sequence>) {
        self.make_room();
        while let Ok(sequence) = sequences.recv() {
            let mut key = self.key;
            for (index, page) in sequence.tokens().chunks_exact(PAGE).enumerate() {
                let next = key.then(page);
                let path = path(&self.folder, next);
                if path.exists() {
                    // A text is as recently used as its longest continuation.
                    touch(&path);
                } else if sequence.save_page(&path, key, index).is_err() {
                    // A full disk is not an error: the pages are computed again when needed.
                    break;
                }
                key = next;
            }
            drop(sequence);
            self.make_room();
        }
    }

    /// Removes the least recently used files until the others fit.
    fn make_room(&self) {
        let mut files = files(&self.folder);
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        files.sort_unstable();
        for (_, size, path) in files {
            if total <= self.most {
                return;
            }
            if std::fs::remove_file(path).is_ok() {
                total -= size;
            }
        }
    }
}

/// The path of a page.
fn path(folder: &Path, key: TextKey) -> PathBuf {
    folder.join(key.name() + SUFFIX)
}

/// Marks a file as used now.
fn touch(path: &Path) {
    // If it fails, the file is removed a little earlier than others.
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// The pages in a folder: when they were used last, their sizes and their paths. Removes unfinished
/// files that were left behind.
fn files(folder: &Path) -> Vec<(SystemTime, u64, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let of = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let (name, used) = (entry.file_name(), metadata.modified().ok()?);
        let name = name.to_str()?;
        if name.starts_with(".tmp") && used.elapsed().is_ok_and(|age| age > ABANDONED) {
            let _ = std::fs::remove_file(entry.path());
        }
        name.ends_with(SUFFIX).then(|| (used, metadata.len(), entry.path()))
    };
    entries.filter_map(|entry| of(entry.ok()?)).collect()
}

#[cfg(test)]
mod tests;
