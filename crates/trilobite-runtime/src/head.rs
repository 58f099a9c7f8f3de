//! The largest logits, without computing the whole head.
//!
//! Greedy decoding needs the largest logit, top-k sampling the k largest, min-p sampling those
//! within a margin of the largest and top-p sampling those of the tokens that it keeps, yet in most
//! models the head is more than half of the bytes that a decoded token reads. A coarse copy of the
//! head bounds every logit from below and above ([`scan`]). Several inputs, as of a batch of
//! sequences, are searched for together, so that the copy is read once. The search has three steps
//! for each:
//!
//! 1. Compute the coarse logits of all rows, and the exact logits of the `k` rows with the largest.
//!    Let `t` be the smallest of these exact logits. Then `k` logits are at least `t`. For a margin
//!    let `t` be the largest of a few exact logits less the margin.
//! 2. Exclude every row whose upper bound is below `t`. For the other rows read the next bit of the
//!    codes, which tightens the bounds, then the bit after it.
//! 3. Compute the exact logits of the remaining rows, a few dozen, with the kernel that computes
//!    the whole head, which gives the same bits.
//!
//! A scan for several inputs is limited by arithmetic. It uses the high halves of their codes alone,
//! unless these leave too many rows.
//!
//! [`scan`]: trilobite_kernels::scan

mod nucleus;

pub use self::nucleus::Nucleus;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use trilobite_kernels::scan::{Bounds, Precision, Query, REFINEMENTS, code_bytes};
use trilobite_kernels::{DenseMatrix, Kernels};

use self::nucleus::{Distances, TopPPace};
use crate::profile::Stage;
use crate::team::Pieces;
use crate::workers::Workers;

/// Maximum number of inputs of a search. More take more memory and are hardly faster.
pub(crate) const MAX_INPUTS: usize = 8;
/// High halves pay if they leave at most one in this many rows to compute exactly.
const ROWS_PER_EXACT: usize = 128;
/// Number of searches with full precision after one that the high halves have made slower.
const PAUSE: usize = 32;
/// Rows that a thread scans at a time.
const ROWS: usize = 64;
/// Rows from which a thread selects those to refine.
const GROUP: usize = 512;
/// Granularity of the columns of an output that a thread takes: a cache line of f32.
const ALIGN: usize = 16;
/// How the rows of the coarse copy are divided among threads.
const SCAN: Pieces = Pieces { least: ROWS, size: 4 * ROWS };
/// How the rows to refine are divided among threads.
const REFINE: Pieces = Pieces { least: GROUP, size: GROUP };
/// How the rows to compute exactly are divided among threads.
const EXACT: Pieces = Pieces { least: 4, size: 8 };
/// Minimum number of rows of the head per requested logit. Below it the whole head is computed.
const MIN_ROWS_PER_LOGIT: usize = 16;
/// Number of rows whose exact logits give the threshold of a margin. The row with the largest
/// coarse logit alone often has a logit far below the largest.
const LEADERS: usize = 8;

/// A search for the tokens that top-p keeps pays if at most one row in this many may be kept.
const ROWS_PER_KEPT: usize = 8;

/// Which logits to find: those among the `count` largest that are at most `within` below the
/// `rank`-th largest, or those of the tokens that top-p keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Largest {
    /// Number of logits that suffice, at least 1. `usize::MAX` sets no limit.
    pub count: usize,
    /// The margin. Infinity sets no limit.
    pub within: f32,
    /// The place of the logit from which the margin counts: 1 for the largest.
    pub rank: usize,
    /// The tokens that top-p keeps. Nothing is found if it remains unknown which these are.
    pub nucleus: Option<Nucleus>,
}

impl Default for Largest {
    /// The largest logit.
    fn default() -> Self {
        Self::count(1)
    }
}

impl Largest {
    /// The `count` largest logits.
    pub fn count(count: usize) -> Self {
        Self { count, within: f32::INFINITY, rank: 1, nucleus: None }
    }

