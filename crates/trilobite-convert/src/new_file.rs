//! Files that take their names when they are complete.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::Error;

/// What the hidden name of an incomplete file begins with, and how it ends.
const PREFIX: &str = ".trilobite-";
const SUFFIX: &str = ".partial";
/// Random characters between the target's name and the end.
const RANDOM: usize = 6;
/// Bytes of the target's name that are part of the hidden one; file systems allow 255 in all.
const LONGEST: usize = 200;

/// A file that is written under a hidden name beside its target, and takes the target's name when
/// it is complete.
///
/// It is removed when it is dropped. One that a killed process left is removed when the next file
/// for the same target is made; while another process is writing one, none can be made.
#[derive(Debug)]
pub struct NewFile {
    target: PathBuf,
    temporary: NamedTempFile,
}

impl NewFile {
    /// Creates an empty file that becomes `target`, with the permissions of an ordinary new file.
    ///
    /// # Errors
    /// `target` is something else than a file or lies in no folder, another process is writing it,
    /// or its folder cannot be written to.
    pub fn create(target: &Path) -> Result<NewFile, Error> {
        check(target)?;
        let folder = folder(target);
        let prefix = prefix(target);
        if remove_abandoned(folder, &prefix) == Found::Writer {
            return Err(refused(target, "another process is writing it"));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(SUFFIX).rand_bytes(RANDOM);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let failed = |source| Error::Output { path: target.to_owned(), source };
        let temporary = builder.tempfile_in(folder).map_err(failed)?;
        // Tells other processes that this one is alive. Where files cannot be locked, none of them
        // removes what it cannot lock.
        #[cfg(unix)]
        let _ = temporary.as_file().try_lock();
        Ok(NewFile { target: target.to_owned(), temporary })
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Its present name.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the file its target's name. An existing target is an error unless `replace`.
    ///
    /// # Errors
    /// [`Error::Exists`], or the file cannot be renamed.
    pub fn finish(self, replace: bool) -> Result<(), Error> {
        // The target may have become something else in the meantime.
        check(&self.target)?;
        let target = &self.target;
        let renamed = match replace {
            true => self.temporary.persist(target),
            false => self.temporary.persist_noclobber(target),
        };
        match renamed.map_err(|error| error.error) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Exists(target.clone()))
            }
            Err(source) => Err(Error::Output { path: target.clone(), source }),
        }
    }
}

/// Refuses a target that a rename would not merely create or replace as a file.
pub(crate) fn check(target: &Path) -> Result<(), Error> {
    if target.file_name().is_none() {
        return Err(refused(target, "it names no file"));
    }
    if let Ok(found) = target.symlink_metadata() {
        if found.is_symlink() {
            return Err(refused(target, "it is a symbolic link, and would be replaced by a file"));
        }
        if !found.is_file() {
            return Err(refused(target, "it is a folder or a device"));
        }
    }
    if !folder(target).is_dir() {
        return Err(refused(target, "its folder does not exist"));
    }
    Ok(())
}

fn refused(target: &Path, why: &'static str) -> Error {
    Error::OutputPath { path: target.to_owned(), why }
}

/// The folder of a file.
pub(crate) fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The beginning of the hidden name of a file that becomes `target`.
fn prefix(target: &Path) -> String {
    let name = target.file_name().expect("`check` refuses a target that names no file");
    let name = name.to_string_lossy();
    let mut end = name.len().min(LONGEST);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{PREFIX}{}-", &name[..end])
}

#[derive(PartialEq, Eq)]
enum Found {
    Nothing,
    /// A process that is writing such a file.
    Writer,
}

/// Removes the files of this prefix that no process is writing any more.
fn remove_abandoned(folder: &Path, prefix: &str) -> Found {
    // Elsewhere a locked file cannot be read by its own process either.
    if !cfg!(unix) {
        return Found::Nothing;
    }
    // A folder may be written to and not listed.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_suffix(SUFFIX));
        if random.is_none_or(|random| random.len() != RANDOM) {
            continue;
        }
        let Ok(file) = trilobite_format::open_regular(&entry.path()) else { continue };
        match file.try_lock() {
            // What cannot be removed is only in the way of the disk's space.
            Ok(()) => drop(std::fs::remove_file(entry.path())),
            Err(TryLockError::WouldBlock) => return Found::Writer,
            Err(TryLockError::Error(_)) => {}
        }
    }
    Found::Nothing
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_target_has_one_writer_and_what_a_killed_one_left_goes() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        // As long as a name may be, and of the same beginning.
        let other = folder.path().join(format!("a-{}", "x".repeat(253)));
        for abandoned in [".trilobite-a-abc123.partial", ".trilobite-a-b-abc123.partial"] {
            std::fs::write(folder.path().join(abandoned), "half").unwrap();
        }
        let one = NewFile::create(&target).unwrap();
        assert!(matches!(NewFile::create(&target), Err(Error::OutputPath { .. })));
        let two = NewFile::create(&other).unwrap();
        one.file().write_all(b"whole").unwrap();
        assert!(!target.exists());
        one.finish(false).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        drop(two);
        // The second is of another target.
        assert_eq!(names(folder.path()), [".trilobite-a-b-abc123.partial", "a"]);

        let again = NewFile::create(&target).unwrap();
        assert!(matches!(again.finish(false), Err(Error::Exists(_))));
        NewFile::create(&target).unwrap().finish(true).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"");
        assert_eq!(names(folder.path()), [".trilobite-a-b-abc123.partial", "a"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("link");
        for leads_to in ["nowhere", "/dev/null", "file"] {
            std::fs::write(folder.path().join("file"), "mine").unwrap();
            std::os::unix::fs::symlink(leads_to, &target).unwrap();
            assert!(matches!(NewFile::create(&target), Err(Error::OutputPath { .. })));
            std::fs::remove_file(&target).unwrap();
            let late = NewFile::create(&target).unwrap();
            std::os::unix::fs::symlink(leads_to, &target).unwrap();
            assert!(matches!(late.finish(true), Err(Error::OutputPath { .. })));
            assert_eq!(std::fs::read_link(&target).unwrap(), Path::new(leads_to));
            std::fs::remove_file(&target).unwrap();
        }
        assert_eq!(names(folder.path()), ["file"]);
        assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), b"mine");
    }
}
