//! Data files: finds them, checks their hashes and reads their records.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::Value;
use serde_json::value::RawValue;

use crate::bytes::{sha256, unpack, utf8};
use crate::error::{Error, Result};
use crate::record::{Fields, Record};
use crate::task::{DataFile, Format, Role, Task};

/// The records of a task in one group, with labels joined, and the records of its examples.
pub(crate) struct Records {
    /// The name of the group.
    pub(crate) group: Option<String>,
    /// The items.
    pub(crate) items: Vec<Record>,
    /// The examples.
    pub(crate) shots: Vec<Record>,
    /// Whether examples are drawn from the items. An item is never its own example.
    pub(crate) shared: bool,
}

/// Reads the data of a task from `folder`, or from the task's own folder. With `any`, hashes are
/// not checked.
pub(crate) fn records(task: &Task, folder: &Path, any: bool) -> Result<Vec<Records>> {
    let read = |group: Option<&str>| -> Result<Records> {
        let (mut items, mut shots, mut labels) = (Vec::new(), Vec::new(), None);
        let mut shared = false;
        for (number, file) in task.data.iter().enumerate().filter(|(_, file)| wanted(task, file)) {
            if file.role == Role::Shots && items_file(task, &file.file) {
                shared = true;
                continue;
            }
            let found = read_file(task, file, number, folder, group, any)?;
            match file.role {
                Role::Items => items.extend(found),
                Role::Shots => shots.extend(found),
                Role::Labels | Role::Other => labels = Some(found),
            }
        }
        if let Some(labels) = labels {
            join(&mut items, labels)?;
        }
        if shared {
            shots.extend(items.iter().cloned());
        }
        Ok(Records { group: group.map(str::to_owned), items, shots, shared })
    };
    if task.groups.is_empty() {
        return Ok(vec![read(None)?]);
    }
    task.groups.keys().map(|group| read(Some(group))).collect()
}

/// Whether a file contains items.
fn items_file(task: &Task, name: &str) -> bool {
    task.data.iter().any(|file| file.role == Role::Items && file.file == name)
}

/// Adds the fields of each label to its record.
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

/// Reads the records of a file, given by its index in the task's list.
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
    // Parse first: an error about a line says more than a wrong hash.
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

/// The files from which a task's records are read, with the SHA-256 of each after unpacking.
pub(crate) fn hashes(task: &Task, folder: &Path) -> Result<Vec<(String, String)>> {
    let mut hashes = Vec::new();
    for file in task.data.iter().filter(|file| wanted(task, file)) {
        for group in groups(task, file) {
            let (path, packed) = find(task, file, folder, group)?;
            hashes.push((named(file, group), sha256(&unpack(&path, packed)?)));
        }
    }
    Ok(hashes)
}

/// A single hash for all data: the hash of the only file, or the hash of all hashes.
pub(crate) fn fingerprint(hashes: &[(String, String)]) -> String {
    match hashes {
        [(_, one)] => one.clone(),
        all => {
            let all: Vec<&str> = all.iter().map(|(_, hash)| hash.as_str()).collect();
            sha256(all.join("\n").as_bytes())
        }
    }
}

/// Whether all files from which a task's records are read exist.
pub(crate) fn is_there(task: &Task, folder: &Path) -> bool {
    let there = |file: &DataFile, group| locate(task, file, folder, group).is_some();
    let mut wanted = task.data.iter().filter(|file| wanted(task, file));
    wanted.all(|file| groups(task, file).into_iter().all(|group| there(file, group)))
}

/// The groups for which a file has copies, or `[None]` if it has none.
fn groups<'a>(task: &'a Task, file: &DataFile) -> Vec<Option<&'a str>> {
    match file.file.contains("{group}") {
        true => task.groups.keys().map(|group| Some(group.as_str())).collect(),
        false => vec![None],
    }
}

/// The name of a file in a group.
fn named(file: &DataFile, group: Option<&str>) -> String {
    file.file.replace("{group}", group.unwrap_or_default())
}

