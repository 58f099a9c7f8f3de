//! Weights of at most two bits.

use super::{bits, block_products, groups, matrix, pairwise, random, roundings};
use crate::random::Random;
use trilobite_kernels::{ColumnOrder, DenseType, Kernels, SplitCodes, SplitForm, Workspace};

/// The product of a row of blocks with rounded activations, in the order that the docs of `low_bit`
/// state.
pub(super) fn in_order(ty: DenseType, row: &[u8], x: &[(Vec<i64>, f32)]) -> f32 {
    let mut sums = [0.0_f32; 16];
    for (groups, (x, step)) in groups(ty, row).chunks(8).zip(x) {
        let columns =
            groups.iter().flat_map(|group| group.codes.map(|code| (code, group.steps[0])));
        // The lane of each column.
        let lane = |column: usize| match ty.column_order().unwrap() {
            ColumnOrder::Adjacent => column / 16,
            ColumnOrder::Apart => (column / 128 * 32 + column % 32) / 4,
        };
        let mut lanes = [(0, 0.0); 16];
        for (column, ((code, step), x)) in columns.zip(x).enumerate() {
            let sum = &mut lanes[lane(column)];
            *sum = (sum.0 + i64::from(code) * *x, step);
        }
        for (sum, (lane, d)) in sums.iter_mut().zip(lanes) {
            assert!(lane.abs() < 1 << 28, "a sum is too large");
            *sum = (lane as f32 * d).mul_add(*step, *sum);
        }
    }
    pairwise(&mut sums)
}

/// Enough rows for kernels that multiply eight at a time, enough rows and tokens for look-up, whole
/// chunks and tiles or not, and weights that look-up takes or not.
#[test]
fn many_rows_and_tokens_are_multiplied_as_on_any_processor() {
    let mut numbers = Random(11);
    // The first table multiplies planes of bytes in every case.
    let scalar = Kernels::available()[0];
    let few: &[usize] = &[1, 2, 4, 7];
    let few = [(8, 768), (21, 512), (13, 2304), (16, 1920), (7, 256)].map(|shape| (shape, few));
    let many: [((usize, usize), &[usize]); 3] =
        [((131, 768), &[43]), ((1150, 256), &[16]), ((129, 1920), &[29])];
    let shapes = few.iter().chain(&many);
    let types = DenseType::ALL.into_iter().filter(|ty| ty.is_low_bit());
    for (ty, ((rows, cols), counts)) in types.flat_map(|ty| shapes.clone().map(move |x| (ty, *x))) {
        let Some(_) = ty.row_len(cols) else { continue };
        let mut bytes = random(&mut numbers, ty, rows, cols);
        for ternary in [false, true] {
            if ternary {
                // Every code of three becomes two.
                bytes.iter_mut().for_each(|byte| *byte &= !(*byte >> 1 & 0x55));
            }
            let w = matrix(ty, &bytes, cols);
            for &tokens in counts {
                let mut x = numbers.floats(tokens * cols);
                // The largest codes, of both signs.
                x[..512.min(cols)].iter_mut().for_each(|x| *x = x.signum());
                for &int8 in roundings(ty) {
                    let product = |kernels| {
                        let mut out = vec![0.0; tokens * (rows - 1)];
                        let workspace = &mut Workspace::default();
                        block_products(kernels, &w, 1..rows, (&x, int8), workspace, &mut out);
                        bits(&out)
                    };
                    let expected = product(scalar);
                    for kernels in Kernels::available() {
                        let what = format!("{ty:?}, {rows} x {cols}, {tokens}: {kernels:?}");
                        assert_eq!(product(kernels), expected, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn gathered_codes_are_those_of_the_chosen_rows() {
    for kernels in Kernels::available() {
        let (cols, mut numbers) = (768, Random(6));
        let x = numbers.floats(4 * cols);
        let bytes = random(&mut numbers, DenseType::TQ2_0, 3, cols);
        let w = matrix(DenseType::TQ2_0, &bytes, cols);
        for int8 in [false, true] {
            let mut all = SplitCodes::default();
            all.reset(4, cols, SplitForm { order: ColumnOrder::Apart, int8 });
            kernels.split_codes(&x, cols, all.parts_mut());
            let product = |codes: &SplitCodes| {
                let mut out = vec![0.0; codes.tokens() * w.rows()];
                kernels.low_bit_gemm(&w, 0..w.rows(), codes, &mut Workspace::default(), &mut out);
                out
            };
            let products = product(&all);
            let mut gathered = SplitCodes::default();
            gathered.gather(&all, [3, 0].into_iter());
            let rows = [3, 0].map(|row| &products[row * w.rows()..(row + 1) * w.rows()]);
            assert_eq!(product(&gathered), rows.concat());
        }
    }
}
