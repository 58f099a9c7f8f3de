//! Checks that received data can be the requested file.
//!
//! Servers may send web pages, error messages, or compressed or truncated files in place of a file.
//! If no hash is known, the structure of the file reveals that; if a hash is known, the structure
//! reveals it earlier.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::Value;
use trilobite_format::{Error, Gguf, LFS_POINTER};

/// Maximum size of a JSON file. Vocabularies of 262,144 tokens take 40 MB.
const MAX_JSON: u64 = 256 << 20;
/// Maximum size of other files, and of weights whose length neither the server nor their header
/// states.
const MAX_OTHER: u64 = 1 << 30;
/// Maximum header length of a safetensors file, as in the reference implementation.
const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;
/// Maximum header length of a GGUF file. The header contains the vocabulary.
const MAX_GGUF_HEADER: u64 = 1 << 30;
/// Maximum number of bytes after the last tensor of a GGUF file: the largest alignment.
const MAX_GGUF_PADDING: u64 = 1 << 20;
/// Number of bytes that identify a file of another kind.
const BEGINNING: u64 = 64;

/// The first bytes of files, by the end of their names.
const MAGIC: [(&str, &[u8]); 7] = [
    (".gz", b"\x1f\x8b"),
    (".bz2", b"BZh"),
    (".xz", b"\xfd7zXZ\0"),
    (".zst", b"\x28\xb5\x2f\xfd"),
    (".zip", b"PK\x03\x04"),
    (".parquet", b"PAR1"),
    // SentencePiece: a protocol buffer whose first field is the list of pieces.
    ("tokenizer.model", b"\n"),
];
/// Number of the entries above that are compression formats.
const COMPRESSED: usize = 5;

#[derive(Clone, Copy)]
enum Kind {
    Safetensors,
    Gguf,
    Json,
    /// Another kind, identified by its first bytes if at all.
    Other(Option<&'static [u8]>),
}

/// The result of checking the beginning of a file.
enum Beginning {
    /// The check needs this many bytes.
    Needs(u64),
    /// The beginning is valid. The file has at least `least` bytes, or exactly as many.
    Right { least: u64, exact: bool },
    /// The beginning is invalid, for this reason.
    Wrong(String),
}

/// The state of the checks of a file that is being received.
pub(super) struct Content {
    kind: Kind,
    /// Number of bytes that the next check needs; `None` when all checks are done.
    needs: Option<u64>,
    least: u64,
    exact: bool,
}

/// Returns the reason why a file does not match its name, if it does not.
pub(crate) fn fault(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    Content::of(path).fault_of_whole(&mut file, len)
}

impl Content {
    /// The checks for a file of this name.
    pub(super) fn of(target: &Path) -> Self {
        let name = target.to_string_lossy();
        let kind = match target.extension().and_then(|ending| ending.to_str()) {
            Some("safetensors") => Kind::Safetensors,
            Some("gguf") => Kind::Gguf,
            Some("json") => Kind::Json,
            _ => {
                let known = MAGIC.iter().find(|(ending, _)| name.ends_with(ending));
                Kind::Other(known.map(|(_, magic)| *magic))
            }
        };
        Self::unchecked(kind)
    }

    /// The checks for a file of which nothing has arrived.
    fn unchecked(kind: Kind) -> Self {
        Content { kind, needs: Some(BEGINNING), least: 1, exact: false }
    }

    /// Begins the checks again, for other data.
    pub(super) fn restart(&mut self) {
        *self = Self::unchecked(self.kind);
    }

    /// Checks a file of which `len` bytes have arrived. Returns the reason why it is not the
    /// requested one.
    pub(super) fn fault(&mut self, file: &mut File, len: u64) -> io::Result<Option<String>> {
        while let Some(needs) = self.needs.filter(|needs| *needs <= len) {
            let beginning = self.kind.beginning(&read_beginning(file, needs)?);
            if let Some(fault) = self.learn(beginning) {
                return Ok(Some(fault));
            }
        }
        Ok(None)
    }

