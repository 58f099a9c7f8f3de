//! The matrix kernels on the shapes of BitNet b1.58 2B4T, on one thread.
//!
//! `cargo bench -p benches` measures the best instruction set of the machine.
//! `TRILOBITE_ISA=scalar cargo bench -p benches` measures a lower one. Elements are multiply-adds,
//! bytes are weights.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use trilobite_kernels::scan::{
    Anchors, FIRST_BITS, Precision, Query, SCANNED, code_bytes, refinement_bytes,
};
use trilobite_kernels::{
    Codes, DenseMatrix, DenseType, Error, Kernels, Layout, SplitCodes, SplitForm, TernaryMatrix,
    WideCodes, Workspace, i2_s,
};

/// `(rows, cols)` of the query and output, gate and up, down, key and value projections.
const PROJECTIONS: [(usize, usize); 4] = [(2560, 2560), (6912, 2560), (2560, 6912), (640, 2560)];
/// The layouts for every projection.
const LAYOUTS: [Layout; 2] = [Layout::I2S(i2_s::Rows::Flat), Layout::T5_3];
/// `(rows, cols)` of the down projection, the only one that is stored transposed.
const DOWN: (usize, usize) = PROJECTIONS[2];
/// The types of dense matrices in published models.
const DENSE: [(&str, DenseType); 16] = [
    ("f32", DenseType::F32),
    ("f16", DenseType::F16),
    ("bf16", DenseType::BF16),
    ("q8_0", DenseType::Q8_0),
    ("q4_0", DenseType::Q4_0),
    ("q4_1", DenseType::Q4_1),
    ("q5_0", DenseType::Q5_0),
    ("q5_1", DenseType::Q5_1),
    ("q4_k", DenseType::Q4K),
    ("q5_k", DenseType::Q5K),
    ("q6_k", DenseType::Q6K),
    ("q1_0", DenseType::Q1_0),
    ("q2_0", DenseType::Q2_0),
    ("pq2_0", DenseType::PQ2_0),
    ("ptq1_0", DenseType::PTQ1_0),
    ("tq2_0", DenseType::TQ2_0),
];
/// `(rows, cols)` of the gate projection of Llama 3.2 1B; the down projection is its transpose.
const GATE: (usize, usize) = (8192, 2048);
/// `(rows, cols)` of the head.
const HEAD: (usize, usize) = (128_256, 2560);

fn main() -> Result<(), Error> {
    let kernels = Kernels::detect()?;
    let mut criterion = Criterion::default().configure_from_args();
    for layout in LAYOUTS {
        let name = format!("{}/{}", layout.name(), kernels.isa.name());
        let mut group = criterion.benchmark_group(name);
        for shape in PROJECTIONS {
            for tokens in [1, 4, 16, 64, 512] {
                ternary(&mut group, kernels, layout, shape, tokens);
            }
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group(format!("i2_t/{}", kernels.isa.name()));
    for tokens in [1, 4, 16, 64, 512] {
        ternary(&mut group, kernels, Layout::I2T, DOWN, tokens);
    }
    for (tokens, zeros) in [(1, 50), (1, 90), (4, 50)] {
        columns(&mut group, kernels, tokens, zeros);
    }
    group.finish();
    let mut group = criterion.benchmark_group(format!("dense/{}", kernels.isa.name()));
    for (name, ty) in DENSE {
        for tokens in [1, 4, 16, 128, 512] {
            for shape in [GATE, (GATE.1, GATE.0)] {
                dense(&mut group, kernels, name, (ty, false), shape, tokens);
                if ty.is_low_bit() {
                    let name = format!("{name}, int8");
                    dense(&mut group, kernels, &name, (ty, true), shape, tokens);
                }
            }
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group(format!("head/{}", kernels.isa.name()));
    head(&mut group, kernels);
    scan(&mut group, kernels);
    group.finish();
    criterion.final_summary();
    Ok(())
}

fn ternary(
    group: &mut BenchmarkGroup<'_, WallTime>,
    kernels: &Kernels,
    layout: Layout,
    (rows, cols): (usize, usize),
    tokens: usize,
) {
    let packed = pack(layout, rows, cols);
    let mut workspace = Workspace::default();
    let x = activations(tokens, cols, 0);
    let mut out = vec![0; rows * tokens];
    group.throughput(throughput(rows * cols * tokens, packed.len()));
    // Other methods than multiply-add need at least sixteen tokens.
    for method in kernels.methods().take(if tokens < 16 { 1 } else { usize::MAX }) {
        let id = BenchmarkId::new(format!("{method:?} {rows}x{cols}"), tokens);
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                let (packed, out) = (black_box(&packed), black_box(&mut out));
                let matrix = view(layout, packed, rows, cols);
                kernels.ternary_gemm_by(method, &matrix, 0..rows, &x, &mut workspace, out);
            });
        });
    }
}

