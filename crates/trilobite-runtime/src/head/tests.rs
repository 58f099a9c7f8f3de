use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use trilobite_kernels::scan::{
    self, Bounds, RowBounds, code_bytes, pack, pack_refinement, refinement_bytes,
};
use trilobite_kernels::{DenseMatrix, DenseType, Kernels, Workspace};

use super::*;
use crate::{Sampler, Sampling, argmax};

/// A BF16 head with its coarse copy.
struct Copied {
    cols: usize,
    weights: Vec<u8>,
    codes: Vec<u8>,
    refinements: Vec<u8>,
    bounds: Vec<u8>,
    factors: Vec<f32>,
}

impl Copied {
    fn new(rows: &[Vec<f32>]) -> Self {
        let cols = rows[0].len();
        let (weights, bounds) = (Vec::new(), Vec::new());
        // Any factors are right.
        let factors = (0..cols).map(|column| [1.0, 0.7, 2.3][column % 3]).collect();
        let mut of_rows = Vec::new();
        let codes = vec![0; rows.len() * code_bytes(cols)];
        let plane = rows.len() * refinement_bytes(cols);
        let refinements = vec![0; REFINEMENTS * plane];
        let mut head = Self { cols, weights, codes, refinements, bounds, factors };
        let codes = head.codes.chunks_exact_mut(code_bytes(cols));
        for (index, (row, codes)) in rows.iter().zip(codes).enumerate() {
            let bits: Vec<u16> = row.iter().map(|w| (w.to_bits() >> 16) as u16).collect();
            head.weights.extend(bits.iter().flat_map(|bits| bits.to_le_bytes()));
            let stored: Vec<f32> =
                bits.iter().map(|&bits| f32::from_bits(u32::from(bits) << 16)).collect();
            let bounds = scan::bounds(&stored, &head.factors);
            pack(&stored, &head.factors, bounds.scale, codes);
            for (refinement, plane) in head.refinements.chunks_exact_mut(plane).enumerate() {
                let bits = &mut plane[index * refinement_bytes(cols)..][..refinement_bytes(cols)];
                pack_refinement(&stored, &head.factors, bounds.scale, refinement, bits);
            }
            of_rows.push(bounds.to_array());
        }
        let numbers = (0..Bounds::COUNT).flat_map(|i| of_rows.iter().map(move |row| row[i]));
        head.bounds = numbers.flat_map(f32::to_le_bytes).collect();
        head
    }

    fn head(&self) -> Head<'_> {
        Head {
            weights: self.weights(),
            codes: &self.codes,
            refinements: &self.refinements,
            bounds: RowBounds::new(&self.bounds),
            factors: &self.factors,
        }
    }

    fn rows(&self) -> usize {
        self.weights.len() / 2 / self.cols
    }

    fn weights(&self) -> DenseMatrix<'_> {
        let rows = self.rows();
        DenseMatrix::new(DenseType::BF16, &self.weights, rows, self.cols).unwrap()
    }

    fn all(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.rows()];
        let kernels = Kernels::detect().unwrap();
        let (rows, workspace) = (0..out.len(), &mut Workspace::default());
        kernels.dense_gemm(&self.weights(), rows, x, workspace, &mut out);
        out
    }

    /// Runs a search and compares its result with all logits. Returns the number of logits found.
    fn check(&self, workers: &mut Workers, x: &[f32], largest: Largest) -> Option<usize> {
        self.check_with(&mut Search::default(), workers, x, largest)
    }

    fn check_with(
        &self,
        search: &mut Search,
        workers: &mut Workers,
        x: &[f32],
        largest: Largest,
    ) -> Option<usize> {
        search.run(workers, self.head(), x, [largest]);
        let (all, found) = (self.all(x), search.found(0)?);
        for (index, value) in found.values().iter().enumerate() {
            assert_eq!(value.to_bits(), all[found.id(index) as usize].to_bits());
        }
        let least = least(&all, largest);
        let wanted: Vec<u32> =
            (0u32..).zip(&all).filter(|(_, v)| **v >= least).map(|(id, _)| id).collect();
        assert!(wanted.iter().all(|id| search.ids.contains(id)), "{largest:?}: {wanted:?}");
        assert!(search.ids.is_sorted());
        assert_eq!(argmax(&all), argmax(found.values()).map(|best| found.id(best as usize)));
        Some(found.values().len())
    }
}

