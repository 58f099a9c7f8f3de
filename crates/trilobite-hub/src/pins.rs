//! A lock file: the commits and hashes that models are pinned to.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use trilobite_convert::NewFile;

use crate::download::is_hex;
use crate::listed::Listed;
use crate::record::Record;
use crate::{Error, Result};

/// The comment above the entries.
const HEADING: &str = "\
# Commits and files of the models that have been fetched. The first `trilobite pull --lock` of a model
# adds it, and every later one must get the same bytes.
";

/// The contents of a lock file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lockfile {
    #[serde(default)]
    model: Vec<Pin>,
}

/// The pin of a model: its commit and files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    name: String,
    repository: String,
    /// `None` if the model has come only from mirrors, which do not know the commit.
    pub(crate) commit: Option<String>,
    pub(crate) files: BTreeMap<String, PinnedFile>,
}

/// The pin of a file: its size and hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinnedFile {
    pub(crate) sha256: String,
    bytes: u64,
}

impl Lockfile {
    fn read(path: &Path) -> Result<Lockfile> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Lockfile::default()),
            read => read.map_err(Error::io(path))?,
        };
        toml::from_str(&text)
            .map_err(|source| Error::Lockfile { path: path.to_owned(), source: Box::new(source) })
    }

    fn write(&self, path: &Path) -> Result<()> {
        let text =
            toml::to_string(self).map_err(|error| Error::io(path)(std::io::Error::other(error)))?;
        let new = NewFile::create(path)?;
        write!(new.file(), "{HEADING}\n{text}").map_err(Error::io(path))?;
        Ok(new.finish(true)?)
    }
}

impl Pin {
    /// The pin of a model, if the lock file has one.
    pub(crate) fn find(path: &Path, name: &str) -> Result<Option<Pin>> {
        let mut pins = Lockfile::read(path)?.model.into_iter();
        Ok(pins.find(|pin| pin.name == name))
    }

    /// The pin of a model as it was pulled.
    fn of(name: &str, record: &Record) -> Pin {
        let files = record.files.iter().map(|(file, fetched)| {
            let sha256 = fetched.sha256.clone();
            (file.clone(), PinnedFile { sha256, bytes: fetched.bytes })
        });
        Pin {
            name: name.to_owned(),
            repository: record.repository.clone(),
            commit: commit(record).map(str::to_owned),
            files: files.collect(),
        }
    }

    /// Adds a model to the lock file. It has no pin there, or agrees with it.
    pub(crate) fn keep(path: &Path, name: &str, record: &Record) -> Result<()> {
        let mut lock = Lockfile::read(path)?;
        let new = Pin::of(name, record);
        match lock.model.iter_mut().find(|pin| pin.name == name) {
            Some(pin) if *pin == new => return Ok(()),
            Some(pin) => *pin = new,
            None => lock.model.push(new),
        }
        lock.model.sort_by(|a, b| a.name.cmp(&b.name));
        lock.write(path)
    }

    /// Compares the pin with the known properties of a model before it is fetched.
    pub(crate) fn agrees_with_list(
        &self,
        path: &Path,
        repository: &str,
        listed: Option<&Listed>,
    ) -> Result<()> {
        self.same(path, "the repository", &self.repository, repository)?;
        let Some(listed) = listed else { return Ok(()) };
        if let (Some(pinned), Some(revision)) = (&self.commit, &listed.revision) {
            self.same(path, "the commit", pinned, revision)?;
        }
        for (file, sha256) in &listed.sha256 {
            if let Some(pinned) = self.files.get(file) {
                self.same(path, &format!("the SHA-256 of {file}"), &pinned.sha256, sha256)?;
            }
        }
        Ok(())
    }

    /// Compares the pin with the files received so far.
    pub(crate) fn agrees(&self, path: &Path, record: &Record) -> Result<()> {
        if let (Some(pinned), Some(commit)) = (&self.commit, commit(record)) {
            self.same(path, "the commit", pinned, commit)?;
        }
        for (file, fetched) in &record.files {
            let Some(pinned) = self.files.get(file) else { continue };
            let what = |of: &str| format!("the {of} of {file}");
            self.same(path, &what("SHA-256"), &pinned.sha256, &fetched.sha256)?;
            let (pinned, bytes) = (pinned.bytes.to_string(), fetched.bytes.to_string());
            self.same(path, &what("size"), &pinned, &bytes)?;
        }
        Ok(())
    }

    fn same(&self, path: &Path, what: &str, pinned: &str, found: &str) -> Result<()> {
        if pinned.eq_ignore_ascii_case(found) {
            return Ok(());
        }
        Err(Error::OtherThanLocked {
            path: path.to_owned(),
            what: what.to_owned(),
            locked: pinned.to_owned(),
            found: found.to_owned(),
        })
    }
}

/// The commit of a pulled model, if known.
fn commit(record: &Record) -> Option<&str> {
    Some(record.revision.as_str()).filter(|revision| is_hex(revision, 40))
}
