//! Tells the crate a hash of what makes a conversion: its own sources and those of the crates below.
#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let mut files = Vec::new();
    for folder in ["src", "../trilobite-format/src", "../trilobite-kernels/src"] {
        // Outside the workspace the crates below are told apart by the version alone.
        if Path::new(folder).exists() {
            println!("cargo::rerun-if-changed={folder}");
            list(Path::new(folder), &mut files)?;
        }
    }
    files.sort();
    // FNV-1a: the same on every machine.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        for byte in fs::read(file)? {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    println!("cargo::rustc-env=TRILOBITE_CONVERT_SOURCES={hash:016x}");
    Ok(())
}

/// Adds all files below a folder.
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