/// The smallest of the largest logits.
fn least(logits: &[f32], largest: Largest) -> f32 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let counted = sorted[largest.count.min(sorted.len()) - 1];
    counted.max(sorted[largest.rank - 1] - largest.within)
}

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }

    /// An approximately normal number: the sum of twelve uniform ones.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.0.next_u64() >> 40) as f32 / 16_777_216.0).sum::<f32>() - 6.0
    }

    fn vector(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }

    fn rows(&mut self, rows: usize, cols: usize) -> Vec<Vec<f32>> {
        (0..rows).map(|_| self.vector(cols)).collect()
    }
}

fn random(seed: u64) -> Random {
    Random(ChaCha8Rng::seed_from_u64(seed))
}

#[test]
fn searches_find_the_largest_logits_of_random_heads() {
    let mut random = random(1);
    let mut workers = Workers::new(3, 0).unwrap();
    let (mut searches, mut found, mut near) = (0, 0, 0);
    for round in 0..60 {
        let (rows, cols) = (200 + random.below(300), [8, 33, 64, 100][round % 4]);
        let mut weights = random.rows(rows, cols);
        match round % 6 {
            // Norms between tiny and huge.
            1 => {
                for row in &mut weights {
                    let size = 2f32.powi(random.below(60) as i32 - 30);
                    row.iter_mut().for_each(|w| *w *= size);
                }
            }
            // Equal rows.
            2 => {
                for row in 0..rows {
                    weights[row] = weights[row % 40].clone();
                }
            }
            // Rows that differ in the last bit of a weight.
            3 => {
                let first = weights[0].clone();
                for row in &mut weights {
                    row.clone_from(&first);
                    let at = random.below(cols);
                    row[at] = f32::from_bits(row[at].to_bits() ^ 1 << 16);
                }
            }
            // Outliers in a few columns.
            4 => {
                for row in &mut weights {
                    row[0] *= 100.0;
                }
            }
            // Zero rows.
            5 => {
                for _ in 0..rows / 2 {
                    let at = random.below(rows);
                    weights[at].fill(0.0);
                }
            }
            _ => {}
        }
        let head = Copied::new(&weights);
        for _ in 0..15 {
            let mut x = random.vector(cols);
            match random.below(4) {
                // Parallel to a row, whose logit is then far above the others.
                0 => x.clone_from(&weights[random.below(rows)]),
                1 => x.iter_mut().for_each(|x| *x *= 1e-20),
                _ => {}
            }
            for k in [1, 2, rows / MIN_ROWS_PER_LOGIT] {
                if let Some(n) = head.check(&mut workers, &x, Largest::count(k)) {
                    searches += 1;
                    found += n;
                }
            }
            // Margins in units of the largest logit.
            let top = head.all(&x).into_iter().fold(0.0, f32::max);
            for part in [0.0, 0.1, 0.4, 2.0] {
                let count = [1, 3, 100, usize::MAX][random.below(4)];
                let rank = 1 + random.below(3);
                let largest = Largest { within: part * top, rank, ..Largest::count(count) };
                near += usize::from(head.check(&mut workers, &x, largest).is_some());
            }
        }
    }
    assert!(searches > 2_000 && near > 2_000, "{searches} and {near} searches");
    assert!(found < 60 * searches, "{found} logits");
}

/// Hidden states with a large part in common, and an own part in a few directions.
fn alike(random: &mut Random, cols: usize) -> impl FnMut(&mut Random) -> Vec<f32> + use<> {
    let directions = random.rows(6, cols);
    move |random| {
        let own: Vec<f32> = (0..6).map(|_| random.normal()).collect();
        let mut x: Vec<f32> = random.vector(cols).iter().map(|x| 0.2 * x).collect();
        for (index, direction) in directions.iter().enumerate() {
            let part = if index == 0 { 4.0 } else { own[index] };
            x.iter_mut().zip(direction).for_each(|(x, d)| *x += part * d);
        }
        x
    }
}

#[test]
fn fewer_bits_are_read_of_inputs_that_are_alike() {
    let mut random = random(9);
    let (rows, cols) = (2_000, 256);
    let mut workers = Workers::new(2, 0).unwrap();
    let head = Copied::new(&random.rows(rows, cols));
    let mut next = alike(&mut random, cols);
    let mut search = Search::default();
    let mut fourth = 0;
    for round in 0..200 {
        let x = next(&mut random);
        let largest = [Largest::count(1), Largest::count(5)][round % 2];
        assert!(head.check_with(&mut search, &mut workers, &x, largest).is_some());
        let found = search.found(0).unwrap();
        if round < 16 {
            // At first five bits are read of all rows.
            assert_eq!((found.anchors(), &found.refined()[..2]), (0, &[rows, rows][..]));
        }
        if round >= 100 {
            assert!(found.anchors() > 0);
            fourth += found.refined()[0];
        }
    }
    // Then three bits are enough for most.
    assert!(fourth < 100 * rows / 3, "{fourth} rows of 100 searches read with a fourth bit");
}

