//! The files of a task's results: `NAME.jsonl` has a line for each finished item,
//! `NAME.settings.json` what the results depend on, and `NAME.samples.jsonl` the prompts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bytes::utf8;
use crate::error::{Error, Result};
use crate::shard::Shard;
use crate::task::Task;

/// A line of a results file.
#[derive(Clone)]
pub(crate) struct Line {
    /// The number of the line in the file, from 1.
    pub(crate) number: usize,
    /// The item's id.
    pub(crate) id: String,
    /// The parsed line.
    pub(crate) value: Value,
}

/// A file to which one run at a time appends lines.
pub(crate) struct AppendFile {
    path: PathBuf,
    file: File,
}

impl AppendFile {
    /// Opens or creates a file and locks it until it is dropped.
    ///
    /// # Errors
    /// The file cannot be opened, or another run has locked it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(Error::io(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: path.to_owned() }),
            // The file system does not support locks.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// The complete lines. An incomplete line at the end is cut off the file.
    ///
    /// # Errors
    /// The file cannot be read or truncated, or is not UTF-8.
    pub(crate) fn lines(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        self.file.rewind().map_err(Error::io(&self.path))?;
        self.file.read_to_end(&mut bytes).map_err(Error::io(&self.path))?;
        let read = bytes.len();
        let text = whole_lines(&self.path, bytes)?;
        if text.len() < read {
            self.file.set_len(text.len() as u64).map_err(Error::io(&self.path))?;
        }
        Ok(text)
    }

    /// Appends a line in a single write, so that a run that is killed leaves at most one incomplete
    /// line.
    ///
    /// # Errors
    /// The line cannot be written completely.
    pub(crate) fn append(&mut self, line: &Value) -> Result<()> {
        self.file.seek(SeekFrom::End(0)).map_err(Error::io(&self.path))?;
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(Error::io(&self.path))
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    /// The data cannot be written to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(Error::io(&self.path))
    }
}

/// The lines of a file without an incomplete one at the end.
fn whole_lines(path: &Path, mut bytes: Vec<u8>) -> Result<String> {
    bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1));
    utf8(path, &bytes).map(str::to_owned)
}

/// The path of a task's results file.
pub(crate) fn items_path(folder: &Path, task: &Task) -> PathBuf {
    folder.join(format!("{}.jsonl", task.name))
}

/// The path of a task's file of prompts.
pub(crate) fn samples_path(folder: &Path, task: &Task) -> PathBuf {
    folder.join(format!("{}.samples.jsonl", task.name))
}

/// Reads a results file.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    parse(path, &whole_lines(path, bytes)?)
}

/// Parses a results file. Every item must have one result.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let fail = |message: String| Error::Record { path: path.to_owned(), line: number, message };
        let value: Option<Value> = serde_json::from_str(line).ok();
        let id = value.as_ref().and_then(|value| Some(value.get("id")?.as_str()?.to_owned()));
        let (Some(value), Some(id)) = (value, id) else { return Err(fail("not a result".into())) };
        if let Some(other) = places.insert(id.clone(), number) {
            return Err(fail(format!("item {id} has a result in line {other} already")));
        }
        lines.push(Line { number, id, value });
    }
    Ok(lines)
}

/// Replaces all lines of a file. The old lines stay until the new ones are on the disk.
///
/// # Errors
/// A line is an error, the file cannot be written, or another run is writing it.
pub(crate) fn replace(path: &Path, lines: &mut dyn Iterator<Item = Result<Value>>) -> Result<()> {
    let held = AppendFile::open(path)?;
    let partial = path.with_extension("jsonl.partial");
    let write = || {
        let mut file = BufWriter::new(File::create(&partial).map_err(Error::io(path))?);
        for line in lines {
            writeln!(file, "{}", line?).map_err(Error::io(path))?;
        }
        file.flush().map_err(Error::io(path))?;
        std::fs::rename(&partial, path).map_err(Error::io(path))
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&partial);
    })?;
    drop(held);
    Ok(())
}

/// The settings of a run: what its results depend on, and the requested items.
#[derive(Clone, Debug)]
pub(crate) struct RunSettings {
    /// An object of everything that results depend on.
    pub(crate) identity: Value,
    /// Number of requested items of the task.
    pub(crate) items: usize,
    /// The requested parts of the task.
    pub(crate) parts: Vec<Shard>,
}

/// The field of the settings file with the requested items. Results do not depend on it.
const ITEMS: &str = "items";
const PARTS: &str = "parts";

