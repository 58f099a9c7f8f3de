//! Safe wrappers around the C kernels in `c/`.

#[cfg(target_arch = "aarch64")]
pub(crate) mod i8mm;
pub(crate) mod portable;
