//! The tokens of one context, with their keys and values.

use std::sync::Arc;

use crate::cache::{PAGE, Page, PageCount, Shape};
use crate::error::Result;

/// Tokens that a model has read one after another, and their keys and values in pages.
///
/// A fork shares its pages with the original: it copies no keys and values, and each goes on by
/// itself. Pages that no sequence has any more are freed.
pub struct Sequence {
    shape: Shape,
    tokens: Vec<u32>,
    /// As many as hold the keys and values of all tokens; some may have been made for more.
    pages: Vec<Arc<Page>>,
    count: PageCount,
}

impl Sequence {
    /// An empty sequence, whose pages are counted.
    pub(crate) fn new(shape: Shape, count: PageCount) -> Self {
        Self { shape, tokens: Vec::new(), pages: Vec::new(), count }
    }

    /// The tokens that have been read.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens that have been read.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether no token has been read.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// A sequence of the same tokens, which goes on by itself.
    pub fn fork(&self) -> Self {
        Self {
            shape: self.shape,
            tokens: self.tokens.clone(),
            pages: self.pages.clone(),
            count: self.count.clone(),
        }
    }

    /// Forgets all tokens from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.pages.truncate(self.tokens.len().div_ceil(PAGE));
    }

    /// Forgets what differs from the beginning of `tokens`, and keeps at most `most` tokens. Returns
    /// how many are left.
    pub fn rewind(&mut self, tokens: &[u32], most: usize) -> usize {
        let shared = tokens.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count().min(most);
        self.truncate(shared);
        shared
    }

    /// How many pages have to be made for `count` more tokens: new ones, and copies of those that other
    /// sequences have, too.
    pub fn missing_pages(&self, count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        let (start, end) = (self.tokens.len(), self.tokens.len() + count);
        let shared = |page: &Arc<Page>| Arc::strong_count(page) > 1;
        let pages = start / PAGE..end.div_ceil(PAGE);
        pages.filter(|&index| self.pages.get(index).is_none_or(shared)).count()
    }

    /// What the pages hold.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The pages.
    pub(crate) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    /// Makes room for `count` tokens in pages that no other sequence has.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<()> {
        let (start, end) = (self.tokens.len(), self.tokens.len() + count);
        for index in start / PAGE..end.div_ceil(PAGE) {
            match self.pages.get_mut(index) {
                Some(page) if Arc::strong_count(page) == 1 => {}
                Some(page) => *page = Arc::new(page.copy()?),
                None => self.pages.push(Arc::new(Page::new(self.shape, &self.count)?)),
            }
        }
        Ok(())
    }

    /// The pages of the positions from the end on, which [`reserve`](Self::reserve) has made room
    /// for, each with its first position.
    pub(crate) fn tail_mut(&mut self) -> impl Iterator<Item = (usize, &mut Page)> {
        let first = self.tokens.len() / PAGE;
        // Pages that `reserve` made are shared with nobody, so none is left out.
        let pages = self.pages.iter_mut().enumerate().skip(first);
        pages.filter_map(|(index, page)| Some((index * PAGE, Arc::get_mut(page)?)))
    }

    /// Appends tokens whose keys and values have been written.
    pub(crate) fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}

/// Tokens to read after those of one sequence.
pub struct Part<'a> {
    /// The sequence.
    pub sequence: &'a mut Sequence,
    /// The tokens.
    pub tokens: &'a [u32],
    /// The logits that are wanted.
    pub want: Want,
}

/// The logits that are wanted of some tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// None.
    Nothing,
    /// All logits after each token from this index on.
    From(usize),
    /// The largest after the last token: so many, those equal to one of them, and as many others as
    /// happens.
    Largest(usize),
}