impl RunSettings {
    /// Reads the settings in a folder. Returns `None` if there is no file, or only the beginning of
    /// one.
    ///
    /// # Errors
    /// The file cannot be read or has other contents.
    pub(crate) fn read(folder: &Path, task: &Task) -> Result<Option<Self>> {
        let path = settings_path(folder, task);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let fail = |line, message| Error::Record { path: path.clone(), line, message };
        let mut identity: Value = match serde_json::from_slice(&bytes) {
            Ok(value) => value,
            Err(error) if error.is_eof() => return Ok(None),
            Err(error) => return Err(fail(error.line(), error.to_string())),
        };
        let object = identity.as_object_mut();
        let object = object.ok_or_else(|| fail(1, "not the settings of a run".to_owned()))?;
        let items = object.remove(ITEMS).and_then(|items| items.as_u64()).unwrap_or(0);
        let parts = object.remove(PARTS).unwrap_or_default();
        let part = |part: &Value| part.as_str()?.parse().ok();
        let parts = parts.as_array().into_iter().flatten().filter_map(part).collect();
        Ok(Some(Self { items: usize::try_from(items).unwrap_or(usize::MAX), parts, identity }))
    }

    /// Writes the settings, or adds the requested items to existing settings. The old settings stay
    /// until the new ones are on the disk.
    ///
    /// # Errors
    /// The existing settings belong to other results, or there are results without settings.
    pub(crate) fn save(mut self, folder: &Path, task: &Task) -> Result<()> {
        let path = settings_path(folder, task);
        if let Some(found) = Self::read(folder, task)? {
            let fields = self.identity.as_object().into_iter().flatten();
            // A setting that is not there is null.
            let other = |(field, value): &(&String, &Value)| {
                found.identity.get(*field).unwrap_or(&Value::Null) != *value
            };
            let mut others = fields.filter(other);
            // Examples change the hash of the data too. Their number makes a better message.
            let number = |(field, _): &(&String, &Value)| {
                *field == "shots" && found.identity.get("shots").is_some()
            };
            if let Some((field, value)) = others.clone().find(number).or_else(|| others.next()) {
                let found = found.identity.get(field).map_or("missing".into(), Value::to_string);
                let (field, expected) = (field.clone(), value.to_string());
                return Err(Error::OtherRun { path, field, found, expected });
            }
            self.items = self.items.max(found.items);
            self.parts.extend(found.parts);
        } else if !path.exists() {
            // Incomplete settings are those of a run that was broken off while it wrote them.
            let items = items_path(folder, task);
            if std::fs::metadata(&items).is_ok_and(|items| items.len() > 0) {
                return Err(Error::NoSettings { path: items, settings: path });
            }
        }
        self.parts.sort_unstable();
        self.parts.dedup();
        let parts: Vec<String> = self.parts.iter().map(Shard::to_string).collect();
        let mut all = self.identity;
        all[ITEMS] = self.items.into();
        all[PARTS] = json!(parts);
        let partial = path.with_extension("json.partial");
        let write = || {
            let mut file = File::create(&partial)?;
            file.write_all(format!("{all:#}\n").as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&partial, &path)
        };
        write().map_err(Error::io(&path)).inspect_err(|_| {
            let _ = std::fs::remove_file(&partial);
        })
    }
}