#[test]
fn anchors_are_not_looked_for_where_they_do_not_help() {
    let mut random = random(10);
    let mut workers = Workers::new(2, 0).unwrap();
    let head = Copied::new(&random.rows(1_100, 640));
    let mut search = Search::default();
    for _ in 0..100 {
        let x = random.vector(640);
        head.check_with(&mut search, &mut workers, &x, Largest::count(1));
        assert!(search.anchors.is_empty());
    }
}

#[test]
fn several_inputs_with_anchors_find_what_each_finds_alone() {
    let mut random = random(11);
    let cols = 256;
    let mut workers = Workers::new(3, 0).unwrap();
    let heads = [1_500, 1_100].map(|rows| Copied::new(&random.rows(rows, cols)));
    let mut next = alike(&mut random, cols);
    let mut search = Search::default();
    // Numbers of searches of each head without anchors, and with them.
    let mut counts = [[0; 2]; 2];
    for round in 0..90 {
        // Another head has other products.
        let head = &heads[round / 60];
        let n = 1 + round % MAX_INPUTS;
        let x: Vec<f32> = (0..n).flat_map(|_| next(&mut random)).collect();
        let largest = Largest { within: 3.0, ..Largest::count(1 + round % 7) };
        search.run(&mut workers, head.head(), &x, std::iter::repeat_n(largest, n));
        for (input, x) in x.chunks(cols).enumerate() {
            let all = head.all(x);
            let found = search.found(input).unwrap();
            assert_eq!(largest_of(found, largest), largest_of(Logits::all(&all), largest));
            counts[round / 60][usize::from(found.anchors() > 0)] += 1;
        }
    }
    assert!(counts.as_flattened().iter().all(|count| *count >= 16), "{counts:?}");
}

#[test]
fn what_is_found_does_not_depend_on_the_threads() {
    let mut random = random(2);
    let (head, x) = (Copied::new(&random.rows(500, 64)), random.vector(64));
    let found = |threads| {
        let mut search = Search::default();
        search.run(&mut Workers::new(threads, 0).unwrap(), head.head(), &x, [Largest::count(5)]);
        (owned(search.found(0).unwrap()), search.ids)
    };
    let one = found(1);
    for threads in [2, 3, 7] {
        assert_eq!(found(threads), one);
    }
}

/// The tokens, the bits of their logits, and the numbers of refined rows.
fn owned(found: Logits<'_>) -> (Vec<u32>, Vec<u32>, [usize; REFINEMENTS]) {
    let ids = (0..found.values().len()).map(|index| found.id(index)).collect();
    (ids, found.values().iter().map(|value| value.to_bits()).collect(), found.refined())
}

/// The tokens and the bits of the requested logits. Which others a search computes depends on how it
/// bounds them.
fn largest_of(found: Logits<'_>, largest: Largest) -> Vec<(u32, u32)> {
    let least = least(found.values(), largest);
    let all = found.values().iter().enumerate();
    all.filter(|(_, value)| **value >= least)
        .map(|(index, value)| (found.id(index), value.to_bits()))
        .collect()
}

#[test]
fn inputs_searched_for_together_find_what_each_finds_alone() {
    let mut random = random(5);
    let (rows, cols) = (700, 48);
    let weights = random.rows(rows, cols);
    let head = Copied::new(&weights);
    let mut workers = Workers::new(3, 0).unwrap();
    // One search after another, so that the buffers hold what an earlier one has left.
    let (mut together, mut found, mut none) = (Search::default(), 0, 0);
    for round in 0..60 {
        let inputs: Vec<(Vec<f32>, Largest)> = (0..1 + round % MAX_INPUTS)
            .map(|_| {
                let count = [1, 1, 2, 20, 0, rows][random.below(6)];
                let within = [f32::INFINITY, 0.0, 5.0][random.below(3)];
                let x = match random.below(8) {
                    // Every logit is the largest.
                    0 => vec![0.0; cols],
                    // No logit has a bound.
                    1 => vec![f32::INFINITY; cols],
                    2 => vec![1e38; cols],
                    3 | 4 => weights[random.below(rows)].clone(),
                    _ => random.vector(cols),
                };
                (x, Largest { within, ..Largest::count(count) })
            })
            .collect();
        let x: Vec<f32> = inputs.iter().flat_map(|(x, _)| x).copied().collect();
        together.run(&mut workers, head.head(), &x, inputs.iter().map(|&(_, largest)| largest));
        for (input, (x, largest)) in inputs.iter().enumerate() {
            let mut alone = Search::default();
            alone.run(&mut workers, head.head(), x, [*largest]);
            let alone = alone.found(0).map(|found| largest_of(found, *largest));
            let together = together.found(input).map(|found| largest_of(found, *largest));
            assert_eq!(together, alone, "{round}: {input}");
            *if alone.is_some() { &mut found } else { &mut none } += 1;
        }
        assert!(together.found(inputs.len()).is_none());
    }
    assert!(found > 50 && none > 50, "{found} found, {none} not");
}

