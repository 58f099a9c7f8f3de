//! Multiplies matrices of every layout with one token and with sixteen, for `cargo xtask
//! instructions`, which counts the instructions between [`start`] and [`end`]. Prints the instruction
//! set, and then a line for each count: the layout, the number of tokens, and of multiply-adds.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::hint::black_box;

use trilobite_kernels::{
    Codes, DenseMatrix, DenseType, Kernels, Layout, SplitCodes, SplitForm, TernaryMatrix,
    WideCodes, Workspace,
};

const ROWS: usize = 128;
const COLS: usize = 2560;
const TOKENS: [usize; 2] = [1, 16];

/// The types of dense weights in published models.
const DENSE: [(&str, DenseType); 12] = [
    ("f16", DenseType::F16),
    ("bf16", DenseType::BF16),
    ("q8_0", DenseType::Q8_0),
    ("q4_0", DenseType::Q4_0),
    ("q4_1", DenseType::Q4_1),
    ("q4_k", DenseType::Q4K),
    ("q5_k", DenseType::Q5K),
    ("q6_k", DenseType::Q6K),
    ("q1_0", DenseType::Q1_0),
    ("q2_0", DenseType::Q2_0),
    ("ptq1_0", DenseType::PTQ1_0),
    ("tq2_0", DenseType::TQ2_0),
];

fn main() -> Result<(), Box<dyn Error>> {
    let kernels = Kernels::detect()?;
    println!("{}", kernels.isa.name());
    for layout in Layout::ALL {
        ternary(kernels, layout)?;
    }
    for (name, ty) in DENSE {
        dense(kernels, name, ty)?;
    }
    codes(kernels);
    Ok(())
}

/// Rounding activations to codes. Counts activations as multiply-adds.
fn codes(kernels: &Kernels) {
    let x: Vec<_> = (0..COLS).map(|i| (i % 15) as f32 - 7.0).collect();
    let mut codes = vec![0; COLS];
    count("int8 codes", 1, COLS, || {
        black_box(kernels.quantize_row(&x, black_box(&mut codes)));
    });
    let mut wide = WideCodes::default();
    wide.reset(1, COLS);
    count("16-bit codes", 1, COLS, || kernels.wide_codes(black_box(&x), COLS, wide.parts_mut()));
}

/// Calls a function: first to fill its buffers, then to be counted.
fn count(name: &str, tokens: usize, multiply_adds: usize, mut product: impl FnMut()) {
    product();
    start();
    product();
    end();
    println!("{name},{tokens},{multiply_adds}");
}

#[inline(never)]
fn start() {
    black_box(());
}

#[inline(never)]
fn end() {
    // Not the same code as `start`, with which it would be merged.
    black_box(0);
}

fn ternary(kernels: &Kernels, layout: Layout) -> Result<(), Box<dyn Error>> {
    let trits: Vec<_> = (0..ROWS * COLS).map(|i| (i * i % 3) as i8 - 1).collect();
    let mut packed = vec![0; layout.packed_len(ROWS, COLS).ok_or("a shape without a layout")?];
    layout.pack(&trits, COLS, &mut packed);
    let matrix = TernaryMatrix::new(layout, &packed, ROWS, COLS).ok_or("it was packed so")?;
    for tokens in TOKENS {
        let mut x = Codes::new(tokens, COLS);
        x.reset(tokens, COLS);
        for token in x.rows_mut() {
            *token.sum = 0;
            for (i, code) in token.codes.iter_mut().enumerate() {
                *code = (i % 127) as i8;
                *token.sum += i32::from(*code);
            }
        }
        let (mut workspace, mut out) = (Workspace::default(), vec![0; ROWS * tokens]);
        count(layout.name(), tokens, ROWS * COLS * tokens, || {
            kernels.ternary_gemm(&matrix, 0..ROWS, &x, &mut workspace, black_box(&mut out));
        });
    }
    Ok(())
}

fn dense(kernels: &Kernels, name: &str, ty: DenseType) -> Result<(), Box<dyn Error>> {
    let row_len = ty.row_len(COLS).ok_or("rows of whole blocks")?;
    // Bits that are a normal number in every float type, and trits in every type of two bits.
    let weights: Vec<_> = (0..ROWS * row_len).map(|i| (i % 251) as u8 & 0x2a | 0x20).collect();
    let matrix = DenseMatrix::new(ty, &weights, ROWS, COLS).ok_or("the weights fit")?;
    for tokens in TOKENS {
        let x: Vec<_> = (0..tokens * COLS).map(|i| (i % 15) as f32 - 7.0).collect();
        let mut wide = WideCodes::default();
        wide.reset(tokens, COLS);
        kernels.wide_codes(&x, COLS, wide.parts_mut());
        let mut split = SplitCodes::default();
        let order = ty.column_order().unwrap_or_default();
        split.reset(tokens, COLS, SplitForm { order, int8: false });
        kernels.split_codes(&x, COLS, split.parts_mut());
        let (mut workspace, mut out) = (Workspace::default(), vec![0.0; ROWS * tokens]);
        count(name, tokens, ROWS * COLS * tokens, || {
            let (workspace, out) = (&mut workspace, black_box(&mut out));
            if ty.is_low_bit() {
                kernels.low_bit_gemm(&matrix, 0..ROWS, &split, workspace, out);
            } else if ty.has_blocks() {
                kernels.block_gemm(&matrix, 0..ROWS, &wide, workspace, out);
            } else {
                kernels.dense_gemm(&matrix, 0..ROWS, &x, workspace, out);
            }
        });
    }
    Ok(())
}
