//! Downloads a model into a folder of the cache and records its files.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::download::{self, Downloaded, FileSpec, TransferEvent, is_hex};
use crate::event::{Event, Listener};
use crate::listed::Listed;
use crate::lock::{ModelLock, remove_if_there};
use crate::pins::Pin;
use crate::record::{BRANCH, Fetched, INDEX, Record, now};
use crate::reference::{Reference, Spelling, is_inside};
use crate::select::{select, shards};
use crate::source::{Known, Listing, Source};
use crate::stored::{SEPARATOR, Stored};
use crate::{Cache, Error, Result};

/// The revision of files from a mirror, where it is unknown.
const UNKNOWN: &str = "unknown";

/// A model to pull.
#[derive(Clone, Debug)]
pub struct Request {
    /// Repository, revision and file.
    pub reference: Reference,
    /// The entry in `models/models.toml`, if there is one.
    pub listed: Option<Listed>,
    /// A lock file that the received files must agree with. A model that it lacks is added.
    pub lockfile: Option<PathBuf>,
}

impl Request {
    /// The name of the model in the cache.
    pub fn name(&self) -> String {
        match &self.listed {
            Some(listed) => listed.name.clone(),
            None => Reference { revision: None, ..self.reference.clone() }.to_string(),
        }
    }

    /// The name of its folder.
    fn folder_name(&self) -> String {
        if let Some(listed) = &self.listed {
            return listed.name.clone();
        }
        let Reference { repository, file, .. } = &self.reference;
        let whole = [Some(repository), file.as_ref()].into_iter().flatten();
        whole.flat_map(|name| name.split('/')).collect::<Vec<_>>().join(SEPARATOR)
    }

    /// The pinned hash of a file in models.toml, if the pinned revision is pulled.
    fn pinned(&self, file: &str) -> Option<&str> {
        let Request { reference, listed, .. } = self;
        let listed = listed.as_ref()?;
        let other = reference.revision.is_some() && reference.revision != listed.revision;
        listed.sha256.get(file).map(String::as_str).filter(|_| !other)
    }
}

/// The model that a name refers to: one in `models/models.toml`, one that is stored, or a
/// repository of the hub.
///
/// # Errors
/// A name without an owner is unknown or ambiguous.
pub fn ask(cache: &Cache, name: &str) -> Result<Request> {
    let listed = Listed::find(name);
    let spelling = Spelling::of(name).ok_or_else(|| Error::NotAName(name.to_owned()))?;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let (revision, file) = (owned(spelling.revision), owned(spelling.file));
    let unknown = match listed {
        Ok(model) => {
            let repository = model.repository.clone();
            let whole = file.as_ref().is_none_or(|file| model.files == [file.as_str()]);
            let file = file.filter(|_| !whole);
            let listed = whole.then_some(model);
            let reference = Reference { repository, revision, file };
            return Ok(Request { reference, listed, lockfile: None });
        }
        Err(unknown) => unknown,
    };
    let stored = Stored::search(cache, spelling);
    let reference = match spelling.reference() {
        // Another spelling of a stored repository refers to the stored one.
        Some(reference) => match stored.ok().flatten().and_then(|stored| stored.record) {
            Some(Record { repository, .. }) => Reference { repository, ..reference },
            None => reference,
        },
        None => {
            let record = stored?.and_then(|stored| stored.record).ok_or(unknown)?;
            let file = file.or(record.file.clone());
            Reference { file, ..record.reference() }
        }
    };
    let reference = Reference { revision, ..reference };
    Ok(Request { reference, listed: None, lockfile: None })
}

/// Fetches and verifies the missing files of a model, and returns the model.
///
/// # Errors
/// The source does not have the model or refuses access, the data are wrong or contradict the lock
/// file, or another process is changing the model. Data received so far are kept, and the next pull
/// continues there.
pub fn pull(
    cache: &Cache,
    source: &Source,
    request: &Request,
    listen: &mut Listener<'_>,
) -> Result<Stored> {
    let name = request.name();
    let folder = cache.models()?.join(request.folder_name());
    let Request { reference, listed, lockfile } = request;
    let mut pin = None;
    if let Some(path) = lockfile
        && let Some(found) = Pin::find(path, &name)?
    {
        found.agrees_with_list(path, &reference.repository, listed.as_ref())?;
        pin = Some((found, path.as_path()));
    }
    let _lock = ModelLock::take(&folder, &name)?;
    let mut pull = Pull {
        source,
        request,
        pin,
        folder: &folder,
        has_record: false,
        fetched: false,
        reporter: Reporter { name: &name, request, announced: false, listen },
    };
    let record = pull.run()?;
    if let Some(path) = lockfile {
        Pin::keep(path, &name, &record)?;
    }
    Ok(Stored { name, folder, record: Some(record) })
}

