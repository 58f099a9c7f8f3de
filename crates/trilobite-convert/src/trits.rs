//! Ternary tensors in all source encodings, decoded to trits and one scale.

#[cfg(test)]
mod tests;

use std::ops::Range;

use half::f16;
use rayon::prelude::*;
use trilobite_format::{TensorType, ternary};
use trilobite_kernels::source::{self, trits};
use trilobite_kernels::{DenseType, Layout, i2_s};

use crate::Error;
use crate::rows::source_row;
use crate::source::View;

/// Rows decoded and packed together. They form whole blocks or tiles in every layout, for any row
/// length.
pub(crate) const GROUP: usize = i2_s::BLOCK;

/// A ternary tensor of a source, not yet validated except for an explicit scale.
pub(crate) struct Ternary<'a> {
    pub(crate) file: &'a str,
    /// The name in the source.
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) encoding: Encoding<'a>,
    /// The head width for reordering rows; see [`source_row`].
    pub(crate) head_dim: Option<usize>,
}

/// The encoding of a tensor's trits.
pub(crate) enum Encoding<'a> {
    /// U8 `[rows / 4, cols]`: bits `2i` and `2i + 1` of row `r` hold row `r + i * rows / 4` as the
    /// code trit + 1.
    Packed { view: View<'a>, scale: f32 },
    /// Numbers that are -1, 0 or 1.
    Plain { view: View<'a>, scale: f32 },
    /// Master weights, to be quantised by absmean.
    Master { view: View<'a> },
    /// Dense weights: kept exactly if they are -a, 0 and a, otherwise treated as master weights.
    Dense { view: View<'a> },
    /// One of GGUF's ternary types. `factor` multiplies its own scale.
    Gguf { ty: TensorType, bytes: &'a [u8], factor: f32 },
}

/// A ternary tensor with a known scale, ready to be decoded in groups of rows. A weight is trit
/// times scale.
pub(crate) struct Trits<'t> {
    pub(crate) tensor: &'t Ternary<'t>,
    pub(crate) scale: f32,
    /// How dense weights were quantised. `None` if the checkpoint declares the weights ternary or
    /// master weights.
    pub(crate) rounding: Option<Rounding>,
    decode: Decode<'t>,
}

/// How dense weights became ternary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// They already had ternary values.
    Exact,
    /// They were quantised by absmean.
    Absmean,
}

enum Decode<'t> {
    Packed(&'t [u8]),
    Plain(&'t View<'t>),
    /// The sign of each weight whose magnitude times the factor exceeds one half, else 0. This
    /// equals rounding half to even and clamping to -1..1.
    Threshold(&'t View<'t>, f32),
    /// The sign of each weight.
    Sign(&'t View<'t>),
    Codes(&'t [u8], Layout),
    Transposed(&'t [u8]),
    Tq1(&'t [[u8; 54]]),
    Tq2(&'t [[u8; 66]]),
}

/// Buffers reused between groups.
#[derive(Default)]
pub(crate) struct Scratch {
    wide: Vec<f32>,
}

impl Ternary<'_> {
    /// Determines the scale, which may be 0 if all weights are zero. Reads the whole tensor if the
    /// scale depends on the weights, or if the encoding has invalid codes.
    pub(crate) fn open(&self) -> Result<Trits<'_>, Error> {
        let mut rounding = None;
        let (scale, decode) = match &self.encoding {
            Encoding::Packed { view, scale } => (*scale, Decode::Packed(view.bytes)),
            Encoding::Plain { view, scale } => (*scale, Decode::Plain(view)),
            Encoding::Master { view } => absmean(view)?,
            Encoding::Dense { view } => match single_magnitude(view)? {
                Some(scale) => {
                    rounding = Some(Rounding::Exact);
                    (scale, Decode::Sign(view))
                }
                None => {
                    rounding = Some(Rounding::Absmean);
                    absmean(view)?
                }
            },
            Encoding::Gguf { ty, bytes, factor } => {
                let (scale, decode) = self.open_gguf(*ty, bytes)?;
                (scale * factor, decode)
            }
        };
        check_scale(self.file, &self.name, scale)?;
        Ok(Trits { tensor: self, scale, rounding, decode })
    }

    /// The tensor that holds the scale: one beside the weights, or the weights themselves.
    pub(crate) fn scale_name(&self) -> String {
        match self.encoding {
            Encoding::Packed { .. } | Encoding::Plain { .. } => {
                self.name.strip_suffix(".weight").map(|module| format!("{module}.weight_scale"))
            }
            _ => None,
        }
        .unwrap_or_else(|| self.name.clone())
    }

    fn open_gguf<'t>(&self, ty: TensorType, bytes: &'t [u8]) -> Result<(f32, Decode<'t>), Error> {
        let (rows, cols) = (self.rows, self.cols);
        match ty {
            TensorType::Tq1_0 => {
                self.refuse_invalid(DenseType::TQ1_0.find_invalid(bytes, cols))?;
                Ok((block_scale(ty, bytes), Decode::Tq1(bytes.as_chunks().0)))
            }
            TensorType::Tq2_0 => {
                self.refuse_invalid(DenseType::TQ2_0.find_invalid(bytes, cols))?;
                Ok((block_scale(ty, bytes), Decode::Tq2(bytes.as_chunks().0)))
            }
            _ => {
                let (codes, scale) = ternary::split(bytes).unwrap_or((bytes, f32::NAN));
                let layout = layout(ty);
                self.refuse_invalid(layout.find_invalid(codes, rows, cols))?;
                let decode = match layout {
                    Layout::I2T => Decode::Transposed(codes),
                    _ => Decode::Codes(codes, layout),
                };
                Ok((scale, decode))
            }
        }
    }

    /// Fails if there is an invalid code; `at` is its row and column.
    fn refuse_invalid(&self, at: Option<(usize, usize)>) -> Result<(), Error> {
        at.map_or(Ok(()), |(row, col)| Err(self.invalid_code(row, col)))
    }

    fn invalid_code(&self, row: usize, col: usize) -> Error {
        Error::InvalidCode {
            file: self.file.to_owned(),
            tensor: self.name.clone(),
            row: row as u64,
            col: col as u64,
        }
    }
}

impl Trits<'_> {
    /// Decodes the trits of `rows` into `out`, row-major. `rows` starts at a multiple of [`GROUP`],
    /// and `out` has room for exactly these rows.
    pub(crate) fn decode(
        &self,
        rows: Range<usize>,
        scratch: &mut Scratch,
        out: &mut [i8],
    ) -> Result<(), Error> {
        let cols = self.tensor.cols;
        if let Decode::Codes(codes, layout) = &self.decode {
            // Only the last group can be smaller.
            let bytes = |row| layout.packed_len(row, cols).unwrap_or(codes.len());
            layout.unpack(&codes[bytes(rows.start)..bytes(rows.end)], cols, out);
        }
        if let Decode::Transposed(codes) = &self.decode {
            self.decode_columns(codes, rows.clone(), out);
        }
        for (row, out) in rows.zip(out.chunks_exact_mut(cols)) {
            let source = source_row(row, self.tensor.head_dim);
            self.decode_row(source, scratch, out);
            if let Some(col) = trits::first_invalid(out) {
                return Err(self.not_ternary(source, col));
            }
        }
        Ok(())
    }

    /// Decodes `rows`, at most [`GROUP`] starting at a multiple of it, of a transposed tensor.
    fn decode_columns(&self, codes: &[u8], rows: Range<usize>, out: &mut [i8]) {
        let cols = self.tensor.cols;
        let stride = codes.len() / cols;
        // A group of rows is one block of every column.
        let (from, len) = (rows.start / 4, i2_s::BLOCK / 4);
        for (col, column) in codes.chunks_exact(stride).enumerate() {
            let mut block_trits = [0; i2_s::BLOCK];
            let Some(block) = column.get(from..from + len) else { continue };
            i2_s::unpack(block, i2_s::BLOCK, i2_s::Rows::Padded, &mut block_trits);
            trits::set_column(&block_trits, cols, col, out);
        }
    }

    /// Decodes one row of the source. A weight that is not ternary decodes to 2.
    fn decode_row(&self, row: usize, scratch: &mut Scratch, out: &mut [i8]) {
        let cols = self.tensor.cols;
        let elements = row * cols..(row + 1) * cols;
        let wide = &mut scratch.wide;
        match &self.decode {
            Decode::Codes(..) | Decode::Transposed(_) => {}
            Decode::Packed(bytes) => {
                let plane_rows = self.tensor.rows / 4;
                let (plane, start) = (row / plane_rows, row % plane_rows * cols);
                trits::of_plane(&bytes[start..start + cols], plane, out);
            }
            Decode::Plain(view) => {
                view.widen(elements, wide);
                trits::exact(wide, out);
            }
            Decode::Threshold(view, factor) => {
                view.widen(elements, wide);
                trits::round(wide, *factor, out);
            }
            Decode::Sign(view) => {
                view.widen(elements, wide);
                trits::signs(wide, out);
            }
            Decode::Tq1(blocks) => trits::tq1_0(row_of(blocks, row, cols), out),
            Decode::Tq2(blocks) => trits::tq2_0(row_of(blocks, row, cols), out),
        }
    }

    /// The error for a weight that is not ternary.
    fn not_ternary(&self, row: usize, col: usize) -> Error {
        let Decode::Plain(view) = &self.decode else { return self.tensor.invalid_code(row, col) };
        let mut weight = Vec::new();
        let at = row * self.tensor.cols + col;
        view.widen(at..at + 1, &mut weight);
        Error::NotTernary {
            file: self.tensor.file.to_owned(),
            tensor: self.tensor.name.clone(),
            row: row as u64,
            col: col as u64,
            found: weight.first().copied().unwrap_or(f32::NAN),
        }
    }
}

/// The blocks of 256 weights of a row.
fn row_of<T>(blocks: &[T], row: usize, cols: usize) -> &[T] {
    let per_row = cols / 256;
    &blocks[row * per_row..(row + 1) * per_row]
}

/// The kernels' layout for a ternary type.
pub(crate) fn layout(ty: TensorType) -> Layout {
    match ty {
        TensorType::T5_3 => Layout::T5_3,
        TensorType::I2S => Layout::I2S(i2_s::Rows::Flat),
        TensorType::I2T => Layout::I2T,
        _ => Layout::I2S(i2_s::Rows::Padded),
    }
}

/// The scale shared by all blocks. NaN if they have several; such a tensor is not ternary.
fn block_scale(ty: TensorType, bytes: &[u8]) -> f32 {
    ty.one_scale(bytes).map_or(f32::NAN, |scale| f16::from_le_bytes(scale).to_f32())
}

/// Checks that a scale is a positive finite number, or 0 for a tensor of zeros.
pub(crate) fn check_scale(file: &str, tensor: &str, scale: f32) -> Result<(), Error> {
    if scale.is_finite() && scale >= 0.0 {
        Ok(())
    } else {
        Err(Error::Scale { file: file.to_owned(), tensor: tensor.to_owned(), found: scale })
    }
}

/// Scale and decoder of master weights: `t = 1 / max(mean |w|, 1e-5)` and `scale = 1 / t` in f32,
/// with the mean in f64. Pieces of fixed length are summed, so the result does not depend on the
/// number of threads.
fn absmean<'t>(view: &'t View<'_>) -> Result<(f32, Decode<'t>), Error> {
    const PIECE: usize = 1 << 16;
    let sums: Vec<f64> = pieces(view, PIECE)
        .map_init(Vec::new, |wide, piece| {
            view.widen(piece, wide);
            source::sum_of_magnitudes(wide)
        })
        .collect();
    let sum: f64 = sums.iter().sum();
    if !sum.is_finite() {
        view.require_finite()?;
    }
    let mean = ((sum / view.count() as f64) as f32).max(1e-5);
    let factor = 1.0 / mean;
    Ok((1.0 / factor, Decode::Threshold(view, factor)))
}

/// The number a such that every weight is -a, 0 or a, if there is one.
fn single_magnitude(view: &View<'_>) -> Result<Option<f32>, Error> {
    view.require_finite()?;
    const PIECE: usize = 1 << 16;
    let largest = pieces(view, PIECE)
        .map_init(Vec::new, |wide, piece| {
            view.widen(piece, wide);
            source::largest_magnitude(wide)
        })
        .reduce(|| 0.0, f32::max);
    let single = pieces(view, PIECE)
        .map_init(Vec::new, |wide, piece| {
            view.widen(piece, wide);
            source::has_one_magnitude(wide, largest)
        })
        .all(|single| single);
    Ok((single && largest > 0.0).then_some(largest))
}

/// The elements of a view in ranges of at most `len`.
fn pieces(
    view: &View<'_>,
    len: usize,
) -> impl IndexedParallelIterator<Item = Range<usize>> + use<> {
    let count = view.count();
    (0..count.div_ceil(len)).into_par_iter().map(move |i| i * len..((i + 1) * len).min(count))
}