    /// What includes these logits and others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            count: self.count.max(other.count),
            within: self.within.max(other.within),
            rank: self.rank.max(other.rank),
            nucleus: self.nucleus.or(other.nucleus),
        }
    }

    /// Number of rows to compute exactly for the threshold, or `None` if a search in so many `rows`
    /// does not pay.
    fn leaders(&self, rows: usize) -> Option<usize> {
        let most = rows / MIN_ROWS_PER_LOGIT;
        let counted = (1..=most).contains(&self.count).then_some(self.count);
        let near = (self.count > 0 && self.within < f32::INFINITY && self.rank <= most)
            .then_some(self.rank.max(LEADERS.min(most)));
        let kept = self.nucleus.and((most > 0).then_some(LEADERS.min(most)));
        counted.max(near).max(kept)
    }

    /// What the requested logits reach, given some of the logits in descending order.
    fn threshold(&self, sorted: &[f32]) -> f32 {
        let reach = |place: usize| sorted.get(place.wrapping_sub(1)).copied();
        let near = |top: f32| ((f64::from(top) - f64::from(self.within)) as f32).next_down();
        let (counted, near) = (reach(self.count), reach(self.rank).map(near));
        counted.unwrap_or(f32::NEG_INFINITY).max(near.unwrap_or(f32::NEG_INFINITY))
    }
}

/// The exact logits of all tokens, or of those that can be among the largest.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    ids: Option<&'a [u32]>,
    values: &'a [f32],
    refined: [usize; REFINEMENTS],
}

impl<'a> Logits<'a> {
    /// The logits of all tokens.
    pub fn all(values: &'a [f32]) -> Self {
        Self { ids: None, values, refined: [0; _] }
    }

    /// The logits, in the order of the ids.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The token of the logit at `index` in [`values`](Self::values).
    pub fn id(&self, index: usize) -> u32 {
        self.ids.map_or(index as u32, |ids| ids[index])
    }

    /// Number of rows of the coarse copy for which at least one further bit was read, and for which
    /// two were.
    pub fn refined(&self) -> [usize; REFINEMENTS] {
        self.refined
    }

    /// Whether these are the logits of all tokens.
    pub fn is_all(&self) -> bool {
        self.ids.is_none()
    }
}

/// A head with its coarse copy.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// The weights, `[rows][cols]`, as floats.
    pub(crate) weights: DenseMatrix<'a>,
    /// Codes of the coarse copy, rows of [`code_bytes`].
    pub(crate) codes: &'a [u8],
    /// The further bits of the codes.
    pub(crate) refinements: &'a [u8],
    /// Bounds of the coarse copy, `[rows]`.
    pub(crate) bounds: &'a [[u8; Bounds::BYTES]],
    /// Factors of the columns of the coarse copy, `[cols]`.
    pub(crate) factors: &'a [f32],
}

/// A search for the largest logits of some inputs, with its buffers.
#[derive(Default)]
pub(crate) struct Search {
    /// Number of queries of the last search.
    count: usize,
    precision: Precision,
    /// Number of searches to come that do not use high halves alone.
    pause: usize,
    /// How often the tokens that top-p keeps are searched for.
    top_p: TopPPace,
    /// The inputs that have bounds, and buffers for more.
    queries: Vec<Query>,
    /// The target of each query.
    targets: Vec<SearchTarget>,
    /// For each query and all rows the sums, the coarse logits and the upper bounds of the logits,
    /// `[queries][3][rows]`. The latter two are [`ordered`] integers.
    estimates: Vec<i32>,
    /// The rows computed exactly, of one target after another, and their logits.
    ids: Vec<u32>,
    values: Vec<f32>,
}

/// What is searched for with one query, and what is found.
#[derive(Default)]
struct SearchTarget {
    /// Index of the input.
    input: usize,
    largest: Largest,
    /// Number of rows to compute exactly for the threshold.
    leaders: usize,
    /// What the requested logits reach, an [`ordered`] integer.
    threshold: i32,
    /// The largest exact logit of these rows.
    top: f32,
    /// A bound on the weights of all logits that are not computed: see [`Nucleus`].
    rest: f64,
    /// The rows to compute exactly. None if the whole head must be computed.
    ids: Vec<u32>,
    /// The range of these rows in [`Search::ids`].
    place: Range<usize>,
    refined: [usize; REFINEMENTS],
    /// Coarse logits, for sorting.
    sorted: Vec<i32>,
}

/// The coarse logit of a row that has no bounds.
const LOWEST: i32 = i32::MIN;