/// Forwards events, and announces the model after the first response of its source.
struct Reporter<'a> {
    name: &'a str,
    request: &'a Request,
    announced: bool,
    listen: &'a mut Listener<'a>,
}

impl Reporter<'_> {
    fn report(&mut self, event: Event<'_>) {
        if !self.announced && !matches!(event, Event::Waiting { .. }) {
            self.announced = true;
            let repository = &self.request.reference.repository;
            let license = self.request.listed.as_ref().map(|listed| listed.license.as_str());
            (self.listen)(Event::Model { name: self.name, repository, license });
        }
        (self.listen)(event);
    }
}

struct Pull<'a> {
    source: &'a Source,
    request: &'a Request,
    /// The pin of the model, and the lock file that contains it.
    pin: Option<(Pin, &'a Path)>,
    folder: &'a Path,
    /// Whether the folder has a record.
    has_record: bool,
    /// Whether a file has been fetched in this run.
    fetched: bool,
    reporter: Reporter<'a>,
}

impl Pull<'_> {
    fn run(&mut self) -> Result<Record> {
        let Reference { repository, file, .. } = &self.request.reference;
        let stored = Record::read(self.folder)?;
        self.has_record = stored.is_some();
        let asked = self.asked(stored.as_ref());
        let begin = |revision: &str| Record {
            repository: repository.clone(),
            revision: revision.to_owned(),
            file: file.clone(),
            ..Record::default()
        };
        let mut record = match &stored {
            Some(stored) if self.continues(stored, &asked) => stored.clone(),
            _ => begin(&asked),
        };
        let listing = self.list(&record, &asked)?;
        if let Some(commit) = listing.as_ref().and_then(|listing| listing.commit.as_ref())
            && record.revision != *commit
        {
            record = begin(commit);
        }
        self.agrees(&record)?;
        record.asked = Some(asked);
        record.origin = Some(self.source.address());
        let before = stored.as_ref().map(|stored| stored.files.keys().chain(&stored.former));
        record.former = before.into_iter().flatten().cloned().collect();

        let mut needed = match (&listing, self.listed_files()) {
            (Some(listing), _) => select(repository, &listing.files, file.as_deref())?,
            (None, Some(files)) => files.iter().map(|name| Known::by_name(name)).collect(),
            (None, None) => record.files.keys().map(|name| Known::by_name(name)).collect(),
        };
        let mut next = 0;
        while let Some(known) = needed.get(next).cloned() {
            self.file(&mut record, &known)?;
            if let Some(listing) = listing.as_ref().filter(|_| known.name == INDEX) {
                needed.extend(shards(repository, &self.folder.join(INDEX), &listing.files)?);
            }
            next += 1;
        }
        let is_needed = |name: &str| needed.iter().any(|known| known.name == name);
        record.files.retain(|name, _| is_needed(name));
        self.agrees(&record)?;
        let former = std::mem::take(&mut record.former);
        for name in former.iter().filter(|name| !is_needed(name) && is_inside(name)) {
            remove_if_there(&self.folder.join(name))?;
        }
        if self.fetched || record.date.is_none() {
            record.date = now();
        }
        record.complete = true;
        record.write(self.folder)?;
        self.reporter.report(Event::Complete { revision: &record.revision });
        Ok(record)
    }

    /// The revision to fetch.
    fn asked(&self, stored: Option<&Record>) -> String {
        let Request { reference, listed, .. } = self.request;
        let locked = self.pin.as_ref().and_then(|(pin, _)| pin.commit.as_ref());
        let pinned = listed.as_ref().and_then(|listed| listed.revision.as_ref());
        if let Some(revision) = reference.revision.as_ref().or(locked).or(pinned) {
            return revision.clone();
        }
        match self.source {
            Source::Server(_) => BRANCH.to_owned(),
            Source::Mirror(_) => stored.map_or_else(|| UNKNOWN.into(), |r| r.revision.clone()),
        }
    }

    /// Compares the files received so far with the lock file.
    fn agrees(&self, record: &Record) -> Result<()> {
        self.pin.as_ref().map_or(Ok(()), |(pin, path)| pin.agrees(path, record))
    }

    /// Whether a record belongs to the model and revision that are being pulled.
    fn continues(&self, stored: &Record, asked: &str) -> bool {
        let reference = &self.request.reference;
        let named = stored.revision != UNKNOWN || matches!(self.source, Source::Mirror(_));
        stored.repository == reference.repository
            && stored.file == reference.file
            && stored.is_at(asked)
            && named
    }

    /// The files listed in models.toml.
    fn listed_files(&self) -> Option<&[String]> {
        let listed = self.request.listed.as_ref()?;
        Some(listed.files.as_slice()).filter(|files| !files.is_empty())
    }

    /// The files in the source, or `None` if they are known without a request.
    fn list(&mut self, record: &Record, asked: &str) -> Result<Option<Listing>> {
        let Request { reference, listed, .. } = self.request;
        if self.listed_files().is_some() {
            return Ok(None);
        }
        let server = match self.source {
            Source::Server(server) => server,
            Source::Mirror(mirror) => {
                return MirrorFolders::of(mirror, self.request).list().map(Some);
            }
        };
        // The files of a commit never change, and a listed model stays at its recorded commit.
        let settled = is_hex(asked, 40) || listed.is_some() && reference.revision.is_none();
        if settled && record.complete && is_hex(&record.revision, 40) {
            return Ok(None);
        }
        let revision = if settled { &record.revision } else { asked };
        let reporter = &mut self.reporter;
        let mut listing = server.list(&reference.repository, revision, &mut |event| {
            if let TransferEvent::Waiting { .. } = event {
                reporter.report(event.of("list of files"));
            }
        })?;
        listing.files.retain(|file| is_inside(&file.name));
        Ok(Some(listing))
    }

    /// Fetches a file unless it is stored.
    fn file(&mut self, record: &mut Record, known: &Known) -> Result<()> {
        let (name, target) = (known.name.as_str(), self.folder.join(&known.name));
        let locked = self.pin.as_ref().and_then(|(pin, _)| pin.files.get(name));
        let locked = locked.map(|file| file.sha256.clone());
        let pinned = locked.as_deref().or(self.request.pinned(name));
        let verified = pinned.map(|_| "pinned").or(known.sha256.as_ref().map(|_| "server"));
        let expected = pinned.or(known.sha256.as_deref());
        let recorded = record.files.get(name).map(|fetched| fetched.sha256.as_str());
        if let Some(right) = expected.or(recorded)
            && let Ok(mut file) = File::open(&target)
        {
            // A file that an earlier version accepted is checked again.
            if download::sha256(&mut file).map_err(Error::io(&target))? == right
                && download::fault(&target).map_err(Error::io(&target))?.is_none()
            {
                let bytes = file.metadata().map_err(Error::io(&target))?.len();
                let (sha256, verified) = (right.to_owned(), verified.map(str::to_owned));
                record.files.entry(name.into()).or_insert(Fetched { bytes, sha256, verified });
                self.reporter.report(Event::Present { file: name });
                return Ok(());
            }
            if recorded.is_some() {
                self.reporter.report(Event::Damaged { file: name });
            }
        }
        record.files.remove(name);
        record.complete = false;
        if self.has_record {
            record.write(self.folder)?;
        }
        let stated = known.sha256.as_deref();
        let spec = FileSpec { target: &target, sha256: pinned, stated, bytes: known.bytes };
        let downloaded = self.fetch(record, known, spec).map_err(|error| match &self.pin {
            Some((_, path)) if locked.is_some() && error.is_of_content() => {
                let (path, file) = (path.to_path_buf(), name.to_owned());
                Error::Locked { path, file, source: error.into() }
            }
            _ => error,
        })?;
        // All files come from the commit of the first one.
        if let Some(commit) = downloaded.revision.filter(|_| !is_hex(&record.revision, 40)) {
            record.revision = commit;
            self.agrees(record)?;
        }
        let fetched = downloaded.fetched;
        self.reporter.report(Event::Fetched { file: name, fetched: &fetched });
        record.files.insert(name.to_owned(), fetched);
        record.write(self.folder)?;
        (self.has_record, self.fetched) = (true, true);
        Ok(())
    }

    fn fetch(&mut self, record: &Record, known: &Known, spec: FileSpec<'_>) -> Result<Downloaded> {
        let reporter = &mut self.reporter;
        let listen = &mut |event: TransferEvent<'_>| reporter.report(event.of(&known.name));
        let Record { repository, revision, .. } = record;
        match self.source {
            Source::Server(server) => {
                let url = server.file_url(repository, revision, &known.name);
                let downloaded = download::download(&server.client, &url, spec, listen);
                downloaded.map_err(|error| server.explain(error, repository, revision))
            }
            Source::Mirror(mirror) => {
                let path = MirrorFolders::of(mirror, self.request).file(&known.name)?;
                download::copy(&path, spec, listen)
            }
        }
    }
}

