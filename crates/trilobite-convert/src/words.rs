//! Matrices of MLX whose weights are computed from codes.

use trilobite_kernels::source::{fits_f16, q4_1, scale_codes, unpack_codes};

use crate::source::View;

/// A matrix of MLX: words with codes of two or four bits, lowest first, and a scale for each row or
/// for each group of columns. A weight is `code * scale + bias`.
pub(crate) struct Words<'a> {
    pub(crate) words: View<'a>,
    /// `[rows]` or `[rows, groups]`.
    pub(crate) scales: View<'a>,
    /// The biases, in the shape of the scales. Without them a bias is the negative of its scale.
    pub(crate) biases: Option<View<'a>>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

/// Weights in a block of Q4_1.
const BLOCK: usize = 32;

impl<'a> Words<'a> {
    /// The stored tensors.
    pub(crate) fn views(&self) -> impl Iterator<Item = &View<'a>> {
        [&self.words, &self.scales].into_iter().chain(&self.biases)
    }

    fn bits(&self) -> usize {
        self.words.bytes.len() * 8 / (self.rows * self.cols).max(1)
    }

    /// Number of columns with one scale.
    fn group(&self) -> usize {
        self.rows * self.cols / self.scales.count().max(1)
    }

    /// The codes of a row.
    fn codes(&self, row: usize) -> Vec<u8> {
        let bits = self.bits();
        let row_len = self.cols * bits / 8;
        let mut codes = Vec::with_capacity(self.cols);
        unpack_codes(&self.words.bytes[row * row_len..(row + 1) * row_len], bits, &mut codes);
        codes
    }

    /// The scales and biases of a row.
    fn steps(&self, row: usize) -> (Vec<f32>, Vec<f32>) {
        let groups = self.cols / self.group().max(1);
        let range = row * groups..(row + 1) * groups;
        let (mut scales, mut biases) = (Vec::new(), Vec::new());
        self.scales.widen(range.clone(), &mut scales);
        match &self.biases {
            Some(view) => view.widen(range, &mut biases),
            None => biases.extend(scales.iter().map(|scale| -scale)),
        }
        (scales, biases)
    }

    /// Writes the weights of a row to `out`.
    pub(crate) fn widen(&self, row: usize, out: &mut Vec<f32>) {
        let (scales, biases) = self.steps(row);
        out.clear();
        scale_codes(&self.codes(row), self.group(), &scales, &biases, out);
    }

    /// Whether Q4_1 holds the codes, the scales and the biases.
    pub(crate) fn fits_q4_1(&self) -> bool {
        let steps = self.views().skip(1).all(|view| fits_f16(&view.to_f32()));
        self.bits() == 4 && self.group().is_multiple_of(BLOCK) && steps
    }

    /// Encodes a row in blocks of Q4_1.
    pub(crate) fn encode_q4_1(&self, row: usize, out: &mut [u8]) {
        let (scales, biases) = self.steps(row);
        let codes = self.codes(row);
        let blocks = codes.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<20>().0);
        for (i, (codes, out)) in blocks.enumerate() {
            let group = i * BLOCK / self.group();
            *out = q4_1(scales[group], biases[group], codes);
        }
    }
}
