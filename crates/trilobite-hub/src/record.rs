//! What is known of a stored model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Reference, Result};

/// The branch that is taken of a repository unless another revision is asked for.
pub(crate) const BRANCH: &str = "main";
/// The weights of a checkpoint in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The list of the files that hold the weights of a checkpoint in several.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// Name of the record in a model's folder.
const NAME: &str = "pulled.json";

/// What was fetched of a model: the file `pulled.json` in its folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Repository on the hub.
    pub repository: String,
    /// The commit that all files are from, or the name that was asked for where it is not known.
    pub revision: String,
    /// The branch, tag or commit that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The only file that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The server or folder that the files came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// When the last file came, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Whether nothing is missing.
    pub complete: bool,
    /// The files by their names in the repository.
    pub files: BTreeMap<String, Fetched>,
}

/// A file that was fetched.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fetched {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// What the hash was compared with: "pinned" in models.toml, what the "server" said, or nothing.
    pub verified: Option<String>,
}

impl Record {
    /// The record in a model's folder.
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
        let path = folder.join(NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(Error::io(&path)),
        }
    }

    /// Writes the record, whole or not at all.
    #[cfg(feature = "download")]
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let name = folder.join(NAME);
        write_json(&name, self)
    }

    /// The repository, or the file of it, without a revision.
    pub fn reference(&self) -> Reference {
        let (repository, file) = (self.repository.clone(), self.file.clone());
        Reference { repository, revision: None, file }
    }

    /// Whether a revision that a user names is this one.
    pub(crate) fn is_at(&self, revision: &str) -> bool {
        /// Digits of a shortened commit.
        const SHORT: usize = 7;
        self.revision == revision
            || self.asked.as_deref().unwrap_or(BRANCH) == revision
            || revision.len() >= SHORT && self.revision.starts_with(&revision.to_ascii_lowercase())
    }

    /// What to open: the checkpoint's folder, or the only or first file with the weights.
    pub fn model(&self, folder: &Path) -> PathBuf {
        let mut names = self.files.keys();
        if let Some(gguf) = names.clone().find(|name| name.ends_with(".gguf")) {
            return folder.join(gguf);
        }
        let is_checkpoint = [SINGLE, INDEX].iter().any(|name| self.files.contains_key(*name));
        let weights = names.find(|name| name.ends_with(".safetensors"));
        weights.filter(|_| !is_checkpoint).map_or(folder.to_owned(), |name| folder.join(name))
    }

    /// "gguf" or "safetensors", by the files that are there.
    pub fn format(&self) -> Option<&'static str> {
        let has = |ending: &str| self.files.keys().any(|name| name.ends_with(ending));
        let formats = [(".gguf", "gguf"), (".safetensors", "safetensors")];
        formats.into_iter().find(|(ending, _)| has(ending)).map(|(_, format)| format)
    }
}

/// The time in UTC, to the second.
#[cfg(feature = "download")]
pub(crate) fn now() -> Option<String> {
    // A clock that is centuries off gives no date.
    let seconds = jiff::Timestamp::now().as_second();
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}

/// Writes a value as JSON, whole or not at all.
#[cfg(any(feature = "download", feature = "open"))]
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_string_pretty(value)
        .map_err(|source| Error::Json { name: path.display().to_string(), source })?;
    json.push('\n');
    let new = trilobite_convert::NewFile::create(path)?;
    std::io::Write::write_all(&mut new.file(), json.as_bytes()).map_err(Error::io(path))?;
    Ok(new.finish(true)?)
}
