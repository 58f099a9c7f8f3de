//! Keys and values in files.
//!
//! A file holds the tokens of a sequence, or 32 of them, and their keys and values. Its numbers are
//! little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `trilo-kv` |
//! | 32 | the key of the preceding tokens: a SHA-256 of everything that the keys and values depend on |
//! | 8 | number of tokens |
//! | 8 | bytes of a page |
//! | 4 for each token | the tokens |
//! | pages | keys and values, a page for 32 tokens |
//! | 32 | SHA-256 of all bytes above |
//!
//! The key of an empty text is the hash of the version of this crate, the model's files, the cache
//! type, whether the context is long enough for LongRoPE's other frequencies, and the rounding of
//! activations, unless it is the default. That of a longer text is the hash of the key 32 tokens
//! earlier and these tokens.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::activations::Activations;
use crate::cache::{PAGE, Page};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::forward::Forward;
use crate::sequence::Sequence;

const MAGIC: &[u8; 8] = b"trilo-kv";
const HASH: usize = 32;
/// Bytes before the tokens.
const HEADER: usize = MAGIC.len() + HASH + 8 + 8;
/// Bytes of a model that a thread hashes at a time.
const CHUNK: usize = 16 << 20;

/// The key of a text: a hash of all that its keys and values depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TextKey([u8; HASH]);

impl TextKey {
    /// The key of an empty text. Reads the whole model.
    pub fn new(forward: &Forward) -> Self {
        let model = forward.model();
        let chunks: Vec<&[u8]> = model.files().flat_map(|file| file.chunks(CHUNK)).collect();
        let mut hashes = vec![[0; HASH]; chunks.len()];
        std::thread::scope(|scope| {
            let share = chunks.len().div_ceil(forward.threads()).max(1);
            for (chunks, hashes) in chunks.chunks(share).zip(hashes.chunks_mut(share)) {
                scope.spawn(move || {
                    for (chunk, hash) in chunks.iter().zip(hashes) {
                        *hash = Sha256::digest(chunk).into();
                    }
                });
            }
        });
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        hash.update([0]);
        hash.update(forward.cache_type().name());
        hash.update([0, u8::from(forward.has_long_context())]);
        if forward.activations() != Activations::default() {
            hash.update(forward.activations().name());
        }
        hash.update(hashes.as_flattened());
        Self(hash.finalize().into())
    }

    /// The key of this text followed by `tokens`.
    #[must_use]
    pub fn then(self, tokens: &[u32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        Self(hash.finalize().into())
    }

    /// The key as a name: 64 hexadecimal digits.
    pub fn name(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Writes through to a file and hashes what it writes.
struct Hashed<W> {
    to: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Creates a hidden file in the folder of another.
fn beside(path: &Path) -> std::io::Result<NamedTempFile> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // The errors of `NamedTempFile::new_in` name the hidden file.
    tempfile::Builder::new().make_in(folder, |path| options.open(path))
}

impl Sequence {
    /// Writes the tokens and their keys and values to a file, which replaces another one when it is
    /// complete. `key` is that of an empty text. Only the owner can read the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path, key: TextKey) -> Result<()> {
        self.save_pages(path, key, 0, self.len())
    }

    /// Checks that [`save`](Self::save) can write a file.
    ///
    /// # Errors
    /// It cannot: the folder is missing or cannot be written to.
    pub fn can_save(path: &Path) -> Result<()> {
        let file = beside(path).map(drop);
        file.map_err(|source| Error::CacheWrite { path: path.to_owned(), source })
    }

    /// Writes the page at `index`, all of whose positions have tokens. `key` is that of the tokens
    /// before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_page(&self, path: &Path, key: TextKey, index: usize) -> Result<()> {
        self.save_pages(path, key, index * PAGE, (index + 1) * PAGE)
    }

    fn save_pages(&self, path: &Path, key: TextKey, start: usize, end: usize) -> Result<()> {
        let write = || {
            // What a link refers to is replaced, not the link.
            let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let file = beside(&target)?;
            self.write(BufWriter::new(file.as_file()), key, start..end)?;
            file.as_file().sync_all()?;
            file.persist(target).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| Error::CacheWrite { path: path.to_owned(), source })
    }

    /// Writes the contents of a file with the tokens of a range, which begins with a page.
    fn write(&self, to: impl Write, key: TextKey, range: Range<usize>) -> std::io::Result<()> {
        let mut to = Hashed { to, hash: Sha256::new() };
        to.write_all(MAGIC)?;
        to.write_all(&key.0)?;
        to.write_all(&(range.len() as u64).to_le_bytes())?;
        to.write_all(&(self.page_bytes() as u64).to_le_bytes())?;
        for token in &self.tokens()[range.clone()] {
            to.write_all(&token.to_le_bytes())?;
        }
        for page in &self.pages()[range.start / PAGE..range.end.div_ceil(PAGE)] {
            page.write(&mut to)?;
        }
        let Hashed { mut to, hash } = to;
        to.write_all(&hash.finalize())?;
        to.flush()
    }

    /// Replaces the tokens and their keys and values by those of a file. `key` is that of an empty
    /// text, and `config` that of the model.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or is of another model, cache type or version. The
    /// sequence is unchanged then.
    pub fn load(&mut self, path: &Path, key: TextKey, config: &Config) -> Result<()> {
        let (tokens, pages) = self.read_pages(path, key, config.context)?;
        let vocab = config.vocab;
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= vocab) {
            let text = format!("its token {id} is outside the vocabulary of {vocab}");
            return Err(fault(path, text));
        }
        self.replace(0, &tokens, pages);
        Ok(())
    }