/// The path of a data file, packed or not.
fn locate(task: &Task, file: &DataFile, folder: &Path, group: Option<&str>) -> Option<PathBuf> {
    let folder = task.folder.as_deref().unwrap_or(folder);
    let name = named(file, group);
    let paths = ["", ".gz", ".bz2"].iter().map(|ending| folder.join(format!("{name}{ending}")));
    paths.into_iter().find(|path| path.exists())
}

/// Whether the task's items or examples are read from a file.
fn wanted(task: &Task, file: &DataFile) -> bool {
    match file.role {
        Role::Items | Role::Labels => true,
        Role::Shots => task.shots > 0,
        Role::Other => false,
    }
}

/// Finds and reads a data file.
fn find(
    task: &Task,
    file: &DataFile,
    folder: &Path,
    group: Option<&str>,
) -> Result<(PathBuf, Vec<u8>)> {
    let path = locate(task, file, folder, group).ok_or_else(|| {
        let folder = task.folder.as_deref().unwrap_or(folder);
        Error::MissingData { path: folder.join(named(file, group)), task: task.name.clone() }
    })?;
    let bytes = trilobite_format::read_regular(&path).map_err(Error::io(&path))?;
    Ok((path, bytes))
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
            let refuse = |line, error| fail(line, format!("not an array of objects: {error}"));
            let values: Vec<&RawValue> =
                serde_json::from_str(text).map_err(|error| refuse(error.line(), error))?;
            let mut place = LineNumber::new(text);
            for value in values {
                // Each value is a part of the text.
                let number = place.at(value.get().as_ptr() as usize - text.as_ptr() as usize);
                let fields = serde_json::from_str(value.get());
                add(number, fields.map_err(|error| refuse(number, error))?, None);
            }
        }
        Format::Csv => {
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let header = reader.headers().map_err(|error| fail(1, error.to_string()))?.clone();
            let mut place = LineNumber::new(text);
            // A position is before the empty lines that are skipped.
            let mut line = |position: Option<&csv::Position>| {
                let at = position.map_or(0, |position| position.byte() as usize);
                let rest = text.get(at..).unwrap_or_default();
                place.at(text.len() - rest.trim_start_matches(['\r', '\n']).len())
            };
            for row in reader.records() {
                let row = row.map_err(|error| fail(line(error.position()), error.to_string()))?;
                add(line(row.position()), fields(header.iter(), row.iter()), None);
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

/// The numbers of lines at rising places of a text.
struct LineNumber<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> LineNumber<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 1 }
    }

    /// The line of the byte at `at`.
    fn at(&mut self, at: usize) -> usize {
        let passed = self.text.as_bytes().get(self.at..at).unwrap_or_default();
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.at = at;
        self.line
    }
}

fn fields<'a>(header: impl Iterator<Item = &'a str>, row: impl Iterator<Item = &'a str>) -> Fields {
    header.zip(row).map(|(name, value)| (name.to_owned(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(format: Format, text: &str) -> Result<Vec<usize>> {
        let records = parse(Path::new("data"), format, text.as_bytes())?;
        Ok(records.iter().map(|record| record.line).collect())
    }

    #[test]
    fn records_know_their_lines() {
        for (format, text, expected) in [
            (Format::Jsonl, "\u{feff}{\"a\":1}\n\n{\"a\":2}\n", [1, 3]),
            (Format::Json, "\u{feff}[\n\n{\"a\":\n1},\n  {\"a\":2}]\n", [3, 5]),
            (Format::Csv, "\u{feff}a\n\n\"x\ny\"\nz\n", [3, 5]),
            (Format::Tsv, "\u{feff}a\tb\n1\t2\n3\t4\n", [2, 3]),
        ] {
            assert_eq!(lines(format, text).unwrap(), expected, "{format:?}");
        }
        for (format, text, place) in [
            (Format::Jsonl, "{}\n\n5\n", "data line 3: "),
            (Format::Json, "[{},\n{},\n5]", "data line 3: not an array of objects"),
            (Format::Json, "[{},\n{", "data line 2: not an array of objects"),
            (Format::Csv, "a,b\n1,2\n\n3\n", "data line 4: "),
            (Format::Tsv, "a\tb\n1\t2\n3\n", "data line 3: "),
        ] {
            let error = lines(format, text).unwrap_err().to_string();
            assert!(error.contains(place), "{error}");
        }
    }
}
