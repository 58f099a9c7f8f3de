//! A team of threads for fork-join steps of a few microseconds.
//!
//! A decoded token has some two hundred steps; a general work-stealing pool spends longer on waking
//! its threads than a step takes. Here the leader publishes a step, every member runs it once, and
//! members spin (then yield, then sleep) between steps. How the work is divided never changes what
//! is computed: steps write disjoint outputs and every output is computed by one member alone.

use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Spins before a waiting thread starts to give its core away.
const SPINS: u32 = 4_000;
/// Yields before a waiting member goes to sleep.
const YIELDS: u32 = 2_000;

/// What a member runs, given its index.
type Step = dyn Fn(usize) + Sync;

struct Shared {
    /// Number of steps published so far; a member runs a step when this grows.
    epoch: AtomicU64,
    /// The step of the current epoch, valid until `pending` is zero again.
    step: Mutex<Option<StepPtr>>,
    /// Members that have not finished the current step.
    pending: AtomicUsize,
    /// A member panicked in the current step.
    panicked: AtomicBool,
    stop: AtomicBool,
}

#[derive(Clone, Copy)]
struct StepPtr(*const Step);

// SAFETY: the pointee is `Sync`, and `Team::run` does not return before every member is done with it.
unsafe impl Send for StepPtr {}

/// A fixed number of threads, the caller's own among them.
pub struct Team {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
}

impl Team {
    /// A team of `threads` threads (at least one: the caller).
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(0),
            step: Mutex::new(None),
            pending: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let members = (1..threads.max(1))
            .map(|member| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || work(&shared, member))
            })
            .collect();
        Self { shared, members }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.members.len() + 1
    }

    /// Runs `step(member)` once on every member and returns when all are done.
    pub fn run(&mut self, step: &(dyn Fn(usize) + Sync)) {
        if self.members.is_empty() {
            return step(0);
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased. The pointer is used by members within this call
        // alone: `Join::drop` below waits for all of them, also when `step(0)` panics.
        let step_ptr: *const Step =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Step>(step) };
        *shared.step.lock().unwrap_or_else(PoisonError::into_inner) = Some(StepPtr(step_ptr));
        shared.pending.store(self.members.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::Release);
        for member in &self.members {
            member.thread().unpark();
        }
        let join = Join(shared);
        step(0);
        drop(join);
        if shared.panicked.swap(false, Ordering::Relaxed) {
            resume_unwind(Box::new("a thread of the team panicked"));
        }
    }

    /// Fills some matrices `[rows][width]` by column ranges: every member gets an equal share of all
    /// columns, in multiples of `align` columns where that is possible, and writes them in every
    /// row: `fill(member, index of the matrix, columns, strip)`.
    pub fn columns<T: Send, const N: usize>(
        &mut self,
        matrices: [(&mut [T], usize); N],
        align: usize,
        fill: impl Fn(usize, usize, Range<usize>, &mut Strip<'_, T>) + Sync,
    ) {
        let members = self.threads();
        let matrices = matrices.map(|(cells, width)| {
            assert!(width > 0 && cells.len().is_multiple_of(width), "a matrix has whole rows");
            let rows = cells.len() / width;
            (SendPtr(cells.as_mut_ptr()), rows, width)
        });
        let units = matrices.iter().map(|(_, _, width)| width.div_ceil(align)).sum();
        let matrices = &matrices;
        self.run(&|member| {
            let share = share(units, member, members);
            let mut first = 0;
            for (index, &(ref base, rows, width)) in matrices.iter().enumerate() {
                let units = width.div_ceil(align);
                let start = share.start.clamp(first, first + units) - first;
                let end = share.end.clamp(first, first + units) - first;
                let columns = start * align..width.min(end * align);
                if start < end {
                    let range = columns.clone();
                    let base = base.get();
                    let mut strip = Strip { base, width, rows, columns, matrix: PhantomData };
                    fill(member, index, range, &mut strip);
                }
                first += units;
            }
        });
    }

    /// Runs `fill(member, i, row i of a, row i of b, row i of c)` for every row of three matrices
    /// with the widths `wa`, `wb` and `wc`; members take the next row when they are free.
    pub fn rows3<A: Send, B: Send, C: Send>(
        &mut self,
        (a, wa): (&mut [A], usize),
        (b, wb): (&mut [B], usize),
        (c, wc): (&mut [C], usize),
        fill: impl Fn(usize, usize, &mut [A], &mut [B], &mut [C]) + Sync,
    ) {
        let rows = a.len() / wa.max(1);
        assert!(
            a.len() == rows * wa && b.len() == rows * wb && c.len() == rows * wc,
            "the matrices have the same number of whole rows"
        );
        if rows == 1 {
            return fill(0, 0, a, b, c);
        }
        let (a, b, c) = (SendPtr(a.as_mut_ptr()), SendPtr(b.as_mut_ptr()), SendPtr(c.as_mut_ptr()));
        let next = AtomicUsize::new(0);
        self.run(&|member| {
            loop {
                let row = next.fetch_add(1, Ordering::Relaxed);
                if row >= rows {
                    break;
                }
                // SAFETY: the counter gives every row to one member only, rows do not overlap,
                // the assertion above keeps them inside the matrices, and the matrices are
                // borrowed exclusively until `run` returns.
                let (a, b, c) = unsafe {
                    (
                        std::slice::from_raw_parts_mut(a.get().add(row * wa), wa),
                        std::slice::from_raw_parts_mut(b.get().add(row * wb), wb),
                        std::slice::from_raw_parts_mut(c.get().add(row * wc), wc),
                    )
                };
                fill(member, row, a, b, c);
            }
        });
    }

    /// [`Team::rows3`] for one matrix.
    pub fn rows<T: Send>(
        &mut self,
        out: &mut [T],
        width: usize,
        fill: impl Fn(usize, usize, &mut [T]) + Sync,
    ) {
        let none: (&mut [()], usize) = (&mut [], 0);
        let none2: (&mut [()], usize) = (&mut [], 0);
        self.rows3((out, width), none, none2, |member, row, out, _, _| fill(member, row, out));
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        for member in self.members.drain(..) {
            member.thread().unpark();
            // A member that panicked has reported it already.
            let _ = member.join();
        }
    }
}