    /// Continues after `index` whole pages with a page of a file. `key` is that of the tokens before,
    /// and `tokens` are those of the page. Tokens from its first position on are replaced.
    ///
    /// # Errors
    /// As for [`load`](Self::load), or the file has other tokens.
    pub fn load_page(
        &mut self,
        path: &Path,
        key: TextKey,
        index: usize,
        tokens: &[u32],
    ) -> Result<()> {
        let (found, pages) = self.read_pages(path, key, PAGE)?;
        if found != tokens || self.len() < index * PAGE || tokens.len() != PAGE {
            return Err(fault(path, "it has other tokens than its name says".to_owned()));
        }
        self.replace(index, tokens, pages);
        Ok(())
    }

    /// Reads a file of this sequence's shape with at most `most` tokens.
    fn read_pages(&self, path: &Path, key: TextKey, most: usize) -> Result<(Vec<u32>, Vec<Page>)> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let fault = |text: String| fault(path, text);
        // A pipe would wait for a writer.
        let metadata = path.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(fault("it is not a file".to_owned()));
        }
        let mut from = BufReader::with_capacity(1 << 16, File::open(path).map_err(io)?);
        let mut header = [0; HEADER];
        if metadata.len() < (HEADER + HASH) as u64 {
            return Err(fault(format!("it has {} bytes, too few for a cache", metadata.len())));
        }
        from.read_exact(&mut header).map_err(io)?;
        let (magic, rest) = header.split_at(MAGIC.len());
        let (found_key, sizes) = rest.split_at(HASH);
        if magic != MAGIC {
            return Err(fault("it is no cache of keys and values".to_owned()));
        }
        if found_key != key.0 {
            let text = "it is of another model, cache type, context or version of this program";
            return Err(fault(text.to_owned()));
        }
        let [count, page_bytes] = [0, 8].map(|at| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&sizes[at..at + 8]);
            u64::from_le_bytes(bytes)
        });
        if page_bytes != self.page_bytes() as u64 {
            let expected = self.page_bytes();
            return Err(fault(format!("its pages have {page_bytes} bytes, expected {expected}")));
        }
        // Before anything is allocated for the tokens. A file with holes can have any length.
        if count > most as u64 {
            return Err(fault(format!("it has {count} tokens, expected at most {most}")));
        }
        let length = u128::from(count) * 4
            + u128::from(count.div_ceil(PAGE as u64)) * u128::from(page_bytes)
            + (HEADER + HASH) as u128;
        if length != u128::from(metadata.len()) {
            let found = metadata.len();
            return Err(fault(format!(
                "it has {found} bytes, expected {length} for {count} tokens"
            )));
        }
        let mut hash = Sha256::new();
        hash.update(header);
        let mut bytes = vec![0; 4 * count as usize];
        from.read_exact(&mut bytes).map_err(io)?;
        hash.update(&bytes);
        let tokens: Vec<u32> =
            bytes.as_chunks().0.iter().map(|token| u32::from_le_bytes(*token)).collect();
        let mut pages = Vec::new();
        let mut bytes = vec![0; self.page_bytes()];
        for _ in 0..tokens.len().div_ceil(PAGE) {
            from.read_exact(&mut bytes).map_err(io)?;
            hash.update(&bytes);
            pages.push(self.page_from(&bytes)?);
        }
        let mut expected = [0; HASH];
        from.read_exact(&mut expected).map_err(io)?;
        match hash.finalize()[..] == expected {
            true => Ok((tokens, pages)),
            false => Err(fault("it is damaged: its checksum differs".to_owned())),
        }
    }
}

fn fault(path: &Path, fault: String) -> Error {
    Error::CacheFile { path: path.to_owned(), fault }
}

#[cfg(test)]
mod tests;
