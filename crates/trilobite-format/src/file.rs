//! Files that are read from any place in them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file for reading. Folders, devices and FIFOs are refused, and a FIFO that nobody
/// writes to is not waited for.
///
/// # Errors
/// The file cannot be opened, or is not a regular one.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A FIFO is opened at once, and a terminal does not become this process's own.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        let what = "it is a device or a FIFO, expected a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(file)
}

/// The bytes of a regular file.
///
/// # Errors
/// As of [`open_regular`], or the file cannot be read.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
