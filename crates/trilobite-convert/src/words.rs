//! Matrices of MLX whose weights are computed from codes.

use half::f16;

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
    fn codes(&self, row: usize) -> impl Iterator<Item = u8> + use<'a> {
        let bits = self.bits();
        let row_len = self.cols * bits / 8;
        let bytes = &self.words.bytes[row * row_len..(row + 1) * row_len];
        let mask = u8::MAX >> (8 - bits);
        bytes.iter().flat_map(move |byte| (0..8 / bits).map(move |i| byte >> (i * bits) & mask))
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
        let group = self.group();
        out.clear();
        let weight = |(i, code)| f32::from(code) * scales[i / group] + biases[i / group];
        out.extend(self.codes(row).enumerate().map(weight));
    }

    /// Whether Q4_1 holds the codes, the scales and the biases.
    pub(crate) fn fits_q4_1(&self) -> bool {
        let holds = |x: &f32| f16::from_f32(*x).to_f32() == *x;
        let steps = self.views().skip(1).all(|view| view.to_f32().iter().all(holds));
        self.bits() == 4 && self.group().is_multiple_of(BLOCK) && steps
    }

    /// Encodes a row as Q4_1: blocks of a scale, a bias, and codes in the order 0, 16, 1, 17 and so on.
    pub(crate) fn encode_q4_1(&self, row: usize, out: &mut [u8]) {
        let (scales, biases) = self.steps(row);
        let codes: Vec<u8> = self.codes(row).collect();
        let blocks = codes.chunks_exact(BLOCK).zip(out.chunks_exact_mut(4 + BLOCK / 2));
        for (i, (codes, out)) in blocks.enumerate() {
            let group = i * BLOCK / self.group();
            out[..2].copy_from_slice(&f16::from_f32(scales[group]).to_le_bytes());
            out[2..4].copy_from_slice(&f16::from_f32(biases[group]).to_le_bytes());
            let (low, high) = codes.split_at(BLOCK / 2);
            for (out, (low, high)) in out[4..].iter_mut().zip(low.iter().zip(high)) {
                *out = low | high << 4;
            }
        }
    }
}
