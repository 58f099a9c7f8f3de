//! Converting into a file, all or nothing.

use std::fs::File;
use std::io::{self, BufWriter};
use std::ops::ControlFlow;
use std::path::Path;

use crate::new_file::{self, NewFile};
use crate::options::{Options, Progress, Report};
use crate::source::Checkpoint;
use crate::{Error, verify, write};

/// Why a source cannot be the output of its conversion.
pub const IS_SOURCE: &str = "it is the source";

/// Converts a checkpoint into the file `out`.
///
/// The file is written under a temporary name in the same folder (see [`NewFile`]) and synchronised
/// with the disk. Then it is read back and compared with the source: its hash, its header and every
/// ternary weight. Only then is it renamed to `out`. After an error `out` is unchanged. An existing
/// `out` is an error unless `force`.
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
    new_file::check(out)?;
    if checkpoint.contains(out) {
        return Err(Error::OutputPath { path: out.to_owned(), why: IS_SOURCE });
    }
    if !force && out.exists() {
        return Err(Error::Exists(out.to_owned()));
    }

    write::start_threads(0)?;
    // Plan before the file is created, so that an invalid checkpoint costs nothing.
    let plan = write::plan(checkpoint, options)?;
    let failed = |source: io::Error| Error::Output { path: out.to_owned(), source };
    let new = NewFile::create(out)?;
    let mut buffered = BufWriter::with_capacity(1 << 20, new.file());
    let (plan, report) =
        write::write(plan, &mut buffered, progress).map_err(|error| match error {
            Error::Write(trilobite_format::Error::Io(source)) => failed(source),
            other => other,
        })?;
    buffered.into_inner().map_err(|error| failed(error.into_error()))?;
    new.file().sync_all().map_err(failed)?;

    let unread = |source: io::Error| Error::ReadBack { path: out.to_owned(), source };
    let open = || File::open(new.path());
    let (hash, differs) = std::thread::scope(|scope| {
        let hash = || open().and_then(verify::sha256);
        let aside = std::thread::Builder::new().spawn_scoped(scope, hash);
        let differs =
            open().map_err(unread).and_then(|file| verify::verify(&plan, file, &unread, progress));
        // No second thread is available: hash here.
        let hash = match aside {
            Ok(aside) => aside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => hash(),
        };
        (hash, differs)
    });
    if let Some(what) = differs? {
        return Err(Error::Verify { path: out.to_owned(), what });
    }
    if hash.map_err(unread)? != report.sha256 {
        return Err(Error::Verify { path: out.to_owned(), what: "the hash".to_owned() });
    }

    new.finish(force)?;
    // Make the rename survive a power cut. A failure is ignored: the file is complete either way,
    // and some systems cannot synchronise folders.
    let _ = File::open(new_file::folder(out)).and_then(|folder| folder.sync_all());
    Ok(report)
}