    fn learn(&mut self, beginning: Beginning) -> Option<String> {
        match beginning {
            Beginning::Needs(more) => self.needs = Some(more),
            Beginning::Right { least, exact } => {
                (self.needs, self.least, self.exact) = (None, least, exact);
            }
            Beginning::Wrong(why) => return Some(why),
        }
        None
    }

    /// Checks a complete file. Returns the reason why it is not the requested one.
    pub(super) fn fault_of_whole(
        &mut self,
        file: &mut File,
        len: u64,
    ) -> io::Result<Option<String>> {
        if len == 0 {
            return Ok(Some("it is empty".to_owned()));
        }
        if let Some(fault) = self.fault(file, len)? {
            return Ok(Some(fault));
        }
        if self.needs.is_some() {
            let bytes = read_beginning(file, len)?;
            let beginning = match self.kind.beginning(&bytes) {
                Beginning::Needs(more) => {
                    let cut = || format!("it ends at byte {len} of a header of at least {more}");
                    Beginning::Wrong(impostor(&bytes).unwrap_or_else(cut))
                }
                known => known,
            };
            if let Some(fault) = self.learn(beginning) {
                return Ok(Some(fault));
            }
        }
        if let Some(fault) = self.fault_of_length(len) {
            return Ok(Some(fault));
        }
        if let Kind::Json = self.kind {
            let mut bytes = skip_mark(file)?;
            let parsed = serde_json::from_reader::<_, IgnoredAny>(&mut bytes);
            return Ok(parsed.err().map(|error| format!("it is no JSON: {error}")));
        }
        Ok(None)
    }

    /// The fault of a length that the server announces or that the file has reached.
    pub(super) fn fault_of_length(&self, len: u64) -> Option<String> {
        let longest = self.longest().unwrap_or(u64::MAX);
        if (self.least..=longest).contains(&len) {
            return None;
        }
        Some(match self.kind {
            Kind::Safetensors | Kind::Gguf => {
                format!("it has {len} bytes, its header asks for {}", self.least)
            }
            _ => format!("it has {len} bytes, at most {longest} are read of such a file"),
        })
    }

    /// The length that the file's own header states.
    pub(super) fn stated(&self) -> Option<u64> {
        self.exact.then_some(self.least)
    }

    /// The maximum length of the file.
    fn longest(&self) -> Option<u64> {
        match self.kind {
            Kind::Json => Some(MAX_JSON),
            Kind::Other(_) => Some(MAX_OTHER),
            _ if self.exact => Some(self.least),
            // The minimum length is known only if the header was understood.
            _ if self.least > 1 => Some(self.least.saturating_add(MAX_GGUF_PADDING)),
            _ => None,
        }
    }

    /// The maximum number of bytes to read if the server does not state the length.
    pub(super) fn limit(&self) -> u64 {
        self.longest().unwrap_or(MAX_OTHER)
    }
}

impl Kind {
    fn beginning(self, bytes: &[u8]) -> Beginning {
        let own = match self {
            Kind::Safetensors => safetensors(bytes),
            Kind::Gguf => gguf(bytes),
            Kind::Json => json(bytes),
            Kind::Other(Some(magic)) if !bytes.starts_with(magic) => {
                Beginning::Wrong("it does not begin as its name says".to_owned())
            }
            Kind::Other(magic) => match impostor(bytes) {
                Some(what) if magic.is_none() => Beginning::Wrong(what),
                _ => Beginning::Right { least: 1, exact: false },
            },
        };
        match own {
            Beginning::Wrong(why) => Beginning::Wrong(impostor(bytes).unwrap_or(why)),
            own => own,
        }
    }
}

/// Checks a safetensors file: the header's length (u64, little-endian), the header (JSON), and data
/// without gaps.
fn safetensors(bytes: &[u8]) -> Beginning {
    let wrong = |why: &str| Beginning::Wrong(format!("it is no safetensors file: {why}"));
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return Beginning::Needs(9) };
    let length = u64::from_le_bytes(*length);
    if length > MAX_SAFETENSORS_HEADER {
        return wrong(&format!("its header would have {length} bytes"));
    }
    match rest.first() {
        None => return Beginning::Needs(9),
        Some(b'{') => {}
        Some(_) => return wrong("its header is no JSON object"),
    }
    let Some(header) = rest.get(..length as usize) else { return Beginning::Needs(8 + length) };
    let header: serde_json::Map<String, Value> = match serde_json::from_slice(header) {
        Ok(header) => header,
        Err(error) => return wrong(&format!("its header: {error}")),
    };
    let mut end = 0;
    for (name, tensor) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let Some(last) = tensor["data_offsets"][1].as_u64() else {
            return wrong(&format!("tensor {name:?} has no `data_offsets`"));
        };
        end = end.max(last);
    }
    Beginning::Right { least: (8 + length).saturating_add(end), exact: true }
}