#[test]
fn there_is_no_search_without_bounds_or_gain() {
    let mut random = random(3);
    let rows = random.rows(64, 16);
    let mut workers = Workers::new(2, 0).unwrap();
    let x = random.vector(16);
    let head = Copied::new(&rows);
    let one = Largest::count(1);
    let near = Largest { within: 0.5, ..Largest::count(usize::MAX) };
    assert!(head.check(&mut workers, &x, one).is_some());
    assert!(head.check(&mut workers, &x, near).is_some());
    for few in [Largest::count(0), Largest::count(5), Largest { count: 0, ..near }] {
        assert_eq!(head.check(&mut workers, &x, few), None);
    }
    for wide in [Largest { within: 100.0, ..near }, Largest { rank: 5, ..near }] {
        assert_eq!(head.check(&mut workers, &x, wide), None);
    }
    for largest in [one, near] {
        // A zero vector makes all logits equal.
        assert_eq!(head.check(&mut workers, &[0.0; 16], largest), None);
        let mut rows = rows.clone();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = x.clone();
            x[7] = bad;
            assert_eq!(head.check(&mut workers, &x, largest), None);
            rows[20][3] = bad;
            assert_eq!(Copied::new(&rows).check(&mut workers, &x, largest), None);
        }
        // A product that may overflow.
        rows[20] = vec![1e30; 16];
        assert_eq!(Copied::new(&rows).check(&mut workers, &[1e20; 16], largest), None);
    }
}

#[test]
fn samplers_choose_from_what_is_found_as_from_all() {
    let mut random = random(4);
    let mut workers = Workers::new(2, 0).unwrap();
    let mut rows = random.rows(1_000, 32);
    // Ties.
    for row in (0..1_000).step_by(3) {
        rows[row] = rows[row / 7].clone();
    }
    let head = Copied::new(&rows);
    let greedy = Sampling::default();
    let warm = Sampling { temperature: 1.0, seed: 5, ..greedy };
    let some = Sampling { top_k: 20, ..warm };
    let mut found = 0;
    for sampling in [
        greedy,
        Sampling { min_p: 0.5, ..greedy },
        some,
        Sampling { min_p: 0.1, ..some },
        Sampling { top_p: 0.7, min_p: 0.01, ..some },
        Sampling { min_p: 1.0, ..warm },
        Sampling { min_p: 0.3, ..warm },
        Sampling { min_p: 0.02, temperature: 0.6, ..warm },
        Sampling { min_p: 1e-3, temperature: 2.5, ..warm },
        Sampling { min_p: 0.9, temperature: 1e-30, ..warm },
        Sampling { top_p: 0.0, ..warm },
        Sampling { top_p: 0.5, ..warm },
        Sampling { top_p: 0.9, min_p: 0.1, ..warm },
        Sampling { top_p: 0.9, temperature: 0.3, ..warm },
        Sampling { top_p: 0.999, temperature: 0.1, ..warm },
        Sampling { top_p: 0.9, temperature: 1e-30, ..warm },
    ] {
        let (mut a, mut b) = (Sampler::new(sampling).unwrap(), Sampler::new(sampling).unwrap());
        for round in 0..200 {
            let mut x = random.vector(32);
            if round % 2 == 0 {
                x = rows[random.below(1_000)].iter().map(|w| w / 2.0).collect();
            }
            let mut search = Search::default();
            search.run(&mut workers, head.head(), &x, a.needs());
            let all = head.all(&x);
            let expected = a.sample(Logits::all(&all), &[]).unwrap();
            // What is not found is computed with the whole head.
            let logits = search.found(0).inspect(|_| found += 1).unwrap_or(Logits::all(&all));
            assert_eq!(b.sample(logits, &[]).unwrap(), expected, "{sampling:?}");
        }
    }
    assert!(found > 2_500, "{found} found");
}

