//! Codes that stand for no weight: a kernel would take them for one.

use std::sync::OnceLock;
use std::thread::available_parallelism;

use trilobite_format::TensorInfo;

use super::Kind;
use crate::error::{Error, Result};
use crate::team::Team;

/// Bytes of codes that are worth waking other threads.
const MANY: usize = 4 << 20;

/// A tensor with codes.
pub(super) struct Coded<'a> {
    pub(super) info: &'a TensorInfo,
    /// How the codes are stored, row by row of the tensor.
    pub(super) kind: Kind,
    pub(super) codes: &'a [u8],
}

impl Coded<'_> {
    /// Row and column of a code that stands for nothing.
    fn find_unused(&self) -> Option<(usize, usize)> {
        let [rows, cols] = self.info.shape[..] else { return None };
        let (rows, cols) = (rows as usize, cols as usize);
        match self.kind {
            Kind::Ternary { layout, .. } => layout.find_unused(self.codes, rows, cols),
            Kind::Dense(ty) => ty.find_unused(self.codes, cols),
        }
    }
}

/// Checks that every code of some tensors stands for a weight, which takes as long as to read them.
///
/// # Errors
/// The first one that does not.
pub(super) fn codes(tensors: &[Coded<'_>]) -> Result<()> {
    let bytes: usize = tensors.iter().map(|tensor| tensor.codes.len()).sum();
    let threads = if bytes < MANY { 1 } else { available_parallelism().map_or(1, usize::from) };
    let found: Vec<_> = tensors.iter().map(|_| OnceLock::new()).collect();
    let mut team =
        Team::new(threads, || ()).map_err(|source| Error::Threads { threads, source })?;
    team.items(tensors.len(), &|_, item| {
        if let Some(unused) = tensors[item].find_unused() {
            let _ = found[item].set(unused);
        }
    });
    let first = tensors.iter().zip(&found).find_map(|(tensor, found)| Some((tensor, found.get()?)));
    match first {
        None => Ok(()),
        Some((tensor, &(row, col))) => {
            Err(Error::UnusedCode { name: tensor.info.name.clone(), row, col })
        }
    }
}
