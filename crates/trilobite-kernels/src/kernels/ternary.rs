//! Products of ternary matrices with int8 activations.

use super::{Kernels, Layout, Method, call};
use crate::i2_s::transposed::{self, ColumnList};
use crate::{Codes, i2_s, t5_3};
use std::ops::Range;

impl Kernels {
    /// Quantises one token's activations to int8 by their absolute maximum.
    ///
    /// scale = 127 / max(absmax, 1e-5) and code = rint(x * scale), ties to even, all in f32.
    /// Returns the scale and the sum of the codes. `codes` is as long as `x`.
    ///
    /// NaN counts as 0. With an infinity in `x`, the scale is 0 and so are all codes.
    pub fn quantize_row(&self, x: &[f32], codes: &mut [i8]) -> (f32, i32) {
        assert_eq!(x.len(), codes.len(), "codes");
        call!(self.quantize_row(x, codes))
    }

    /// Multiplies rows of a ternary matrix with int8 activations, exactly.
    ///
    /// `out[(t - tokens.start) * rows.len() + (r - rows.start)] = sum_k trit[r][k] * code[t][k]`.
    ///
    /// `packed` is a whole matrix of rows of `cols` weights in the given layout, and `x` holds
    /// `cols` codes a token, fewer than 2^23. If `packed` holds codes that its layout does not use,
    /// the sums are unspecified.
    ///
    /// Many rows and tokens at a time are faster than few.
    pub fn ternary_gemm(
        &self,
        layout: Layout,
        packed: &[u8],
        cols: usize,
        rows: Range<usize>,
        x: &Codes,
        tokens: Range<usize>,
        out: &mut [i32],
    ) {
        let method = Method::fastest(rows.len(), tokens.len());
        self.ternary_gemm_by(method, layout, packed, cols, rows, x, tokens, out);
    }

    /// [`ternary_gemm`](Kernels::ternary_gemm) by a given method, as far as it is there for the
    /// instruction set, the matrix and the number of tokens; the rest is done by multiply-add.
    pub fn ternary_gemm_by(
        &self,
        method: Method,
        layout: Layout,
        packed: &[u8],
        cols: usize,
        rows: Range<usize>,
        x: &Codes,
        tokens: Range<usize>,
        out: &mut [i32],
    ) {
        assert_eq!(x.cols(), cols, "codes of a token");
        assert!(tokens.end <= x.tokens(), "tokens {tokens:?} of {}", x.tokens());
        assert_eq!(out.len(), rows.len() * tokens.len(), "outputs");
        if out.is_empty() || cols == 0 {
            return out.fill(0);
        }
        match layout {
            Layout::I2S(layout) => {
                let blocks = layout.blocks(rows.end - 1, cols).0;
                assert!(blocks.end <= packed.len() / i2_s::BLOCK_BYTES, "rows {rows:?} of {cols}");
                let (mut tokens, mut out) = (tokens, out);
                let lookup = self.i2_s_lookup.as_ref().filter(|_| method == Method::LookUp);
                if let Some(lookup) = lookup.filter(|lookup| (lookup.applies)(layout, cols)) {
                    let count = tokens.len() - tokens.len() % lookup.lanes;
                    let (first, rest) = (tokens.start..tokens.start + count, tokens.end);
                    let (done, left) = out.split_at_mut(count * rows.len());
                    call!(lookup.gemm(layout, packed, cols, rows.clone(), x, first, done));
                    (tokens, out) = (tokens.start + count..rest, left);
                }
                call!(self.i2_s_gemm(layout, packed, cols, rows, x, tokens, out))
            }
            Layout::I2T => {
                assert!(rows.end <= transposed::columns(packed, cols), "rows {rows:?} of {cols}");
                if tokens.len() < transposed::MANY {
                    let (add, part, skip) = (self.i2_t_add, 0..cols, transposed::Skip::Nothing);
                    return transposed::with_list(|list| {
                        // SAFETY: as in `call`.
                        unsafe {
                            transposed::gemm(
                                add, packed, cols, rows, part, skip, x, tokens, list, out,
                            );
                        }
                    });
                }
                t5_3::REPACKED.with_borrow_mut(|repacked| {
                    let rows = call!(self.i2_t_repack(packed, cols, rows, repacked));
                    let layout = Layout::I2S(i2_s::Rows::Padded);
                    self.ternary_gemm_by(method, layout, repacked, cols, rows, x, tokens, out);
                })
            }
            Layout::T5_3 => {
                let len = t5_3::packed_len(rows.end, cols);
                assert!(len.is_some_and(|len| len <= packed.len()), "rows {rows:?} of {cols}");
                match self.t5_3_repack.filter(|(many, _)| tokens.len() >= *many) {
                    Some((_, repack)) => t5_3::REPACKED.with_borrow_mut(|repacked| {
                        // SAFETY: as in `call`.
                        let rows = unsafe { repack(packed, cols, rows, repacked) };
                        let layout = Layout::I2S(i2_s::Rows::Padded);
                        self.ternary_gemm_by(method, layout, repacked, cols, rows, x, tokens, out);
                    }),
                    None => call!(self.t5_3_gemm((), packed, cols, rows, x, tokens, out)),
                }
            }
        }
    }

