//! Task definitions in files.

use std::path::Path;

use super::{Kind, Role, Task};
use crate::bytes::{sha256, utf8};
use crate::error::{Error, Result};

/// An error in a definition, and its line.
pub(super) struct DefinitionError {
    /// The line, from 1.
    line: usize,
    pub(super) message: String,
}

impl Task {
    /// Reads the definition of a task. The file's name is the name of the task, and its data are in
    /// the same folder.
    ///
    /// # Errors
    /// The file cannot be read or is not a valid definition.
    pub fn open(path: &Path) -> Result<Task> {
        let bytes = trilobite_format::read_regular(path).map_err(Error::io(path))?;
        let fail = |line, message| Error::Record { path: path.to_owned(), line, message };
        let text = utf8(path, &bytes)?;
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
        let name = name.ok_or_else(|| fail(1, "the file has no name".to_owned()))?;
        let task = Task::parse(&name, text).map_err(|fault| fail(fault.line, fault.message))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Task { folder: Some(folder), path: Some(path.to_owned()), ..task })
    }

    /// Parses the definition of a task.
    pub(super) fn parse(name: &str, text: &str) -> std::result::Result<Task, DefinitionError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut task: Task = toml::from_str(text).map_err(|error| {
            let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(""));
            let line = 1 + before.matches('\n').count();
            let message = error.message().trim_end().replace('\n', "; ");
            DefinitionError { line, message: in_words(&message) }
        })?;
        if let Some(message) = task.fault() {
            return Err(DefinitionError { line: 1, message });
        }
        task.name = name.to_owned();
        if task.title.is_empty() {
            task.title = name.to_owned();
        }
        task.sha256 = sha256(text.as_bytes());
        match task.shots {
            0 => Ok(task),
            shots => task
                .with_shots(shots)
                .map_err(|error| DefinitionError { line: 1, message: error.to_string() }),
        }
    }

    /// Sets the number of examples before each item.
    ///
    /// # Errors
    /// The definition has no examples.
    pub fn with_shots(mut self, shots: usize) -> Result<Task> {
        let message = match &self.kind {
            _ if shots == 0 => None,
            Kind::Rolling {} | Kind::Conversation(_) => {
                Some(format!("a task of the kind {} has no examples", self.kind.name()))
            }
            Kind::Generation(generation) if generation.target.is_empty() => {
                Some("kind.generation.target is missing: the answer to an example".to_owned())
            }
            Kind::Choice(_) | Kind::Generation(_) => {
                let none = self.data.iter().all(|file| file.role != Role::Shots);
                none.then(|| "no data file has the role \"shots\"".to_owned())
            }
        };
        match message {
            Some(why) => {
                let message = format!("{shots} examples before each item: {why}");
                Err(Error::Definition { task: self.name, message })
            }
            None => {
                self.shots = shots;
                Ok(self)
            }
        }
    }
}

/// A message without the names of Rust's types of numbers.
fn in_words(message: &str) -> String {
    let (fault, expected) = match message.rsplit_once(", expected ") {
        Some((fault, "usize" | "u32" | "u64")) => (fault, "a whole number that is not negative"),
        Some((fault, "f32" | "f64")) => (fault, "a number"),
        _ => return message.to_owned(),
    };
    format!("{fault}, expected {expected}")
}
