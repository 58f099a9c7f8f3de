//! Models in the cache: lookup, listing and removal.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::copies::ConvertedCopy;
use crate::folder::{disk_bytes, folders, is_empty, remove_folder};
use crate::listed::Listed;
use crate::lock::ModelLock;
use crate::names::nearest;
use crate::record::Record;
use crate::reference::{Spelling, is_same};
use crate::{Cache, Error, Result};

/// Separates owner, repository and file in the name of a folder. The hub allows it in neither owner
/// nor repository.
pub(crate) const SEPARATOR: &str = "--";

/// A model in the cache, complete or not.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name in `models/models.toml`, or `OWNER/REPOSITORY[:FILE]`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its record; `None` before the first file is complete, or if the record is damaged.
    pub record: Option<Record>,
}

/// A removed model.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The name of the model.
    pub name: String,
    /// Size of all its files in bytes.
    pub bytes: u64,
}

impl Stored {
    /// All models in the cache, sorted by name.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn all(cache: &Cache) -> Result<Vec<Stored>> {
        let listed = Listed::all()?;
        let mut all = Vec::new();
        // Without a home folder nothing is stored.
        let Ok(models) = cache.models() else { return Ok(all) };
        for folder in folders(&models)? {
            let own = folder.file_name().unwrap_or_default().to_string_lossy();
            if own.starts_with('.') || is_empty(&folder)? {
                continue;
            }
            let record = Record::read(&folder).ok().flatten();
            let name = match (listed.iter().any(|model| model.name == own), &record) {
                (true, _) => own.into_owned(),
                (false, Some(record)) => record.reference().to_string(),
                (false, None) => own.replacen(SEPARATOR, "/", 1).replacen(SEPARATOR, ":", 1),
            };
            all.push(Stored { name, folder, record });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The model with a name: its own, its repository's or its file's, ignoring case and
    /// punctuation.
    ///
    /// # Errors
    /// The name is unknown or ambiguous, or the model is stored at another revision.
    pub fn find(cache: &Cache, name: &str) -> Result<Stored> {
        let spelling = Spelling::of(name).ok_or_else(|| Error::NotAName(name.to_owned()))?;
        if let Some(stored) = Self::search(cache, spelling)? {
            return stored.at(spelling.revision);
        }
        if let Some(listed) = Listed::all()?.into_iter().find(|l| l.is_called(spelling.name)) {
            return Err(Error::NotPulled { name: listed.name });
        }
        let all = Self::all(cache)?;
        let names = || all.iter().map(|stored| stored.name.as_str());
        let near = nearest(name, names().chain(all.iter().map(Stored::short)));
        let hint = match near {
            Some(near) => format!("did you mean {near}?"),
            None if all.is_empty() => "no model has".to_owned(),
            None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
        };
        Err(Error::NotStored { name: name.to_owned(), hint })
    }

    /// The model with a name at any revision, if there is one.
    pub(crate) fn search(cache: &Cache, spelling: Spelling<'_>) -> Result<Option<Stored>> {
        let mut best = None;
        let mut found = Vec::new();
        for stored in Self::all(cache)? {
            let Some(rank) = stored.rank(spelling) else { continue };
            if best.is_none_or(|best| rank < best) {
                best = Some(rank);
                found.clear();
            }
            if best == Some(rank) {
                found.push(stored);
            }
        }
        if found.len() > 1 {
            let candidates = found.into_iter().map(|stored| stored.name).collect();
            return Err(Error::Ambiguous { name: spelling.name.to_owned(), candidates });
        }
        Ok(found.pop())
    }

    /// How well a name matches, the best match lowest. `None` if it does not match.
    fn rank(&self, spelling: Spelling<'_>) -> Option<(bool, bool, bool)> {
        let (own, own_file) = cut_file(&self.name);
        let repository = self.record.as_ref().map_or(own, |record| &record.repository);
        let file = own_file.map(|file| file.rsplit('/').next().unwrap_or(file));
        if let Some(asked) = spelling.file {
            let files = self.record.iter().flat_map(|record| record.files.keys());
            if own_file != Some(asked) && !files.into_iter().any(|name| name == asked) {
                return None;
            }
        }
        let full = [own, repository];
        let short = [repository.rsplit('/').next().unwrap_or(repository)]
            .into_iter()
            .chain(file)
            .chain(file.and_then(|file| file.strip_suffix(".gguf")));
        let is_full = full.iter().any(|own| is_same(own, spelling.name));
        let is_short = short.clone().any(|own| is_same(own, spelling.name));
        let exact = full.into_iter().chain(short).any(|own| own == spelling.name);
        let other_file = own_file.is_some() && spelling.file.is_none();
        (is_full || is_short).then_some((!is_full, other_file, !exact))
    }

    /// The last part of the name.
    fn short(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// Returns this model if it is at a revision.
    fn at(self, revision: Option<&str>) -> Result<Stored> {
        match (revision, &self.record) {
            (Some(asked), Some(record)) if !record.is_at(asked) => Err(Error::OtherRevision {
                name: format!("{}@{asked}", self.name),
                asked: asked.to_owned(),
                found: record.revision.clone(),
            }),
            _ => Ok(self),
        }
    }

    /// Whether all files are stored.
    pub fn is_complete(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.complete)
    }

    /// The path to open: the checkpoint's folder or the model's file.
    pub fn model(&self) -> PathBuf {
        let record = self.record.as_ref();
        record.map_or_else(|| self.folder.clone(), |record| record.model(&self.folder))
    }

    /// Size of all its files in bytes.
    ///
    /// # Errors
    /// Its folder cannot be read.
    pub fn bytes(&self) -> Result<u64> {
        disk_bytes(&self.folder).map_err(Error::io(&self.folder))
    }

    /// The conversions of this model in the cache.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn copies(&self, cache: &Cache) -> Result<Vec<ConvertedCopy>> {
        let folder = self.folder.canonicalize().map_err(Error::io(&self.folder))?;
        let mut copies = ConvertedCopy::all(cache)?;
        copies.retain(|copy| {
            let source = copy.source.as_ref();
            source.is_some_and(|source| source.starts_with(&folder)) || copy.is_of(&folder)
        });
        Ok(copies)
    }
}