/// An integer with the same order as the float. Both zeros map to the same integer.
fn ordered(value: f32) -> i32 {
    let bits = (value + 0.0).to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

/// The float of an [`ordered`] integer.
fn float(ordered: i32) -> f32 {
    f32::from_bits((ordered ^ ((ordered >> 31) as u32 >> 1) as i32) as u32)
}

/// The coarse logit of a row with these bounds, an [`ordered`] integer.
fn middle(low: f32, high: f32) -> i32 {
    if low > f32::NEG_INFINITY { ordered(low / 2.0 + high / 2.0) } else { LOWEST }
}

impl Search {
    /// Finds, for each of at most [`MAX_INPUTS`] inputs `x`, every row whose product with the input
    /// is one of the `largest` or equal to one of them, and computes these products.
    pub(crate) fn run(
        &mut self,
        workers: &mut Workers,
        head: Head<'_>,
        x: &[f32],
        largest: impl IntoIterator<Item = Largest>,
    ) {
        self.begin(head, x, largest);
        if self.count == 0 {
            return;
        }
        self.scan(workers, head);
        self.each_target(workers, |target, estimates| target.choose(estimates.coarse));
        workers.lap(Stage::Scan);
        self.compute(workers, head, x);

        for target in &mut self.targets[..self.count] {
            let leaders = &mut self.values[target.place.clone()];
            leaders.sort_unstable_by(|a, b| b.total_cmp(a));
            // Without bounds nothing is searched for.
            let threshold = target.largest.threshold(leaders);
            target.threshold = if leaders.is_empty() { i32::MAX } else { ordered(threshold) };
            target.top = leaders.first().copied().unwrap_or(f32::INFINITY);
        }
        if self.targets[..self.count].iter().any(|target| target.largest.nucleus.is_some()) {
            self.each_target(workers, |target, estimates| target.reach(estimates.upper));
        }
        self.refine(workers, head);
        self.each_target(workers, |target, estimates| target.select(estimates.upper));
        let exact = |target: &SearchTarget| match target.ids.len() {
            0 if target.largest.nucleus.is_some() => 0,
            0 => head.bounds.len(),
            some => some,
        };
        let exact: usize = self.targets[..self.count].iter().map(exact).sum();
        let many = exact * ROWS_PER_EXACT > self.count * head.bounds.len();
        if self.precision == Precision::High && many {
            self.pause = PAUSE;
        }
        workers.lap(Stage::Scan);
        self.compute(workers, head, x);
        self.check_kept();
    }

    /// Drops what was found for top-p where it remains unknown which tokens are kept.
    fn check_kept(&mut self) {
        for target in &mut self.targets[..self.count] {
            let Some(nucleus) = target.largest.nucleus else { continue };
            let mut sorted = self.values[target.place.clone()].to_vec();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            let (threshold, rest) = (float(target.threshold), (target.rest, target.top));
            let known = nucleus.is_known(&sorted, threshold, rest);
            if !known {
                target.place = 0..0;
            }
            self.top_p.note(known);
        }
    }

    /// Makes queries of the inputs.
    fn begin(&mut self, head: Head<'_>, x: &[f32], largest: impl IntoIterator<Item = Largest>) {
        let rows = head.bounds.len();
        self.queries.resize_with(MAX_INPUTS, Query::default);
        self.targets.resize_with(MAX_INPUTS, SearchTarget::default);
        self.count = 0;
        for (input, (x, largest)) in x.chunks_exact(head.weights.cols()).zip(largest).enumerate() {
            let Some(leaders) = largest.leaders(rows) else { continue };
            if largest.nucleus.is_some() && self.top_p.pause > 0 {
                continue;
            }
            if self.queries[self.count].set_scaled(x, head.factors) {
                let target = &mut self.targets[self.count];
                (target.input, target.largest, target.leaders) = (input, largest, leaders);
                self.count += 1;
            }
        }
        let high = self.count > 1 && self.pause == 0;
        self.precision = if high { Precision::High } else { Precision::Full };
        self.pause = self.pause.saturating_sub(1);
        self.top_p.pause = self.top_p.pause.saturating_sub(1);
    }

    /// Computes the sums, the coarse logits and the upper bounds of all rows.
    fn scan(&mut self, workers: &mut Workers, head: Head<'_>) {
        let (kernels, rows) = (workers.kernels, head.bounds.len());
        let (queries, precision) = (&self.queries[..self.count], self.precision);
        self.estimates.resize(3 * rows * queries.len(), 0);
        workers.team.columns([(&mut self.estimates, rows)], ALIGN, SCAN, |_, _, range, strip| {
            for start in range.clone().step_by(ROWS) {
                let rows = start..range.end.min(start + ROWS);
                let part = start - range.start..rows.end - range.start;
                let mut sums = [0; MAX_INPUTS * ROWS];
                let sums = &mut sums[..queries.len() * rows.len()];
                let bytes = code_bytes(head.weights.cols());
                let codes = &head.codes[rows.start * bytes..rows.end * bytes];
                kernels.scan(codes, queries, precision, sums);
                let each = queries.iter().zip(sums.chunks_exact(rows.len()));
                for (q, (query, sums)) in each.enumerate() {
                    let (mut low, mut high) = ([0.0; ROWS], [0.0; ROWS]);
                    let (low, high) = (&mut low[..rows.len()], &mut high[..rows.len()]);
                    let bounds = &head.bounds[rows.clone()];
                    kernels.enclose(query, precision, sums, bounds, low, high);
                    strip.row(3 * q)[part.clone()].copy_from_slice(sums);
                    let coarse = &mut strip.row(3 * q + 1)[part.clone()];
                    for (coarse, (low, high)) in coarse.iter_mut().zip(low.iter().zip(&*high)) {
                        *coarse = middle(*low, *high);
                    }
                    let upper = &mut strip.row(3 * q + 2)[part.clone()];
                    for (upper, high) in upper.iter_mut().zip(&*high) {
                        *upper = ordered(*high);
                    }
                }
            }
        });
    }

    /// Runs a function for every target, with its estimates of the rows.
    fn each_target(
        &mut self,
        workers: &mut Workers,
        run: impl Fn(&mut SearchTarget, Estimates<'_>) + Sync,
    ) {
        let targets = &mut self.targets[..self.count];
        let (rows, none) = (self.estimates.len() / self.count / 3, (&mut [(); 0][..], 0));
        let estimates = (&mut self.estimates[..], 3 * rows);
        workers.team.rows3(estimates, (targets, 1), none, |_, _, estimates, target, _| {
            let (coarse, upper) = estimates[rows..].split_at(rows);
            target.iter_mut().for_each(|target| run(target, Estimates { coarse, upper }));
        });
    }

    /// Tightens the upper bounds that reach the thresholds.
    fn refine(&mut self, workers: &mut Workers, head: Head<'_>) {
        let (kernels, rows, precision) = (workers.kernels, head.bounds.len(), self.precision);
        let refined = [const { [const { AtomicUsize::new(0) }; REFINEMENTS] }; MAX_INPUTS];
        let queries = self.queries.iter().zip(&self.targets[..self.count]);
        let queries = queries.zip(&refined);
        workers.team.columns([(&mut self.estimates, rows)], ALIGN, REFINE, |_, _, range, strip| {
            for start in range.clone().step_by(GROUP) {
                let end = range.end.min(start + GROUP);
                let part = start - range.start..end - range.start;
                for (q, ((query, target), refined)) in queries.clone().enumerate() {
                    let mut sums = [0; GROUP];
                    sums[..part.len()].copy_from_slice(&strip.row(3 * q)[part.clone()]);
                    let upper = &mut strip.row(3 * q + 2)[part.clone()];
                    let (query, threshold) = ((query, precision), target.threshold);
                    let looked = head.refine(kernels, query, threshold, start, &mut sums, upper);
                    for (sum, looked) in refined.iter().zip(looked) {
                        sum.fetch_add(looked, Ordering::Relaxed);
                    }
                }
            }
        });
        for (target, refined) in self.targets.iter_mut().zip(refined) {
            target.refined = refined.map(AtomicUsize::into_inner);
        }
    }

    /// Computes the products of the rows of every target exactly.
    fn compute(&mut self, workers: &mut Workers, head: Head<'_>, x: &[f32]) {
        let (kernels, cols) = (workers.kernels, head.weights.cols());
        let Self { targets, ids, values, .. } = self;
        let targets = &mut targets[..self.count];
        ids.clear();
        for target in &mut *targets {
            target.place = ids.len()..ids.len() + target.ids.len();
            ids.extend_from_slice(&target.ids);
        }
        values.clear();
        values.resize(ids.len(), 0.0);
        if ids.is_empty() {
            return;
        }
        let (targets, out) = (&*targets, [(&mut values[..], ids.len())]);
        workers.team.columns(out, 1, EXACT, |scratch, _, range, strip| {
            let values = strip.row(0).chunks_exact_mut(1);
            for (at, (value, &row)) in range.clone().zip(values.zip(&ids[range])) {
                let target = targets.partition_point(|target| target.place.end <= at);
                let x = &x[targets[target].input * cols..][..cols];
                let (row, workspace) = (row as usize, &mut scratch.workspace);
                kernels.dense_gemm(&head.weights, row..row + 1, x, workspace, value);
            }
        });
        workers.lap(Stage::Head);
    }

    /// The logits that the last search found for an input. `None` if the whole head must be
    /// computed.
    pub(crate) fn found(&self, input: usize) -> Option<Logits<'_>> {
        let target = self.targets[..self.count].iter().find(|target| target.input == input)?;
        let (ids, values) = (&self.ids[target.place.clone()], &self.values[target.place.clone()]);
        (!ids.is_empty()).then_some(Logits { ids: Some(ids), values, refined: target.refined })
    }
}

/// The coarse logits and the upper bounds of all rows, for one query.
struct Estimates<'a> {
    coarse: &'a [i32],
    upper: &'a [i32],
}

