//! Converted checkpoints in the cache: listing and removal.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::folder::{disk_bytes, folders, remove_folder};
use crate::lock::open_locked;
use crate::{Cache, Error, Result};

/// The name of the records of comparisons of layouts in a checkpoint's folder.
#[cfg(feature = "open")]
pub(crate) const TUNED: &str = "tuned.json";
/// The name of the lock in a checkpoint's folder.
pub(crate) const LOCK: &str = "lock";

/// The part of a receipt and of a record that names the checkpoint.
#[derive(Deserialize)]
struct Origin {
    source: PathBuf,
}

/// The checkpoint of a folder, from its receipts and records. Without any of them nothing was finished.
pub(crate) fn origin(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.find_map(|entry| {
        let path = entry.ok()?.path();
        let json = path.extension().filter(|extension| *extension == "json");
        let json = fs::read(json.map(|_| &path)?).ok()?;
        let records = || serde_json::from_slice::<Vec<Origin>>(&json).ok()?.pop();
        let receipt = serde_json::from_slice::<Origin>(&json).ok();
        Some(receipt.or_else(records)?.source)
    })
}

/// The name of the folder for the checkpoint at a path.
pub(crate) fn place(source: &Path) -> String {
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c), "_");
    format!("{name:.64}-{}", hash(&format!("{source:?}")))
}

/// The first 16 digits of a SHA-256.
pub(crate) fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A converted checkpoint in the cache.
#[derive(Clone, Debug)]
pub struct ConvertedCopy {
    /// The name of the checkpoint, followed by a hash.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The path of the checkpoint, if it is known.
    pub source: Option<PathBuf>,
    /// Whether there is a converted file, or only the record of the fastest layout.
    pub has_file: bool,
    /// Size of all its files in bytes.
    pub bytes: u64,
}

impl ConvertedCopy {
    /// All converted checkpoints.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn all(cache: &Cache) -> Result<Vec<ConvertedCopy>> {
        let mut copies = Vec::new();
        // Without a home folder nothing is stored.
        let Ok(converted) = cache.converted() else { return Ok(copies) };
        for folder in folders(&converted)? {
            let source = origin(&folder);
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let files = fs::read_dir(&folder).map_err(Error::io(&folder))?;
            let has_file = files
                .flatten()
                .any(|file| file.path().extension().is_some_and(|extension| extension == "gguf"));
            let bytes = disk_bytes(&folder).map_err(Error::io(&folder))?;
            copies.push(ConvertedCopy { name, folder, source, has_file, bytes });
        }
        copies.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(copies)
    }

    /// Whether this was converted from the checkpoint at a path.
    pub(crate) fn is_of(&self, checkpoint: &Path) -> bool {
        self.name == place(checkpoint)
    }

    /// Prevents other processes from converting the checkpoint.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.folder.join(LOCK);
        let lock = open_locked(&path).map_err(Error::io(&path))?;
        lock.ok_or_else(|| Error::Busy { name: self.name.clone(), doing: "converting" })
    }

    /// Removes the folder and returns its size in bytes.
    pub(crate) fn remove(&self) -> Result<u64> {
        let _lock = self.lock()?;
        remove_folder(&self.folder)
    }
}
