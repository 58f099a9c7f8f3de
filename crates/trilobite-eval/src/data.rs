//! Data files: found, checked against their hash, and read into records.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::task::{DataFile, Format, Role, Task};

/// The fields of a record.
pub(crate) type Fields = BTreeMap<String, Value>;

/// A record of a data file.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its first line there, from 1.
    pub(crate) line: usize,
    /// Its number there, from 0.
    pub(crate) index: usize,
    /// Its fields.
    pub(crate) fields: Fields,
    /// The JSON text that it was read from, where it has a line of its own: numbers in `fields` have
    /// at most 64 bits.
    pub(crate) json: Option<Arc<str>>,
}

impl Record {
    /// An error about this record.
    pub(crate) fn error(&self, message: impl std::fmt::Display) -> Error {
        let message = message.to_string();
        Error::Record { path: self.path.clone(), line: self.line, message }
    }

    /// A field that must be a string.
    pub(crate) fn text(&self, field: &str) -> Result<&str> {
        let value = self.fields.get(field);
        value
            .and_then(Value::as_str)
            .ok_or_else(|| self.error(format!("{field:?} is not a string")))
    }
}

/// The records of a task in one group, labels added, and its examples.
pub(crate) struct Records {
    /// The name of the group.
    pub(crate) group: Option<String>,
    /// The items.
    pub(crate) items: Vec<Record>,
    /// The examples.
    pub(crate) shots: Vec<Record>,
}

/// Reads the data of a task from `folder`. With `any`, whatever their hash.
pub(crate) fn records(task: &Task, folder: &Path, any: bool) -> Result<Vec<Records>> {
    let read = |group: Option<&str>| -> Result<Records> {
        let mut records =
            Records { group: group.map(str::to_owned), items: Vec::new(), shots: Vec::new() };
        let mut labels = None;
        for (number, file) in task.data.iter().enumerate().filter(|(_, file)| wanted(task, file)) {
            let found = read_file(task, file, number, folder, group, any)?;
            match file.role {
                Role::Items => records.items.extend(found),
                Role::Shots => records.shots.extend(found),
                Role::Labels | Role::Other => labels = Some(found),
            }
        }
        if let Some(labels) = labels {
            join(&mut records.items, labels)?;
        }
        Ok(records)
    };
    if task.groups.is_empty() {
        return Ok(vec![read(None)?]);
    }
    task.groups.keys().map(|group| read(Some(group))).collect()
}

/// Adds each label to its record.
fn join(items: &mut [Record], labels: Vec<Record>) -> Result<()> {
    if let (Some(last), true) = (labels.last(), labels.len() != items.len()) {
        let message = format!("{} labels for {} records", labels.len(), items.len());
        return Err(last.error(message));
    }
    for (item, label) in items.iter_mut().zip(labels) {
        item.fields.extend(label.fields);
    }
    Ok(())
}

/// The records of one file of a task, `number` in its list.
pub(crate) fn read_file(
    task: &Task,
    file: &DataFile,
    number: usize,
    folder: &Path,
    group: Option<&str>,
    any: bool,
) -> Result<Vec<Record>> {
    let (path, packed) = find(task, file, folder, group)?;
    let packed_sha256 = sha256(&packed);
    let bytes = unpack(&path, packed)?;
    // Malformed data is better named by its line than by its hash.
    let records = parse(&path, file.format, &bytes)?;
    let hash = group.and_then(|group| task.groups.get(group)?.sha256.get(number));
    if let (Some(expected), false) = (hash.or(file.sha256.as_ref()), any) {
        let found = sha256(&bytes);
        if found != *expected && packed_sha256 != *expected {
            return Err(Error::Hash { path, expected: expected.clone(), found });
        }
    }
    Ok(records)
}

/// Most bytes that a data file unpacks to: a small file can unpack to any number.
const MAX_UNPACKED: u64 = 512 << 20;

/// What a file holds: unpacked where its name ends in `.gz` or `.bz2`.
///
/// # Errors
/// It is not packed that way, damaged, or longer than any data file.
pub fn unpack(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>> {
    unpack_within(path, bytes, MAX_UNPACKED)
}

fn unpack_within(path: &Path, bytes: Vec<u8>, most: u64) -> Result<Vec<u8>> {
    let decoder: &mut dyn Read = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => &mut flate2::read::MultiGzDecoder::new(bytes.as_slice()),
        Some("bz2") => &mut bzip2::read::MultiBzDecoder::new(bytes.as_slice()),
        _ => return Ok(bytes),
    };
    let mut unpacked = Vec::new();
    let read = decoder.take(most + 1).read_to_end(&mut unpacked);
    if read.map_err(Error::io(path))? as u64 > most {
        let message = format!("it unpacks to more than {most} bytes");
        return Err(Error::io(path)(std::io::Error::other(message)));
    }
    Ok(unpacked)
}

/// Bytes of a file as text.
pub(crate) fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Error::Record { path: path.to_owned(), line, message: "not UTF-8".to_owned() }
    })
}

