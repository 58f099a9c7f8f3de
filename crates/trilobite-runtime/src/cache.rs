//! The KV cache: pages that hold the keys and values of a fixed number of positions.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trilobite_kernels::kv::{self, Cells, CellsMut};

use crate::config::Config;
use crate::error::{Error, Result};

/// The element type of the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheType {
    /// f32, as computed.
    #[default]
    F32,
    /// f16, which has 11 significant bits: half the memory of f32. The rounding moves some int8
    /// codes of the layers that follow, which changes logits by about as much as the quantisation
    /// itself does.
    F16,
    /// int8 with one f32 scale for every 32 elements of a head: 9 bits per element.
    Q8,
}

impl CacheType {
    /// Every cache type.
    pub const ALL: &'static [Self] = &[Self::F32, Self::F16, Self::Q8];

    /// The name of the type.
    pub fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::Q8 => "q8",
        }
    }

    /// A one-line description of the type.
    pub fn summary(self) -> &'static str {
        match self {
            CacheType::F32 => "As keys and values were computed",
            CacheType::F16 => "Half the memory, with rounding",
            CacheType::Q8 => "A good quarter of the memory, with more rounding",
        }
    }

    /// The size in bytes of a cache for `tokens` tokens, or `usize::MAX` if the size overflows.
    pub fn bytes_for(self, config: &Config, tokens: usize) -> usize {
        let heads = 2 * config.layers * config.kv_heads;
        let cells = (heads * kv::padded(config.head_dim)).saturating_mul(tokens);
        match self {
            CacheType::F32 => cells.saturating_mul(4),
            CacheType::F16 => cells.saturating_mul(2),
            CacheType::Q8 => cells.saturating_add(cells / kv::BLOCK * size_of::<f32>()),
        }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CacheType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|ty| ty.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|ty| ty.name()).collect();
            Error::CacheType { found: name.to_owned(), known: known.join(", ") }
        })
    }
}

/// Positions per page. A page is one block of the attention.
pub const PAGE: usize = kv::BLOCK;

/// Maximum number of former pages whose memory is kept.
const FREE_PAGES: usize = 16;

/// Numbers that are written at a time.
const WRITTEN: usize = 1 << 14;

/// The dimensions and the element type of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) ty: CacheType,
}

impl Shape {
    /// The shape of the pages of a model.
    pub(crate) fn new(config: &Config, ty: CacheType) -> Self {
        let Config { layers, kv_heads, head_dim, .. } = *config;
        Self { layers, kv_heads, head_dim, ty }
    }

    /// Cells that the keys of one head take in a page. Its values take as many.
    fn head_cells(self) -> usize {
        PAGE * kv::padded(self.head_dim)
    }
}

/// The keys and values of [`PAGE`] positions, `[layers][kv_heads]`. Each head has a block of keys
/// followed by a block of values; [`kv`] describes the blocks.
pub(crate) struct Page {
    shape: Shape,
    store: Store,
    pool: PagePool,
}

/// The number of pages, and the memory of a few former ones for reuse. All pages of a forward pass
/// share it. Fresh memory from the system would take a fiftieth of the time of a prompt.
#[derive(Clone, Default)]
pub(crate) struct PagePool(Arc<Pool>);

#[derive(Default)]
struct Pool {
    pages: AtomicUsize,
    free: Mutex<Vec<Store>>,
}

impl PagePool {
    /// The number of pages.
    pub(crate) fn pages(&self) -> usize {
        self.0.pages.load(Ordering::Relaxed)
    }

    fn free(&self) -> MutexGuard<'_, Vec<Store>> {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Store {
    F32(Vec<f32>),
    /// The bits of f16 values.
    F16(Vec<u16>),
    Q8 {
        codes: Vec<i8>,
        steps: Vec<f32>,
    },
}

impl Default for Store {
    /// A store without memory.
    fn default() -> Self {
        Store::F32(Vec::new())
    }
}

