//! A team of threads for fork-join steps of a few microseconds.
//!
//! A decoded token takes about 150 steps. A general work-stealing pool spends longer on waking its
//! threads than such a step takes. Here the leader publishes a step as a number of items. Members
//! spin, then yield, then sleep between steps. Every thread has a share of the items, runs them in
//! order, and then takes items that other threads have not begun. A step thus never waits for a
//! thread without a core to run on, only for items that were begun. The division of the work does
//! not change results: items write disjoint outputs. Every thread has its own scratch, which a step
//! can use exclusively.

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

/// Spins of a waiting thread before it yields its core, if there is a core for every thread.
const SPINS: u32 = 4_000;
/// Yields of a waiting member before it sleeps.
const YIELDS: u32 = 2_000;
/// Bits of a ticket that hold the number of items.
const ITEM_BITS: u32 = 24;
/// Maximum number of items of a step.
const MAX_ITEMS: usize = (1 << ITEM_BITS) - 1;
/// The largest epoch, which is stored in the other bits of a ticket. The next one is 0.
const MAX_EPOCH: u64 = u64::MAX >> ITEM_BITS;

/// The function that runs for every item: `step(scratch of the thread, item)`.
type StepFn<S> = dyn Fn(&mut S, usize) + Sync;
/// The payload of a panic.
type Payload = Box<dyn Any + Send>;

/// A value on cache lines of its own, so that waiting for it does not slow down writes to others.
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// The scratch of one thread.
struct ThreadScratch<S>(UnsafeCell<S>);

// SAFETY: `Team` gives the scratch of a thread to that thread alone while a step runs, and to the
// leader between steps, when no member touches it.
unsafe impl<S: Send> Sync for ThreadScratch<S> {}

struct Shared<S> {
    /// The current step.
    step: Padded<Published<S>>,
    /// For each thread, the epoch and the number of items of its share that nobody has begun.
    tickets: Box<[Padded<AtomicU64>]>,
    /// For each thread, its scratch.
    scratch: Box<[Padded<ThreadScratch<S>>]>,
    /// Number of items of the step that are done.
    done: Padded<AtomicUsize>,
    /// Number of members that are asleep or about to sleep.
    sleeping: Padded<AtomicUsize>,
    /// The payload of the first panic of the step.
    panic: Mutex<Option<Payload>>,
    stop: AtomicBool,
    /// Spins of a waiting thread before it yields.
    spins: u32,
}

struct Published<S> {
    /// The number of steps so far. When it changes, members look for work.
    epoch: AtomicU64,
    /// Number of items of the step.
    items: AtomicUsize,
    /// The place where the leader keeps the pointer to the step.
    step: AtomicPtr<*const StepFn<S>>,
}

/// A fixed number of threads, including the caller's, each with a scratch of type `S`.
pub struct Team<S = ()> {
    shared: Arc<Shared<S>>,
    members: Vec<JoinHandle<()>>,
    epoch: u64,
    /// Time for which the caller's thread has waited for others, if it is measured.
    waited: Option<Duration>,
}

impl<S: Send + 'static> Team<S> {
    /// Starts a team of `threads` threads (at least one, the caller's), each with a scratch.
    ///
    /// # Errors
    /// The system cannot start the threads.
    pub fn new(threads: usize, mut scratch: impl FnMut() -> S) -> io::Result<Self> {
        let threads = threads.max(1);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let published = Published {
            epoch: AtomicU64::new(0),
            items: AtomicUsize::new(0),
            step: AtomicPtr::default(),
        };
        let shared = Arc::new(Shared {
            step: Padded(published),
            tickets: (0..threads).map(|_| Padded::default()).collect(),
            scratch: (0..threads)
                .map(|_| Padded(ThreadScratch(UnsafeCell::new(scratch()))))
                .collect(),
            done: Padded::default(),
            sleeping: Padded::default(),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            spins: if threads > cores { 0 } else { SPINS },
        });
        // If a thread does not start, the drop of the team ends the others.
        let mut team = Self { shared, members: Vec::new(), epoch: 0, waited: None };
        for member in 1..threads {
            let shared = Arc::clone(&team.shared);
            let thread = std::thread::Builder::new().spawn(move || shared.run_member(member))?;
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

    /// Runs `step(index)` once for every index below the number of threads, and returns when all
    /// are done.
    pub fn run(&mut self, step: &(dyn Fn(usize) + Sync)) {
        self.items(self.threads(), &|_, index| step(index));
    }

    /// Runs `step(scratch, item)` once for every item, and returns when all are done.
    ///
    /// # Panics
    /// With the payload of the first item that panics, after all items have ended.
    pub fn items(&mut self, items: usize, step: &(dyn Fn(&mut S, usize) + Sync)) {
        if self.members.is_empty() || items <= 1 {
            let Some(scratch) = self.scratch().next() else { return };
            return (0..items).for_each(|item| step(scratch, item));
        }
        assert!(items <= MAX_ITEMS, "{items} items");
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased. The pointer is used only for items of this call, and
        // nothing between here and the wait for the last item can panic.
        let step: *const StepFn<S> = unsafe {
            std::mem::transmute::<&(dyn Fn(&mut S, usize) + Sync), &'static StepFn<S>>(step)
        };
        self.epoch = (self.epoch + 1) & MAX_EPOCH;
        shared.step.0.step.store((&raw const step).cast_mut(), Ordering::Relaxed);
        shared.step.0.items.store(items, Ordering::Relaxed);
        shared.done.0.store(0, Ordering::Relaxed);
        for (thread, ticket) in shared.tickets.iter().enumerate() {
            let left = share(items, thread, shared.tickets.len()).len() as u64;
            ticket.0.store(self.epoch << ITEM_BITS | left, Ordering::Release);
        }
        // Ordered with `sleeping`: a member that is not counted there yet sees the new epoch.
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

    /// Starts or stops measuring the time that the caller's thread waits for others.
    pub(crate) fn measure_waiting(&mut self, on: bool) {
        self.waited = on.then_some(Duration::ZERO);
    }

    /// The time that the caller's thread has waited since the last call, if it is measured.
    pub(crate) fn take_waiting(&mut self) -> Duration {
        self.waited.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Fills matrices `[rows][width]` by ranges of columns: `fill(scratch, index of the matrix,
    /// columns, strip)`. All columns are cut into pieces, if possible in multiples of `align`, and
    /// a piece covers its columns in every row.
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
            // A matrix without rows has nothing to fill, whatever its width.
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
                    // Units begin within the matrix. The last one may end beyond it.
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
    /// with the widths `wa`, `wb` and `wc`. A free thread takes the next row.
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
                // SAFETY: the counter gives every row to one thread only, rows do not overlap, the
                // assertion above keeps them inside the matrices, and the matrices are borrowed
                // exclusively until `items` returns.
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

    /// Runs `fill(scratch, i, row i)` for every row of one matrix. A free thread takes the next
    /// row.
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
            // Members catch the panics of steps and do not panic otherwise.
            let _ = member.join();
        }
    }
}

/// The size of the pieces that work is cut into.
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    /// Minimum columns of a piece.
    pub least: usize,
    /// Target columns of a piece. There are more pieces if that lets every thread have the same
    /// number.
    pub size: usize,
}