fn gguf(bytes: &[u8]) -> Beginning {
    match Gguf::least_len(bytes) {
        Ok(least) => Beginning::Right { least, exact: false },
        Err(Error::Magic { found }) if found.len() < 4 => Beginning::Needs(4),
        Err(Error::Truncated { offset, needed, .. }) => {
            let needs = offset.saturating_add(needed).max(2 * bytes.len() as u64);
            match needs <= MAX_GGUF_HEADER {
                true => Beginning::Needs(needs),
                false => Beginning::Wrong(format!("its header would have {needs} bytes")),
            }
        }
        // A GGUF file that only other programs can read is accepted.
        Err(Error::BigEndian | Error::NestedArray(_) | Error::UnknownType { .. }) => {
            Beginning::Right { least: 1, exact: false }
        }
        Err(error) => Beginning::Wrong(error.to_string()),
    }
}

fn json(bytes: &[u8]) -> Beginning {
    match bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes).trim_ascii_start().first() {
        Some(b'{' | b'[') => Beginning::Right { least: 2, exact: false },
        Some(_) if BYTE_ORDER_MARK.starts_with(bytes) => Beginning::Needs(BEGINNING),
        Some(_) => Beginning::Wrong("it is no JSON object".to_owned()),
        None => Beginning::Needs(2 * bytes.len() as u64),
    }
}

/// Describes a kind of data that is often sent in place of a file.
fn impostor(bytes: &[u8]) -> Option<String> {
    let text = bytes.trim_ascii_start();
    let begins =
        |tag: &str| text.get(..tag.len()).is_some_and(|t| t.eq_ignore_ascii_case(tag.as_bytes()));
    if ["<!doctype", "<html", "<head", "<body"].into_iter().any(begins) {
        return Some("it is a web page".to_owned());
    }
    if begins("<?xml") {
        return Some("it is an XML document".to_owned());
    }
    if bytes.starts_with(LFS_POINTER) {
        return Some(Error::LfsPointer.to_string());
    }
    let packed = MAGIC[..COMPRESSED].iter().find(|(_, magic)| bytes.starts_with(magic));
    packed.map(|(ending, _)| format!("it is compressed ({})", &ending[1..]))
}

/// The byte-order mark that some tools write before JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Rewinds a file and skips its byte-order mark.
fn skip_mark(file: &mut File) -> io::Result<BufReader<&mut File>> {
    let marked = read_beginning(file, BYTE_ORDER_MARK.len() as u64)? == BYTE_ORDER_MARK;
    file.seek(SeekFrom::Start(if marked { BYTE_ORDER_MARK.len() as u64 } else { 0 }))?;
    Ok(BufReader::new(file))
}

