//! A partially received file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, StatusCode, header};

use super::attempt::{Failure, Said, TransferEvent};
use super::content::Content;
use super::http::{Client, Reply};
use crate::lock::{open_locked, remove_if_there};
use crate::{Error, Result};

/// Number of bytes per read.
const CHUNK: usize = 256 << 10;
/// Maximum unpacked size of a data file in bytes. A small file can unpack to any size.
const MAX_UNPACKED: u64 = 512 << 20;

/// Identifies a version of a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Version {
    /// The ETag, or else the date of the last change.
    tag: Option<String>,
    /// The size of the file.
    total: Option<u64>,
}

impl Version {
    /// Whether a later response states another size although its tag does not differ.
    fn contradicts(&self, later: &Version) -> bool {
        let differ = matches!((self.total, later.total), (Some(a), Some(b)) if a != b);
        differ && !self.precedes(later)
    }

    /// Whether a later response belongs to another version.
    fn precedes(&self, later: &Version) -> bool {
        matches!((&self.tag, &later.tag), (Some(a), Some(b)) if a != b)
    }
}

/// A partially received file, locked against other processes.
pub(super) struct Partial {
    path: PathBuf,
    note: PathBuf,
    file: File,
    version: Version,
    content: Content,
    /// Whether to request ranges. It is cleared if the server handles a range wrongly.
    ranges: bool,
}

impl Partial {
    /// Opens the partial file beside `target`, or creates an empty one.
    pub(super) fn open(target: &Path) -> Result<Self> {
        let beside = |ending: &str| {
            let mut name = OsString::from(target);
            name.push(ending);
            PathBuf::from(name)
        };
        let (path, note) = (beside(".partial"), beside(".partial.json"));
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let file = open_locked(&path).map_err(Error::io(&path))?;
        let name = || path.display().to_string();
        let file = file.ok_or_else(|| Error::Busy { name: name(), doing: "fetching" })?;
        let version = std::fs::read(&note).ok();
        let version = version.and_then(|json| serde_json::from_slice::<Version>(&json).ok());
        // Without a tag it is unknown whether the server still has the same version.
        let version = version.filter(|version| version.tag.is_some()).unwrap_or_default();
        let content = Content::of(target);
        Ok(Partial { path, note, file, version, content, ranges: true })
    }

