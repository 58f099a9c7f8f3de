//! Contents of files: unpacking, hashing and decoding.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Maximum unpacked size of a data file in bytes. A small file can unpack to any size.
const MAX_UNPACKED: u64 = 512 << 20;

/// Unpacks the contents of a file whose name ends in `.gz` or `.bz2`, and returns others as they
/// are.
///
/// # Errors
/// The data are not in that format, are damaged, or exceed the maximum size.
pub(crate) fn unpack(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>> {
    unpack_within(path, bytes, MAX_UNPACKED)
}

fn unpack_within(path: &Path, bytes: Vec<u8>, most: u64) -> Result<Vec<u8>> {
    let decoder: &mut dyn Read = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => &mut flate2::read::MultiGzDecoder::new(bytes.as_slice()),
        Some("bz2") => &mut bzip2::read::MultiBzDecoder::new(bytes.as_slice()),
        _ => return Ok(bytes),
    };
    let mut unpacked = Vec::new();
    let read = decoder.take(most + 1).read_to_end(&mut unpacked);
    if read.map_err(Error::io(path))? as u64 > most {
        let message = format!("it unpacks to more than {most} bytes");
        return Err(Error::io(path)(std::io::Error::other(message)));
    }
    Ok(unpacked)
}

/// Decodes the contents of a file as UTF-8.
pub(crate) fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Error::Record { path: path.to_owned(), line, message: "not UTF-8".to_owned() }
    })
}

/// The SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let zeros = vec![0; 100_000];
        let mut gz = flate2::read::GzEncoder::new(zeros.as_slice(), flate2::Compression::fast());
        let mut bz2 = bzip2::read::BzEncoder::new(zeros.as_slice(), bzip2::Compression::fast());
        let packers: [(&str, &mut dyn Read); 2] = [("a.gz", &mut gz), ("a.bz2", &mut bz2)];
        for (name, packer) in packers {
            let mut packed = Vec::new();
            packer.read_to_end(&mut packed).unwrap();
            assert!(packed.len() < 1000);
            let unpack = |most| unpack_within(Path::new(name), packed.clone(), most);
            assert_eq!(unpack(100_000).unwrap(), zeros);
            let error =
                std::error::Error::source(&unpack(99_999).unwrap_err()).unwrap().to_string();
            assert_eq!(error, "it unpacks to more than 99999 bytes");
        }
    }
}