fn settings_path(folder: &Path, task: &Task) -> PathBuf {
    folder.join(format!("{}.settings.json", task.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(model: &str, items: usize, part: &str) -> RunSettings {
        let identity = json!({"task": "gsm8k", "model_sha256": model});
        RunSettings { identity, items, parts: vec![part.parse().unwrap()] }
    }

    /// A run may be killed, or the disk may be full, anywhere in a line, even within a character.
    #[test]
    fn torn_lines_are_cut_off_and_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gsm8k.jsonl");
        let whole = json!({"id": "1", "output": "café"});
        let line = format!("{whole}\n").into_bytes();
        for torn in 0..line.len() {
            let first = b"{\"id\":\"0\"}\n";
            std::fs::write(&path, [&first[..], &line[..torn]].concat()).unwrap();
            assert_eq!(read(&path).unwrap().len(), 1, "{torn}");
            let mut file = AppendFile::open(&path).unwrap();
            assert_eq!(file.lines().unwrap().as_bytes(), first, "{torn}");
            file.append(&whole).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), [&first[..], &line].concat(), "{torn}");
        }
        std::fs::write(&path, b"{\"id\":\"caf\xc3\"}\n").unwrap();
        let error = AppendFile::open(&path).unwrap().lines().unwrap_err().to_string();
        assert!(error.contains("gsm8k.jsonl line 1: not UTF-8"), "{error}");
    }

    #[test]
    fn only_one_run_at_a_time_has_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gsm8k.jsonl");
        let held = AppendFile::open(&path).unwrap();
        let error = AppendFile::open(&path).err().unwrap().to_string();
        assert!(error.contains("gsm8k.jsonl: another run is at work on it"), "{error}");
        assert!(replace(&path, &mut [Ok(json!({"id": "0"}))].into_iter()).is_err());
        drop(held);
        replace(&path, &mut [Ok(json!({"id": "0"}))].into_iter()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"id\":\"0\"}\n");
    }

    #[test]
    fn an_item_has_one_result() {
        let path = Path::new("r.jsonl");
        let two = "{\"id\":\"a\",\"x\":1}\n{\"id\":\"b\",\"x\":1}\n";
        assert_eq!(parse(path, two).unwrap().len(), 2);
        for again in ["{\"x\":1,\"id\":\"a\"}\n", "{\"x\":2,\"id\":\"a\"}\n"] {
            let error = parse(path, &format!("{two}{again}")).err().unwrap().to_string();
            assert_eq!(error, "r.jsonl line 3: item a has a result in line 1 already");
        }
        let error = parse(path, "{\"id\":\"a\"}\nnull\n").err().unwrap().to_string();
        assert_eq!(error, "r.jsonl line 2: not a result");
    }

    /// Settings that are not written completely are those of a run that was broken off.
    #[test]
    fn half_written_settings_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, task) = (folder.path(), Task::named("gsm8k").unwrap());
        let path = settings_path(folder, &task);
        assert!(RunSettings::read(folder, &task).unwrap().is_none());
        settings("a", 4, "1/1").save(folder, &task).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for torn in 0..whole.len() - 2 {
            std::fs::write(&path, &whole[..torn]).unwrap();
            assert!(RunSettings::read(folder, &task).unwrap().is_none(), "{torn}");
            settings("a", 4, "1/1").save(folder, &task).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        for other in ["{]", "[]", "null"] {
            std::fs::write(&path, other).unwrap();
            let error = settings("a", 4, "1/1").save(folder, &task).unwrap_err().to_string();
            assert!(error.contains("gsm8k.settings.json line 1: "), "{error}");
        }
    }

    /// Without their settings, results may be those of another model.
    #[test]
    fn results_without_settings_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, task) = (folder.path(), Task::named("gsm8k").unwrap());
        let (path, items) = (settings_path(folder, &task), items_path(folder, &task));
        std::fs::write(&items, "").unwrap();
        settings("a", 4, "1/1").save(folder, &task).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&items, "{\"id\":\"0\"}\n").unwrap();
        settings("a", 4, "1/1").save(folder, &task).unwrap();
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
        std::fs::remove_file(&path).unwrap();
        let error = settings("a", 4, "1/1").save(folder, &task).unwrap_err().to_string();
        assert!(error.contains("gsm8k.jsonl: results without their settings"), "{error}");
        assert!(error.contains("there is no") && error.contains("gsm8k.settings.json"), "{error}");
        for torn in [0, whole.len() / 2] {
            std::fs::write(&path, &whole[..torn]).unwrap();
            settings("a", 4, "1/1").save(folder, &task).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        std::fs::remove_file(&items).unwrap();
        std::fs::remove_file(&path).unwrap();
        settings("b", 4, "1/1").save(folder, &task).unwrap();
    }

    #[test]
    fn settings_gather_what_was_asked_for_and_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, task) = (folder.path(), Task::named("gsm8k").unwrap());
        settings("a", 4, "2/2").save(folder, &task).unwrap();
        settings("a", 8, "1/2").save(folder, &task).unwrap();
        settings("a", 2, "1/2").save(folder, &task).unwrap();
        let found = RunSettings::read(folder, &task).unwrap().unwrap();
        let parts: Vec<String> = found.parts.iter().map(Shard::to_string).collect();
        assert_eq!((found.items, parts.join(" ").as_str()), (8, "1/2 2/2"));
        let error = settings("b", 4, "1/2").save(folder, &task).unwrap_err().to_string();
        let expected = "results of another run (model_sha256 is \"a\", this run's is \"b\")";
        assert!(error.contains(expected), "{error}");
    }

    /// Some of these floats change in serde_json without `float_roundtrip`.
    #[test]
    fn floats_are_read_as_they_were_written() {
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Log-likelihoods from -1 to -1024.
            let float = -f64::from_bits((bits >> 12) | (1023 + (bits & 7)) << 52);
            let text = json!({"logprob": float}).to_string();
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["logprob"].as_f64().map(f64::to_bits), Some(float.to_bits()), "{text}");
        }
    }
}
