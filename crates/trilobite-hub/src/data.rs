//! Pulling data sets: files of GitHub repositories, at pinned commits and with pinned hashes.

use std::path::Path;

use crate::download::{self, Wanted};
use crate::event::{Event, Listener};
use crate::record::Fetched;
use crate::source::{Source, encode};
use crate::{Cache, Error, Result};

/// Endings of packed files; a file may be stored packed or not.
const PACKED: [&str; 3] = ["", ".gz", ".bz2"];

/// A data file and where it comes from.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// Where it is stored in the data folder, packed as the source has it.
    pub file: String,
    /// The GitHub repository.
    pub repository: String,
    /// The commit.
    pub revision: String,
    /// The path there.
    pub path: String,
    /// SHA-256 of the file, as it was published or unpacked.
    pub sha256: Option<String>,
    /// Whether the file was made from the one at `path` and cannot be fetched.
    pub rebuilt: bool,
    /// What it belongs to.
    pub title: String,
}

/// Fetches what is missing of data files.
///
/// # Errors
/// The source does not have them, or other ones. Files that are published in another form only are an
/// error when all others are there.
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
        let wanted = Wanted { target: &target, sha256, stated: None, bytes: None };
        let file = name.as_str();
        let mut tell = |event: download::Event<'_>| {
            listen(match event {
                download::Event::Progress { done, total } => Event::Progress { file, done, total },
                download::Event::Waiting { reason, delay } => {
                    Event::Waiting { file, reason, delay }
                }
            });
        };
        let got = match source {
            Source::Mirror(mirror) => download::copy(&mirror.join(&name), wanted, &mut tell),
            Source::Server(server) => {
                let DataFile { repository, revision, path, .. } = data;
                let path = encode(path, "/");
                let url = format!("{}/{repository}/{revision}/{path}", server.endpoint);
                download::download(&server.client, &url, wanted, &mut tell)
            }
        }?;
        let verified = got.verified.map(str::to_owned);
        let fetched = Fetched { bytes: got.bytes, sha256: got.sha256, verified };
        listen(Event::Fetched { file, fetched: &fetched });
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::Rebuilt(missing.join(", "))),
    }
}
