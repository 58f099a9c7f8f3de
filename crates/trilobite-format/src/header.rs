//! The constants of a file's header.

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// The first bytes of a Git LFS pointer: the text that a repository cloned without LFS holds in
/// place of each large file.
pub const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The container version that [`Writer`](crate::Writer) writes.
pub const VERSION: u32 = 3;

/// Alignment of tensor data where `general.alignment` does not say otherwise.
pub const DEFAULT_ALIGNMENT: u64 = 32;
