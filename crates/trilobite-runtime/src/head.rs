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
//!    codes, which tightens the bounds, then the bits after it.
//! 3. Compute the exact logits of the remaining rows, a few dozen, with the kernel that computes
//!    the whole head, which gives the same bits.
//!
//! Bounds are proportional to the norm of a hidden state, of which a few directions hold the larger part.
//! They are found while the model runs, and the products of the head with them are kept, so that only the
//! rest of a state has to be bounded ([`learner`], [`Anchors`]). Tighter bounds need fewer bits: a scan
//! reads three, four or five of every row, whatever was fastest for the last inputs ([`width`]).
//!
//! A scan for several inputs is limited by arithmetic. It uses the high halves of their codes alone,
//! unless these leave too many rows.
//!
//! [`scan`]: trilobite_kernels::scan

mod learner;
mod nucleus;
mod rows;
mod width;

pub use self::nucleus::Nucleus;
pub(crate) use self::rows::Head;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use trilobite_kernels::scan::{Anchors, Precision, Query, REFINEMENTS};

use self::learner::Learner;
use self::nucleus::{Distances, TopPPace};
use self::rows::{GROUP, Group, float, ordered};
use self::width::Left;
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
/// Minimum number of rows of a head for which directions are looked for, which allocates. Smaller heads
/// take no time.
const MIN_ROWS_TO_LEARN: usize = 1024;
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
    anchors: usize,
}

impl<'a> Logits<'a> {
    /// The logits of all tokens.
    pub fn all(values: &'a [f32]) -> Self {
        Self { ids: None, values, refined: [0; _], anchors: 0 }
    }

    /// The logits, in the order of the ids.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The token of the logit at `index` in [`values`](Self::values).
    pub fn id(&self, index: usize) -> u32 {
        self.ids.map_or(index as u32, |ids| ids[index])
    }

    /// Numbers of rows of the coarse copy for which at least one, two, ... bits were read after the
    /// first ones.
    pub fn refined(&self) -> [usize; REFINEMENTS] {
        self.refined
    }

    /// Number of directions of hidden states whose products with all rows were known.
    pub fn anchors(&self) -> usize {
        self.anchors
    }

    /// Whether these are the logits of all tokens.
    pub fn is_all(&self) -> bool {
        self.ids.is_none()
    }
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
    /// The directions of the inputs whose products with all rows are known.
    anchors: Anchors,
    learner: Learner,
    /// Which rows the last searches would have left.
    left: Left,
    /// Number of refinements that the scan reads for all rows.
    scanned: usize,
    /// The inputs that have bounds, and buffers for more.
    queries: Vec<Query>,
    /// The target of each query.
    targets: Vec<SearchTarget>,
    /// For each query and all rows the sums, what anchors tell of the logits, the bits of an f32, the
    /// coarse logits and the upper bounds of the logits, `[queries][ESTIMATES][rows]`. The latter two
    /// are [`ordered`] integers.
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
    /// Number of anchors of the search.
    anchors: usize,
    /// Coarse logits, for sorting.
    sorted: Vec<i32>,
}

/// Number of estimates of a row.
const ESTIMATES: usize = 4;

