//! A short self-test that an instruction set must pass before it is used.

use super::{Kernels, Method};
use crate::kv::{self, Cells, CellsMut, Visible};
use crate::scan::{Anchors, Bounds, Precision, Query, RowBounds, code_bytes, refinement_bytes};
use crate::{
    Codes, DenseMatrix, DenseType, Layout, NarrowCodes, SplitCodes, SplitForm, TernaryMatrix,
    WideCodes, Workspace, i2_s,
};

/// The `(rows, columns, tokens)` of ternary products. They cover every tile, a row after the last
/// tile, columns after the last block, more columns than i16 can sum, and what is repacked.
const SHAPES: [(usize, usize, usize); 7] = [
    (5, 2180, 1),
    (5, 300, 2),
    (3, 300, 3),
    (3, 300, 4),
    (3, 2180, 8),
    (3, 300, 17),
    (3, 150, 128),
];

/// The fingerprint of the scalar kernels' results, which are the same on every machine.
pub const SCALAR_FINGERPRINT: u64 = 0x8f45_316d_1a6d_6661;

/// The matrices and activations of the ternary products, the same for every instruction set.
pub(super) struct SelfTest {
    /// For each of [`SHAPES`], matrices with the same weights, and activations.
    products: Vec<(Vec<Packed>, Codes)>,
    /// A transposed matrix of several blocks, and activations of different numbers of tokens, of
    /// which every second column counts.
    transposed: (Packed, Vec<Codes>),
}

/// A packed matrix.
struct Packed {
    layout: Layout,
    bytes: Vec<u8>,
    rows: usize,
    cols: usize,
}

impl Packed {
    fn new(layout: Layout, trits: &[i8], cols: usize) -> Self {
        let rows = trits.len() / cols;
        let mut bytes = vec![0; layout.packed_len(rows, cols).unwrap_or_default()];
        layout.pack(trits, cols, &mut bytes);
        Self { layout, bytes, rows, cols }
    }

    fn matrix(&self) -> Option<TernaryMatrix<'_>> {
        TernaryMatrix::new(self.layout, &self.bytes, self.rows, self.cols)
    }
}

impl SelfTest {
    pub(super) fn new() -> Self {
        let products = SHAPES.map(|(rows, cols, tokens)| {
            // The first row and token are extreme, the others mixed.
            let trits = mixed(rows * cols).enumerate();
            let trits = trits.map(|(i, trit)| if i < cols { 1 } else { trit }).collect::<Vec<_>>();
            let layouts = [Layout::I2S(i2_s::Rows::Padded), Layout::T5_3];
            let matrices = layouts.map(|layout| Packed::new(layout, &trits, cols));
            let x = codes(tokens, cols, |t, i| if t == 0 { -128 } else { (i * 37 + t * 11) as i8 });
            (Vec::from(matrices), x)
        });
        let (rows, cols) = (300, 150);
        let matrix = Packed::new(Layout::I2T, &mixed(rows * cols).collect::<Vec<_>>(), cols);
        let x = [1, 2, 4, 8, 32].map(|tokens| {
            codes(tokens, cols, |t, i| if i % 2 == 0 { 0 } else { (i * 37 + t * 11) as i8 })
        });
        Self { products: Vec::from(products), transposed: (matrix, Vec::from(x)) }
    }

    /// The bits of all kernels' results on a few shapes.
    pub(super) fn results(&self, kernels: &Kernels) -> Vec<u32> {
        let mut results = Vec::new();
        for (matrices, x) in &self.products {
            for matrix in matrices.iter().filter_map(Packed::matrix) {
                results.extend(sums(kernels, &matrix, x).iter().map(|sum| *sum as u32));
            }
        }
        let (matrix, x) = &self.transposed;
        if let Some(matrix) = matrix.matrix() {
            for x in x {
                let sums = products_transposed(kernels, &matrix, x);
                results.extend(sums.iter().map(|sum| *sum as u32));
            }
        }
        for cols in [64, 300] {
            floats(kernels, cols, &mut results);
        }
        results
    }
}