/// Multiplies the columns whose activations are not all zero. `zeros` is the percentage of zeros
/// for each token. Elements and bytes count the whole matrix.
fn columns(
    group: &mut BenchmarkGroup<'_, WallTime>,
    kernels: &Kernels,
    tokens: usize,
    zeros: usize,
) {
    let (rows, cols) = DOWN;
    let packed = pack(Layout::I2T, rows, cols);
    let x = activations(tokens, cols, zeros);
    let mut workspace = Workspace::with_capacity(tokens, cols);
    let mut out = vec![0; rows * tokens];
    group.throughput(throughput(rows * cols * tokens, packed.len()));
    let id = BenchmarkId::new(format!("{zeros} % zeros {rows}x{cols}"), tokens);
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            let (packed, out) = (black_box(&packed), black_box(&mut out));
            let matrix = view(Layout::I2T, packed, rows, cols);
            kernels.ternary_part(&matrix, 0..cols, &x, &mut workspace, out)
        });
    });
}

/// Multiplies all rows with one token. With several tokens, multiplies 512 rows at a time.
fn dense(
    group: &mut BenchmarkGroup<'_, WallTime>,
    kernels: &Kernels,
    name: &str,
    (ty, int8): (DenseType, bool),
    (rows, cols): (usize, usize),
    tokens: usize,
) {
    let row_len = ty.row_len(cols).expect("the columns are whole blocks");
    // Bits that are a normal number in every float type.
    let weights: Vec<u8> = (0..rows * row_len)
        .map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8 & 0x3b | 0x20)
        .collect();
    let x: Vec<f32> = (0..tokens * cols).map(|i| (i % 15) as f32 - 7.0).collect();
    let chunk = if tokens == 1 { rows } else { 512 };
    let mut codes = WideCodes::default();
    codes.reset(tokens, cols);
    kernels.wide_codes(&x, cols, codes.parts_mut());
    let mut split = SplitCodes::default();
    split.reset(tokens, cols, SplitForm { order: ty.column_order().unwrap_or_default(), int8 });
    kernels.split_codes(&x, cols, split.parts_mut());
    let mut workspace = Workspace::default();
    let mut out = vec![0.0; chunk * tokens];
    group.throughput(throughput(chunk * cols * tokens, chunk * row_len));
    group.bench_function(BenchmarkId::new(format!("{name} {chunk}x{cols}"), tokens), |bencher| {
        let mut chunks = (0..rows / chunk).cycle();
        let all = rows;
        bencher.iter(|| {
            let first = chunks.next().unwrap_or(0) * chunk;
            let (rows, out) = (first..first + chunk, black_box(&mut out));
            let weights = DenseMatrix::new(ty, black_box(&weights), all, cols);
            let (weights, workspace) = (weights.expect("the weights fit"), &mut workspace);
            if ty.is_low_bit() {
                kernels.low_bit_gemm(&weights, rows, &split, workspace, out);
            } else if ty.has_blocks() {
                kernels.block_gemm(&weights, rows, &codes, workspace, out);
            } else {
                kernels.dense_gemm(&weights, rows, &x, workspace, out);
            }
        });
    });
}

