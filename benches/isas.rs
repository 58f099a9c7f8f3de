//! A comparison of the machine's instruction sets, on one thread.
//!
//! `cargo bench -p benches --features c-kernels --bench isas` prints a Markdown table of times in
//! microseconds, the medians of interleaved rounds, with the speed relative to the scalar kernels
//! in brackets. Arguments after `--` select the operations whose names contain one of them.

use std::hint::black_box;
use std::time::Instant;
use trilobite_kernels::{
    Codes, DenseMatrix, DenseType, Kernels, Layout, TernaryMatrix, WideCodes, Workspace, i2_s,
};

/// Rows and columns of the ternary matrix: a query projection of BitNet b1.58 2B4T.
const SHAPE: (usize, usize) = (2560, 2560);
/// Rows and columns of the dense matrices.
const DENSE: (usize, usize) = (256, 2560);
/// Number of measurements of each operation on each instruction set.
const ROUNDS: usize = 7;
/// Minimum duration of a measurement in seconds.
const SECONDS: f64 = 0.02;

/// A name, and the operation to measure.
type Operation = (String, Box<dyn FnMut(&Kernels)>);

fn main() {
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let isas = Kernels::available();
    let names = isas.iter().map(|kernels| kernels.isa.name()).collect::<Vec<_>>();
    print(&format!("| operation | {} |", names.join(" | ")));
    print(&format!("|---|{}", "---|".repeat(isas.len())));
    for (name, mut operation) in operations() {
        if !chosen.is_empty() && !chosen.iter().any(|part| name.contains(part)) {
            continue;
        }
        let mut times = vec![Vec::new(); isas.len()];
        for _ in 0..ROUNDS {
            for (times, kernels) in times.iter_mut().zip(&isas) {
                times.push(seconds(&mut || operation(kernels)));
            }
        }
        let medians = times.iter_mut().map(|times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        let medians = medians.collect::<Vec<_>>();
        let cell = |time: &f64| format!("{:.1} ({:.2})", time * 1e6, medians[0] / time);
        print(&format!(
            "| {name} | {} |",
            medians.iter().map(cell).collect::<Vec<_>>().join(" | ")
        ));
    }
}

#[allow(clippy::print_stdout, reason = "the table is the output")]
fn print(line: &str) {
    println!("{line}");
}

/// The duration of one call in seconds.
fn seconds(operation: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed().as_secs_f64() < SECONDS {
        operation();
        calls += 1;
    }
    start.elapsed().as_secs_f64() / f64::from(calls)
}

fn operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    for tokens in [1, 2, 4, 8, 64] {
        operations.push(ternary(tokens));
    }
    operations.push(quantize());
    operations.push(dot());
    for (name, ty) in [("f32", DenseType::F32), ("f16", DenseType::F16), ("bf16", DenseType::BF16)]
    {
        for tokens in [1, 16] {
            operations.push(floats(name, ty, tokens));
        }
    }
    operations.push(blocks());
    operations
}

fn ternary(tokens: usize) -> Operation {
    let ((rows, cols), layout) = (SHAPE, Layout::I2S(i2_s::Rows::Padded));
    let trits = (0..rows * cols).map(|i| (i * i % 3) as i8 - 1).collect::<Vec<_>>();
    let mut packed = vec![0; layout.packed_len(rows, cols).expect("it can be packed")];
    layout.pack(&trits, cols, &mut packed);
    let mut x = Codes::new(tokens, cols);
    x.reset(tokens, cols);
    for (t, token) in x.rows_mut().enumerate() {
        token.codes.iter_mut().enumerate().for_each(|(i, code)| *code = (i * 37 + t * 11) as i8);
        *token.sum = token.codes.iter().map(|code| i32::from(*code)).sum();
    }
    let (mut out, mut workspace) = (vec![0; rows * tokens], Workspace::default());
    let operation = move |kernels: &Kernels| {
        let matrix =
            TernaryMatrix::new(layout, black_box(&packed), rows, cols).expect("its length");
        kernels.ternary_gemm(&matrix, 0..rows, &x, &mut workspace, black_box(&mut out));
    };
    (format!("ternary {rows}x{cols}, tokens: {tokens}"), Box::new(operation))
}

fn sample(n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

fn quantize() -> Operation {
    let n = SHAPE.1;
    let (x, mut codes) = (sample(n), vec![0; n]);
    let operation = move |kernels: &Kernels| {
        black_box(kernels.quantize_row(black_box(&x), black_box(&mut codes)));
    };
    (format!("quantize {n}"), Box::new(operation))
}

fn dot() -> Operation {
    let n = SHAPE.1;
    let (a, b) = (sample(n), sample(n));
    let operation = move |kernels: &Kernels| {
        black_box(kernels.dot(black_box(&a), black_box(&b)));
    };
    (format!("dot {n}"), Box::new(operation))
}

/// Bytes that are normal numbers in every float type.
fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8 & 0x3b | 0x20).collect()
}

fn floats(name: &str, ty: DenseType, tokens: usize) -> Operation {
    let (rows, cols) = DENSE;
    let w = bytes(rows * ty.row_len(cols).expect("any length will do"));
    let (x, mut out) = (sample(tokens * cols), vec![0.0; rows * tokens]);
    let mut workspace = Workspace::default();
    let operation = move |kernels: &Kernels| {
        let w = DenseMatrix::new(ty, black_box(&w), rows, cols).expect("its length");
        kernels.dense_gemm(&w, 0..rows, &x, &mut workspace, black_box(&mut out));
    };
    (format!("dense {name} {rows}x{cols}, tokens: {tokens}"), Box::new(operation))
}

fn blocks() -> Operation {
    let ((rows, cols), ty) = (DENSE, DenseType::Q8_0);
    let w = bytes(rows * ty.row_len(cols).expect("the columns are whole blocks"));
    let mut x = WideCodes::default();
    x.reset(1, cols);
    Kernels::available()[0].wide_codes(&sample(cols), cols, x.parts_mut());
    let (mut out, mut workspace) = (vec![0.0; rows], Workspace::default());
    let operation = move |kernels: &Kernels| {
        let w = DenseMatrix::new(ty, black_box(&w), rows, cols).expect("its length");
        kernels.block_gemm(&w, 0..rows, &x, &mut workspace, black_box(&mut out));
    };
    (format!("dense q8_0 {rows}x{cols}, tokens: 1"), Box::new(operation))
}