/// Reads the first bytes of a file and leaves the position at the end.
fn read_beginning(file: &mut File, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    (&mut *file).take(len).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::End(0))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use trilobite_format::{Metadata, TensorType, Writer};

    use super::*;

    fn fault_of(name: &str, bytes: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        fault(&path).unwrap()
    }

    /// A safetensors file with a header of this length.
    fn safetensors(length: usize, data: usize) -> Vec<u8> {
        let tensor =
            format!(r#"{{"t":{{"dtype":"U8","shape":[{data}],"data_offsets":[0,{data}]}}}}"#);
        let mut file = (length as u64).to_le_bytes().to_vec();
        file.extend(tensor.bytes());
        file.resize(8 + length, b' ');
        file.resize(8 + length + data, 7);
        file
    }

    fn gguf() -> Vec<u8> {
        let tensors = vec![("t".to_owned(), TensorType::I8, vec![320])];
        let mut metadata = Metadata::new();
        // This makes the header so long that it takes several checks.
        metadata.insert("words", vec!["word".to_owned(); 1000]);
        let mut writer = Writer::new(Vec::new(), &metadata, tensors).unwrap();
        writer.tensor("t", &[1; 320]).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn files_as_they_are_published_have_no_fault() {
        let mut other = gguf();
        let at = other.windows(5).position(|bytes| bytes == [b't', 1, 0, 0, 0]).unwrap();
        // A type that only other programs know.
        other[at + 13] = 99;
        for (name, bytes) in [
            ("config.json", b"{\"a\": 1}\n".to_vec()),
            ("config.json", b"\xef\xbb\xbf{\"a\": 1}".to_vec()),
            ("config.json", [&[b' '; 300][..], b"[1]"].concat()),
            ("model.safetensors", safetensors(80, 100)),
            // Its length has the bytes of gzip's mark.
            ("model.safetensors", safetensors(0x08_8b1f, 100)),
            ("model.safetensors", safetensors(0x3c, 0)),
            ("model.gguf", gguf()),
            ("model.gguf", [gguf(), vec![0; 1000]].concat()),
            ("model.gguf", other),
            ("tokenizer.model", b"\n\x0e\n\x05<unk>".to_vec()),
            ("chat_template.jinja", b"<|im_start|>{{ x }}".to_vec()),
            ("data.jsonl.gz", b"\x1f\x8b\x08".to_vec()),
            ("data.txt", b"BZ".to_vec()),
        ] {
            assert_eq!(fault_of(name, &bytes), None, "{name}");
        }
    }

    #[test]
    fn what_is_sent_instead_of_a_file_has_a_fault() {
        let page = b"<HTML><head>";
        for (name, bytes, expected) in [
            ("tokenizer.model", &page[..], "a web page"),
            ("tokenizer.model", b"tokens", "does not begin as its name says"),
            ("data.parquet", b"{\"error\": \"no\"}", "does not begin as its name says"),
            ("chat_template.jinja", b"\r\n <!doctype HTML>", "a web page"),
            ("data.txt", b"\x28\xb5\x2f\xfd\x00", "compressed (zst)"),
            ("data.jsonl.gz", b"{\"a\": 1}", "does not begin as its name says"),
            ("data.jsonl", b"", "empty"),
            ("config.json", b"   ", "it ends at byte 3"),
            ("config.json", b"\xef\xbb", "it ends at byte 2"),
            ("config.json", b"null", "no JSON object"),
            ("model.safetensors", b"\x02\0\0\0\0\0\0\0{]", "its header: "),
            ("model.safetensors", b"\x02\0\0\0\0\0\0\0[]", "its header is no JSON object"),
            ("model.safetensors", b"\x0a\0\0\0\0\0\0\0{\"t\": 123}", "has no `data_offsets`"),
            ("model.gguf", b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", "its header would"),
            ("model.gguf", b"GGUF\x00\x09\0\0\0\0\0\0\0\0\0\0", "version"),
        ] {
            let fault = fault_of(name, bytes).unwrap_or_default();
            assert!(fault.contains(expected), "{name}: {fault}, expected {expected}");
        }
        let whole = gguf();
        for len in (0..whole.len() - 1).step_by(211) {
            assert!(fault_of("model.gguf", &whole[..len]).is_some(), "cut at {len}");
        }
    }
}