/// The coarse logit of a row that has no bounds.
const LOWEST: i32 = i32::MIN;

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
        for query in 0..self.count {
            if let Some(left) = self.left_of(query, head, self.queries[query].norm()) {
                self.left.note(left);
            }
        }
        self.refine(workers, head);
        self.each_target(workers, |target, estimates| target.select(estimates.upper));
        let exact = |target: &SearchTarget| match target.ids.len() {
            0 if target.largest.nucleus.is_some() => 0,
            0 => head.bounds.rows(),
            some => some,
        };
        let exact: usize = self.targets[..self.count].iter().map(exact).sum();
        let many = exact * ROWS_PER_EXACT > self.count * head.bounds.rows();
        if self.precision == Precision::High && many {
            self.pause = PAUSE;
        }
        workers.lap(Stage::Scan);
        self.compute(workers, head, x);
        self.check_kept();
        self.learn(workers, head);
        workers.lap(Stage::Scan);
    }

    /// The rows that are left of a query, by bounds for a vector of norm `radius`. `None` if nothing is
    /// searched for.
    fn left_of(&self, query: usize, head: Head<'_>, radius: f64) -> Option<Left> {
        let (rows, threshold) = (head.bounds.rows(), self.targets[query].threshold);
        let coarse = &self.estimates[(ESTIMATES * query + 2) * rows..][..rows];
        let coarse = |row: usize| float(coarse[row]);
        let left = || Left::count(coarse, head.bounds, float(threshold), radius);
        (threshold < i32::MAX).then(left)
    }

    /// Replaces the anchors by the leading directions of the last inputs if that pays.
    fn learn(&mut self, workers: &mut Workers, head: Head<'_>) {
        /// How the rows to multiply with anchors are divided among threads.
        const PIECES: Pieces = Pieces { least: ROWS, size: ROWS };
        let Some(directions) = self.learner.directions() else { return };
        let rows = head.bounds.rows();
        let Some(left) = self.left_of(self.count - 1, head, directions.radius) else { return };
        if !self.learner.decide(self.left.best().1 - left.best().1) {
            return;
        }
        let kernels = workers.kernels;
        let anchors = directions.vectors.len();
        let divided = |direction: &Vec<f64>| {
            let pairs = direction.iter().zip(head.factors);
            pairs.map(|(d, factor)| (d / f64::from(*factor)) as f32).collect::<Vec<f32>>()
        };
        let vectors: Vec<f32> = directions.vectors.iter().flat_map(divided).collect();
        let mut products = vec![0.0; anchors * rows];
        let out = [(&mut products[..], rows)];
        workers.team.columns(out, ALIGN, PIECES, |scratch, _, range, strip| {
            let mut some = vec![0.0; anchors * range.len()];
            let (workspace, len) = (&mut scratch.workspace, range.len());
            kernels.dense_gemm(&head.weights, range, &vectors, workspace, &mut some);
            for (anchor, some) in some.chunks_exact(len).enumerate() {
                strip.row(anchor).copy_from_slice(some);
            }
        });
        self.anchors = Anchors::new(rows, head.factors, &vectors, &products);
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
        let rows = head.bounds.rows();
        self.queries.resize_with(MAX_INPUTS, Query::default);
        self.targets.resize_with(MAX_INPUTS, SearchTarget::default);
        self.count = 0;
        if self.anchors.rows() != rows {
            self.anchors = Anchors::none(rows);
            (self.learner, self.left) = (Learner::default(), Left::default());
        }
        self.scanned = self.left.best().0;
        for (input, (x, largest)) in x.chunks_exact(head.weights.cols()).zip(largest).enumerate() {
            let Some(leaders) = largest.leaders(rows) else { continue };
            if largest.nucleus.is_some() && self.top_p.pause > 0 {
                continue;
            }
            if self.queries[self.count].set(x, head.factors, &self.anchors) {
                if rows >= MIN_ROWS_TO_LEARN {
                    self.learner.note(x, head.factors);
                }
                let target = &mut self.targets[self.count];
                (target.input, target.largest, target.leaders) = (input, largest, leaders);
                target.anchors = self.anchors.len();
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
        let (kernels, rows) = (workers.kernels, head.bounds.rows());
        let (queries, precision) = (&self.queries[..self.count], self.precision);
        let (anchors, scanned) = (&self.anchors, self.scanned);
        self.estimates.resize(ESTIMATES * rows * queries.len(), 0);
        workers.team.columns([(&mut self.estimates, rows)], ALIGN, SCAN, |_, _, range, strip| {
            let mut sums = [0; MAX_INPUTS * ROWS];
            let [mut known, mut low, mut high] = [[0.0; ROWS]; 3];
            for start in range.clone().step_by(ROWS) {
                let rows = start..range.end.min(start + ROWS);
                let part = start - range.start..rows.end - range.start;
                let sums = &mut sums[..queries.len() * rows.len()];
                let (codes, planes) = head.codes(rows.clone());
                kernels.scan(codes, &planes[..scanned], queries, precision, sums);
                let each = queries.iter().zip(sums.chunks_exact(rows.len()));
                for (q, (query, sums)) in each.enumerate() {
                    let known = &mut known[..rows.len()];
                    let (low, high) = (&mut low[..rows.len()], &mut high[..rows.len()]);
                    kernels.known(query, anchors, start, known);
                    let (both, bounds) = ((sums, &*known), (head.bounds, start));
                    kernels.enclose(query, precision, scanned, both, bounds, [low, high]);
                    strip.row(ESTIMATES * q)[part.clone()].copy_from_slice(sums);
                    let bits = &mut strip.row(ESTIMATES * q + 1)[part.clone()];
                    for (bits, known) in bits.iter_mut().zip(known) {
                        *bits = known.to_bits() as i32;
                    }
                    let coarse = &mut strip.row(ESTIMATES * q + 2)[part.clone()];
                    for (coarse, (low, high)) in coarse.iter_mut().zip(low.iter().zip(&*high)) {
                        *coarse = middle(*low, *high);
                    }
                    let upper = &mut strip.row(ESTIMATES * q + 3)[part.clone()];
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
        let rows = self.estimates.len() / self.count / ESTIMATES;
        let (estimates, none) =
            ((&mut self.estimates[..], ESTIMATES * rows), (&mut [(); 0][..], 0));
        workers.team.rows3(estimates, (targets, 1), none, |_, _, estimates, target, _| {
            let (coarse, upper) = estimates[2 * rows..].split_at(rows);
            target.iter_mut().for_each(|target| run(target, Estimates { coarse, upper }));
        });
    }

    /// Tightens the upper bounds that reach the thresholds.
    fn refine(&mut self, workers: &mut Workers, head: Head<'_>) {
        let (kernels, rows) = (workers.kernels, head.bounds.rows());
        let (precision, scanned) = (self.precision, self.scanned);
        let refined = [const { [const { AtomicUsize::new(0) }; REFINEMENTS] }; MAX_INPUTS];
        let queries = self.queries.iter().zip(&self.targets[..self.count]);
        let queries = queries.zip(&refined);
        workers.team.columns([(&mut self.estimates, rows)], ALIGN, REFINE, |_, _, range, strip| {
            for start in range.clone().step_by(GROUP) {
                let end = range.end.min(start + GROUP);
                let part = start - range.start..end - range.start;
                for (q, ((query, target), refined)) in queries.clone().enumerate() {
                    let mut group = Group { sums: [0; GROUP], known: [0.0; GROUP], scanned };
                    let sums = &strip.row(ESTIMATES * q)[part.clone()];
                    group.sums[..part.len()].copy_from_slice(sums);
                    let known = &strip.row(ESTIMATES * q + 1)[part.clone()];
                    for (to, bits) in group.known.iter_mut().zip(known) {
                        *to = f32::from_bits(*bits as u32);
                    }
                    let upper = &mut strip.row(ESTIMATES * q + 3)[part.clone()];
                    let (query, threshold) = ((query, precision), target.threshold);
                    let looked = head.refine(kernels, query, threshold, start, &mut group, upper);
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
        let (refined, anchors) = (target.refined, target.anchors);
        (!ids.is_empty()).then_some(Logits { ids: Some(ids), values, refined, anchors })
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

#[cfg(test)]
mod tests;
