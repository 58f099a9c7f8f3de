//! A team of threads for fork-join steps of a few microseconds.
//!
//! A decoded token has some hundred and fifty steps; a general work-stealing pool spends longer on
//! waking its threads than a step takes. Here the leader publishes a step of numbered items, and
//! members spin (then yield, then sleep) between steps. Every thread has a share of the items, begins
//! them in order, and then takes what others have not begun: a step waits for nobody who has no core
//! to run on, only for items that were begun. How the work is divided never changes what is computed:
//! items write disjoint outputs. Every thread owns a scratch, which a step gets exclusively.

mod blocks;

use std::any::Any;
use std::cell::UnsafeCell;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Spins before a waiting thread starts to give its core away, if every thread can have one.
const SPINS: u32 = 4_000;
/// Yields before a waiting member goes to sleep.
const YIELDS: u32 = 2_000;
/// Bits of a ticket that count items.
const ITEM_BITS: u32 = 24;
/// Most items of a step.
const MAX_ITEMS: usize = (1 << ITEM_BITS) - 1;
/// Epochs are counted up to here, in the other bits of a ticket, and then from 0 again.
const MAX_EPOCH: u64 = u64::MAX >> ITEM_BITS;

/// What is run for every item: `step(scratch of the thread, item)`.
type Step<S> = dyn Fn(&mut S, usize) + Sync;
/// What a panic carries.
type Payload = Box<dyn Any + Send>;

/// On cache lines of its own, so that waiting for one value does not slow down writing another.
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// The scratch of one thread.
struct Owned<S>(UnsafeCell<S>);

// SAFETY: `Team` gives the scratch of a thread to that thread alone while a step runs, and to the
// leader between steps, when no member touches it.
unsafe impl<S: Send> Sync for Owned<S> {}

struct Shared<S> {
    /// The step that is being run.
    step: Apart<Published<S>>,
    /// For each thread, the epoch and how many items of its share nobody has begun.
    tickets: Box<[Apart<AtomicU64>]>,
    /// For each thread, its scratch.
    scratch: Box<[Apart<Owned<S>>]>,
    /// Items of the step that are done.
    done: Apart<AtomicUsize>,
    /// Members that are asleep or about to be.
    sleeping: Apart<AtomicUsize>,
    /// What the first item of the step that panicked said.
    panic: Mutex<Option<Payload>>,
    stop: AtomicBool,
    /// Spins of a waiting thread.
    spins: u32,
}

struct Published<S> {
    /// Number of steps so far; members look for work when it grows.
    epoch: AtomicU64,
    /// Items of the step.
    items: AtomicUsize,
    /// Where the leader keeps the pointer to the step.
    step: AtomicPtr<*const Step<S>>,
}

/// A fixed number of threads, the caller's own among them, each with a scratch of type `S`.
pub struct Team<S = ()> {
    shared: Arc<Shared<S>>,
    members: Vec<JoinHandle<()>>,
    epoch: u64,
    /// Time that the caller's thread has waited for others, if it is measured.
    waited: Option<Duration>,
}