/// SHA-256 of the files that a task's records are read from, unpacked: that of the file, or of the
/// hashes of several.
pub(crate) fn fingerprint(task: &Task, folder: &Path) -> Result<String> {
    let mut hashes = Vec::new();
    for file in task.data.iter().filter(|file| wanted(task, file)) {
        let groups: Vec<Option<&str>> = match file.file.contains("{group}") {
            true => task.groups.keys().map(|group| Some(group.as_str())).collect(),
            false => vec![None],
        };
        for group in groups {
            let (path, packed) = find(task, file, folder, group)?;
            hashes.push(sha256(&unpack(&path, packed)?));
        }
    }
    match &hashes[..] {
        [one] => Ok(one.clone()),
        all => Ok(sha256(all.join("\n").as_bytes())),
    }
}

/// Whether the records of a file make the items of a task.
fn wanted(task: &Task, file: &DataFile) -> bool {
    match file.role {
        Role::Items | Role::Labels => true,
        Role::Shots => task.shots > 0,
        Role::Other => false,
    }
}

/// A data file, found under its name or packed, and its bytes.
fn find(
    task: &Task,
    file: &DataFile,
    folder: &Path,
    group: Option<&str>,
) -> Result<(PathBuf, Vec<u8>)> {
    let name = file.file.replace("{group}", group.unwrap_or_default());
    let path = ["", ".gz", ".bz2"]
        .iter()
        .map(|ending| folder.join(format!("{name}{ending}")))
        .find(|path| path.exists())
        .ok_or_else(|| Error::MissingData { path: folder.join(&name), task: task.name.clone() })?;
    let bytes = trilobite_format::read_regular(&path).map_err(Error::io(&path))?;
    Ok((path, bytes))
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn parse(path: &Path, format: Format, bytes: &[u8]) -> Result<Vec<Record>> {
    let fail = |line: usize, message: String| Error::Record { path: path.into(), line, message };
    let text = utf8(path, bytes)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut records = Vec::new();
    let mut add = |line: usize, fields: Fields, json: Option<Arc<str>>| {
        let index = records.len();
        records.push(Record { path: path.to_owned(), line, index, fields, json });
    };
    let one = |name: &str, value: Value| Fields::from([(name.to_owned(), value)]);
    let lines = || text.lines().enumerate().map(|(index, line)| (index + 1, line));
    match format {
        Format::Jsonl => {
            for (number, line) in lines().filter(|(_, line)| !line.trim().is_empty()) {
                let fields = serde_json::from_str(line)
                    .map_err(|error| fail(number, format!("not a JSON object: {error}")))?;
                add(number, fields, Some(line.into()));
            }
        }
        Format::Json => {
            let values: Vec<Fields> = serde_json::from_str(text)
                .map_err(|error| fail(error.line(), format!("not an array of objects: {error}")))?;
            for fields in values {
                add(1, fields, None);
            }
        }
        Format::Csv => {
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let header = reader.headers().map_err(|error| fail(1, error.to_string()))?.clone();
            for row in reader.records() {
                let row = row.map_err(|error| {
                    let line = error.position().map_or(1, csv::Position::line);
                    fail(line as usize, error.to_string())
                })?;
                let line = row.position().map_or(1, csv::Position::line) as usize;
                add(line, fields(header.iter(), row.iter()), None);
            }
        }
        Format::Tsv => {
            let mut rows = lines();
            let (_, header) = rows.next().ok_or_else(|| fail(1, "no header".to_owned()))?;
            let columns = header.split('\t').count();
            for (number, row) in rows {
                let found = row.split('\t').count();
                if found != columns {
                    return Err(fail(number, format!("{found} columns, expected {columns}")));
                }
                add(number, fields(header.split('\t'), row.split('\t')), None);
            }
        }
        Format::Lines => {
            for (number, line) in lines() {
                add(number, one("label", line.into()), None);
            }
        }
        Format::Lines6 => {
            let all: Vec<&str> = text.lines().collect();
            for (index, six) in all.chunks(6).enumerate() {
                let number = 6 * index + 1;
                if six.iter().all(|line| line.is_empty()) {
                    continue;
                }
                if six.len() < 6 {
                    return Err(fail(number, format!("{} lines left, expected 6", six.len())));
                }
                add(number, one("lines", six.iter().copied().map(Value::from).collect()), None);
            }
        }
        Format::Text => add(1, one("text", text.into()), None),
    }
    if records.is_empty() {
        return Err(fail(1, "no records".to_owned()));
    }
    Ok(records)
}

fn fields<'a>(header: impl Iterator<Item = &'a str>, row: impl Iterator<Item = &'a str>) -> Fields {
    header.zip(row).map(|(name, value)| (name.to_owned(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let zeros = vec![0; 100_000];
        let mut gz = flate2::read::GzEncoder::new(zeros.as_slice(), flate2::Compression::fast());
        let mut bz2 = bzip2::read::BzEncoder::new(zeros.as_slice(), bzip2::Compression::fast());
        let packers: [(&str, &mut dyn Read); 2] = [("a.gz", &mut gz), ("a.bz2", &mut bz2)];
        for (name, packer) in packers {
            let mut packed = Vec::new();
            packer.read_to_end(&mut packed).unwrap();
            assert!(packed.len() < 1000);
            let unpack = |most| unpack_within(Path::new(name), packed.clone(), most);
            assert_eq!(unpack(100_000).unwrap(), zeros);
            let error =
                std::error::Error::source(&unpack(99_999).unwrap_err()).unwrap().to_string();
            assert_eq!(error, "it unpacks to more than 99999 bytes");
        }
    }
}