    /// Number of bytes received.
    pub(super) fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(Error::io(&self.path))?.len())
    }

    /// Empties the file for a new download of this size.
    pub(super) fn start_over(&mut self, total: Option<u64>) -> Result<()> {
        self.begin(Version { tag: None, total })
    }

    /// Empties the file for a download of this version.
    fn begin(&mut self, version: Version) -> Result<()> {
        self.file.set_len(0).map_err(Error::io(&self.path))?;
        let json = serde_json::json!({ "tag": version.tag, "total": version.total }).to_string();
        std::fs::write(&self.note, json).map_err(Error::io(&self.note))?;
        self.version = version;
        self.content.restart();
        Ok(())
    }

    /// Requests the rest of the file once, and appends what arrives.
    pub(super) fn resume(
        &mut self,
        client: &Client,
        url: &str,
        said: &mut Said,
        listen: &mut dyn FnMut(TransferEvent<'_>),
    ) -> Result<(), Failure> {
        let have = match self.ranges && self.version != Version::default() {
            true => self.len().map_err(Failure::lasting)?,
            false => 0,
        };
        let mut headers = Vec::new();
        if have > 0 {
            headers.push(("Range", format!("bytes={have}-")));
            // A weak tag cannot be sent in `If-Range`. It is compared below.
            if let Some(tag) = self.version.tag.as_ref().filter(|tag| !tag.starts_with("W/")) {
                headers.push(("If-Range", tag.clone()));
            }
        }
        let Reply { status, headers, body, revision, sha256, bytes } = client.get(url, &headers)?;
        said.revision = revision.or(said.revision.take());
        said.sha256 = sha256.or(said.sha256.take());
        said.bytes = said.bytes.or(bytes);
        self.refuse_coding(&headers)?;
        let announced = body.content_length();
        let range = ContentRange::of(&headers);
        match status {
            StatusCode::PARTIAL_CONTENT if have > 0 => {
                self.check_part(have, range, announced, tag(&headers))?;
            }
            StatusCode::OK => {
                let total = announced.or(said.bytes);
                let version = Version { tag: tag(&headers), total };
                let whole = range.is_none_or(|range| range.is_whole(announced));
                self.check_whole(have > 0, whole, &version, said.bytes)?;
                self.begin(version).map_err(Failure::lasting)?;
            }
            // The file is complete.
            StatusCode::RANGE_NOT_SATISFIABLE
                if have > 0
                    && self.version.total == Some(have)
                    && !self.version.precedes(&Version { tag: tag(&headers), total: None }) =>
            {
                return Ok(());
            }
            _ if have > 0 => {
                return Err(self.disable_ranges(format!("it answers {status} to a range")));
            }
            _ => return Err(Failure::lasting(Error::Unasked(status.as_u16()))),
        }
        self.append(&mut body.into_with_config().limit(u64::MAX).reader(), listen)
    }

    /// Rejects a body with a content coding.
    fn refuse_coding(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let coding = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
        let Some(coding) = coding.filter(|coding| !coding.eq_ignore_ascii_case(b"identity")) else {
            return Ok(());
        };
        // Some servers describe a compressed file in this way.
        let packed = self.path.to_string_lossy().ends_with(".gz.partial");
        if packed && coding.eq_ignore_ascii_case(b"gzip") {
            return Ok(());
        }
        let coding = String::from_utf8_lossy(coding).into_owned();
        Err(Failure::lasting(Error::Compressed(coding)))
    }

    /// Checks that a partial response continues the `have` bytes received.
    fn check_part(
        &mut self,
        have: u64,
        range: Option<ContentRange>,
        announced: Option<u64>,
        tag: Option<String>,
    ) -> Result<(), Failure> {
        let total = range.as_ref().and_then(|range| range.total);
        let now = Version { tag, total };
        if self.version.precedes(&now) || self.version.tag.is_none() && now.tag.is_some() {
            self.begin(Version::default()).map_err(Failure::lasting)?;
            return Err(Failure::passing(Error::ChangedOnServer));
        }
        let fits = range.is_some_and(|range| range.is_rest(have, announced));
        if !fits || self.version.contradicts(&now) {
            return Err(
                self.disable_ranges("it sends another part than it was asked for".to_owned())
            );
        }
        self.version.total = self.version.total.or(total);
        Ok(())
    }

    /// Checks a response with the whole file. `stated` is the size that the hub states.
    fn check_whole(
        &mut self,
        asked_for_part: bool,
        whole: bool,
        version: &Version,
        stated: Option<u64>,
    ) -> Result<(), Failure> {
        let fault = match (version.total, self.version.total, stated) {
            _ if !whole => Some("it sends a part as the whole".to_owned()),
            (Some(now), Some(first), _) if self.version.contradicts(version) => {
                Some(format!("it announces {now} bytes, {first} at first"))
            }
            (Some(now), _, Some(stated)) if stated != now => {
                Some(format!("it announces {now} bytes of a file of {stated}"))
            }
            _ => None,
        };
        match fault {
            None => Ok(()),
            Some(fault) if asked_for_part => Err(self.disable_ranges(fault)),
            Some(fault) => Err(self.discard(format!("the server is inconsistent: {fault}"))),
        }
    }

    /// The failure of a server that handles ranges wrongly. The next request is for the whole file.
    fn disable_ranges(&mut self, fault: String) -> Failure {
        self.ranges = false;
        Failure::passing(Error::Inconsistent(fault))
    }

    /// Removes the received data.
    fn discard(&self, why: String) -> Failure {
        Failure::lasting(self.remove().map_or_else(|error| error, |()| Error::Content(why)))
    }

    /// Removes the file if it is empty.
    pub(super) fn remove_if_empty(self) -> Result<()> {
        if self.len()? == 0 {
            self.remove()?;
        }
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        remove_if_there(&self.path)?;
        remove_if_there(&self.note)
    }

    /// Appends the data of a reader, up to the size of the whole file.
    pub(super) fn append(
        &mut self,
        from: &mut dyn Read,
        listen: &mut dyn FnMut(TransferEvent<'_>),
    ) -> Result<(), Failure> {
        let total = self.version.total;
        let failed = |source| Failure::lasting(Error::Io { path: self.path.clone(), source });
        let mut done = self.file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            listen(TransferEvent::Progress { done, total });
            let read = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(Failure::passing(Error::Broken { done, source })),
            };
            if let Err(source) = self.file.write_all(&chunk[..read]) {
                // A part of the chunk may have been written, which is as valid as the rest.
                let kept = self.len().map_err(Failure::lasting)?;
                return Err(Failure::lasting(Error::Kept {
                    path: self.path.clone(),
                    kept,
                    source,
                }));
            }
            done += read as u64;
            let fault = self.content.fault(&mut self.file, done).map_err(failed)?;
            if let Some(fault) = fault.or_else(|| self.content.fault_of_length(total?)) {
                return Err(self.discard(fault));
            }
            let limit = total.unwrap_or_else(|| self.content.limit());
            if done > limit {
                return Err(self.discard(format!("more than {limit} bytes came")));
            }
        }
        match total.or(self.content.stated()) {
            Some(total) if done < total => Err(Failure::passing(Error::Ended { done, total })),
            _ => Ok(()),
        }
    }

    /// Checks structure and hash, and gives the file its final name. An invalid file is removed.
    pub(super) fn finish(mut self, target: &Path, expected: Option<&str>) -> Result<(u64, String)> {
        let bytes = self.len()?;
        let fault = self.content.fault_of_whole(&mut self.file, bytes);
        if let Some(fault) = fault.map_err(Error::io(&self.path))? {
            return Err(self.discard(fault).into_reason());
        }
        let sha256 = self.sha256().map_err(Error::io(&self.path))?;
        if let Some(expected) = expected
            && !sha256.eq_ignore_ascii_case(expected)
            && self.unpacked_sha256(target).as_deref() != Some(expected)
        {
            let fault = format!("its SHA-256 is {sha256}, expected {expected}");
            return Err(self.discard(fault).into_reason());
        }
        self.file.sync_all().map_err(Error::io(&self.path))?;
        std::fs::rename(&self.path, target).map_err(Error::io(target))?;
        remove_if_there(&self.note)?;
        Ok((bytes, sha256))
    }

    fn sha256(&mut self) -> io::Result<String> {
        self.file.seek(SeekFrom::Start(0))?;
        sha256(&mut self.file)
    }

    /// The hash of the contents of a compressed file.
    fn unpacked_sha256(&self, target: &Path) -> Option<String> {
        let file = || File::open(&self.path).map(BufReader::new).ok();
        let unpacked: &mut dyn Read = match target.extension()?.to_str()? {
            "gz" => &mut flate2::bufread::MultiGzDecoder::new(file()?),
            "bz2" => &mut bzip2::bufread::MultiBzDecoder::new(file()?),
            _ => return None,
        };
        // Data that cannot be unpacked, or exceed the limit, do not match the original.
        let mut most = unpacked.take(MAX_UNPACKED);
        sha256(&mut most).ok().filter(|_| most.limit() > 0)
    }
}

