//! Activations as codes of 16 bits.

use std::ops::Range;

/// Columns of a group.
pub(crate) const GROUP: usize = 32;
/// Groups of a chunk.
pub(crate) const GROUPS: usize = 8;
/// Columns that share a step.
pub(crate) const CHUNK: usize = GROUPS * GROUP;

/// Codes of 32 columns, as aligned as the widest registers.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct WideGroup(pub(crate) [i16; GROUP]);

impl WideGroup {
    pub(crate) const ZERO: WideGroup = WideGroup([0; GROUP]);
}

/// The 16-bit codes of some tokens' activations, with a step and sums of codes for every 256 columns.
///
/// The columns beyond a row's last are zeros up to a whole number of 256.
#[derive(Clone, Debug, Default)]
pub struct WideCodes {
    codes: Vec<WideGroup>,
    steps: Vec<f32>,
    sums: Vec<[f32; GROUPS]>,
    tokens: usize,
    cols: usize,
}

/// All rows of [`WideCodes`], to be filled in parallel; `n` is how many times 256 columns a row has.
#[derive(Debug)]
pub struct WideParts<'a> {
    /// Elements of a row of `steps` and of `sums`.
    pub n: usize,
    /// The codes, `[tokens][8 n]`, in an order of the instruction set's own.
    pub codes: &'a mut [WideGroup],
    /// What a code of one stands for, `[tokens][n]`.
    pub steps: &'a mut [f32],
    /// The sum of the codes of every 32 columns, `[tokens][n]` times eight.
    pub sums: &'a mut [[f32; GROUPS]],
}

/// One row of [`WideCodes`].
#[derive(Clone, Copy)]
pub(crate) struct WideRow<'a> {
    pub(crate) codes: &'a [[WideGroup; GROUPS]],
    pub(crate) steps: &'a [f32],
    pub(crate) sums: &'a [[f32; GROUPS]],
}

impl WideCodes {
    /// Makes these the codes of `tokens` rows of `cols` activations, to be filled through
    /// [`parts_mut`](WideCodes::parts_mut). Allocates only beyond the largest size seen so far.
    pub fn reset(&mut self, tokens: usize, cols: usize) {
        (self.tokens, self.cols) = (tokens, cols);
        let chunks = tokens * cols.div_ceil(CHUNK);
        if self.steps.len() < chunks {
            self.codes.resize(chunks * GROUPS, WideGroup::ZERO);
            self.steps.resize(chunks, 0.0);
            self.sums.resize(chunks, [0.0; GROUPS]);
        }
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Activations of a token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Every token's parts.
    pub fn parts_mut(&mut self) -> WideParts<'_> {
        let n = self.cols.div_ceil(CHUNK);
        let chunks = self.tokens * n;
        WideParts {
            n,
            codes: &mut self.codes[..chunks * GROUPS],
            steps: &mut self.steps[..chunks],
            sums: &mut self.sums[..chunks],
        }
    }

    pub(crate) fn row(&self, token: usize) -> WideRow<'_> {
        let n = self.cols.div_ceil(CHUNK);
        let (codes, steps, sums) = (self.codes.as_chunks().0, &self.steps[..], &self.sums[..]);
        WideRow { codes, steps, sums }.chunks(token * n..(token + 1) * n)
    }
}

impl WideRow<'_> {
    /// Some of its chunks.
    pub(crate) fn chunks(self, range: Range<usize>) -> Self {
        WideRow {
            codes: &self.codes[range.clone()],
            steps: &self.steps[range.clone()],
            sums: &self.sums[range],
        }
    }
}