/// The 64-bit FNV-1a hash of results, word by word.
pub(super) fn fingerprint(results: &[u32]) -> u64 {
    results.iter().fold(0xcbf2_9ce4_8422_2325, |hash, bits| {
        (hash ^ u64::from(*bits)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Trits without a pattern.
fn mixed(n: usize) -> impl Iterator<Item = i8> {
    (0..n).map(|i| (i * i % 7 % 3) as i8 - 1)
}

/// Numbers in -1..1 with many different bits.
fn sample(n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

/// Products of all rows by every method, and of every second row.
fn sums(kernels: &Kernels, matrix: &TernaryMatrix<'_>, x: &Codes) -> Vec<i32> {
    let (rows, tokens) = (matrix.rows(), x.tokens());
    let mut sums = Vec::new();
    for method in Method::ALL {
        let mut out = vec![0; rows * tokens];
        let workspace = &mut Workspace::default();
        kernels.ternary_gemm_by(method, matrix, 0..rows, x, workspace, &mut out);
        sums.extend(out);
    }
    if let Layout::I2S(_) = matrix.layout() {
        let chosen = (0..rows as u32).step_by(2).collect::<Vec<_>>();
        let mut some = vec![0; chosen.len() * tokens];
        kernels.ternary_rows(matrix, &chosen, x, &mut some);
        sums.extend(some);
    }
    sums
}

/// Products of all columns of a transposed matrix, and of those that are not zero.
fn products_transposed(kernels: &Kernels, matrix: &TernaryMatrix<'_>, x: &Codes) -> Vec<i32> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let mut out = vec![0; 2 * rows * x.tokens()];
    let (all, live) = out.split_at_mut(rows * x.tokens());
    let workspace = &mut Workspace::default();
    kernels.ternary_gemm(matrix, 0..rows, x, workspace, all);
    kernels.ternary_part(matrix, 0..cols, x, workspace, live);
    out
}

fn codes(tokens: usize, cols: usize, code: impl Fn(usize, usize) -> i8) -> Codes {
    let mut x = Codes::new(tokens, cols);
    x.reset(tokens, cols);
    for (t, row) in x.rows_mut().enumerate() {
        row.codes.iter_mut().enumerate().for_each(|(i, out)| *out = code(t, i));
        *row.sum = row.codes.iter().map(|code| i32::from(*code)).sum();
    }
    x
}

fn floats(kernels: &Kernels, cols: usize, results: &mut Vec<u32>) {
    let x = sample(cols);
    let mut in_place = |f: &dyn Fn(&mut [f32])| {
        let mut values = x.clone();
        f(&mut values);
        results.extend(values.iter().map(|value| value.to_bits()));
    };
    in_place(&|out| kernels.rms_norm(&x, &x, 1e-5, out));
    in_place(&|gate| kernels.relu2_mul(gate, &x));
    in_place(&|gate| kernels.silu_mul(gate, &x));
    in_place(&|gate| kernels.gelu_mul(gate, &x));
    in_place(&|x| kernels.softmax(x));
    let (cos, sin) = x[..cols / 2].split_at(cols / 4);
    in_place(&|head| kernels.rope_neox(head, cos, sin));
    in_place(&|head| kernels.rope_adjacent(head, cos, sin));
    in_place(&|out| out[0] = kernels.dot(&x, &x));

    let mut f16 = vec![0; cols];
    kernels.to_f16(&x, &mut f16);
    let mut codes = vec![0; cols];
    let (scale, sum) = kernels.quantize_row(&x, &mut codes);
    results.extend([scale.to_bits(), sum as u32]);

    attend(kernels, &x, results);

    let bytes = f16.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<_>>();
    // The same bytes as weights of every type.
    let bytes = bytes.repeat(4);
    for ty in DenseType::ALL {
        // Whole blocks of 1, 32, 64 and more columns. The first length that the type can hold is used.
        let blocks = [1, 32, 64, 128, 256].map(|block| cols / block * block);
        let matrix = blocks.into_iter().find_map(|cols| {
            let bytes = &bytes[..ty.row_len(cols)?];
            DenseMatrix::new(ty, bytes, 1, cols)
        });
        let Some(matrix) = matrix else { continue };
        let cols = matrix.cols();
        let workspace = &mut Workspace::default();
        let mut row = vec![0.0; cols];
        kernels.dense_row(&matrix, 0, &mut row);
        let mut out = [0.0; 2];
        let two = [&x[..cols], &x[..cols]].concat();
        if let Some(order) = ty.column_order() {
            let mut codes = SplitCodes::default();
            for (tokens, int8) in [(1, false), (2, false), (1, true)] {
                codes.reset(tokens, cols, SplitForm { order, int8 });
                kernels.split_codes(&two[..tokens * cols], cols, codes.parts_mut());
                kernels.low_bit_gemm(&matrix, 0..1, &codes, workspace, &mut out[..tokens]);
                results.push(out[0].to_bits());
            }
        } else if ty.has_blocks() {
            let (mut wide, mut narrow) = (WideCodes::default(), NarrowCodes::default());
            for tokens in [1, 2] {
                let (x, out) = (&two[..tokens * cols], &mut out[..tokens]);
                narrow.reset(tokens, cols);
                kernels.narrow_codes(x, cols, narrow.parts_mut());
                kernels.narrow_gemm(&matrix, 0..1, &narrow, workspace, out);
                results.push(out[0].to_bits());
                wide.reset(tokens, cols);
                kernels.wide_codes(x, cols, wide.parts_mut());
                kernels.block_gemm(&matrix, 0..1, &wide, workspace, out);
                results.push(out[0].to_bits());
            }
        } else {
            kernels.dense_gemm(&matrix, 0..1, &two, workspace, &mut out);
        }
        results.extend(row.iter().chain(&out).map(|value| value.to_bits()));
    }
    let mut queries = vec![Query::default(); 9];
    let ones = vec![1.0; cols];
    let products: Vec<f32> = x.iter().cycle().take(18).copied().collect();
    let anchors = Anchors::new(18, &ones, &ones, &products);
    for (shift, query) in queries.iter_mut().enumerate() {
        query.set(&[&x[shift..], &x[..shift]].concat(), &ones, &anchors);
    }
    let mut sums = [0; 18];
    let scanned = bytes.repeat(2);
    let (codes_of_rows, plane) =
        (&scanned[..2 * code_bytes(cols)], &scanned[..2 * refinement_bytes(cols)]);
    for planes in [&[][..], &[plane], &[plane, plane]] {
        for precision in [Precision::Full, Precision::High] {
            kernels.scan(codes_of_rows, planes, &queries, precision, &mut sums);
            results.extend(sums.iter().map(|sum| *sum as u32));
        }
    }
    for precision in [Precision::High, Precision::Full] {
        kernels.refine_scan(plane, 1, &[1, 0], &queries[0], precision, &mut sums[..2]);
        results.extend(sums[..2].iter().map(|sum| *sum as u32));
    }
    let residuals = [1.0, 0.5, 0.25, 0.125, 0.0625];
    let bounds = Bounds { scale: 0.3, norm: 2.0, residuals }.to_array();
    let bounds = bounds.map(|number| [number.to_le_bytes(); 18]);
    let bounds = (RowBounds::new(bounds.as_flattened().as_flattened()), 0);
    let (mut known, mut ends) = ([0.0; 18], [0.0; 36]);
    kernels.known(&queries[0], &anchors, 0, &mut known);
    results.extend(known.map(f32::to_bits));
    let (low, high) = ends.split_at_mut(18);
    kernels.enclose(&queries[0], Precision::High, 1, (&sums, &known), bounds, [low, high]);
    results.extend(ends.map(f32::to_bits));
    results.extend(sums.iter().map(|sum| *sum as u32));
    results.extend(f16.iter().map(|bits| u32::from(*bits)));
    results.extend(codes.iter().map(|code| *code as u32));
}

/// Attention of two tokens with three heads over 40 positions, with each type of cell.
fn attend(kernels: &Kernels, x: &[f32], results: &mut Vec<u32>) {
    let (width, positions) = (kv::padded(x.len() / 4), 64);
    let cells = width * positions;
    let visible = Visible { rows: 6, group: 3, first: 0, end: 39, window: 38 };
    let (mut f32, mut f16) = (vec![0.0; cells], vec![0; cells]);
    let (mut codes, mut steps) = (vec![0; cells], vec![0.0; cells / kv::BLOCK]);
    for position in 0..40 {
        let x = x.iter().cycle().skip(position).take(width).copied().collect::<Vec<_>>();
        kernels.store_key(&x, &mut CellsMut::F32(&mut f32), position);
        kernels.store_key(&x, &mut CellsMut::F16(&mut f16), position);
        let (codes, steps) = (&mut codes, &mut steps);
        kernels.store_key(&x, &mut CellsMut::Q8 { codes, steps }, position);
    }
    let q = x.iter().cycle().take(visible.rows * width).copied().collect::<Vec<_>>();
    let mut scores = vec![0.0; visible.rows * positions];
    let mut out = vec![0.0; visible.rows * width];
    for cells in [Cells::F32(&f32), Cells::F16(&f16), Cells::Q8 { codes: &codes, steps: &steps }] {
        let block = |index: usize| {
            let block = cells.range(index * width * kv::BLOCK..(index + 1) * width * kv::BLOCK);
            (block, block)
        };
        kernels.attend(&q, block, visible, 0.5, &mut scores, &mut out);
        results.extend(out.iter().map(|value| value.to_bits()));
    }
}