/// Waits for the members when it goes out of scope, however that happens.
struct Join<'a>(&'a Shared);

impl Drop for Join<'_> {
    fn drop(&mut self) {
        let mut waited = 0;
        while self.0.pending.load(Ordering::Acquire) != 0 {
            relax(&mut waited);
        }
    }
}

/// One more wait of a spin-then-yield loop.
fn relax(waited: &mut u32) {
    *waited = waited.saturating_add(1);
    if *waited < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
}

fn work(shared: &Shared, member: usize) {
    let mut seen = 0;
    loop {
        let mut waited = 0;
        while shared.epoch.load(Ordering::Acquire) == seen {
            relax(&mut waited);
            if waited > SPINS + YIELDS {
                // `unpark` after the epoch has changed makes this return at once.
                std::thread::park();
            }
        }
        seen += 1;
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let step = *shared.step.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(step) = step {
            // SAFETY: the leader published this pointer before it raised the epoch and keeps the
            // closure alive until `pending` is zero, which needs the decrement below.
            let run = || unsafe { (*step.0)(member) };
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
        }
        shared.pending.fetch_sub(1, Ordering::Release);
    }
}

/// The part of `units` that `member` of `members` takes.
fn share(units: usize, member: usize, members: usize) -> Range<usize> {
    units * member / members..units * (member + 1) / members
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
        // SAFETY: `columns` lies within `width`, `row` within the matrix, the shares of different
        // members and so their strips are disjoint, and `&mut self` allows one slice of a strip at a time.
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
    }

    #[test]
    fn every_cell_is_written_once() {
        for threads in [1, 2, 7] {
            let mut team = Team::new(threads);
            for align in [1, 8, 64].repeat(70) {
                let (mut a, mut b) = (vec![0u32; 3 * 50], vec![0u32; 7]);
                team.columns([(&mut a, 50), (&mut b, 7)], align, |_, index, range, strip| {
                    let (rows, width) = [(3, 50), (1, 7)][index];
                    for row in 0..rows {
                        for (cell, column) in strip.row(row).iter_mut().zip(range.clone()) {
                            *cell += (row * width + column) as u32 + 1;
                        }
                    }
                });
                assert!(a.iter().enumerate().all(|(i, &v)| v == i as u32 + 1));
                assert!(b.iter().enumerate().all(|(i, &v)| v == i as u32 + 1));
                let mut out = vec![0u32; 40];
                team.rows(&mut out, 2, |_, row, cells| cells.fill(row as u32));
                assert!(out.iter().enumerate().all(|(i, &v)| v == i as u32 / 2));
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_leader_and_the_team_survives() {
        let mut team = Team::new(3);
        for panicking in 0..3 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                team.run(&|member| assert_ne!(member, panicking));
            }));
            assert!(result.is_err());
        }
        let done = AtomicUsize::new(0);
        team.run(&|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 3);
    }
}
