//! Tables with a wrong kernel, for the test of the self-test.

use super::{Kernels, scalar};

/// The name of a kernel, and a function that replaces it.
type Fault = (&'static str, fn(&mut Kernels));

const FAULTS: [Fault; 6] = [
    ("dot", |table| table.dot = |_, _| 0.0),
    ("i2_s_gemm", |table| table.i2_s_gemm = |_, out| out.fill(1)),
    ("i2_s_rows", |table| table.i2_s_rows = |_, out| out.fill(1)),
    ("i2_t_add", |table| table.i2_t_add = |_, _, _, sums| sums.fill(1)),
    ("i2_t_repack", |table| {
        table.i2_t_repack.1 = |_, rows, out| {
            *out = vec![0; 1 << 20];
            rows
        };
    }),
    ("t5_3_gemm", |table| table.t5_3_gemm = |_, out| out.fill(1)),
];

/// Copies of the scalar table in which one kernel is wrong, with the name of that kernel.
pub fn faulty() -> Vec<(&'static str, Kernels)> {
    let table = |(kernel, replace): Fault| {
        let mut table = scalar();
        replace(&mut table);
        (kernel, table)
    };
    FAULTS.map(table).into()
}
