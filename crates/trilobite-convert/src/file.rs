//! Conversion into a file that either is complete or is not there.

use std::fs::File;
use std::io::{self, BufWriter};
use std::ops::ControlFlow;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::options::{Options, Progress, Report};
use crate::source::Checkpoint;
use crate::{Error, verify, write};

/// Converts a checkpoint into the file `out`.
///
/// The file is written under a temporary name in the same folder, synchronised with the disk, read
/// back and compared with the source (its hash, its header, and every ternary weight), and only
/// then renamed; whatever goes wrong, `out` is as it was before. Without `force` an existing `out`
/// is an error.
///
/// # Errors
/// See [`Error`].
pub fn convert_file(
    checkpoint: &Checkpoint,
    options: &Options,
    out: &Path,
    force: bool,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Report, Error> {
    let refuse = |why| Err(Error::OutputPath { path: out.to_owned(), why });
    if out.file_name().is_none() {
        return refuse("it names no file");
    }
    if out.exists() && !out.is_file() {
        return refuse("it is a folder or a device");
    }
    if checkpoint.contains(out) {
        return refuse("it is the source");
    }
    if !force && out.symlink_metadata().is_ok() {
        return Err(Error::Exists(out.to_owned()));
    }
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return refuse("its folder does not exist");
    }

    // Before the file is made, so that a bad checkpoint costs nothing.
    let plan = write::plan(checkpoint, options)?;
    let failed = |source: io::Error| Error::Output { path: out.to_owned(), source };
    let temporary = temporary(folder).map_err(failed)?;
    let mut buffered = BufWriter::with_capacity(1 << 20, temporary.as_file());
    let (plan, report) =
        write::write(plan, &mut buffered, progress).map_err(|error| match error {
            Error::Write(trilobite_format::Error::Io(source)) => failed(source),
            other => other,
        })?;
    buffered.into_inner().map_err(|error| failed(error.into_error()))?;
    temporary.as_file().sync_all().map_err(failed)?;

    let open = || File::open(temporary.path());
    let (hash, differs) = std::thread::scope(|scope| {
        let hash = scope.spawn(|| open().and_then(verify::sha256));
        let differs = open().map_err(failed).and_then(|file| verify::verify(&plan, file, progress));
        (hash.join(), differs)
    });
    let same_hash = hash.is_ok_and(|hash| hash.is_ok_and(|hash| hash == report.sha256));
    if let Some(what) = differs?.or_else(|| (!same_hash).then(|| "the hash".to_owned())) {
        return Err(Error::Verify { path: out.to_owned(), what });
    }

    if force {
        temporary.persist(out).map_err(|error| failed(error.error))?;
    } else {
        temporary.persist_noclobber(out).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(out.to_owned()),
            _ => failed(error.error),
        })?;
    }
    // Makes the rename last through a power cut. The file is complete either way, and not every
    // system can do this for a folder, so that a failure is no reason to report one.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(report)
}

/// A hidden file in the target's folder, removed when it is dropped. It gets the permissions of an
/// ordinary new file, not the private ones of temporary files.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".trilobite-").suffix(".partial");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}