/// The folders of a mirror that may contain a model.
struct MirrorFolders(Vec<PathBuf>);

impl MirrorFolders {
    fn of(mirror: &Path, request: &Request) -> Self {
        let repository = request.reference.repository.as_str();
        let last = repository.rsplit('/').next().unwrap_or_default();
        let listed = request.listed.as_ref().map(|listed| listed.name.as_str());
        let below = [Some(repository), Some(last), listed].into_iter().flatten();
        let below = below.map(|name| mirror.join(name));
        MirrorFolders(below.chain([mirror.to_owned()]).collect())
    }

    /// The path of a file.
    fn file(&self, name: &str) -> Result<PathBuf> {
        let mut paths = self.0.iter().map(|folder| folder.join(name));
        paths.find(|path| path.exists()).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, file: &str) -> Error {
        let folders: Vec<_> = self.0.iter().map(|path| path.display().to_string()).collect();
        Error::NotInMirror { file: file.to_owned(), folders: folders.join(" or ") }
    }

    /// The files of the first folder that contains a model.
    fn list(&self) -> Result<Listing> {
        for folder in self.0.iter().filter(|folder| folder.is_dir()) {
            let mut files = Vec::new();
            // The root of a mirror may also contain folders of other models.
            let depth = if self.0.last() == Some(folder) { 0 } else { MAX_DEPTH };
            walk(folder, "", depth, &mut files)?;
            let is_model = |name: &str| name == "config.json" || name.ends_with(".gguf");
            if files.iter().any(|file| is_model(&file.name)) {
                return Ok(Listing { commit: None, files });
            }
        }
        Err(self.missing("config.json"))
    }
}

