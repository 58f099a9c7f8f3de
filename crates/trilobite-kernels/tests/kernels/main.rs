//! Tests of the kernels. A module has the name of the module of the library that it tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[cfg(feature = "c-kernels")]
mod c;
mod codes;
mod dense;
mod float;
mod i2_s;
mod kernels;
mod random;
mod reference;
mod scan;
mod source;
mod stream;
mod t5_3;

use std::path::Path;

/// Cargo ignores tests in the files of the library: see `Cargo.toml`.
#[test]
fn the_library_has_no_tests() {
    assert_no_tests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
}

/// Asserts that no file in a folder and its subfolders has tests.
fn assert_no_tests(folder: &Path) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_no_tests(&path);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for mark in ["#[test]", "cfg(test)"] {
            assert!(!text.contains(mark), "{} has {mark}, which never runs", path.display());
        }
    }
}
