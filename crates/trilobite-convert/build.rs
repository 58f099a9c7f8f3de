//! Computes a hash of everything that affects a conversion: the sources of this crate and of the
//! crates below it.
#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let mut files = Vec::new();
    for folder in ["src", "../trilobite-format/src", "../trilobite-kernels/src"] {
        // Outside the workspace the sources are not available; the version stands for them.
        if Path::new(folder).exists() {
            println!("cargo::rerun-if-changed={folder}");
            list(Path::new(folder), &mut files)?;
        }
    }
    files.sort();
    // FNV-1a, which is the same on every machine.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        for byte in fs::read(file)? {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    println!("cargo::rustc-env=TRILOBITE_CONVERT_SOURCES={hash:016x}");
    Ok(())
}

/// Adds all files in a folder, recursively.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
