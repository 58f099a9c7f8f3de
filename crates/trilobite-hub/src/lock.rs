//! Locks between processes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Opens or creates a file and locks it. Returns `None` if another process holds the lock.
pub(crate) fn open_locked(path: &Path) -> io::Result<Option<File>> {
    loop {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            // Without file locks only the protection from concurrent changes is lost.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        // Another process may have renamed or removed the file between the two calls.
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
}

/// Removes a file, which another process may have removed.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(Error::io(path)),
    }
}

/// Whether an open file is still the one at a path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let opened = file.metadata()?;
    Ok(std::fs::metadata(path)
        .is_ok_and(|found| (found.dev(), found.ino()) == (opened.dev(), opened.ino())))
}

/// Other systems do not rename open files.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// An exclusive lock on a stored model.
pub(crate) struct ModelLock {
    path: PathBuf,
    _file: File,
}

impl ModelLock {
    /// Locks a model's folder by a file beside it.
    ///
    /// # Errors
    /// [`Error::Busy`], or the file cannot be created.
    pub(crate) fn take(folder: &Path, name: &str) -> Result<ModelLock> {
        let own = folder.file_name().unwrap_or_default().to_string_lossy();
        let path = folder.with_file_name(format!(".{own}.lock"));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
        }
        match open_locked(&path).map_err(Error::io(&path))? {
            Some(file) => Ok(ModelLock { path, _file: file }),
            None => Err(Error::Busy { name: name.to_owned(), doing: "pulling or removing" }),
        }
    }
}

impl Drop for ModelLock {
    fn drop(&mut self) {
        // An empty file that cannot be removed does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}