/// Maximum depth of the folders in a repository that are searched.
const MAX_DEPTH: usize = 2;

/// Adds the files of a folder and its subfolders, with names that begin with `prefix`.
fn walk(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<Known>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        match path.is_dir() {
            true if depth > 0 => walk(&path, &format!("{name}/"), depth - 1, files)?,
            true => {}
            false => files.push(Known::by_name(&name)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SINGLE;

    const CONFIG: (&str, &[u8]) = ("config.json", b"{}");
    /// A header of two bytes and no tensors.
    const WEIGHTS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

    /// Pulls a revision of `owner/model` from a mirror with these files.
    fn pulled(cache: &Cache, revision: &str, files: &[(&str, &[u8])]) -> Result<Stored> {
        let mirror = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(mirror.path().join(name), bytes).unwrap();
        }
        let source = Source::Mirror(mirror.path().to_owned());
        let request = ask(cache, &format!("owner/model@{revision}"))?;
        pull(cache, &source, &request, &mut |_: Event<'_>| {})
    }

    #[test]
    fn an_interrupted_change_of_revision_leaves_no_file_of_the_former_one() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path());
        let folder = pulled(&cache, "one", &[CONFIG, (SINGLE, WEIGHTS)]).unwrap().folder;
        let shard = "model-00001-of-00001.safetensors";
        let index = format!(r#"{{"weight_map": {{"t": "{shard}"}}}}"#);
        let index = (INDEX, index.as_bytes());
        let error = pulled(&cache, "two", &[CONFIG, index]).unwrap_err();
        assert!(matches!(error, Error::MissingPart { .. }), "{error}");
        let stored = pulled(&cache, "two", &[CONFIG, index, (shard, WEIGHTS)]).unwrap();
        assert!(stored.is_complete() && folder.join(shard).exists());
        assert!(!folder.join(SINGLE).exists());
    }
}