#[test]
fn min_p_counts_from_the_largest_logit_that_is_not_lowered() {
    let mut random = random(6);
    let mut workers = Workers::new(2, 0).unwrap();
    let head = Copied::new(&random.rows(1_000, 32));
    let sampling =
        Sampling { temperature: 1.0, min_p: 0.05, loop_penalty: 40.0, ..Sampling::default() };
    // The ninth and tenth token of a repetition lose.
    let (mut a, mut b) = (Sampler::new(sampling).unwrap(), Sampler::new(sampling).unwrap());
    let mut lowered = 0;
    for _ in 0..200 {
        let x = random.vector(32);
        let all = head.all(&x);
        let best = argmax(&all).unwrap();
        let answer = [[7, 7, 7, 7, 7, 7, 7, 7, best]; 2].concat();
        let answer = &answer[..answer.len() - 1];
        a.watch(answer);
        b.watch(answer);
        let largest = a.needs().unwrap();
        lowered += largest.rank - 1;
        let mut search = Search::default();
        search.run(&mut workers, head.head(), &x, [largest]);
        let expected = a.sample(Logits::all(&all), &[]).unwrap();
        assert_ne!(expected, best);
        assert_eq!(b.sample(search.found(0).unwrap(), &[]).unwrap(), expected);
    }
    assert!(lowered >= 200);
}

/// Number of tokens that top-p keeps, given all weights in descending order.
fn kept(weights: &[f64], top_p: f64) -> usize {
    let wanted = top_p * weights.iter().sum::<f64>();
    let mut mass = 0.0;
    let reached = weights.iter().position(|weight| {
        mass += weight;
        mass >= wanted
    });
    reached.map_or(weights.len(), |last| last + 1)
}

#[test]
fn top_p_keeps_of_what_is_found_what_it_keeps_of_all() {
    let mut random = random(7);
    let mut workers = Workers::new(2, 0).unwrap();
    let (mut found, mut kept_most) = (0, 0);
    for round in 0..80 {
        let rows = 800 + random.below(800);
        let mut weights = random.rows(rows, 32);
        if round % 3 == 0 {
            // Ties.
            for row in 0..rows {
                weights[row] = weights[row / 5].clone();
            }
        }
        let head = Copied::new(&weights);
        for _ in 0..12 {
            let x = random.vector(32);
            let all = head.all(&x);
            let top_p = [0.0, 0.1, 0.5, 0.9, 0.99, 0.9999][random.below(6)];
            let temperature = [0.01, 0.3, 0.6, 1.0, 1.4, 100.0][random.below(6)];
            let nucleus = Nucleus { top_p, temperature };
            let mut search = Search::default();
            search.run(&mut workers, head.head(), &x, [Largest::nucleus(nucleus)]);
            let Some(logits) = search.found(0) else { continue };
            found += 1;
            let sorted = |logits: &[f32]| {
                let mut sorted = logits.to_vec();
                sorted.sort_by(|a, b| b.total_cmp(a));
                sorted
            };
            let (all, some) = (sorted(&all), sorted(logits.values()));
            let weights = |logits: &[f32]| -> Vec<f64> {
                let weight =
                    |logit| libm::exp(f64::from(logit - logits[0]) / f64::from(temperature));
                logits.iter().map(|logit| weight(*logit)).collect()
            };
            let count = kept(&weights(&all), f64::from(top_p));
            assert_eq!(kept(&weights(&some), f64::from(top_p)), count, "{nucleus:?}");
            assert_eq!(some[..count], all[..count], "{nucleus:?}");
            kept_most = kept_most.max(count);
        }
    }
    assert!(found > 200 && kept_most > 4, "{found} found, at most {kept_most} tokens kept");
}

#[test]
fn searches_for_top_p_pause_where_too_many_tokens_may_be_kept() {
    let mut random = random(8);
    let mut workers = Workers::new(1, 0).unwrap();
    let head = Copied::new(&random.rows(1_000, 32));
    let mut search = Search::default();
    let mut finds = |temperature: f32| {
        let x = random.vector(32);
        let nucleus = Nucleus { top_p: 0.5, temperature };
        search.run(&mut workers, head.head(), &x, [Largest::nucleus(nucleus)]);
        search.found(0).is_some()
    };
    assert!(finds(0.01) && !finds(100.0) && finds(0.01));
    assert!(!finds(100.0) && !finds(100.0));
    assert!((0..PAUSE).all(|_| !finds(0.01)));
    // Failures after it make a pause that is twice as long, after a search that succeeds an equal one.
    assert!(!finds(100.0) && !finds(100.0));
    assert!((0..2 * PAUSE).all(|_| !finds(0.01)));
    assert!(finds(0.01) && !finds(100.0) && !finds(100.0));
    assert!((0..2 * PAUSE).all(|_| !finds(0.01)));
    assert!(finds(0.01));
}