impl<S: Send + 'static> Team<S> {
    /// A team of `threads` threads (at least one: the caller), each with a scratch.
    ///
    /// # Errors
    /// The system starts no more threads.
    pub fn new(threads: usize, mut scratch: impl FnMut() -> S) -> io::Result<Self> {
        let threads = threads.max(1);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let published = Published {
            epoch: AtomicU64::new(0),
            items: AtomicUsize::new(0),
            step: AtomicPtr::default(),
        };
        let shared = Arc::new(Shared {
            step: Apart(published),
            tickets: (0..threads).map(|_| Apart::default()).collect(),
            scratch: (0..threads).map(|_| Apart(Owned(UnsafeCell::new(scratch())))).collect(),
            done: Apart::default(),
            sleeping: Apart::default(),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            spins: if threads > cores { 0 } else { SPINS },
        });
        // Dropped, and so ended, if one of them does not start.
        let mut team = Self { shared, members: Vec::new(), epoch: 0, waited: None };
        for member in 1..threads {
            let shared = Arc::clone(&team.shared);
            let thread = std::thread::Builder::new().spawn(move || shared.serve(member))?;
            team.members.push(thread);
        }
        Ok(team)
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.members.len() + 1
    }

    /// The scratch of every thread, the caller's first.
    pub fn scratch(&mut self) -> impl Iterator<Item = &mut S> {
        self.shared.scratch.iter().map(|scratch| {
            // SAFETY: no step runs while the team is borrowed exclusively, members use their
            // scratch in steps only, and the iterator gives each out once.
            unsafe { &mut *scratch.0.0.get() }
        })
    }

    /// Runs `step(index)` once for as many indices as there are threads, and returns when all are
    /// done.
    pub fn run(&mut self, step: &(dyn Fn(usize) + Sync)) {
        self.items(self.threads(), &|_, index| step(index));
    }

    /// Runs `step(scratch, item)` once for every item, and returns when all are done.
    ///
    /// # Panics
    /// With what the first item to panic said, after all items have ended.
    pub fn items(&mut self, items: usize, step: &(dyn Fn(&mut S, usize) + Sync)) {
        if self.members.is_empty() || items <= 1 {
            let Some(scratch) = self.scratch().next() else { return };
            return (0..items).for_each(|item| step(scratch, item));
        }
        assert!(items <= MAX_ITEMS, "{items} items");
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased. The pointer is used for items of this call alone,
        // and nothing between here and the wait for the last of them can panic.
        let step: *const Step<S> = unsafe {
            std::mem::transmute::<&(dyn Fn(&mut S, usize) + Sync), &'static Step<S>>(step)
        };
        self.epoch = (self.epoch + 1) & MAX_EPOCH;
        shared.step.0.step.store((&raw const step).cast_mut(), Ordering::Relaxed);
        shared.step.0.items.store(items, Ordering::Relaxed);
        shared.done.0.store(0, Ordering::Relaxed);
        for (thread, ticket) in shared.tickets.iter().enumerate() {
            let left = share(items, thread, shared.tickets.len()).len() as u64;
            ticket.0.store(self.epoch << ITEM_BITS | left, Ordering::Release);
        }
        // In one order with `sleeping`: a member that this does not find there finds the new epoch.
        shared.step.0.epoch.store(self.epoch, Ordering::SeqCst);
        if shared.sleeping.0.load(Ordering::SeqCst) > 0 {
            self.members.iter().for_each(|member| member.thread().unpark());
        }
        shared.work(self.epoch, 0);
        let start = self.waited.is_some().then(Instant::now);
        let mut waits = 0;
        while shared.done.0.load(Ordering::Acquire) != items {
            shared.relax(&mut waits);
        }
        if let (Some(waited), Some(start)) = (&mut self.waited, start) {
            *waited += start.elapsed();
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Starts or stops measuring how long the caller's thread waits for others.
    pub(crate) fn measure_waiting(&mut self, on: bool) {
        self.waited = on.then_some(Duration::ZERO);
    }

    /// How long the caller's thread has waited since the last call, if that is measured.
    pub(crate) fn take_waiting(&mut self) -> Duration {
        self.waited.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Fills some matrices `[rows][width]` by column ranges. All columns are cut into pieces, in
    /// multiples of `align` columns where that is possible, and a piece is filled in every row:
    /// `fill(scratch, index of the matrix, columns, strip)`.
    pub fn columns<T: Send, const N: usize>(
        &mut self,
        matrices: [(&mut [T], usize); N],
        align: usize,
        pieces: Pieces,
        fill: impl Fn(&mut S, usize, Range<usize>, &mut Strip<'_, T>) + Sync,
    ) {
        let matrices = matrices.map(|(cells, width)| {
            assert!(width > 0 && cells.len().is_multiple_of(width), "a matrix has whole rows");
            let rows = cells.len() / width;
            // Without rows there is nothing to fill, however wide they would be.
            (SendPtr(cells.as_mut_ptr()), rows, if rows == 0 { 0 } else { width })
        });
        let units = matrices
            .iter()
            .try_fold(0usize, |units, (_, _, width)| units.checked_add(width.div_ceil(align)));
        assert!(units.is_some(), "the columns of all matrices can be counted");
        let units = units.unwrap_or_default();
        let count = pieces.count(units.saturating_mul(align), self.threads());
        let count = count.min(units).min(MAX_ITEMS);
        let matrices = &matrices;
        self.items(count, &|scratch, piece| {
            let share = share(units, piece, count);
            let mut first = 0;
            for (index, &(ref base, rows, width)) in matrices.iter().enumerate() {
                let units = width.div_ceil(align);
                let start = share.start.clamp(first, first + units) - first;
                let end = share.end.clamp(first, first + units) - first;
                if start < end {
                    // Units begin within the matrix, and the last may end beyond it.
                    let columns = start * align..width.min(end.saturating_mul(align));
                    let range = columns.clone();
                    let base = base.get();
                    let mut strip = Strip { base, width, rows, columns, matrix: PhantomData };
                    fill(scratch, index, range, &mut strip);
                }
                first += units;
            }
        });
    }

    /// Runs `fill(scratch, i, row i of a, row i of b, row i of c)` for every row of three matrices
    /// with the widths `wa`, `wb` and `wc`; threads take the next row when they are free.
    pub fn rows3<A: Send, B: Send, C: Send>(
        &mut self,
        (a, wa): (&mut [A], usize),
        (b, wb): (&mut [B], usize),
        (c, wc): (&mut [C], usize),
        fill: impl Fn(&mut S, usize, &mut [A], &mut [B], &mut [C]) + Sync,
    ) {
        let rows = a.len() / wa.max(1);
        let has_rows = |len: usize, width: usize| rows.checked_mul(width) == Some(len);
        assert!(
            has_rows(a.len(), wa) && has_rows(b.len(), wb) && has_rows(c.len(), wc),
            "the matrices have the same number of whole rows"
        );
        let (a, b, c) = (SendPtr(a.as_mut_ptr()), SendPtr(b.as_mut_ptr()), SendPtr(c.as_mut_ptr()));
        let next = AtomicUsize::new(0);
        self.items(self.threads().min(rows), &|scratch, _| {
            loop {
                let row = next.fetch_add(1, Ordering::Relaxed);
                if row >= rows {
                    break;
                }
                // SAFETY: the counter gives every row to one thread only, rows do not overlap,
                // the assertion above keeps them inside the matrices, and the matrices are
                // borrowed exclusively until `items` returns.
                let (a, b, c) = unsafe {
                    (
                        std::slice::from_raw_parts_mut(a.get().add(row * wa), wa),
                        std::slice::from_raw_parts_mut(b.get().add(row * wb), wb),
                        std::slice::from_raw_parts_mut(c.get().add(row * wc), wc),
                    )
                };
                fill(scratch, row, a, b, c);
            }
        });
    }

    /// [`Team::rows3`] for one matrix.
    pub fn rows<T: Send>(
        &mut self,
        out: &mut [T],
        width: usize,
        fill: impl Fn(&mut S, usize, &mut [T]) + Sync,
    ) {
        let none: (&mut [()], usize) = (&mut [], 0);
        let none2: (&mut [()], usize) = (&mut [], 0);
        self.rows3((out, width), none, none2, |scratch, row, out, _, _| fill(scratch, row, out));
    }
}

impl<S> Drop for Team<S> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.step.0.epoch.store(self.epoch + 1, Ordering::SeqCst);
        for member in self.members.drain(..) {
            member.thread().unpark();
            // Members catch the panics of steps, and have no others.
            let _ = member.join();
        }
    }
}

/// How many pieces work is cut into.
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    /// Minimum columns of a piece.
    pub least: usize,
    /// Columns of a piece, if that gives every thread as many.
    pub size: usize,
}