    /// Multiplies some rows of a two-bit ternary matrix with int8 activations, exactly. Other rows
    /// are not read.
    ///
    /// `out[(t - tokens.start) * rows.len() + i] = sum_k trit[rows[i]][k] * code[t][k]`; see
    /// [`ternary_gemm`](Kernels::ternary_gemm) for the rest. `rows` rise.
    pub fn ternary_rows(
        &self,
        layout: i2_s::Rows,
        packed: &[u8],
        cols: usize,
        rows: &[u32],
        x: &Codes,
        tokens: Range<usize>,
        out: &mut [i32],
    ) {
        assert_eq!(x.cols(), cols, "codes of a token");
        assert!(tokens.end <= x.tokens(), "tokens {tokens:?} of {}", x.tokens());
        assert_eq!(out.len(), rows.len() * tokens.len(), "outputs");
        if out.is_empty() || cols == 0 {
            return out.fill(0);
        }
        assert!(rows.is_sorted(), "rows rise");
        let blocks = layout.blocks(rows[rows.len() - 1] as usize, cols).0;
        assert!(blocks.end <= packed.len() / i2_s::BLOCK_BYTES, "rows of {cols}");
        call!(self.i2_s_rows(layout, packed, cols, rows, x, tokens, out))
    }

    /// Multiplies a part of the columns of a matrix of [`Layout::I2T`] with int8 activations,
    /// exactly. Columns whose activations are all 0 are not read.
    ///
    /// `out[(t - tokens.start) * rows + r] = sum of trit[r][k] * code[t][k]` over the columns `k`
    /// of `part`; over all parts, the sums are those of [`ternary_gemm`](Kernels::ternary_gemm).
    ///
    /// `packed` is the whole matrix of `rows` rows. Returns how many columns were read.
    pub fn ternary_part(
        &self,
        packed: &[u8],
        rows: usize,
        part: Range<usize>,
        x: &Codes,
        tokens: Range<usize>,
        list: &mut ColumnList,
        out: &mut [i32],
    ) -> usize {
        assert!(part.end <= x.cols(), "columns {part:?} of {}", x.cols());
        assert!(tokens.end <= x.tokens(), "tokens {tokens:?} of {}", x.tokens());
        assert_eq!(out.len(), rows * tokens.len(), "outputs");
        assert!(rows <= transposed::columns(packed, x.cols()), "{rows} rows of {}", x.cols());
        let (cols, skip) = (x.cols(), transposed::Skip::Zeros);
        // SAFETY: as in `call`.
        unsafe {
            transposed::gemm(self.i2_t_add, packed, cols, 0..rows, part, skip, x, tokens, list, out)
        }
    }
}