impl Pieces {
    /// The number of pieces for this many columns.
    fn count(self, columns: usize, threads: usize) -> usize {
        let most = (columns / self.least.max(1)).max(1);
        let count = (columns / self.size.max(1)).max(1).checked_next_multiple_of(threads);
        count.unwrap_or(usize::MAX).min(most)
    }
}

impl<S> Shared<S> {
    /// Spins or yields once, depending on how often the thread has `waited`.
    fn relax(&self, waited: &mut u32) {
        *waited = waited.saturating_add(1);
        if *waited < self.spins { std::hint::spin_loop() } else { std::thread::yield_now() }
    }

    /// The loop of a member, which ends when the team is dropped.
    fn run_member(&self, member: usize) {
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

    /// Runs items until all of the epoch are begun, first those of the thread's own share.
    fn work(&self, epoch: u64, thread: usize) {
        let threads = self.tickets.len();
        let mut done = 0;
        for owner in (thread..threads).chain(0..thread) {
            while let Some((step, item)) = self.begin(epoch, owner) {
                // SAFETY: while a step runs only this thread uses its scratch, for one item after
                // another.
                let scratch = unsafe { &mut *self.scratch[thread].0.0.get() };
                // SAFETY: this item was begun and is not yet counted as done, so the leader is
                // still in `items`, where both the pointer and the step live.
                let run = || unsafe { (**step)(scratch, item) };
                if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
                    let mut panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                    match &*panic {
                        None => *panic = Some(payload),
                        // The drop of a payload can panic again, and nothing here would catch that.
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

    /// Begins the next item of `owner`'s share, or returns `None` if the epoch has no item left
    /// there.
    fn begin(&self, epoch: u64, owner: usize) -> Option<(*const *const StepFn<S>, usize)> {
        let ticket = &self.tickets[owner].0;
        let mut value = ticket.load(Ordering::Acquire);
        loop {
            let left = (value & ((1 << ITEM_BITS) - 1)) as usize;
            if value >> ITEM_BITS != epoch || left == 0 {
                return None;
            }
            // These may belong to a later step. In that case the ticket has changed, since the
            // leader publishes no step before all items of the last one are done, and no item is
            // begun here.
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

/// The units of `member` out of `members`: from `units * member / members` on.
fn share(units: usize, member: usize, members: usize) -> Range<usize> {
    // `units * member` could overflow. `rest * member` is far below 2^64.
    let (each, rest) = (units / members, units % members);
    let start = |member| each * member + rest * member / members;
    start(member)..start(member + 1)
}

/// A pointer that may be sent to other threads. Its users must keep accesses disjoint.
struct SendPtr<T>(*mut T);

impl<T> SendPtr<T> {
    /// A method makes closures capture the wrapper instead of its field.
    fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: the pointer is only used to make disjoint exclusive slices of `T: Send`.
unsafe impl<T: Send> Sync for SendPtr<T> {}

/// The columns of a matrix that a thread fills.
pub struct Strip<'a, T> {
    base: *mut T,
    width: usize,
    rows: usize,
    columns: Range<usize>,
    matrix: PhantomData<&'a mut [T]>,
}

impl<T> Strip<'_, T> {
    /// The strip's part of `row`. Index 0 is the first column of the strip.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: `columns` lies within `width` and `row` within the matrix, pieces and therefore
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
mod tests;