impl SearchTarget {
    /// Chooses the rows with the largest coarse logits.
    fn choose(&mut self, coarse: &[i32]) {
        self.ids.clear();
        self.ids.reserve(coarse.len() / 2);
        // A row without bounds may be the largest.
        if coarse.iter().fold(false, |any, coarse| any | (*coarse == LOWEST)) {
            return;
        }
        let least = nth_largest(coarse, self.leaders, &mut self.sorted);
        let rows = (0..).zip(coarse).filter(|(_, coarse)| **coarse >= least);
        self.ids.extend(rows.map(|(id, _)| id).take(self.leaders));
    }

    /// Chooses the threshold from which on tokens may be kept by top-p.
    fn reach(&mut self, upper: &[i32]) {
        let Some(nucleus) = self.largest.nucleus.filter(|_| self.threshold < i32::MAX) else {
            return;
        };
        let bounds = upper.iter().map(|end| float(*end));
        let distances = Distances::count(bounds, self.top, nucleus.temperature);
        self.threshold = ordered(nucleus.threshold(&distances, self.top));
    }

    /// Selects the rows whose upper bounds reach the threshold, unless these are most rows.
    fn select(&mut self, upper: &[i32]) {
        self.ids.clear();
        let reach = |end: &i32| *end >= self.threshold;
        let most = match self.largest.nucleus {
            Some(_) => upper.len() / ROWS_PER_KEPT,
            None => upper.len() / 2,
        };
        if upper.iter().map(|end| usize::from(reach(end))).sum::<usize>() > most {
            return;
        }
        self.ids.extend((0..).zip(upper).filter(|(_, end)| reach(end)).map(|(id, _)| id));
        if let Some(nucleus) = self.largest.nucleus {
            let others = upper.iter().filter(|end| !reach(end)).map(|end| float(*end));
            self.rest = Distances::count(others, self.top, nucleus.temperature).weight();
        }
    }
}

