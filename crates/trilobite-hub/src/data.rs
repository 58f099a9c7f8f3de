//! Downloads of data sets: files of GitHub repositories at pinned commits, with pinned hashes.

use std::path::Path;

use crate::download::{self, FileSpec, TransferEvent};
use crate::event::{Event, Listener};
use crate::source::{Source, encode};
use crate::{Cache, Error, Result};

/// Suffixes of compressed files. A file may be stored compressed or not.
const PACKED: [&str; 3] = ["", ".gz", ".bz2"];

/// A data file and its source.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// Its path in the data folder, compressed as in the source.
    pub file: String,
    /// The GitHub repository.
    pub repository: String,
    /// The commit.
    pub revision: String,
    /// The path in the repository.
    pub path: String,
    /// SHA-256 of the file as published or after unpacking.
    pub sha256: Option<String>,
    /// Whether the file was derived from the one at `path`, so that it cannot be fetched.
    pub rebuilt: bool,
    /// The task or data set that it belongs to.
    pub title: String,
}

/// Fetches the data files that are missing.
///
/// # Errors
/// The source does not have a file, or has another version of it. Files that are published in
/// another form only are reported after all others have been fetched.
pub fn pull_data(
    cache: &Cache,
    source: &Source,
    files: &[DataFile],
    listen: &mut Listener<'_>,
) -> Result<()> {
    let folder = cache.data()?;
    let mut missing = Vec::new();
    for data in files {
        let base = data.file.trim_end_matches(".gz").trim_end_matches(".bz2");
        let form_in = |folder: &Path| {
            let mut forms = PACKED.iter().map(|ending| format!("{base}{ending}"));
            forms.find(|form| folder.join(form).exists())
        };
        if form_in(&folder).is_some() {
            continue;
        }
        let name = match source {
            Source::Mirror(mirror) => form_in(mirror).ok_or_else(|| Error::NotInMirror {
                file: format!("{base}, packed or not,"),
                folders: mirror.display().to_string(),
            })?,
            Source::Server(_) if data.rebuilt => {
                missing.push(format!("{} ({})", data.file, data.title));
                continue;
            }
            Source::Server(_) => data.file.clone(),
        };
        let target = folder.join(&name);
        let sha256 = data.sha256.as_deref();
        let spec = FileSpec { target: &target, sha256, stated: None, bytes: None };
        let file = name.as_str();
        let mut report = |event: TransferEvent<'_>| listen(event.of(file));
        let downloaded = match source {
            Source::Mirror(mirror) => download::copy(&mirror.join(&name), spec, &mut report),
            Source::Server(server) => {
                let DataFile { repository, revision, path, .. } = data;
                let path = encode(path, "/");
                let url = format!("{}/{repository}/{revision}/{path}", server.endpoint);
                download::download(&server.client, &url, spec, &mut report)
            }
        }?;
        listen(Event::Fetched { file, fetched: &downloaded.fetched });
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::Rebuilt(missing.join(", "))),
    }
}
