//! Codes of activations, of 16 or 8 bits.

use std::ops::Range;

/// Number of columns in a group.
pub(crate) const GROUP: usize = 32;
/// Number of groups in a chunk.
pub(crate) const GROUPS: usize = 8;
/// Number of columns that share a step.
pub(crate) const CHUNK: usize = GROUPS * GROUP;

/// Codes of 32 columns of 16 bits, aligned for the widest registers.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct WideGroup(pub(crate) [i16; GROUP]);

/// Codes of 32 columns of 8 bits, from -127 to 127.
#[derive(Clone, Copy, Debug)]
pub struct NarrowGroup {
    pub(crate) codes: [i8; GROUP],
    /// The sums of the codes of the lower and of the upper half.
    pub(crate) sums: [i32; 2],
}

/// A group of codes.
pub trait CodeGroup: Copy {
    /// Codes of columns without activations.
    const ZERO: Self;
}

impl CodeGroup for WideGroup {
    const ZERO: Self = WideGroup([0; GROUP]);
}

impl CodeGroup for NarrowGroup {
    const ZERO: Self = NarrowGroup { codes: [0; GROUP], sums: [0; 2] };
}

/// The codes of the activations of some tokens, with a step and sums of codes for every 256 columns.
///
/// Rows are padded with zeros to a multiple of 256 columns.
#[derive(Clone, Debug)]
pub struct BlockCodes<G> {
    codes: Vec<G>,
    steps: Vec<f32>,
    sums: Vec<[f32; GROUPS]>,
    tokens: usize,
    cols: usize,
}

/// Codes of 16 bits.
pub type WideCodes = BlockCodes<WideGroup>;
/// Codes of 8 bits.
pub type NarrowCodes = BlockCodes<NarrowGroup>;

/// All rows of [`BlockCodes`], to be filled in parallel. `n` is the number of chunks of 256 columns
/// in a row.
#[derive(Debug)]
pub struct CodeParts<'a, G> {
    /// The number of elements of a row of `steps` and of `sums`.
    pub n: usize,
    /// The codes, `[tokens][8 n]`. Their order within a group depends on the instruction set.
    pub codes: &'a mut [G],
    /// The value of a code of one, `[tokens][n]`.
    pub steps: &'a mut [f32],
    /// The sum of the codes of every 32 columns, `[tokens][n][8]`.
    pub sums: &'a mut [[f32; GROUPS]],
}

/// One row of [`BlockCodes`].
#[derive(Clone, Copy)]
pub(crate) struct CodeRow<'a, G> {
    pub(crate) codes: &'a [[G; GROUPS]],
    pub(crate) steps: &'a [f32],
    pub(crate) sums: &'a [[f32; GROUPS]],
}

/// A chunk of a row.
#[derive(Clone, Copy)]
pub(crate) struct CodeChunk<'a, G> {
    pub(crate) codes: &'a [G; GROUPS],
    pub(crate) step: f32,
    pub(crate) sums: &'a [f32; GROUPS],
}

impl<'a, G> CodeRow<'a, G> {
    /// Chunk `i`.
    #[inline(always)]
    pub(super) fn chunk(&self, i: usize) -> CodeChunk<'a, G> {
        CodeChunk { codes: &self.codes[i], step: self.steps[i], sums: &self.sums[i] }
    }
}

impl<G> Default for BlockCodes<G> {
    fn default() -> Self {
        Self { codes: Vec::new(), steps: Vec::new(), sums: Vec::new(), tokens: 0, cols: 0 }
    }
}

impl<G: CodeGroup> BlockCodes<G> {
    /// Resizes to `tokens` rows of `cols` activations, to be filled through
    /// [`parts_mut`](WideCodes::parts_mut). Allocates only if that exceeds the largest size so far.
    pub fn reset(&mut self, tokens: usize, cols: usize) {
        (self.tokens, self.cols) = (tokens, cols);
        let chunks = tokens * cols.div_ceil(CHUNK);
        if self.steps.len() < chunks {
            self.codes.resize(chunks * GROUPS, G::ZERO);
            self.steps.resize(chunks, 0.0);
            self.sums.resize(chunks, [0.0; GROUPS]);
        }
    }

    /// Becomes a copy of some rows of `other`: for each index `i` the `each` rows from `i * each` on.
    pub fn gather(
        &mut self,
        other: &Self,
        each: usize,
        indices: impl ExactSizeIterator<Item = usize>,
    ) {
        self.reset(each * indices.len(), other.cols);
        let CodeParts { n, codes, steps, sums } = self.parts_mut();
        for (to, index) in indices.enumerate() {
            let from = index * each * n..(index + 1) * each * n;
            let to = to * each * n..(to + 1) * each * n;
            let groups = |chunks: &Range<usize>| chunks.start * GROUPS..chunks.end * GROUPS;
            codes[groups(&to)].copy_from_slice(&other.codes[groups(&from)]);
            steps[to.clone()].copy_from_slice(&other.steps[from.clone()]);
            sums[to].copy_from_slice(&other.sums[from]);
        }
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The number of activations of a token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The parts of all tokens.
    pub fn parts_mut(&mut self) -> CodeParts<'_, G> {
        let n = self.cols.div_ceil(CHUNK);
        let chunks = self.tokens * n;
        CodeParts {
            n,
            codes: &mut self.codes[..chunks * GROUPS],
            steps: &mut self.steps[..chunks],
            sums: &mut self.sums[..chunks],
        }
    }

    pub(crate) fn row(&self, token: usize) -> CodeRow<'_, G> {
        let n = self.cols.div_ceil(CHUNK);
        let chunks = token * n..(token + 1) * n;
        CodeRow {
            codes: &self.codes.as_chunks().0[chunks.clone()],
            steps: &self.steps[chunks.clone()],
            sums: &self.sums[chunks],
        }
    }
}