impl Pieces {
    /// The number of pieces of so many columns.
    fn count(self, columns: usize, threads: usize) -> usize {
        let most = (columns / self.least.max(1)).max(1);
        let count = (columns / self.size.max(1)).max(1).checked_next_multiple_of(threads);
        count.unwrap_or(usize::MAX).min(most)
    }
}

impl<S> Shared<S> {
    /// One more wait of a spin-then-yield loop.
    fn relax(&self, waited: &mut u32) {
        *waited = waited.saturating_add(1);
        if *waited < self.spins { std::hint::spin_loop() } else { std::thread::yield_now() }
    }

    /// What a member does until the team is dropped.
    fn serve(&self, member: usize) {
        let epoch = &self.step.0.epoch;
        let mut seen = 0;
        loop {
            let mut waited = 0;
            while epoch.load(Ordering::Acquire) == seen {
                self.relax(&mut waited);
                if waited > self.spins + YIELDS {
                    self.sleeping.0.fetch_add(1, Ordering::SeqCst);
                    if epoch.load(Ordering::SeqCst) == seen {
                        std::thread::park();
                    }
                    self.sleeping.0.fetch_sub(1, Ordering::SeqCst);
                }
            }
            seen = epoch.load(Ordering::Acquire);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.work(seen, member);
        }
    }