/// Splits `OWNER/REPOSITORY:FILE` at the colon.
fn cut_file(name: &str) -> (&str, Option<&str>) {
    name.split_once(':').map_or((name, None), |(name, file)| (name, Some(file)))
}

/// The path that a MODEL argument refers to: the argument itself, or that of a stored model.
///
/// # Errors
/// There is no such file and no such model.
pub fn resolve<'a>(cache: &Cache, argument: &'a Path) -> Result<Cow<'a, Path>> {
    if argument.try_exists().map_err(Error::io(argument))? {
        return Ok(Cow::Borrowed(argument));
    }
    let text = argument.to_string_lossy();
    let spelling = Spelling::of(&text);
    let listed = Listed::all()?;
    if let Some(spelling) = spelling {
        if let Some(stored) = Stored::search(cache, spelling)? {
            let stored = stored.at(spelling.revision)?;
            return match stored.is_complete() {
                true => Ok(Cow::Owned(stored.model())),
                false => Err(Error::NotPulled { name: stored.name }),
            };
        }
        if let Some(listed) = listed.iter().find(|listed| listed.is_called(spelling.name)) {
            return Err(Error::NotPulled { name: listed.name.clone() });
        }
    }
    let reference = spelling.and_then(Spelling::reference);
    let stored = Stored::all(cache)?;
    let stored = stored.iter().flat_map(|stored| [stored.name.as_str(), stored.short()]);
    // A full repository name may be valid without being in the list.
    let known = listed.iter().filter(|_| reference.is_none()).map(|listed| listed.name.as_str());
    let last = argument.file_name().unwrap_or_default().to_string_lossy();
    let meant = if reference.is_some() { &text } else { &last };
    let near = nearest(meant, stored.clone().chain(known)).map(str::to_owned);
    let pulled = near.as_ref().is_some_and(|near| stored.clone().any(|name| name == near));
    let repository = reference.map(|reference| reference.to_string());
    Err(Error::NoModel { repository, near, pulled })
}

impl Cache {
    /// Removes a model and its conversions, or the conversion of a checkpoint elsewhere by its name
    /// in [`ConvertedCopy`].
    ///
    /// # Errors
    /// The name is unknown or ambiguous, another process is pulling or converting the model, or a
    /// file cannot be removed.
    pub fn remove(&self, name: &str) -> Result<Removed> {
        let stored = match Stored::find(self, name) {
            Err(
                error @ (Error::NotStored { .. } | Error::NotPulled { .. } | Error::NotAName(_)),
            ) => {
                let mut copies = ConvertedCopy::all(self)?.into_iter();
                let copy = copies.find(|copy| copy.name == name).ok_or(error)?;
                return Ok(Removed { name: name.to_owned(), bytes: copy.remove()? });
            }
            found => found?,
        };
        let _lock = ModelLock::take(&stored.folder, &stored.name)?;
        let copies = stored.copies(self)?;
        let locks: Vec<_> = copies.iter().map(ConvertedCopy::lock).collect::<Result<_>>()?;
        let mut bytes = 0;
        for copy in &copies {
            bytes += remove_folder(&copy.folder)?;
        }
        drop(locks);
        // The record goes first, so that a model that is removed partly does not count as complete.
        // A link leads out of the cache.
        if !stored.folder.is_symlink() {
            Record::remove(&stored.folder)?;
        }
        bytes += remove_folder(&stored.folder)?;
        Ok(Removed { name: stored.name, bytes })
    }
}
