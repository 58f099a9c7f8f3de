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
            team.columns([(&mut a, 50), (&mut b, 7)], align, pieces, |_, index, range, strip| {
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

/// The message of a panic.
fn message(work: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(work)).unwrap_err();
    match payload.downcast_ref::<&str>() {
        Some(text) => (*text).to_owned(),
        None => payload.downcast_ref::<String>().unwrap().clone(),
    }
}

#[test]
fn matrices_of_more_cells_than_there_are_numbers_are_refused() {
    // Each matrix has as many cells as remain after a product overflows: none.
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
        // A width without rows has no cells.
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
    // The first of two payloads is passed on, and neither is dropped.
    let work = || team.items(2, &|(), _| std::panic::panic_any(Panicking));
    let payload = catch_unwind(AssertUnwindSafe(work)).unwrap_err();
    assert!(payload.is::<Panicking>());
    std::mem::forget(payload);
    team.run(&|_| {});
}

#[test]
fn every_item_runs_once_and_every_scratch_is_exclusive() {
    for threads in 1..8 {
        // Every item changes the first number and changes it back. The second one counts them.
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
    // The first item returns only after all others have run, so other threads must run them.
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
