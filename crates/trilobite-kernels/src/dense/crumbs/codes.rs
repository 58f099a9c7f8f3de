//! Codes of activations that are split into bytes.

use std::ops::Range;

/// Number of columns that share a step.
pub(crate) const CHUNK: usize = PLANES * PLANE_LEN;
/// Number of planes of a chunk.
pub(super) const PLANES: usize = 4;
/// Number of columns of a plane.
pub(super) const PLANE_LEN: usize = 64;
/// Number of sums of a chunk, and of columns of a sum.
pub(super) const LANES: usize = 16;

/// The largest code, whose upper byte is 127.
const LARGEST: f32 = 32_639.0;
/// The largest code of one byte.
const LARGEST_BYTE: f32 = 127.0;

/// The codes `256 high + low` of 256 columns, aligned for the widest registers. Column `4 j + p` is
/// byte `j` of plane `p`.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct SplitChunk {
    pub(super) high: [[i8; PLANE_LEN]; PLANES],
    pub(super) low: [[i8; PLANE_LEN]; PLANES],
    /// The negative sum of the codes of each 16 columns.
    pub(super) less: [i32; LANES],
}

impl SplitChunk {
    const ZERO: SplitChunk = SplitChunk {
        high: [[0; PLANE_LEN]; PLANES],
        low: [[0; PLANE_LEN]; PLANES],
        less: [0; LANES],
    };
}

/// The codes of the activations of some tokens, split into bytes, with a step for every 256 columns.
///
/// Rows are padded with zeros to a multiple of 256 columns. Codes have 16 bits, or 8 bits if they
/// have no [high](SplitCodes::has_high) bytes.
#[derive(Clone, Debug, Default)]
pub struct SplitCodes {
    chunks: Vec<SplitChunk>,
    steps: Vec<f32>,
    tokens: usize,
    cols: usize,
    high: bool,
}

/// All rows of [`SplitCodes`], to be filled in parallel.
#[derive(Debug)]
pub struct SplitParts<'a> {
    /// The number of chunks of 256 columns in a row.
    pub n: usize,
    /// Whether codes have 16 bits instead of 8.
    pub high: bool,
    /// The codes, `[tokens][n]`.
    pub chunks: &'a mut [SplitChunk],
    /// The value of a code of one, `[tokens][n]`.
    pub steps: &'a mut [f32],
}

/// One row of [`SplitCodes`].
#[derive(Clone, Copy)]
pub(super) struct SplitRow<'a> {
    pub(super) chunks: &'a [SplitChunk],
    pub(super) steps: &'a [f32],
}

impl SplitCodes {
    /// Resizes to `tokens` rows of `cols` activations, to be filled through
    /// [`parts_mut`](SplitCodes::parts_mut). Allocates only if that exceeds the largest size so far.
    pub fn reset(&mut self, tokens: usize, cols: usize, high: bool) {
        (self.tokens, self.cols, self.high) = (tokens, cols, high);
        let chunks = tokens * cols.div_ceil(CHUNK);
        if self.steps.len() < chunks {
            self.chunks.resize(chunks, SplitChunk::ZERO);
            self.steps.resize(chunks, 0.0);
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

    /// Whether codes have 16 bits instead of 8.
    pub fn has_high(&self) -> bool {
        self.high
    }

    /// The parts of all tokens.
    pub fn parts_mut(&mut self) -> SplitParts<'_> {
        let n = self.cols.div_ceil(CHUNK);
        let (chunks, steps) = (&mut self.chunks[..self.tokens * n], &mut self.steps[..]);
        SplitParts { n, high: self.high, chunks, steps: &mut steps[..self.tokens * n] }
    }

    pub(super) fn row(&self, token: usize) -> SplitRow<'_> {
        let n = self.cols.div_ceil(CHUNK);
        SplitRow { chunks: &self.chunks, steps: &self.steps }.chunks(token * n..(token + 1) * n)
    }
}

impl SplitRow<'_> {
    /// A range of the chunks.
    pub(super) fn chunks(self, range: Range<usize>) -> Self {
        SplitRow { chunks: &self.chunks[range.clone()], steps: &self.steps[range] }
    }
}

/// See [`Kernels::split_codes`](crate::Kernels::split_codes). `chunks` and `steps` belong to one row.
#[inline(always)]
pub(crate) fn split_codes(x: &[f32], high: bool, chunks: &mut [SplitChunk], steps: &mut [f32]) {
    let largest_code = if high { LARGEST } else { LARGEST_BYTE };
    for ((x, chunk), step) in x.chunks(CHUNK).zip(chunks).zip(steps) {
        let whole: [f32; CHUNK] = match x.first_chunk() {
            Some(x) => *x,
            None => crate::simd::pad(x),
        };
        // Compares as integers, so that infinities and NaN are the largest.
        let largest = whole.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff));
        *step = f32::from_bits(largest) / largest_code;
        let inverse = if *step >= f32::MIN_POSITIVE { 1.0 / *step } else { 0.0 };
        // Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits.
        let codes = whole.map(|x| (x * inverse + 12_582_912.0).to_bits() as i16);
        for (less, codes) in chunk.less.iter_mut().zip(codes.as_chunks::<LANES>().0) {
            *less = codes.iter().fold(0, |sum, code| sum - i32::from(*code));
        }
        for (p, (high, low)) in chunk.high.iter_mut().zip(&mut chunk.low).enumerate() {
            let columns = codes.as_chunks::<PLANES>().0;
            for ((high, low), columns) in high.iter_mut().zip(low).zip(columns) {
                // The low byte is signed, so the high one is rounded to nearest.
                let code = columns[p];
                (*high, *low) = ((code.wrapping_add(128) >> 8) as i8, code as i8);
            }
        }
    }
}
