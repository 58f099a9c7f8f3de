//! The table of kernels and the choice of its instruction set.

mod layout;
mod self_test;
#[cfg(test)]
mod tests;

pub use layout::{Layout, Method};

use crate::i2_s::transposed::{self, ColumnList};
use crate::kv::{Cells, Visible};
use crate::{Codes, DenseType, Error, float, i2_s, kv, scan, t5_3};
use std::ops::Range;
use std::sync::OnceLock;

/// The environment variable that can lower the instruction set.
const ISA_VARIABLE: &str = "TRILOBITE_ISA";

/// An instruction set that kernels are written for, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Any processor.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// The same with AVX-VNNI.
    AvxVnni,
    /// The same with AVX-512 F, BW and VNNI.
    Avx512Vnni,
    /// Any 64-bit ARM.
    Neon,
    /// 64-bit ARM with the dot product extension.
    DotProd,
}

impl Isa {
    /// Every instruction set, on whatever machine.
    pub const ALL: [Isa; 6] =
        [Isa::Scalar, Isa::Avx2, Isa::AvxVnni, Isa::Avx512Vnni, Isa::Neon, Isa::DotProd];

    /// The name that `TRILOBITE_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Neon => "neon",
            Isa::DotProd => "dotprod",
        }
    }
}

/// The kernels for one instruction set. Each gives the same bits on every instruction set.
///
/// Float sums have one order: element `i` goes to lane `i % 32` by fused multiply-add, then the
/// lanes are added pairwise, 16 + 16, 8 + 8, and so on.
///
/// # Panics
/// Every method panics if the lengths of its slices contradict the shapes that it states.
pub struct Kernels {
    /// The instruction set.
    pub isa: Isa,
    i2_s_gemm: TernaryGemm<i2_s::Rows>,
    i2_s_rows: TernaryRows,
    i2_s_lookup: Option<LookUp<i2_s::Rows>>,
    i2_t_add: transposed::Add,
    i2_t_repack: transposed::Repack,
    t5_3_gemm: TernaryGemm<()>,
    /// With the tokens from which on it is faster.
    t5_3_repack: Option<(usize, Repack)>,
    quantize_row: unsafe fn(&[f32], &mut [i8]) -> (f32, i32),
    dense_gemm: unsafe fn(DenseType, &[u8], usize, &[f32], &mut [f32]),
    dense_row: unsafe fn(DenseType, &[u8], &mut [f32]),
    dot: unsafe fn(&[f32], &[f32]) -> f32,
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    relu2_mul: unsafe fn(&mut [f32], &[f32]),
    silu_mul: unsafe fn(&mut [f32], &[f32]),
    gelu_mul: unsafe fn(&mut [f32], &[f32]),
    softmax: unsafe fn(&mut [f32]),
    rope_neox: unsafe fn(&mut [f32], &[f32], &[f32]),
    rope_adjacent: unsafe fn(&mut [f32], &[f32], &[f32]),
    to_f16: unsafe fn(&[f32], &mut [u16]),
    attend_scores: unsafe fn(&[f32], Cells<'_>, Visible, f32, &mut [f32]),
    attend_values: unsafe fn(&[f32], Cells<'_>, Range<usize>, Visible, &mut [f32]),
    scan: unsafe fn(&[[u8; scan::CODES]], scan::Halves<'_>, &mut [i32]),
    refine_scan: RefineScan,
}

type TernaryGemm<L> = unsafe fn(L, &[u8], usize, Range<usize>, &Codes, Range<usize>, &mut [i32]);
/// The same for a list of rows.
type TernaryRows = unsafe fn(i2_s::Rows, &[u8], usize, &[u32], &Codes, Range<usize>, &mut [i32]);
/// What [`scan::scalar::refine`] does.
type RefineScan = unsafe fn(&[[u8; scan::BITS]], usize, &[u32], scan::Halves<'_>, &mut [i32]);
/// What [`t5_3::avx2::repack`] does.
type Repack = unsafe fn(&[u8], usize, Range<usize>, &mut Vec<u8>) -> Range<usize>;
/// The multiplication by look-up of some matrices with a multiple of `lanes` tokens.
struct LookUp<L> {
    lanes: usize,
    applies: fn(L, usize) -> bool,
    gemm: TernaryGemm<L>,
}

/// The table that takes the kernels from these modules of `i2_s`, `t5_3`, `float` and `scan`.
macro_rules! table {
    ($isa:expr, $i2_s:ident, $t5_3:ident, $float:ident, $scan:ident) => {
        Kernels {
            isa: $isa,
            i2_s_gemm: i2_s::$i2_s::gemm,
            i2_s_rows: i2_s::$i2_s::rows,
            i2_s_lookup: None,
            i2_t_add: transposed::scalar::add,
            i2_t_repack: transposed::portable,
            t5_3_gemm: t5_3::$t5_3::gemm,
            t5_3_repack: None,
            quantize_row: float::$float::quantize_row,
            dense_gemm: float::$float::dense_gemm,
            dense_row: float::$float::dense_row,
            dot: float::$float::dot,
            rms_norm: float::$float::rms_norm,
            relu2_mul: float::$float::relu2_mul,
            silu_mul: float::$float::silu_mul,
            gelu_mul: float::$float::gelu_mul,
            softmax: float::$float::softmax,
            rope_neox: float::$float::rope_neox,
            rope_adjacent: float::$float::rope_adjacent,
            to_f16: float::$float::to_f16,
            attend_scores: float::$float::attend_scores,
            attend_values: float::$float::attend_values,
            scan: scan::$scan::scan,
            refine_scan: scan::$scan::refine,
        }
    };
}

/// Calls a kernel of the table.
macro_rules! call {
    ($self:ident.$kernel:ident($($arg:expr),*)) => {
        // SAFETY: the only requirement of a kernel is the instruction set it is compiled for, and
        // `detected`, the one place that makes such a `Kernels`, has detected it.
        unsafe { ($self.$kernel)($($arg),*) }
    };
}

/// A table for each instruction set of this machine that computes what the scalar one does, lowest
/// first.
fn tables() -> &'static [Kernels] {
    static TABLES: OnceLock<Vec<Kernels>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let scalar = scalar();
        let expected = self_test::results(&scalar);
        let passing = detected().into_iter().filter(|table| self_test::results(table) == expected);
        std::iter::once(scalar).chain(passing).collect()
    })
}

/// The table for any processor.
fn scalar() -> Kernels {
    table!(Isa::Scalar, scalar, scalar, scalar, scalar)
}

/// A table for each instruction set of this machine above the scalar one, lowest first.
#[cfg(target_arch = "x86_64")]
fn detected() -> Vec<Kernels> {
    let mut tables = Vec::new();
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    if !avx2 {
        return tables;
    }
    let lookup = || {
        let gemm = i2_s::lookup::gemm;
        Some(LookUp { lanes: i2_s::lookup::LANES, applies: i2_s::lookup::applies, gemm })
    };
    let t5_3_repack = |tokens| Some((tokens, t5_3::avx2::repack as Repack));
    let i2_t_repack = transposed::avx2_repack;
    tables.push(Kernels {
        i2_s_lookup: lookup(),
        i2_t_add: transposed::avx2::add,
        i2_t_repack,
        t5_3_repack: t5_3_repack(16),
        ..table!(Isa::Avx2, avx2, avx2, avx2, avx2)
    });
    if is_x86_feature_detected!("avxvnni") {
        tables.push(Kernels {
            i2_s_lookup: lookup(),
            i2_t_add: transposed::avx2::add,
            i2_t_repack,
            t5_3_repack: t5_3_repack(16),
            ..table!(Isa::AvxVnni, avx_vnni, avx2, avx2, avx2)
        });
    }
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni");
    if avx512 {
        // Its multiply-add is faster than the look-up of AVX2.
        tables.push(Kernels {
            i2_t_add: transposed::avx512_vnni::add,
            i2_t_repack,
            t5_3_repack: t5_3_repack(64),
            ..table!(Isa::Avx512Vnni, avx512_vnni, avx512, avx512, avx512)
        });
    }
    tables
}

/// A table for each instruction set of this machine above the scalar one, lowest first.
#[cfg(target_arch = "aarch64")]
fn detected() -> Vec<Kernels> {
    use std::arch::is_aarch64_feature_detected;
    let mut tables = Vec::new();
    if !is_aarch64_feature_detected!("neon") {
        return tables;
    }
    tables.push(table!(Isa::Neon, neon, scalar, neon, scalar));
    if is_aarch64_feature_detected!("dotprod") {
        tables.push(table!(Isa::DotProd, dotprod, scalar, neon, scalar));
    }
    tables
}

/// There is none for other processors.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detected() -> Vec<Kernels> {
    Vec::new()
}

