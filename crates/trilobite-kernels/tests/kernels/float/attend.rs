//! Attention compared with simple loops over plain rows.

use super::{dot_in_order, in_place, same};
use crate::random::Random;
use trilobite_kernels::Kernels;
use trilobite_kernels::kv::{self, Block, Cells, CellsMut, Visible};

#[derive(Clone, Copy, Debug)]
enum Type {
    F32,
    F16,
    Q8,
}

const TYPES: [Type; 3] = [Type::F32, Type::F16, Type::Q8];

/// The values of elements after storing them in the cache.
fn kept(ty: Type, x: &[f32]) -> Vec<f32> {
    match ty {
        Type::F32 => x.to_vec(),
        Type::F16 => x.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect(),
        Type::Q8 => {
            let panel = |x: &[f32]| {
                let scale = 127.0 / x.iter().fold(1e-5_f32, |max, x| max.max(x.abs()));
                let step = 1.0 / scale;
                x.iter().map(|x| (x * scale).round_ties_even() * step).collect::<Vec<_>>()
            };
            x.chunks(32).flat_map(panel).collect()
        }
    }
}

/// The stored keys and values of one head.
#[derive(Default)]
struct Store {
    f32: Vec<f32>,
    f16: Vec<u16>,
    codes: Vec<i8>,
    steps: Vec<f32>,
}

impl Store {
    fn new(ty: Type, cells: usize) -> Self {
        let mut store = Self::default();
        match ty {
            Type::F32 => store.f32 = vec![0.0; cells],
            Type::F16 => store.f16 = vec![0; cells],
            Type::Q8 => {
                (store.codes, store.steps) = (vec![0; cells], vec![0.0; cells / kv::BLOCK]);
            }
        }
        store
    }

    fn cells(&self, ty: Type) -> Cells<'_> {
        match ty {
            Type::F32 => Cells::F32(&self.f32),
            Type::F16 => Cells::F16(&self.f16),
            Type::Q8 => Cells::Q8 { codes: &self.codes, steps: &self.steps },
        }
    }

    /// One block of a head of `width` elements.
    fn block(&self, ty: Type, width: usize, block: usize) -> Cells<'_> {
        self.cells(ty).range(block * 32 * width..(block + 1) * 32 * width)
    }

    fn cells_mut(&mut self, ty: Type) -> CellsMut<'_> {
        match ty {
            Type::F32 => CellsMut::F32(&mut self.f32),
            Type::F16 => CellsMut::F16(&mut self.f16),
            Type::Q8 => CellsMut::Q8 { codes: &mut self.codes, steps: &mut self.steps },
        }
    }
}

/// A head with some positions, and query rows that attend to it.
struct Case {
    ty: Type,
    width: usize,
    visible: Visible,
    q: Vec<Vec<f32>>,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    scale: f32,
}

impl Case {
    fn new(random: &mut Random, ty: Type, width: usize, visible: Visible) -> Self {
        let positions = visible.end + visible.rows.div_ceil(visible.group) - 1;
        let mut rows = |n: usize| (0..n).map(|_| random.floats(width)).collect::<Vec<_>>();
        let (q, keys, values) = (rows(visible.rows), rows(positions), rows(positions));
        Self { ty, width, visible, q, keys, values, scale: 0.7 }
    }

    /// The queries, padded with zeros to whole panels, `[rows][..]`.
    fn queries(&self) -> Vec<f32> {
        let pad = kv::padded(self.width) - self.width;
        self.q.iter().flat_map(|q| q.iter().copied().chain(vec![0.0; pad])).collect()
    }

    /// The stored keys and values, starting at the first block to pass.
    fn stores(&self, kernels: &Kernels) -> [Store; 2] {
        let first = self.visible.first;
        let cells = (self.keys.len() - first).next_multiple_of(32) * kv::padded(self.width);
        let (mut keys, mut values) = (Store::new(self.ty, cells), Store::new(self.ty, cells));
        for (position, (key, value)) in self.keys.iter().zip(&self.values).enumerate().skip(first) {
            kernels.store_key(key, &mut keys.cells_mut(self.ty), position - first);
            kernels.store_value(value, &mut values.cells_mut(self.ty), position - first);
        }
        [keys, values]
    }

    /// The output, `[rows][width]`.
    fn run(&self, kernels: &Kernels) -> Vec<f32> {
        let [keys, values] = self.stores(kernels);
        let padded = kv::padded(self.width);
        let positions = keys.cells(self.ty).count() / padded;
        let mut scores = vec![9.0; self.visible.rows * positions];
        let mut out = vec![9.0; self.visible.rows * padded];
        let cells =
            |block| (keys.block(self.ty, padded, block), values.block(self.ty, padded, block));
        kernels.attend(&self.queries(), cells, self.visible, self.scale, &mut scores, &mut out);
        out.chunks(padded).flat_map(|out| out[..self.width].to_vec()).collect()
    }

