//! Converted checkpoints in the cache: where they are, what they were made from, and how they go.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::lock::open_locked;
use crate::stored::{disk_bytes, folders, remove_folder};
use crate::{Cache, Error, Result};

/// Name of the receipt in a checkpoint's folder.
pub(crate) const RECEIPT: &str = "converted.json";
/// Name of the lock there.
pub(crate) const LOCK: &str = "lock";

/// Size and times of a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
}

/// What a converted file was made from, and what it was then.
#[derive(Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// For people who look into the cache.
    pub(crate) source: String,
    pub(crate) fingerprint: String,
    pub(crate) file: Stamp,
}

/// The folder's name of the checkpoint at a path.
pub(crate) fn place(source: &Path) -> String {
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c), "_");
    format!("{name:.64}-{}", hash(&format!("{source:?}")))
}

/// 16 digits of a SHA-256.
pub(crate) fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A converted checkpoint in the cache.
#[derive(Clone, Debug)]
pub struct ConvertedCopy {
    /// Its name: the checkpoint's and a number.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The checkpoint, as far as it is known.
    pub source: Option<PathBuf>,
    /// Bytes of all its files.
    pub bytes: u64,
}

impl ConvertedCopy {
    /// All of them.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn all(cache: &Cache) -> Result<Vec<ConvertedCopy>> {
        let mut copies = Vec::new();
        // Without a home folder nothing can be stored.
        let Ok(converted) = cache.converted() else { return Ok(copies) };
        for folder in folders(&converted)? {
            let receipt = fs::read(folder.join(RECEIPT)).ok();
            // Without one that can be read, the conversion was broken off.
            let receipt = receipt.and_then(|json| serde_json::from_slice::<Receipt>(&json).ok());
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let source = receipt.map(|receipt| receipt.source.into());
            let bytes = disk_bytes(&folder).map_err(Error::io(&folder))?;
            copies.push(ConvertedCopy { name, folder, source, bytes });
        }
        copies.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(copies)
    }

    /// Whether its place is that of a checkpoint's folder.
    pub(crate) fn is_of(&self, checkpoint: &Path) -> bool {
        self.name == place(checkpoint)
    }

    /// Keeps other processes from converting the checkpoint.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.folder.join(LOCK);
        let lock = open_locked(&path).map_err(Error::io(&path))?;
        lock.ok_or_else(|| Error::Busy { name: self.name.clone(), doing: "converting" })
    }

    /// Removes it and says how much was there.
    pub(crate) fn remove(&self) -> Result<u64> {
        let _lock = self.lock()?;
        remove_folder(&self.folder)
    }
}
