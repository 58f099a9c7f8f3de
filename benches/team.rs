//! The runtime's team of threads compared with rayon, on the steps of a decoded token.
//!
//! `cargo bench -p benches --bench team` measures the cost of an empty step, and of the matrix
//! products of some layers of BitNet b1.58 2B4T, with one thread and with as many as there are
//! cores. A layer has four steps, each divided into the same pieces for both. Bytes are weights.

use std::error::Error;
use std::hint::black_box;
use std::sync::Mutex;
use std::thread::available_parallelism;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use trilobite_kernels::{Codes, Kernels, Layout, TernaryMatrix, Workspace, i2_s};
use trilobite_runtime::{Pieces, Team};

/// `(rows, cols)` of the steps of a layer: query, key and value; output; gate and up; down.
const STEPS: [(usize, usize); 4] = [(3840, 2560), (2560, 2560), (13_824, 2560), (2560, 6912)];
/// Number of layers. Their weights, 70 MB, exceed ordinary caches.
const LAYERS: usize = 4;
const LAYOUT: Layout = Layout::I2S(i2_s::Rows::Padded);
/// Bytes of weights in a piece.
const PIECE: usize = 64 * 1024;
/// The number of rows of a piece is a multiple of this.
const ALIGN: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let kernels = Kernels::detect()?;
    let mut criterion = Criterion::default().configure_from_args();
    let cores = available_parallelism().map_or(1, usize::from);
    let steps: Vec<Step> = (0..LAYERS).flat_map(|_| STEPS.map(Step::new)).collect();
    for threads in if cores > 1 { vec![1, cores] } else { vec![1] } {
        let mut team = Team::new(threads, Workspace::default)?;
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let mut group = criterion.benchmark_group("empty step");
        group.bench_function(BenchmarkId::new("team", threads), |bencher| {
            bencher.iter(|| team.items(threads, &|_, item| nothing(item)));
        });
        group.bench_function(BenchmarkId::new("rayon", threads), |bencher| {
            let step = || (0..threads).into_par_iter().for_each(nothing);
            // The caller is one of the threads, as in the team.
            pool.install(|| bencher.iter(step));
        });
        group.finish();
        let mut group = criterion.benchmark_group(format!("{LAYERS} layers"));
        let bytes = steps.iter().map(|step| step.packed.len() as u64).sum();
        group.throughput(Throughput::Bytes(bytes));
        layers(&mut group, kernels, &steps, &mut team, &pool);
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

fn nothing(item: usize) {
    black_box(item);
}

/// Measures the products of a token in some layers, with the team and with rayon.
fn layers(
    group: &mut BenchmarkGroup<'_, WallTime>,
    kernels: &Kernels,
    steps: &[Step],
    team: &mut Team<Workspace>,
    pool: &ThreadPool,
) {
    let threads = team.threads();
    let mut out = vec![0; STEPS.iter().map(|(rows, _)| *rows).max().unwrap_or(0)];
    group.bench_function(BenchmarkId::new("team", threads), |bencher| {
        bencher.iter(|| {
            for step in steps {
                let (matrix, x) = (step.matrix(), &step.x);
                let out = (&mut out[..matrix.rows()], matrix.rows());
                let pieces = Pieces { least: 1, size: step.piece() };
                team.columns([out], ALIGN, pieces, |workspace, _, rows, strip| {
                    kernels.ternary_gemm(&matrix, rows, x, workspace, strip.row(0));
                });
            }
        });
    });
    let workspaces: Vec<_> = (0..threads).map(|_| Mutex::new(Workspace::default())).collect();
    group.bench_function(BenchmarkId::new("rayon", threads), |bencher| {
        pool.install(|| {
            bencher.iter(|| {
                for step in steps {
                    let (matrix, x, size) = (step.matrix(), &step.x, step.piece());
                    let pieces = out[..matrix.rows()].par_chunks_mut(size).enumerate();
                    pieces.for_each(|(piece, out)| {
                        let rows = piece * size..piece * size + out.len();
                        let thread = rayon::current_thread_index().unwrap_or(0);
                        let mut workspace = workspaces[thread].lock().expect("nothing panics");
                        kernels.ternary_gemm(&matrix, rows, x, &mut workspace, out);
                    });
                }
            });
        });
    });
}

/// A product, and the codes of its token.
struct Step {
    packed: Vec<u8>,
    rows: usize,
    x: Codes,
}

impl Step {
    fn new((rows, cols): (usize, usize)) -> Self {
        let len = LAYOUT.packed_len(rows, cols).expect("a projection can be packed");
        // Bytes with the codes of -1, 0 and 1 only.
        let packed = (0..len).map(|i| [0x94, 0x51, 0x26, 0x60][i * i % 7 % 4]).collect();
        let mut x = Codes::new(1, cols);
        x.reset(1, cols);
        for token in x.rows_mut() {
            token.codes.iter_mut().enumerate().for_each(|(i, code)| *code = (i * 37) as i8);
            *token.sum = token.codes.iter().map(|code| i32::from(*code)).sum();
        }
        Self { packed, rows, x }
    }

    fn matrix(&self) -> TernaryMatrix<'_> {
        let matrix = TernaryMatrix::new(LAYOUT, &self.packed, self.rows, self.x.cols());
        matrix.expect("it was packed so")
    }

    /// Number of rows in a piece.
    fn piece(&self) -> usize {
        let row = self.packed.len() / self.rows;
        (PIECE / row).next_multiple_of(ALIGN)
    }
}
