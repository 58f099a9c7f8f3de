//! New files, written under a hidden name and renamed when complete.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::Error;

/// Prefix and suffix of the hidden name of an incomplete file.
const PREFIX: &str = ".trilobite-";
const SUFFIX: &str = ".partial";
/// Number of random characters in the hidden name.
const RANDOM: usize = 6;
/// Maximum bytes of the target's name in the hidden name. File systems allow 255 bytes in all.
const MAX_NAME: usize = 200;

/// A file that is written under a hidden name beside its target and renamed to the target when
/// complete.
///
/// Dropping it removes the file. Creating one removes those that killed processes left for the same
/// target. Only one process at a time can write a target.
#[derive(Debug)]
pub struct NewFile {
    target: PathBuf,
    temporary: NamedTempFile,
}

impl NewFile {
    /// Creates an empty file for `target`, with the permissions of an ordinary new file.
    ///
    /// # Errors
    /// `target` exists and is not a file, has no folder, or is being written by another process; or
    /// its folder is not writable.
    pub fn create(target: &Path) -> Result<NewFile, Error> {
        check(target)?;
        let folder = folder(target);
        let prefix = prefix(target);
        if remove_abandoned(folder, &prefix) == PrefixUse::InUse {
            return Err(refused(target, "another process is writing it"));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(SUFFIX).rand_bytes(RANDOM);
        let failed = |source| Error::Output { path: target.to_owned(), source };
        // The errors of `tempfile_in` name the hidden path.
        let open = |path: &Path| File::options().read(true).write(true).create_new(true).open(path);
        let temporary = builder.make_in(folder, open).map_err(failed)?;
        // The lock tells other processes that this one is alive. Without file locks they cannot
        // lock the file either, and leave it alone.
        #[cfg(unix)]
        let _ = temporary.as_file().try_lock();
        // Before it was locked, another process may have taken it for abandoned.
        if !temporary.path().exists() {
            return Err(refused(target, "another process is writing it"));
        }
        Ok(NewFile { target: target.to_owned(), temporary })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// The current, hidden path.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Renames the file to its target. An existing target is an error unless `replace`.
    ///
    /// # Errors
    /// [`Error::Exists`], or the rename fails.
    pub fn finish(self, replace: bool) -> Result<(), Error> {
        // The target may have changed in the meantime.
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

/// Checks that a rename to the target creates or replaces an ordinary file.
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

/// The prefix of the hidden names for this target.
fn prefix(target: &Path) -> String {
    let name = target.file_name().expect("`check` refuses a target that names no file");
    let name = name.to_string_lossy();
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{PREFIX}{}-", &name[..end])
}

/// Whether another process is writing a file with a prefix.
#[derive(PartialEq, Eq)]
enum PrefixUse {
    Free,
    InUse,
}

/// Removes the files with this prefix that no process is writing.
fn remove_abandoned(folder: &Path, prefix: &str) -> PrefixUse {
    // On other systems a process cannot read a file that it has locked itself.
    if !cfg!(unix) {
        return PrefixUse::Free;
    }
    // A writable folder may be unreadable.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_suffix(SUFFIX));
        if random.is_none_or(|random| random.len() != RANDOM) {
            continue;
        }
        let Ok(file) = trilobite_format::open_regular(&entry.path()) else { continue };
        match file.try_lock() {
            // A file that cannot be removed only takes up space.
            Ok(()) => drop(std::fs::remove_file(entry.path())),
            Err(TryLockError::WouldBlock) => return PrefixUse::InUse,
            Err(TryLockError::Error(_)) => {}
        }
    }
    PrefixUse::Free
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
        // A name of maximum length with the same start.
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
        // The other file has another target.
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