/// The `k`-th largest of at least `k` numbers. `sorted` is a buffer.
fn nth_largest(values: &[i32], k: usize, sorted: &mut Vec<i32>) -> i32 {
    let nth = |sorted: &mut [i32]| *sorted.select_nth_unstable_by(k - 1, |a, b| b.cmp(a)).1;
    sorted.clear();
    sorted.reserve(values.len());
    sorted.extend(values.chunks(ROWS).map(largest));
    // Each of k blocks whose maximum is at least `floor` has one value that is.
    let floor = if k <= sorted.len() { nth(sorted) } else { LOWEST };
    sorted.clear();
    for block in values.chunks(ROWS).filter(|block| largest(block) >= floor) {
        sorted.extend(block.iter().filter(|value| **value >= floor));
    }
    nth(sorted)
}

/// The maximum of some numbers.
fn largest(values: &[i32]) -> i32 {
    values.iter().copied().fold(LOWEST, i32::max)
}

impl Head<'_> {
    /// Reads further bits of the rows from `first` on whose upper bounds reach the threshold, and
    /// excludes the rows whose tighter upper bounds do not. Returns how many rows were refined.
    fn refine(
        &self,
        kernels: &Kernels,
        (query, precision): (&Query, Precision),
        threshold: i32,
        first: usize,
        sums: &mut [i32; GROUP],
        upper: &mut [i32],
    ) -> [usize; REFINEMENTS] {
        let (mut ids, mut len) = ([0; GROUP], 0);
        for (i, &end) in upper.iter().enumerate() {
            (ids[len], sums[len]) = ((first + i) as u32, sums[i]);
            len += usize::from(end >= threshold);
        }
        let mut looked = [0; REFINEMENTS];
        for (refinement, looked) in looked.iter_mut().enumerate() {
            *looked = len;
            let (some, sums, bits) = (&ids[..len], &mut sums[..len], self.refinements);
            kernels.refine_scan(bits, refinement, some, query, precision, sums);
            let mut left = 0;
            for i in 0..len {
                let row = ids[i] as usize;
                let bounds = Bounds::from_bytes(&self.bounds[row]);
                let end = ordered(query.enclose(precision, sums[i], refinement + 1, &bounds).1);
                upper[row - first] = end;
                (ids[left], sums[left]) = (ids[i], sums[i]);
                left += usize::from(end >= threshold);
            }
            len = left;
        }
        looked
    }
}

#[cfg(test)]
mod tests;