/// The SHA-256 of a reader's data, in hexadecimal.
pub(crate) fn sha256(from: &mut dyn Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => hasher.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn tag(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::ETAG).or(headers.get(header::LAST_MODIFIED))?;
    Some(text.to_str().ok()?.to_owned())
}

/// `Content-Range: bytes START-END/TOTAL`.
#[derive(Clone, Copy)]
struct ContentRange {
    start: u64,
    end: u64,
    total: Option<u64>,
}

impl ContentRange {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        Some(ContentRange { start: number(start)?, end: number(end)?, total: number(total) })
    }

    /// Whether the range starts at `have`, is as long as the body and ends within the file.
    fn is_rest(self, have: u64, announced: Option<u64>) -> bool {
        let len = self.end.checked_sub(self.start).and_then(|len| len.checked_add(1));
        self.start == have
            && len.is_some()
            && (announced.is_none() || announced == len)
            && self.total.is_none_or(|total| self.end < total)
    }

    /// Whether the range is the whole file.
    fn is_whole(self, announced: Option<u64>) -> bool {
        self.is_rest(0, announced) && self.total.is_none_or(|total| self.end + 1 == total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A safetensors file with this many bytes of data.
    fn safetensors(data: usize) -> Vec<u8> {
        let header =
            format!(r#"{{"t":{{"dtype":"U8","shape":[{data}],"data_offsets":[0,{data}]}}}}"#);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![7; data]].concat()
    }

    #[test]
    fn another_version_is_checked_by_its_own_header() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.safetensors");
        let (first, second) = (safetensors(500), safetensors(300));
        let listen = &mut |_: TransferEvent<'_>| {};
        let mut partial = Partial::open(&target).unwrap();
        partial.start_over(Some(first.len() as u64)).unwrap();
        assert!(partial.append(&mut &first[..200], listen).is_err());
        partial.start_over(Some(second.len() as u64)).unwrap();
        assert!(partial.append(&mut &second[..], listen).is_ok());
        partial.finish(&target, None).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), second);
    }
}
