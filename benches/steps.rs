//! The steps of a token between its matrix products, and the packing of a conversion, on one thread.
//!
//! `cargo bench -p benches --bench steps`. Elements are activations, pairs of a query's and a key's
//! element, or weights.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use trilobite_kernels::kv::{BLOCK, Cells, CellsMut, Visible};
use trilobite_kernels::{DenseType, Error, Kernels, Layout, WideCodes};

/// The width of BitNet b1.58 2B4T, and of its feed-forward network.
const WIDTH: usize = 2560;
const HIDDEN: usize = 6912;
/// Elements of a head, and query heads that share keys and values.
const HEAD: usize = 128;
const GROUP: usize = 4;

fn main() -> Result<(), Error> {
    let kernels = Kernels::detect()?;
    let mut criterion = Criterion::default().configure_from_args();
    rows(&mut criterion, kernels);
    attention(&mut criterion, kernels);
    packing(&mut criterion, kernels);
    criterion.final_summary();
    Ok(())
}

/// Norms, activation functions and roundings of one token.
fn rows(criterion: &mut Criterion, kernels: &Kernels) {
    let mut group = criterion.benchmark_group(format!("rows/{}", kernels.isa.name()));
    let (x, weight) = (sample(WIDTH), sample(WIDTH));
    let (mut out, mut codes) = (vec![0.0; WIDTH], vec![0; WIDTH]);
    group.throughput(Throughput::Elements(WIDTH as u64));
    group.bench_function("rms norm", |bencher| {
        bencher.iter(|| kernels.rms_norm(black_box(&x), &weight, 1e-5, black_box(&mut out)));
    });
    group.bench_function("int8 codes", |bencher| {
        bencher.iter(|| kernels.quantize_row(black_box(&x), black_box(&mut codes)));
    });
    let mut wide = WideCodes::default();
    wide.reset(1, WIDTH);
    group.bench_function("16-bit codes", |bencher| {
        bencher.iter(|| kernels.wide_codes(black_box(&x), WIDTH, wide.parts_mut()));
    });
    group.throughput(Throughput::Elements(HIDDEN as u64));
    let (gate, up) = (sample(HIDDEN), sample(HIDDEN));
    type Activation = fn(&Kernels, &mut [f32], &[f32]);
    let activations: [(&str, Activation); 3] =
        [("relu2", Kernels::relu2_mul), ("silu", Kernels::silu_mul), ("gelu", Kernels::gelu_mul)];
    for (name, activation) in activations {
        group.bench_function(name, |bencher| {
            // A result is the next gate. Copies keep its size the same.
            let mut result = gate.clone();
            bencher.iter(|| {
                result.copy_from_slice(&gate);
                activation(kernels, black_box(&mut result), &up);
            });
        });
    }
    group.finish();
}

/// The attention of a decoded token's query heads that share a head of keys and values.
fn attention(criterion: &mut Criterion, kernels: &Kernels) {
    let mut group = criterion.benchmark_group(format!("attention/{}", kernels.isa.name()));
    let q = sample(GROUP * HEAD);
    let mut out = vec![0.0; q.len()];
    for positions in [128, 4096] {
        let count = positions * HEAD;
        let (mut floats, mut halves) = (vec![0.0; count], vec![0; count]);
        let (mut codes, mut steps) = (vec![0; count], vec![0.0; count / BLOCK]);
        for position in 0..positions {
            let key = &sample(HEAD + position)[position..];
            kernels.store_key(key, &mut CellsMut::F32(&mut floats), position);
            kernels.store_key(key, &mut CellsMut::F16(&mut halves), position);
            let (codes, steps) = (&mut codes[..], &mut steps[..]);
            kernels.store_key(key, &mut CellsMut::Q8 { codes, steps }, position);
        }
        let caches = [
            ("f32", Cells::F32(&floats)),
            ("f16", Cells::F16(&halves)),
            ("q8", Cells::Q8 { codes: &codes, steps: &steps }),
        ];
        let visible =
            Visible { rows: GROUP, group: GROUP, first: 0, end: positions, window: usize::MAX };
        let mut scores = vec![0.0; GROUP * positions];
        group.throughput(Throughput::Elements((2 * GROUP * count) as u64));
        for (name, cells) in caches {
            group.bench_function(BenchmarkId::new(name, positions), |bencher| {
                let block = |index: usize| {
                    let cells = cells.range(index * BLOCK * HEAD..(index + 1) * BLOCK * HEAD);
                    (cells, cells)
                };
                let (scores, out) = (&mut scores, &mut out);
                bencher.iter(|| {
                    kernels.attend(black_box(&q), block, visible, 0.1, scores, black_box(out));
                });
            });
        }
    }
    group.finish();
}

/// Packing weights, which takes most of a conversion's time.
fn packing(criterion: &mut Criterion, kernels: &Kernels) {
    const ROWS: usize = 96;
    let mut group = criterion.benchmark_group(format!("packing/{}", kernels.isa.name()));
    group.throughput(Throughput::Elements((ROWS * WIDTH) as u64));
    let trits: Vec<_> = (0..ROWS * WIDTH).map(|i| (i * i % 3) as i8 - 1).collect();
    for layout in Layout::ALL {
        let mut packed = vec![0; layout.packed_len(ROWS, WIDTH).expect("it can be packed")];
        group.bench_function(layout.name(), |bencher| {
            bencher.iter(|| layout.pack(black_box(&trits), WIDTH, black_box(&mut packed)));
        });
    }
    let weights = sample(ROWS * WIDTH);
    for (name, ty) in
        [("bf16", DenseType::BF16), ("q8_0", DenseType::Q8_0), ("q4_0", DenseType::Q4_0)]
    {
        let mut packed = vec![0; ty.row_len(WIDTH).expect("rows of whole blocks")];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for row in weights.chunks_exact(WIDTH) {
                    ty.pack_row(black_box(row), black_box(&mut packed)).expect("finite weights");
                }
            });
        });
    }
    group.finish();
}

/// Numbers from -1 to 1.
fn sample(n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}