fn pack(layout: Layout, rows: usize, cols: usize) -> Vec<u8> {
    let trits = (0..rows * cols).map(|i| (i * i % 3) as i8 - 1).collect::<Vec<_>>();
    let len = layout.packed_len(rows, cols).expect("a projection can be packed");
    let mut packed = vec![0; len];
    layout.pack(&trits, cols, &mut packed);
    packed
}

fn view(layout: Layout, packed: &[u8], rows: usize, cols: usize) -> TernaryMatrix<'_> {
    TernaryMatrix::new(layout, packed, rows, cols).expect("it was packed so")
}

/// Codes with a percentage of scattered zeros for each token.
fn activations(tokens: usize, cols: usize, zeros: usize) -> Codes {
    let mut x = Codes::new(tokens, cols);
    x.reset(tokens, cols);
    for (t, token) in x.rows_mut().enumerate() {
        *token.sum = 0;
        for (i, code) in token.codes.iter_mut().enumerate() {
            let hash = (t * cols + i + 1).wrapping_mul(0x9e37_79b9) >> 16;
            *code = if hash % 100 < zeros { 0 } else { (hash % 127) as i8 + 1 };
            *token.sum += i32::from(*code);
        }
    }
    x
}

fn head(group: &mut BenchmarkGroup<'_, WallTime>, kernels: &Kernels) {
    let (rows, cols) = HEAD;
    // Nonzero, because the system would map zeros to a single page.
    let weights = [0x80, 0x3f].repeat(rows * cols);
    let x = vec![0.5; cols];
    let (mut out, mut workspace) = (vec![0.0; rows], Workspace::default());
    group.throughput(throughput(rows * cols, weights.len()));
    group.bench_function(BenchmarkId::new(format!("bf16 {rows}x{cols}"), 1), |bencher| {
        bencher.iter(|| {
            let (weights, out) = (black_box(&weights), black_box(&mut out));
            let weights = DenseMatrix::new(DenseType::BF16, weights, rows, cols);
            let weights = weights.expect("the weights fit");
            kernels.dense_gemm(&weights, 0..rows, &x, &mut workspace, out);
        });
    });
}

fn scan(group: &mut BenchmarkGroup<'_, WallTime>, kernels: &Kernels) {
    let (rows, cols) = HEAD;
    let bytes = |len: usize| [1, 255, 100, 33].repeat(rows * len / 4);
    let (codes, plane) = (bytes(code_bytes(cols)), bytes(refinement_bytes(cols)));
    let planes = [&plane[..]; SCANNED];
    let (ones, none) = (vec![1.0; cols], Anchors::none(rows));
    let mut queries = vec![Query::default(); 8];
    for query in &mut queries {
        assert!(query.set(&ones, &ones, &none), "ones have bounds");
    }
    let mut out = vec![0; queries.len() * rows];
    for n in [1, 4, queries.len()] {
        let (queries, out) = (&queries[..n], &mut out[..n * rows]);
        for (precision, name) in [(Precision::Full, "scan"), (Precision::High, "scan high halves")]
        {
            for scanned in 0..=SCANNED {
                let bytes = codes.len() + scanned * plane.len();
                group.throughput(throughput(n * rows * cols, bytes));
                let name = format!("{name} {rows}x{cols}, {} bits", FIRST_BITS + scanned);
                group.bench_function(BenchmarkId::new(name, n), |bencher| {
                    bencher.iter(|| {
                        let (codes, out) = (black_box(&codes), black_box(&mut *out));
                        kernels.scan(codes, &planes[..scanned], queries, precision, out);
                    });
                });
            }
        }
    }
}

fn throughput(multiply_adds: usize, bytes: usize) -> Throughput {
    Throughput::ElementsAndBytes { elements: multiply_adds as u64, bytes: bytes as u64 }
}
