//! Activations as int8 codes.

use std::ops::Range;

/// Number of zeros on either side of a row: the largest number of weights in a block of any layout.
pub(crate) const MARGIN: usize = 128;
/// Alignment of a row's first code in bytes: a cache line.
const ALIGN: usize = 64;

/// The int8 codes of the activations of some tokens, with each token's multiplier and sum of codes.
///
/// A row is surrounded by at least 128 zeros on either side, so a kernel may multiply whole weight
/// blocks that extend beyond either end of the row.
#[derive(Clone, Debug)]
pub struct Codes {
    data: Vec<i8>,
    /// Index of the first padded row in `data`, chosen for alignment.
    start: usize,
    stride: usize,
    cols: usize,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

/// The parts of [`Codes`] that belong to one token.
#[derive(Debug)]
pub struct CodesRow<'a> {
    /// The token's codes, `[cols]`.
    pub codes: &'a mut [i8],
    /// The multiplier: code = rint(activation * scale).
    pub scale: &'a mut f32,
    /// The sum of the codes.
    pub sum: &'a mut i32,
}

/// All rows of [`Codes`], to be filled in parallel.
#[derive(Debug)]
pub struct CodesParts<'a> {
    /// The row of each token, including the zeros around its codes, `[tokens][stride]`.
    pub rows: &'a mut [i8],
    /// Number of elements from one row to the next.
    pub stride: usize,
    /// The range of the codes within a row. The elements outside must stay zero.
    pub codes: Range<usize>,
    /// The multiplier of each token.
    pub scales: &'a mut [f32],
    /// The sum of the codes of each token.
    pub sums: &'a mut [i32],
}

impl Codes {
    /// Creates an empty buffer with room for `max_tokens` tokens of `max_cols` activations.
    pub fn new(max_tokens: usize, max_cols: usize) -> Codes {
        let mut codes = Codes {
            data: Vec::new(),
            start: 0,
            stride: 0,
            cols: 0,
            scales: Vec::new(),
            sums: Vec::new(),
        };
        codes.reset(max_tokens, max_cols);
        codes.reset(0, 0);
        codes
    }

    /// Resizes to `tokens` rows of `cols` activations, to be filled through
    /// [`rows_mut`](Codes::rows_mut). Allocates only if that exceeds the largest size so far.
    ///
    /// Codes, scales and sums are unspecified until filled. The zeros around the rows are always
    /// present.
    pub fn reset(&mut self, tokens: usize, cols: usize) {
        self.cols = cols;
        self.stride = MARGIN + cols.next_multiple_of(ALIGN) + MARGIN;
        let len = tokens * self.stride + ALIGN;
        if self.data.len() < len {
            self.data = vec![0; len];
            self.start = self.data.as_ptr().align_offset(ALIGN).min(ALIGN);
        }
        self.scales.resize(tokens, 0.0);
        self.sums.resize(tokens, 0);
        for row in self.data[self.start..].chunks_exact_mut(self.stride).take(tokens) {
            row[..MARGIN].fill(0);
            row[MARGIN + cols..].fill(0);
        }
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.sums.len()
    }

    /// The number of activations of a token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The multiplier of each token, `[tokens]`: code = rint(activation * scale).
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The sum of each token's codes, `[tokens]`.
    pub fn sums(&self) -> &[i32] {
        &self.sums
    }

    /// The codes of one token, `[cols]`.
    pub fn row(&self, token: usize) -> &[i8] {
        &self.padded(token)[MARGIN..MARGIN + self.cols]
    }

    /// The codes of one token with the zeros around them. The first code follows [`MARGIN`] zeros.
    pub(crate) fn padded(&self, token: usize) -> &[i8] {
        assert!(token < self.tokens(), "token {token} of {}", self.tokens());
        &self.data[self.start + token * self.stride..][..self.stride]
    }

    /// The parts of each token, in order. They are independent and may be filled in parallel.
    pub fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = CodesRow<'_>> + Send {
        let parts = self.parts_mut();
        let rows = parts.rows.chunks_exact_mut(parts.stride.max(1));
        rows.zip(parts.scales).zip(parts.sums).map(move |((row, scale), sum)| CodesRow {
            codes: &mut row[parts.codes.clone()],
            scale,
            sum,
        })
    }

    /// The parts of all tokens as whole arrays.
    pub fn parts_mut(&mut self) -> CodesParts<'_> {
        let len = self.tokens() * self.stride;
        CodesParts {
            rows: &mut self.data[self.start..][..len],
            stride: self.stride,
            codes: MARGIN..MARGIN + self.cols,
            scales: &mut self.scales,
            sums: &mut self.sums,
        }
    }
}