impl Page {
    /// Creates a page of zeros and counts it.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn new(shape: Shape, pool: &PagePool) -> Result<Self> {
        let len = shape.layers * shape.kv_heads * 2 * shape.head_cells();
        let former = pool.free().pop().unwrap_or_default();
        let store = match (shape.ty, former) {
            (CacheType::F32, Store::F32(former)) => Store::F32(zeros(former, len)?),
            (CacheType::F32, _) => Store::F32(zeros(Vec::new(), len)?),
            (CacheType::F16, Store::F16(former)) => Store::F16(zeros(former, len)?),
            (CacheType::F16, _) => Store::F16(zeros(Vec::new(), len)?),
            (CacheType::Q8, former) => {
                let (codes, steps) = match former {
                    Store::Q8 { codes, steps } => (codes, steps),
                    _ => Default::default(),
                };
                Store::Q8 { codes: zeros(codes, len)?, steps: zeros(steps, len / kv::BLOCK)? }
            }
        };
        pool.0.pages.fetch_add(1, Ordering::Relaxed);
        Ok(Self { shape, store, pool: pool.clone() })
    }

    /// Creates a page with the same contents and counts it.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn copy(&self) -> Result<Self> {
        let mut page = Self::new(self.shape, &self.pool)?;
        match (&mut page.store, &self.store) {
            (Store::F32(to), Store::F32(from)) => to.copy_from_slice(from),
            (Store::F16(to), Store::F16(from)) => to.copy_from_slice(from),
            (Store::Q8 { codes, steps }, Store::Q8 { codes: from, steps: steps_from }) => {
                codes.copy_from_slice(from);
                steps.copy_from_slice(steps_from);
            }
            _ => {}
        }
        Ok(page)
    }

    /// Bytes of the pages of a shape in a file.
    pub(crate) fn bytes(shape: Shape) -> usize {
        let cells = shape.layers * shape.kv_heads * 2 * shape.head_cells();
        match shape.ty {
            CacheType::F32 => cells * size_of::<f32>(),
            CacheType::F16 => cells * size_of::<u16>(),
            CacheType::Q8 => cells + cells / kv::BLOCK * size_of::<f32>(),
        }
    }

    /// Writes the contents, little-endian.
    ///
    /// # Errors
    /// The writer fails.
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match &self.store {
            Store::F32(all) => write_all(to, all, |value| value.to_le_bytes()),
            Store::F16(all) => write_all(to, all, |value| value.to_le_bytes()),
            Store::Q8 { codes, steps } => {
                write_all(to, codes, |code| code.to_le_bytes())?;
                write_all(to, steps, |step| step.to_le_bytes())
            }
        }
    }

    /// Creates a page from what [`write`](Self::write) wrote, and counts it.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn from_bytes(shape: Shape, bytes: &[u8], pool: &PagePool) -> Result<Self> {
        let mut page = Self::new(shape, pool)?;
        match &mut page.store {
            Store::F32(all) => read_all(all, bytes, f32::from_le_bytes),
            Store::F16(all) => read_all(all, bytes, u16::from_le_bytes),
            Store::Q8 { codes, steps } => {
                let (first, rest) = bytes.split_at(codes.len());
                read_all(codes, first, i8::from_le_bytes);
                read_all(steps, rest, f32::from_le_bytes);
            }
        }
        Ok(page)
    }

    /// The keys and the values of a head of a layer.
    pub(crate) fn head(&self, layer: usize, head: usize) -> (Cells<'_>, Cells<'_>) {
        let cells = match &self.store {
            Store::F32(all) => Cells::F32(all),
            Store::F16(all) => Cells::F16(all),
            Store::Q8 { codes, steps } => Cells::Q8 { codes, steps },
        };
        let half = self.shape.head_cells();
        let start = (layer * self.shape.kv_heads + head) * 2 * half;
        (cells.range(start..start + half), cells.range(start + half..start + 2 * half))
    }

    /// The keys and values of every head of a layer, for writing.
    pub(crate) fn heads_mut(
        &mut self,
        layer: usize,
    ) -> impl Iterator<Item = (CellsMut<'_>, CellsMut<'_>)> {
        let (half, heads) = (self.shape.head_cells(), self.shape.kv_heads);
        let cells = layer * heads * 2 * half..(layer + 1) * heads * 2 * half;
        let mut rest = match &mut self.store {
            Store::F32(all) => CellsMut::F32(&mut all[cells]),
            Store::F16(all) => CellsMut::F16(&mut all[cells]),
            Store::Q8 { codes, steps } => {
                let steps = &mut steps[cells.start / kv::BLOCK..cells.end / kv::BLOCK];
                CellsMut::Q8 { codes: &mut codes[cells], steps }
            }
        };
        (0..heads).map(move |_| (rest.take(half), rest.take(half)))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.pool.0.pages.fetch_sub(1, Ordering::Relaxed);
        let mut free = self.pool.free();
        if free.len() < FREE_PAGES {
            free.push(std::mem::take(&mut self.store));
        }
    }
}

/// Writes numbers as bytes, many at a time.
fn write_all<T: Copy, const N: usize>(
    to: &mut impl Write,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut block = Vec::with_capacity(N * WRITTEN);
    for values in values.chunks(WRITTEN) {
        block.clear();
        values.iter().for_each(|value| block.extend_from_slice(&bytes(*value)));
        to.write_all(&block)?;
    }
    Ok(())
}

/// Reads numbers from bytes.
fn read_all<T, const N: usize>(values: &mut [T], bytes: &[u8], value: impl Fn([u8; N]) -> T) {
    for (to, from) in values.iter_mut().zip(bytes.as_chunks().0) {
        *to = value(*from);
    }
}

/// A vector of `len` zeros in the memory of another, or an error if there is not enough memory.
fn zeros<T: Copy + Default>(mut zeros: Vec<T>, len: usize) -> Result<Vec<T>> {
    zeros.clear();
    let bytes = len.saturating_mul(size_of::<T>());
    zeros.try_reserve_exact(len).map_err(|_| Error::Memory { bytes })?;
    zeros.resize(len, T::default());
    Ok(zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_what_their_names_mean() {
        for ty in CacheType::ALL {
            assert_eq!(ty.name().parse::<CacheType>().unwrap(), *ty);
        }
        let error = "q4".parse::<CacheType>().unwrap_err().to_string();
        assert_eq!(error, "there is no type of cache \"q4\"; there are f32, f16, q8");
    }
}
