//! The part of a file that has come.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, StatusCode, header};

use super::http::Reply;
use super::{Client, Event, Failure, Said};

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// What tells one version of a file from another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Version {
    /// Its ETag, or else the date of its last change.
    tag: Option<String>,
    /// Its size.
    total: Option<u64>,
}

/// A file of which a part is there, locked against other processes.
pub(super) struct Partial {
    path: PathBuf,
    note: PathBuf,
    file: File,
    version: Version,
}

impl Partial {
    /// The partial file beside `target`: what an earlier attempt left, or an empty one.
    pub(super) fn open(target: &Path) -> Result<Self> {
        let beside = |ending: &str| {
            let mut name = OsString::from(target);
            name.push(ending);
            PathBuf::from(name)
        };
        let (path, note) = (beside(".partial"), beside(".partial.json"));
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let open = || -> Result<File> {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => bail!("another process is fetching this file"),
                // Where files cannot be locked, nothing is lost but this courtesy.
                Err(TryLockError::Error(_)) | Ok(()) => Ok(file),
            }
        };
        let file = open().with_context(|| path.display().to_string())?;
        let version = std::fs::read(&note).ok();
        let version = version.and_then(|json| serde_json::from_slice(&json).ok());
        Ok(Partial { path, note, file, version: version.unwrap_or_default() })
    }

    /// Bytes that are there.
    pub(super) fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().with_context(|| self.path.display().to_string())?.len())
    }

    /// Forgets what is there.
    pub(super) fn start_over(&mut self) -> Result<()> {
        self.begin(Version::default())
    }

    /// Makes this the empty beginning of a version.
    fn begin(&mut self, version: Version) -> Result<()> {
        self.file.set_len(0).with_context(|| self.path.display().to_string())?;
        let json = serde_json::to_vec(&version)?;
        std::fs::write(&self.note, json).with_context(|| self.note.display().to_string())?;
        self.version = version;
        Ok(())
    }

    /// Requests what is missing, once, and adds it.
    pub(super) fn go_on(
        &mut self,
        client: &Client,
        url: &str,
        said: &mut Said,
        listen: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let mut have = self.len().map_err(Failure::Final)?;
        let mut headers = Vec::new();
        if self.version == Version::default() {
            have = 0;
        }
        if have > 0 {
            headers.push(("Range", format!("bytes={have}-")));
            // A weak tag cannot be asked about, but is compared below.
            if let Some(tag) = self.version.tag.as_ref().filter(|tag| !tag.starts_with("W/")) {
                headers.push(("If-Range", tag.clone()));
            }
        }
        let Reply { status, headers, body, revision, sha256 } = client.get(url, &headers)?;
        said.revision = revision.or(said.revision.take());
        said.sha256 = sha256.or(said.sha256.take());
        let (start, total) = content_range(&headers);
        match status {
            StatusCode::PARTIAL_CONTENT if have > 0 => {
                let now = Version { tag: tag(&headers).or(self.version.tag.clone()), total };
                if start != Some(have) || now != self.version {
                    self.start_over().map_err(Failure::Final)?;
                    return Err(Failure::passing(anyhow!("the file changed on the server")));
                }
            }
            StatusCode::OK => {
                let total = body.content_length();
                let version = Version { tag: tag(&headers), total };
                self.begin(version).map_err(Failure::Final)?;
            }
            // Nothing is missing.
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 && total == Some(have) => return Ok(()),
            _ if have > 0 => {
                self.start_over().map_err(Failure::Final)?;
                return Err(Failure::passing(anyhow!("the server answers {status} to a range")));
            }
            _ => return Err(Failure::Final(anyhow!("the server answers {status}, unasked"))),
        }
        self.append(
            &mut body.into_with_config().limit(u64::MAX).reader(),
            self.version.total,
            listen,
        )
    }

    /// Adds what a reader gives, up to the size that the whole has.
    pub(super) fn append(
        &mut self,
        from: &mut dyn Read,
        total: Option<u64>,
        listen: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let mut done =
            self.file.seek(SeekFrom::End(0)).map_err(|error| Failure::Final(error.into()))?;
        let mut chunk = vec![0; CHUNK];
        loop {
            listen(Event::Progress { done, total });
            let read = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let reason = format!("the connection broke after {done} bytes");
                    return Err(Failure::passing(anyhow!(error).context(reason)));
                }
            };
            if let Err(error) = self.file.write_all(&chunk[..read]) {
                // A piece of the chunk may have been written: as good as the rest.
                let kept = self.len().map_err(Failure::Final)?;
                let message = format!("{}: {kept} bytes came and are kept", self.path.display());
                return Err(Failure::Final(anyhow!(error).context(message)));
            }
            done += read as u64;
        }
        match total {
            Some(total) if done < total => {
                Err(Failure::passing(anyhow!("the connection ended at {done} of {total} bytes")))
            }
            Some(total) if done > total => {
                self.start_over().map_err(Failure::Final)?;
                Err(Failure::passing(anyhow!("{done} bytes came, {total} were announced")))
            }
            _ => Ok(()),
        }
    }

    /// Checks the hash and gives the file its name. A file with another hash is removed.
    pub(super) fn finish(mut self, target: &Path, expected: Option<&str>) -> Result<(u64, String)> {
        let sha256 = self.sha256().with_context(|| self.path.display().to_string())?;
        let fits = match expected {
            Some(expected) => {
                sha256.eq_ignore_ascii_case(expected)
                    || self.unpacked_sha256(target)?.as_deref() == Some(expected)
            }
            None => true,
        };
        if !fits {
            std::fs::remove_file(&self.path)?;
            std::fs::remove_file(&self.note)?;
            let expected = expected.unwrap_or_default();
            bail!("its SHA-256 is {sha256}, expected {expected}; it was removed");
        }
        self.file.sync_all()?;
        let bytes = self.len()?;
        std::fs::rename(&self.path, target)?;
        std::fs::remove_file(&self.note)?;
        Ok((bytes, sha256))
    }

    fn sha256(&mut self) -> Result<String> {
        self.file.seek(SeekFrom::Start(0))?;
        sha256(&mut self.file)
    }

    /// The hash of what a packed file holds.
    fn unpacked_sha256(&self, target: &Path) -> Result<Option<String>> {
        if !target.extension().is_some_and(|ending| ending == "gz" || ending == "bz2") {
            return Ok(None);
        }
        let packed = std::fs::read(&self.path)?;
        // What cannot be unpacked is no original.
        Ok(trilobite_eval::unpack(target, packed).ok().map(|bytes| trilobite_eval::sha256(&bytes)))
    }
}

/// SHA-256 of what a reader gives, in hexadecimal.
pub(crate) fn sha256(from: &mut dyn Read) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => hasher.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn tag(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::ETAG).or(headers.get(header::LAST_MODIFIED))?;
    Some(text.to_str().ok()?.to_owned())
}

/// Start and total of `bytes START-END/TOTAL` or `bytes */TOTAL`.
fn content_range(headers: &HeaderMap) -> (Option<u64>, Option<u64>) {
    let text = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let Some((range, total)) = text.and_then(|text| text.strip_prefix("bytes ")?.split_once('/'))
    else {
        return (None, None);
    };
    let start = range.split_once('-').and_then(|(start, _)| start.trim().parse().ok());
    (start, total.trim().parse().ok())
}
