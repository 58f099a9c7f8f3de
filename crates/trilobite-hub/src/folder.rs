//! Folders of the cache: their subfolders, size and removal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The subfolders of a folder; empty if the folder does not exist.
pub(crate) fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io(folder))?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(Error::io(folder))?;
    paths.retain(|path| path.is_dir());
    Ok(paths)
}

/// Whether a folder is empty or does not exist.
pub(crate) fn is_empty(folder: &Path) -> Result<bool> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        entries => Ok(entries.map_err(Error::io(folder))?.next().is_none()),
    }
}

/// Size of a file, or of all files in a folder. Links are not followed, and files that another
/// process removes or renames in the meantime are ignored.
pub(crate) fn disk_bytes(path: &Path) -> io::Result<u64> {
    let count = || {
        let metadata = path.symlink_metadata()?;
        if !metadata.is_dir() {
            return Ok(metadata.len());
        }
        fs::read_dir(path)?.map(|entry| disk_bytes(&entry?.path())).sum()
    };
    match count() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        counted => counted,
    }
}

/// Removes a folder and returns its size in bytes. If it is a link, only the link is removed.
pub(crate) fn remove_folder(folder: &Path) -> Result<u64> {
    let remove = || {
        if folder.symlink_metadata()?.is_symlink() {
            return fs::remove_file(folder).map(|()| 0);
        }
        let bytes = disk_bytes(folder)?;
        fs::remove_dir_all(folder).map(|()| bytes)
    };
    remove().map_err(Error::io(folder))
}
