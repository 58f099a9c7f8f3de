//! Checks for invalid codes, which a kernel would take for weights.

use std::sync::OnceLock;
use std::thread::available_parallelism;

use trilobite_format::TensorInfo;
use trilobite_format::model::Role;

use super::view::MatrixView;
use crate::error::{Error, Result};
use crate::team::Team;

/// Minimum number of bytes that are checked by several threads.
const MIN_PARALLEL_BYTES: usize = 4 << 20;

/// A tensor with codes, as stored.
pub(super) struct Coded<'a> {
    pub(super) info: &'a TensorInfo,
    pub(super) role: Role,
    pub(super) view: MatrixView<'a>,
}

/// Checks that every code of some tensors is valid, and passes each to `done`. The check takes as
/// long as reading them.
///
/// # Errors
/// A code is invalid.
pub(super) fn codes(tensors: &[Coded<'_>], done: impl Fn(&Coded<'_>) + Sync) -> Result<()> {
    let bytes: usize = tensors.iter().map(|tensor| tensor.info.range.len()).sum();
    let threads =
        if bytes < MIN_PARALLEL_BYTES { 1 } else { available_parallelism().map_or(1, usize::from) };
    let found: Vec<_> = tensors.iter().map(|_| OnceLock::new()).collect();
    let mut team =
        Team::new(threads, || ()).map_err(|source| Error::Threads { threads, source })?;
    team.items(tensors.len(), &|_, item| {
        if let Some(invalid) = tensors[item].view.find_invalid() {
            let _ = found[item].set(invalid);
        }
        done(&tensors[item]);
    });
    let first = tensors.iter().zip(&found).find_map(|(tensor, found)| Some((tensor, found.get()?)));
    match first {
        None => Ok(()),
        Some((tensor, &(row, col))) => {
            Err(Error::InvalidCode { name: tensor.info.name.clone(), row, col })
        }
    }
}