    /// The specification: each row separately, over the stored values.
    fn expected(&self, kernels: &Kernels) -> Vec<f32> {
        let mut out = Vec::new();
        for (row, q) in self.q.iter().enumerate() {
            let end = self.visible.end + row / self.visible.group;
            let seen = end.saturating_sub(self.visible.window)..end;
            let keys = self.keys[seen.clone()].iter().map(|key| kept(self.ty, key));
            let mut weights =
                keys.map(|key| dot_in_order(q, &key) * self.scale).collect::<Vec<_>>();
            kernels.softmax(&mut weights);
            let mut sums = vec![0.0_f32; self.width];
            for (weight, value) in weights.iter().zip(&self.values[seen]) {
                for (sum, value) in sums.iter_mut().zip(kept(self.ty, value)) {
                    *sum = weight.mul_add(value, *sum);
                }
            }
            out.extend(sums);
        }
        out
    }
}

fn visible(rows: usize, group: usize, end: usize, window: usize) -> Visible {
    let first = end.saturating_sub(window) / kv::BLOCK * kv::BLOCK;
    Visible { rows, group, first, end, window }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn attention_keeps_the_stated_order() {
    let mut random = Random(6);
    let all = usize::MAX;
    for ty in TYPES {
        for width in [1, 8, 32, 64, 100, 128, 256] {
            for visible in [
                visible(1, 1, 1, all),
                visible(4, 4, 31, all),
                visible(5, 5, 33, all),
                visible(3, 1, 64, all),
                visible(21, 3, 60, all),
                visible(40, 4, 97, all),
                visible(1, 1, 70, 33),
                visible(14, 2, 100, 40),
                visible(9, 1, 30, 2),
                visible(12, 4, 5, 1),
            ] {
                let case = Case::new(&mut random, ty, width, visible);
                let out = same("attend", |kernels| bits(&case.run(kernels)));
                let expected = bits(&case.expected(Kernels::available()[0]));
                assert_eq!(out, expected, "{ty:?} {width} elements, {visible:?}");
            }
        }
    }
}

#[test]
fn attention_agrees_with_double_precision() {
    let mut random = Random(7);
    for (width, end) in [(64, 17), (100, 300)] {
        let case = Case::new(&mut random, Type::F32, width, visible(1, 1, end, usize::MAX));
        let out = in_place("attend", &case.q[0], |kernels, out| {
            out.copy_from_slice(&case.run(kernels));
        });
        let product = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
        let dots = case.keys.iter().map(|key| key.iter().zip(&case.q[0]).map(product).sum::<f64>());
        let weights = dots.map(|dot| (f64::from(case.scale) * dot).exp()).collect::<Vec<_>>();
        let total = weights.iter().sum::<f64>();
        for (i, out) in out.iter().enumerate() {
            let values = case.values.iter().zip(&weights);
            let expected = values.map(|(v, weight)| f64::from(v[i]) * weight).sum::<f64>() / total;
            assert!((f64::from(*out) - expected).abs() < 2e-5, "{i}: {out} is not {expected}");
        }
    }
}

#[test]
fn parts_of_an_attention_are_those_of_the_whole() {
    let mut random = Random(8);
    for ty in TYPES {
        let case = Case::new(&mut random, ty, 96, visible(6, 3, 90, 80));
        let whole = same("attend", |kernels| bits(&case.run(kernels)));
        let parts = same("attend in parts", |kernels| {
            let (q, [keys, values]) = (case.queries(), case.stores(kernels));
            let Visible { rows, .. } = case.visible;
            // Blocks of scores in another order, and values one panel at a time.
            let mut scores = vec![0.0; rows * 96];
            for index in [2, 0, 1] {
                let cells = keys.block(ty, 96, index);
                let keys = Block { index, cells, next: cells };
                kernels.attend_scores(&q, keys, case.visible, case.scale, &mut scores);
            }
            for (row, scores) in scores.chunks_mut(96).enumerate() {
                kernels.softmax(&mut scores[case.visible.of(row)]);
            }
            let mut out = vec![0.0; rows * 96];
            for panel in 0..3 {
                let mut part = vec![0.0; rows * 32];
                for index in 0..3 {
                    let cells = values.block(ty, 96, index);
                    let values = Block { index, cells, next: cells };
                    let panels = panel..panel + 1;
                    kernels.attend_values(&scores, values, panels, case.visible, &mut part);
                }
                for (out, part) in out.chunks_mut(96).zip(part.chunks(32)) {
                    out[panel * 32..][..32].copy_from_slice(part);
                }
            }
            bits(&out)
        });
        assert_eq!(parts, whole, "{ty:?}");
    }
}
