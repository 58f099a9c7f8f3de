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

/// The largest code of three bytes: the largest that one addition can round.
const LARGEST: f32 = 4_194_303.0;

/// The largest code of one byte.
const LARGEST_BYTE: f32 = 127.0;

/// The order of the columns of a chunk in its planes: the one in which a type of weights is unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColumnOrder {
    /// Byte `j` of plane `p` is column `4 j + p`: four adjacent weights share a byte.
    #[default]
    Adjacent,
    /// Byte `32 h + j` of plane `p` is column `128 h + 32 p + j`: four weights at a distance of 32
    /// columns share a byte.
    Apart,
}

impl ColumnOrder {
    /// Every order.
    pub const ALL: [ColumnOrder; 2] = [ColumnOrder::Adjacent, ColumnOrder::Apart];

    /// The plane and the byte of a column.
    #[inline(always)]
    pub(super) fn place(self, column: usize) -> (usize, usize) {
        match self {
            ColumnOrder::Adjacent => (column % PLANES, column / PLANES),
            ColumnOrder::Apart => (column / 32 % PLANES, column / 128 * 32 + column % 32),
        }
    }
}

/// The form of codes that are split into bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SplitForm {
    /// The order of columns: see [`DenseType::column_order`](crate::DenseType::column_order).
    pub order: ColumnOrder,
    /// Whether a code is a single byte instead of three.
    pub int8: bool,
}

/// The signed bytes of the codes of 256 columns, aligned for the widest registers. Codes of a single
/// byte are in `low`.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct SplitChunk {
    pub(super) high: [[i8; PLANE_LEN]; PLANES],
    pub(super) middle: [[i8; PLANE_LEN]; PLANES],
    pub(super) low: [[i8; PLANE_LEN]; PLANES],
    /// The negative sum of the codes of the columns of each lane.
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
    form: SplitForm,
    tokens: usize,
    cols: usize,
}

/// All rows of [`SplitCodes`], to be filled in parallel.
#[derive(Debug)]
pub struct SplitParts<'a> {
    /// The form of the codes.
    pub form: SplitForm,
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
    pub fn reset(&mut self, tokens: usize, cols: usize, form: SplitForm) {
        (self.tokens, self.cols, self.form) = (tokens, cols, form);
        let chunks = tokens * cols.div_ceil(CHUNK);
        if self.steps.len() < chunks {
            self.chunks.resize(chunks, SplitChunk::ZERO);
            self.steps.resize(chunks, 0.0);
        }
    }

    /// Becomes a copy of some rows of `other`.
    pub fn gather(&mut self, other: &Self, rows: impl ExactSizeIterator<Item = usize>) {
        self.reset(rows.len(), other.cols, other.form);
        let SplitParts { form, n, chunks, steps } = self.parts_mut();
        for (to, row) in rows.enumerate() {
            let (to, from) = (to * n..(to + 1) * n, other.row(row));
            steps[to.clone()].copy_from_slice(from.steps);
            for (to, from) in chunks[to].iter_mut().zip(from.chunks) {
                match form.int8 {
                    true => (to.low, to.less) = (from.low, from.less),
                    false => *to = *from,
                }
            }
        }
    }

    /// The form of the codes.
    pub fn form(&self) -> SplitForm {
        self.form
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
        SplitParts { form: self.form, n, chunks, steps: &mut steps[..self.tokens * n] }
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
pub(crate) fn split_codes(
    x: &[f32],
    form: SplitForm,
    chunks: &mut [SplitChunk],
    steps: &mut [f32],
) {
    let largest_code = if form.int8 { LARGEST_BYTE } else { LARGEST };
    for ((x, chunk), step) in x.chunks(CHUNK).zip(chunks).zip(steps) {
        let whole: [f32; CHUNK] = match x.first_chunk() {
            Some(x) => *x,
            None => crate::simd::pad(x),
        };
        // Compares as integers, so that infinities and NaN are the largest.
        let largest = whole.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff));
        *step = f32::from_bits(largest) / largest_code;
        let inverse = if *step >= f32::MIN_POSITIVE { 1.0 / *step } else { 0.0 };
        // Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits. The
        // mask keeps codes of what is not finite within range.
        let mut codes = [0; CHUNK];
        for (code, x) in codes.iter_mut().zip(&whole) {
            let bits = (x * inverse + 12_582_912.0).to_bits();
            *code = (bits & 0x7f_ffff) as i32 - 0x40_0000;
        }
        let mut planes = [[0; PLANE_LEN]; PLANES];
        match form.order {
            ColumnOrder::Adjacent => {
                for (j, columns) in codes.as_chunks::<PLANES>().0.iter().enumerate() {
                    for (plane, code) in planes.iter_mut().zip(columns) {
                        plane[j] = *code;
                    }
                }
            }
            ColumnOrder::Apart => {
                for (i, run) in codes.as_chunks::<32>().0.iter().enumerate() {
                    planes[i % PLANES][i / PLANES * 32..][..32].copy_from_slice(run);
                }
            }
        }
        chunk.less = [0; LANES];
        for plane in &planes {
            for (less, codes) in chunk.less.iter_mut().zip(plane.as_chunks::<4>().0) {
                *less -= codes[0] + codes[1] + codes[2] + codes[3];
            }
        }
        // Bytes are signed, so the ones above are rounded to nearest.
        split(&planes, 0, &mut chunk.low);
        if !form.int8 {
            split(&planes, 1, &mut chunk.middle);
            split(&planes, 2, &mut chunk.high);
        }
    }
}

/// Byte `place` of the codes, counted from the lowest.
#[inline(always)]
fn split(planes: &[[i32; PLANE_LEN]; PLANES], place: u32, out: &mut [[i8; PLANE_LEN]; PLANES]) {
    let round = [0, 0x80, 0x8080][place as usize];
    for (bytes, codes) in out.iter_mut().zip(planes) {
        for (byte, code) in bytes.iter_mut().zip(codes) {
            *byte = ((code + round) >> (8 * place)) as i8;
        }
    }
}
