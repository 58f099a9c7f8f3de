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

/// The largest code of three bytes: the largest that is rounded by an addition.
const LARGEST: f32 = 4_194_303.0;

/// The signed bytes of the codes of 256 columns, aligned for the widest registers. Column `4 j + p`
/// is byte `j` of plane `p`.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct SplitChunk {
    pub(super) high: [[i8; PLANE_LEN]; PLANES],
    pub(super) middle: [[i8; PLANE_LEN]; PLANES],
    pub(super) low: [[i8; PLANE_LEN]; PLANES],
    /// The negative sum of the codes of each 16 columns.
    pub(super) less: [i32; LANES],
}

impl SplitChunk {
    const ZERO: SplitChunk = SplitChunk {
        high: [[0; PLANE_LEN]; PLANES],
        middle: [[0; PLANE_LEN]; PLANES],
        low: [[0; PLANE_LEN]; PLANES],
        less: [0; LANES],
    };
}

/// The codes of the activations of some tokens, split into bytes, with a step for every 256 columns.
///
/// Rows are padded with zeros to a multiple of 256 columns.
#[derive(Clone, Debug, Default)]
pub struct SplitCodes {
    chunks: Vec<SplitChunk>,
    steps: Vec<f32>,
    tokens: usize,
    cols: usize,
}

/// All rows of [`SplitCodes`], to be filled in parallel.
#[derive(Debug)]
pub struct SplitParts<'a> {
    /// The number of chunks of 256 columns in a row.
    pub n: usize,
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
    pub fn reset(&mut self, tokens: usize, cols: usize) {
        (self.tokens, self.cols) = (tokens, cols);
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

    /// The parts of all tokens.
    pub fn parts_mut(&mut self) -> SplitParts<'_> {
        let n = self.cols.div_ceil(CHUNK);
        let (chunks, steps) = (&mut self.chunks[..self.tokens * n], &mut self.steps[..]);
        SplitParts { n, chunks, steps: &mut steps[..self.tokens * n] }
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
pub(crate) fn split_codes(x: &[f32], chunks: &mut [SplitChunk], steps: &mut [f32]) {
    for ((x, chunk), step) in x.chunks(CHUNK).zip(chunks).zip(steps) {
        let whole: [f32; CHUNK] = match x.first_chunk() {
            Some(x) => *x,
            None => crate::simd::pad(x),
        };
        // Compares as integers, so that infinities and NaN are the largest.
        let largest = whole.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff));
        *step = f32::from_bits(largest) / LARGEST;
        let inverse = if *step >= f32::MIN_POSITIVE { 1.0 / *step } else { 0.0 };
        // Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits. The
        // mask keeps codes of what is not finite within range.
        let codes = whole.map(|x| {
            let bits = (x * inverse + 12_582_912.0).to_bits();
            (bits & 0x7f_ffff) as i32 - 0x40_0000
        });
        for (less, codes) in chunk.less.iter_mut().zip(codes.as_chunks::<LANES>().0) {
            *less = codes.iter().fold(0, |sum, code| sum - code);
        }
        // Bytes are signed, so the ones above are rounded to nearest.
        split(&codes, 0, &mut chunk.low);
        split(&codes, 1, &mut chunk.middle);
        split(&codes, 2, &mut chunk.high);
    }
}

/// Byte `place` of the codes, counted from the lowest.
#[inline(always)]
fn split(codes: &[i32; CHUNK], place: u32, out: &mut [[i8; PLANE_LEN]; PLANES]) {
    let round = [0, 0x80, 0x8080][place as usize];
    for (p, plane) in out.iter_mut().enumerate() {
        for (byte, columns) in plane.iter_mut().zip(codes.as_chunks::<PLANES>().0) {
            *byte = ((columns[p] + round) >> (8 * place)) as i8;
        }
    }
}
