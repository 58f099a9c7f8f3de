//! A sequence of tokens with its KV cache.

use std::sync::Arc;

use crate::cache::{PAGE, Page, PagePool, Shape};
use crate::error::Result;
use crate::head::Largest;

/// The tokens of a sequence and their keys and values, stored in pages.
///
/// A fork shares its pages with the original, so forking copies no keys and values. Afterwards
/// both can be extended independently. A page is freed when the last sequence that uses it is.
pub struct Sequence {
    shape: Shape,
    tokens: Vec<u32>,
    /// The pages for all tokens, and possibly some for more.
    pages: Vec<Arc<Page>>,
    pool: PagePool,
}

impl Sequence {
    /// Creates an empty sequence with pages of a pool.
    pub(crate) fn new(shape: Shape, pool: PagePool) -> Self {
        Self { shape, tokens: Vec::new(), pages: Vec::new(), pool }
    }

    /// The tokens processed so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens processed so far.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether no token has been processed.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Creates a sequence with the same tokens, which can be extended independently.
    pub fn fork(&self) -> Self {
        Self {
            shape: self.shape,
            tokens: self.tokens.clone(),
            pages: self.pages.clone(),
            pool: self.pool.clone(),
        }
    }

    /// Removes all tokens from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.pages.truncate(self.tokens.len().div_ceil(PAGE));
    }

    /// Keeps the longest common prefix with `tokens`, at most `most` tokens, and removes the rest.
    /// Returns the number of tokens kept.
    pub fn rewind(&mut self, tokens: &[u32], most: usize) -> usize {
        let shared = tokens.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count().min(most);
        self.truncate(shared);
        shared
    }

    /// Number of pages that `count` more tokens allocate: new pages, and copies of pages shared
    /// with other sequences.
    pub fn missing_pages(&self, count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        let (start, end) = (self.tokens.len(), self.tokens.len() + count);
        let shared = |page: &Arc<Page>| Arc::strong_count(page) > 1;
        let pages = start / PAGE..end.div_ceil(PAGE);
        pages.filter(|&index| self.pages.get(index).is_none_or(shared)).count()
    }

    /// The shape of the pages.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The pages.
    pub(crate) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    /// Makes room for `count` more tokens in pages that belong to this sequence alone.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<()> {
        let (start, end) = (self.tokens.len(), self.tokens.len() + count);
        for index in start / PAGE..end.div_ceil(PAGE) {
            match self.pages.get_mut(index) {
                Some(page) if Arc::strong_count(page) == 1 => {}
                Some(page) => *page = Arc::new(page.copy()?),
                None => self.pages.push(Arc::new(Page::new(self.shape, &self.pool)?)),
            }
        }
        Ok(())
    }

    /// The pages of the positions after the last token, each with its first position. A preceding
    /// [`reserve`](Self::reserve) has made room in them.
    pub(crate) fn tail_mut(&mut self) -> impl Iterator<Item = (usize, &mut Page)> {
        let first = self.tokens.len() / PAGE;
        // `reserve` leaves these pages to this sequence alone, so `get_mut` skips none.
        let pages = self.pages.iter_mut().enumerate().skip(first);
        pages.filter_map(|(index, page)| Some((index * PAGE, Arc::get_mut(page)?)))
    }

    /// Bytes of a page in a file.
    pub(crate) fn page_bytes(&self) -> usize {
        Page::bytes(self.shape)
    }

    /// A page of this sequence's shape with the contents of a file.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn page_from(&self, bytes: &[u8]) -> Result<Page> {
        Page::from_bytes(self.shape, bytes, &self.pool)
    }

    /// Replaces the pages from `index` on, with their tokens.
    pub(crate) fn replace(&mut self, index: usize, tokens: &[u32], pages: Vec<Page>) {
        self.truncate(index * PAGE);
        self.tokens.extend_from_slice(tokens);
        self.pages.extend(pages.into_iter().map(Arc::new));
    }

    /// Appends tokens whose keys and values have been written.
    pub(crate) fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}

/// Tokens to process after those of a sequence.
pub struct Part<'a> {
    /// The sequence.
    pub sequence: &'a mut Sequence,
    /// The tokens.
    pub tokens: &'a [u32],
    /// The requested logits.
    pub want: Want,
}

/// The logits to compute for some tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want {
    /// None.
    Nothing,
    /// All logits after each token from this index on.
    From(usize),
    /// The largest logits after each token from an index on, all that equal one of them, and possibly
    /// others.
    Largest {
        /// Index of the first token.
        from: usize,
        /// Which logits.
        largest: Largest,
    },
}

impl Want {
    /// The logits after each token from an index on: the largest, or all.
    pub fn new(from: usize, largest: Option<Largest>) -> Self {
        largest.map_or(Self::From(from), |largest| Self::Largest { from, largest })
    }
}