/// The highest table, or the one that `cap` names.
fn choose(cap: Option<&str>) -> Result<&'static Kernels, Error> {
    let list = |isas: &[Isa]| isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
    let tables = tables();
    let Some(cap) = cap else {
        return Ok(&tables[tables.len() - 1]);
    };
    let Some(asked) = Isa::ALL.into_iter().find(|isa| isa.name() == cap) else {
        return Err(Error::UnknownIsa { value: cap.to_owned(), known: list(&Isa::ALL) });
    };
    tables.iter().find(|table| table.isa == asked).ok_or_else(|| {
        let available = tables.iter().map(|table| table.isa).collect::<Vec<_>>();
        Error::MissingIsa { asked: asked.name(), available: list(&available) }
    })
}

impl Kernels {
    /// The kernels for the best instruction set of this machine, or for the lower one that the
    /// environment variable `TRILOBITE_ISA` names. The first call decides for the whole process.
    ///
    /// # Errors
    /// If the variable names no instruction set, or one that this machine lacks.
    pub fn detect() -> Result<&'static Kernels, Error> {
        static CHOSEN: OnceLock<Result<&'static Kernels, Error>> = OnceLock::new();
        CHOSEN
            .get_or_init(|| {
                let cap = std::env::var_os(ISA_VARIABLE);
                choose(cap.as_ref().map(|cap| cap.to_string_lossy()).as_deref())
            })
            .clone()
    }

    /// The kernels for every instruction set of this machine, scalar first.
    pub fn available() -> Vec<&'static Kernels> {
        tables().iter().collect()
    }

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

    /// Multiplies rows of a dense matrix with float activations.
    ///
    /// `out[t * rows.len() + (r - rows.start)] = sum_k w[r][k] * x[t][k]` in the order of
    /// [`dot`](Kernels::dot), so a token's results do not depend on the tokens beside it.
    ///
    /// `w` is a whole matrix of rows of `cols` weights, and `x` is `[tokens][cols]`.
    pub fn dense_gemm(
        &self,
        ty: DenseType,
        w: &[u8],
        cols: usize,
        rows: Range<usize>,
        x: &[f32],
        tokens: usize,
        out: &mut [f32],
    ) {
        assert_eq!(x.len(), tokens * cols, "activations");
        assert_eq!(out.len(), tokens * rows.len(), "outputs");
        let row_len = row_len(ty, cols);
        let w = &w[rows.start * row_len..rows.end * row_len];
        if out.is_empty() || cols == 0 {
            return out.fill(0.0);
        }
        call!(self.dense_gemm(ty, w, cols, x, out))
    }

    /// Widens one row of a dense matrix of rows of `cols` weights to `out`, `[cols]`.
    pub fn dense_row(&self, ty: DenseType, w: &[u8], cols: usize, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), cols, "outputs");
        let row_len = row_len(ty, cols);
        call!(self.dense_row(ty, &w[row * row_len..(row + 1) * row_len], out))
    }

    /// The dot product of two equally long vectors.
    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "factors");
        call!(self.dot(a, b))
    }

    /// `out = x / sqrt(mean(x^2) + eps) * weight`, all of one length.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        assert_eq!(x.len(), weight.len(), "weights");
        assert_eq!(x.len(), out.len(), "outputs");
        call!(self.rms_norm(x, weight, eps, out))
    }

    /// `gate = relu(gate)^2 * up`, element by element.
    pub fn relu2_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "factors");
        call!(self.relu2_mul(gate, up))
    }

    /// `gate = gate / (1 + exp(-gate)) * up`, element by element.
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "factors");
        call!(self.silu_mul(gate, up))
    }

    /// `gate = gelu(gate) * up`, element by element, with the approximation of GELU by
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    pub fn gelu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "factors");
        call!(self.gelu_mul(gate, up))
    }

    /// `x = exp(x - max(x)) / sum(exp(x - max(x)))`, with exp within 2 ulp.
    ///
    /// Entries of negative infinity become 0; if there is nothing else, all become NaN.
    pub fn softmax(&self, x: &mut [f32]) {
        call!(self.softmax(x))
    }

    /// Rotary embedding of one head in place, pairs `(i, i + n)` where `n` is the length of `cos`
    /// and `sin`. Elements from `2 n` on stay as they are.
    pub fn rope_neox(&self, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        assert_eq!(cos.len(), sin.len(), "sines");
        assert!(head.len() >= 2 * cos.len(), "{} of {} elements", 2 * cos.len(), head.len());
        call!(self.rope_neox(head, cos, sin))
    }

    /// Rotary embedding of one head in place, pairs `(2 i, 2 i + 1)` for each of `cos` and `sin`.
    pub fn rope_adjacent(&self, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        assert_eq!(cos.len(), sin.len(), "sines");
        assert!(head.len() >= 2 * cos.len(), "{} of {} elements", 2 * cos.len(), head.len());
        call!(self.rope_adjacent(head, cos, sin))
    }

    /// Rounds to f16, given as bits: to nearest, ties to even, infinity beyond the range.
    pub fn to_f16(&self, x: &[f32], out: &mut [u16]) {
        assert_eq!(x.len(), out.len(), "outputs");
        call!(self.to_f16(x, out))
    }

    /// The scores of some query rows, `[rows][head_dim]` with zeros up to whole panels, at the
    /// positions of `keys`: `out[r][p] = scale * (q[r] keys[p])` for every `p` that row `r` sees, the
    /// product in the order of [`dot`](Kernels::dot). Other outputs are unspecified.
    pub fn attend_scores(
        &self,
        q: &[f32],
        keys: Cells<'_>,
        visible: Visible,
        scale: f32,
        out: &mut [f32],
    ) {
        let (width, positions) = (q.len() / visible.rows, out.len() / visible.rows);
        assert!(width.is_multiple_of(kv::BLOCK) && q.len() == width * visible.rows, "queries");
        assert!(positions.is_multiple_of(kv::BLOCK), "{positions} positions");
        assert_eq!(out.len(), positions * visible.rows, "outputs");
        assert_eq!(keys.count(), width * positions, "keys");
        call!(self.attend_scores(q, keys, visible, scale, out))
    }

    /// The sums of `values` for some query rows, each weighted with the row's `weights`, `[rows]
    /// [positions]`: for every row and element, by fused multiply-add from 0 on, those that the row
    /// sees in the order of the positions. `out` receives the given panels, `[rows][32 panels]`.
    pub fn attend_values(
        &self,
        weights: &[f32],
        values: Cells<'_>,
        panels: Range<usize>,
        visible: Visible,
        out: &mut [f32],
    ) {
        let positions = weights.len() / visible.rows;
        assert!(positions > 0 && positions.is_multiple_of(kv::BLOCK), "{positions} positions");
        assert_eq!(weights.len(), positions * visible.rows, "weights");
        let width = values.count() / positions;
        assert!(width.is_multiple_of(kv::BLOCK) && values.count() == width * positions, "values");
        assert!(panels.end * kv::BLOCK <= width, "panels {panels:?} of {width} elements");
        assert_eq!(out.len(), visible.rows * panels.len() * kv::BLOCK, "outputs");
        call!(self.attend_values(weights, values, panels, visible, out))
    }

    /// Attention of some query rows: [`attend_scores`](Kernels::attend_scores), the
    /// [`softmax`](Kernels::softmax) of what each row sees, and all panels of
    /// [`attend_values`](Kernels::attend_values). `scores` is `[rows][positions]`.
    pub fn attend(
        &self,
        q: &[f32],
        (keys, values): (Cells<'_>, Cells<'_>),
        visible: Visible,
        scale: f32,
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        self.attend_scores(q, keys, visible, scale, scores);
        let positions = scores.len() / visible.rows;
        for (row, scores) in scores.chunks_exact_mut(positions).enumerate() {
            self.softmax(&mut scores[visible.of(row)]);
        }
        let panels = q.len() / visible.rows / kv::BLOCK;
        self.attend_values(scores, values, 0..panels, visible, out);
    }

    /// Multiplies the codes of rows with those of a vector, exactly: see [`scan`](mod@scan).
    ///
    /// `out[r] = sum_k codes[r][k] * x[k]`, for the five-bit codes of as many rows as outputs.
    pub fn scan(&self, codes: &[u8], x: &scan::Query, out: &mut [i32]) {
        let (codes, x) = (codes.as_chunks().0, x.halves());
        assert_eq!(codes.len(), out.len() * x[0].len(), "codes");
        if out.is_empty() || x[0].is_empty() {
            return out.fill(0);
        }
        call!(self.scan(codes, x, out))
    }

    /// Makes the sums of some `rows` for codes those for codes with one more bit.
    ///
    /// `sums[i]` becomes `2 * sums[i] + sum_k bit[rows[i]][k] * x[k]`. `refinements` holds the
    /// refinements of all rows, and `refinement` says which is the one to add.
    pub fn refine_scan(
        &self,
        refinements: &[u8],
        refinement: usize,
        rows: &[u32],
        x: &scan::Query,
        sums: &mut [i32],
    ) {
        let (bits, x) = (refinements.as_chunks().0, x.halves());
        assert!(refinement < scan::REFINEMENTS, "refinements");
        assert_eq!(rows.len(), sums.len(), "sums");
        call!(self.refine_scan(bits, refinement, rows, x, sums))
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels").field("isa", &self.isa).finish_non_exhaustive()
    }
}

fn row_len(ty: DenseType, cols: usize) -> usize {
    let len = ty.row_len(cols);
    assert!(len.is_some(), "a row of {cols} weights in {ty:?}");
    len.unwrap_or_default()
}