    /// Runs items until all of the epoch are begun: first those of the thread's own share.
    fn work(&self, epoch: u64, thread: usize) {
        let threads = self.tickets.len();
        let mut done = 0;
        for owner in (thread..threads).chain(0..thread) {
            while let Some((step, item)) = self.begin(epoch, owner) {
                // SAFETY: a step runs, in which this thread alone uses its scratch, for one item
                // after another.
                let scratch = unsafe { &mut *self.scratch[thread].0.0.get() };
                // SAFETY: an item of the step was begun and is not counted as done, so the leader
                // is still in `items`, where both the pointer and the step live.
                let run = || unsafe { (**step)(scratch, item) };
                if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
                    let mut panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                    match &*panic {
                        None => *panic = Some(payload),
                        // Dropping it could panic again, which nothing here would catch.
                        Some(_) => std::mem::forget(payload),
                    }
                }
                done += 1;
            }
        }
        if done > 0 {
            self.done.0.fetch_add(done, Ordering::Release);
        }
    }

    /// Takes an item from the share of `owner`, if the epoch still has one there that nobody has
    /// begun.
    fn begin(&self, epoch: u64, owner: usize) -> Option<(*const *const Step<S>, usize)> {
        let ticket = &self.tickets[owner].0;
        let mut value = ticket.load(Ordering::Acquire);
        loop {
            let left = (value & ((1 << ITEM_BITS) - 1)) as usize;
            if value >> ITEM_BITS != epoch || left == 0 {
                return None;
            }
            // These may belong to a later step. Then the ticket has changed: the leader publishes
            // no step before all items of the last are done, and this item is not begun.
            let items = self.step.0.items.load(Ordering::Relaxed);
            let step = self.step.0.step.load(Ordering::Relaxed);
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
            match ticket.compare_exchange_weak(value, value - 1, success, failure) {
                Ok(_) => {
                    let end = share(items, owner, self.tickets.len()).end;
                    return Some((step, end - left));
                }
                Err(now) => value = now,
            }
        }
    }
}

/// The part of `units` that `member` of `members` has: from `units * member / members` on.
fn share(units: usize, member: usize, members: usize) -> Range<usize> {
    // Products of all units would overflow; those of members, far below 2^32, do not.
    let (each, rest) = (units / members, units % members);
    let start = |member| each * member + rest * member / members;
    start(member)..start(member + 1)
}

/// A pointer that may cross threads; whoever uses it answers for the disjointness.
struct SendPtr<T>(*mut T);

