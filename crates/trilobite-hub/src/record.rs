//! The record of a stored model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::lock::remove_if_there;
use crate::{Error, Reference, Result};

/// The default branch of a repository.
pub(crate) const BRANCH: &str = "main";
/// The weights of a checkpoint that has them in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The index of the weights of a checkpoint that has them in several files.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The name of the record in a model's folder.
const NAME: &str = "pulled.json";

/// The record of a stored model, in the file `pulled.json` of its folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Repository on the hub.
    pub repository: String,
    /// The commit of all files, or the requested revision if the commit is unknown.
    pub revision: String,
    /// The requested branch, tag or commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The requested file, if a single one was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The server or folder from which the files were fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The time in UTC at which the last file arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Whether all files are stored.
    pub complete: bool,
    /// The files by their names in the repository.
    pub files: BTreeMap<String, Fetched>,
    /// Files that earlier pulls left in the folder, at this revision or another; none once the model
    /// is complete.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) former: BTreeSet<String>,
}

/// A stored file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fetched {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// The source of the expected hash: "pinned" in models.toml, the "server", or none.
    pub verified: Option<String>,
}

impl Fetched {
    /// What the hash was compared with, in words.
    pub fn compared(&self) -> &'static str {
        match self.verified.as_deref() {
            Some("pinned") => "as pinned",
            Some(_) => "as the server says",
            None => "compared with nothing",
        }
    }
}

impl Record {
    /// Reads the record in a model's folder.
    pub(crate) fn read(folder: &Path) -> Result<Option<Record>> {
        let path = folder.join(NAME);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Error::io(&path))?,
        };
        let record = serde_json::from_slice(&bytes);
        record.map(Some).map_err(|source| Error::Json { name: path.display().to_string(), source })
    }

    /// Removes the record.
    pub(crate) fn remove(folder: &Path) -> Result<()> {
        remove_if_there(&folder.join(NAME))
    }

    /// Writes the record atomically.
    #[cfg(feature = "download")]
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let name = folder.join(NAME);
        write_json(&name, self)
    }

    /// The repository and the requested file, without a revision.
    pub fn reference(&self) -> Reference {
        let (repository, file) = (self.repository.clone(), self.file.clone());
        Reference { repository, revision: None, file }
    }

    /// Whether a revision given by the user is this one.
    pub(crate) fn is_at(&self, revision: &str) -> bool {
        /// Minimum digits of a shortened commit hash.
        const SHORT: usize = 7;
        self.revision == revision
            || self.asked.as_deref().unwrap_or(BRANCH) == revision
            || revision.len() >= SHORT && self.revision.starts_with(&revision.to_ascii_lowercase())
    }

    /// The path to open: the checkpoint's folder, or the only or first file of the weights.
    pub(crate) fn model(&self, folder: &Path) -> PathBuf {
        let mut names = self.files.keys();
        if let Some(gguf) = names.clone().find(|name| name.ends_with(".gguf")) {
            return folder.join(gguf);
        }
        let is_checkpoint = [SINGLE, INDEX].iter().any(|name| self.files.contains_key(*name));
        let weights = names.find(|name| name.ends_with(".safetensors"));
        weights.filter(|_| !is_checkpoint).map_or(folder.to_owned(), |name| folder.join(name))
    }

    /// The format of the stored files, "gguf" or "safetensors".
    pub fn format(&self) -> Option<&'static str> {
        let has = |ending: &str| self.files.keys().any(|name| name.ends_with(ending));
        let formats = [(".gguf", "gguf"), (".safetensors", "safetensors")];
        formats.into_iter().find(|(ending, _)| has(ending)).map(|(_, format)| format)
    }
}

/// The time in UTC, to the second.
#[cfg(feature = "download")]
pub(crate) fn now() -> Option<String> {
    // A clock that is centuries off yields no date.
    let seconds = jiff::Timestamp::now().as_second();
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}

/// Writes a value as JSON atomically.
#[cfg(any(feature = "download", feature = "open"))]
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_string_pretty(value)
        .map_err(|source| Error::Json { name: path.display().to_string(), source })?;
    json.push('\n');
    let new = trilobite_convert::NewFile::create(path)?;
    std::io::Write::write_all(&mut new.file(), json.as_bytes()).map_err(Error::io(path))?;
    Ok(new.finish(true)?)
}