impl<T> SendPtr<T> {
    /// A method, so that closures capture the wrapper and not its field.
    fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: the pointer is only used to make disjoint exclusive slices of `T: Send`.
unsafe impl<T: Send> Sync for SendPtr<T> {}

/// A member's columns of a matrix.
pub struct Strip<'a, T> {
    base: *mut T,
    width: usize,
    rows: usize,
    columns: Range<usize>,
    matrix: PhantomData<&'a mut [T]>,
}

impl<T> Strip<'_, T> {
    /// The strip's part of `row`: its index 0 is the strip's first column.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: `columns` lies within `width`, `row` within the matrix, pieces and so
        // strips are disjoint, and `&mut self` allows one slice of a strip at a time.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.base.add(row * self.width + self.columns.start),
                self.columns.len(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for units in [0, 1, 7, 64, 100] {
            for members in 1..9 {
                let shares = (0..members).flat_map(|member| share(units, member, members));
                assert!(shares.eq(0..units));
            }
        }
        for (units, members) in [(usize::MAX, 3), (usize::MAX - 1, 1 << 24), (1 << 60, 48)] {
            let start = |member| (units as u128 * member as u128 / members as u128) as usize;
            for member in [0, 1, members / 2, members - 1] {
                let expected = start(member)..start(member + 1);
                assert_eq!(share(units, member, members), expected);
            }
        }
    }

    #[test]
    fn every_cell_is_written_once() {
        for threads in [1, 2, 7] {
            let mut team = Team::new(threads, || ()).unwrap();
            for align in [1, 8, 64].repeat(70) {
                let (mut a, mut b) = (vec![0u32; 3 * 50], vec![0u32; 7]);
                let pieces = Pieces { least: 1, size: 10 };
                team.columns(
                    [(&mut a, 50), (&mut b, 7)],
                    align,
                    pieces,
                    |_, index, range, strip| {
                        let (rows, width) = [(3, 50), (1, 7)][index];
                        for row in 0..rows {
                            for (cell, column) in strip.row(row).iter_mut().zip(range.clone()) {
                                *cell += (row * width + column) as u32 + 1;
                            }
                        }
                    },
                );
                assert!(a.iter().enumerate().all(|(i, &v)| v == i as u32 + 1));
                assert!(b.iter().enumerate().all(|(i, &v)| v == i as u32 + 1));
                let mut out = vec![0u32; 40];
                team.rows(&mut out, 2, |_, row, cells| cells.fill(row as u32));
                assert!(out.iter().enumerate().all(|(i, &v)| v == i as u32 / 2));
            }
        }
    }

    /// What a panic said.
    fn message(work: impl FnOnce()) -> String {
        let payload = catch_unwind(AssertUnwindSafe(work)).unwrap_err();
        match payload.downcast_ref::<&str>() {
            Some(text) => (*text).to_owned(),
            None => payload.downcast_ref::<String>().unwrap().clone(),
        }
    }

    #[test]
    fn matrices_of_more_cells_than_there_are_numbers_are_refused() {
        // Each of these has as many cells as a product that overflows leaves: none.
        let huge = 1 << (usize::BITS - 2);
        let (mut four, mut none, mut none2) = ([0u8; 4], [0u8; 0], [0u8; 0]);
        for threads in [1, 3] {
            let mut team = Team::new(threads, || ()).unwrap();
            for (wb, wc) in [(huge, 0), (0, huge), (2 * huge, 3 * huge)] {
                let said = message(|| {
                    let (b, c) = ((&mut none[..], wb), (&mut none2[..], wc));
                    team.rows3((&mut four[..], 1), b, c, |_, _, _, b, c| {
                        assert!(b.len() + c.len() == 0, "{} and {}", b.len(), c.len());
                    });
                });
                assert_eq!(said, "the matrices have the same number of whole rows");
            }
            // Widths alone are no cells.
            let pieces = Pieces { least: 1, size: 1 };
            let matrices =
                [(&mut none[..], usize::MAX), (&mut four[..], 4), (&mut none2[..], usize::MAX)];
            team.columns(matrices, 1, pieces, |_, index, columns, strip| {
                assert_eq!(index, 1);
                strip.row(0).fill(columns.start as u8 + 1);
            });
            assert_eq!(four, [1, 2, 3, 4]);
            team.columns([(&mut four[..], 2)], usize::MAX, pieces, |_, _, columns, strip| {
                assert_eq!((columns, strip.row(1).len()), (0..2, 2));
            });
            let said = message(|| {
                let (mut a, mut b) = (vec![(); usize::MAX], vec![(); usize::MAX]);
                let matrices = [(&mut a[..], usize::MAX), (&mut b[..], usize::MAX)];
                team.columns(matrices, 1, pieces, |_, _, _, _| {});
            });
            assert_eq!(said, "the columns of all matrices can be counted");
        }
    }

    #[test]
    fn a_team_works_on_when_its_steps_can_no_longer_be_counted() {
        let mut team = Team::new(3, || ()).unwrap();
        team.epoch = MAX_EPOCH - 3;
        for _ in 0..8 {
            let done = AtomicUsize::new(0);
            team.items(20, &|_, _| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.load(Ordering::Relaxed), 20);
        }
    }

    /// Panics when it is dropped.
    struct Panicking;
    impl Drop for Panicking {
        fn drop(&mut self) {
            panic!("a payload is dropped");
        }
    }

    #[test]
    fn what_a_panic_leaves_is_not_dropped_before_the_step_ends() {
        let mut team = Team::new(2, || ()).unwrap();
        // Of two payloads the first is handed on, and neither is dropped.
        let work = || team.items(2, &|(), _| std::panic::panic_any(Panicking));
        let payload = catch_unwind(AssertUnwindSafe(work)).unwrap_err();
        assert!(payload.is::<Panicking>());
        std::mem::forget(payload);
        team.run(&|_| {});
    }

    #[test]
    fn every_item_runs_once_and_every_scratch_is_exclusive() {
        for threads in 1..8 {
            // The first number is changed and changed back by every item, the second counts them.
            let mut team = Team::new(threads, || (0, 0)).unwrap();
            let mut expected = 0;
            for items in (0..40).chain([1000]).cycle().take(400) {
                let runs: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                team.items(items, &|(busy, count), item| {
                    *busy += 1;
                    assert_eq!(std::hint::black_box(*busy), 1, "the scratch is in use");
                    runs[item].fetch_add(1, Ordering::Relaxed);
                    *count += 1;
                    *busy -= 1;
                });
                assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1), "{items} items");
                expected += items;
            }
            assert_eq!(team.scratch().map(|(_, count)| *count).sum::<usize>(), expected);
        }
    }

    #[test]
    fn nobody_waits_for_a_thread_that_has_begun_nothing() {
        let mut team = Team::new(2, || ()).unwrap();
        // The first item returns only when all others have run, whoever has to run them.
        let left = AtomicUsize::new(9);
        team.items(10, &|_, item| match item {
            0 => while left.load(Ordering::Relaxed) > 0 {},
            _ => {
                left.fetch_sub(1, Ordering::Relaxed);
            }
        });
        assert_eq!(left.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn pieces_are_as_many_as_the_work_is_worth() {
        let pieces = Pieces { least: 64, size: 256 };
        assert_eq!(pieces.count(2560, 2), 10);
        assert_eq!(pieces.count(2560, 3), 12);
        assert_eq!(pieces.count(512, 4), 4);
        assert_eq!(pieces.count(128, 4), 2);
        assert_eq!(pieces.count(10, 4), 1);
    }

    #[test]
    fn a_panic_reaches_the_leader_and_the_team_survives() {
        let mut team = Team::new(3, || ()).unwrap();
        for panicking in 0..3 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                team.run(&|member| assert_ne!(member, panicking));
            }));
            let message = result.unwrap_err().downcast::<String>().unwrap();
            assert!(message.contains(&format!("right: {panicking}")), "{message}");
        }
        let done = AtomicUsize::new(0);
        team.run(&|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 3);
    }
}
