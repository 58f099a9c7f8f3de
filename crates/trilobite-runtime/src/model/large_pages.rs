//! A copy of weights in large pages.
//!
//! A decoded token reads nearly all weights once. In pages of 4 KB, as files are cached as a rule, the
//! processor looks up an address every 4 KB and foresees nothing beyond; in pages of 2 MB the same
//! reads are faster by up to a fifth. Linux gives such pages to anonymous memory that asks for them.

use std::fs::{File, read_to_string};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use memmap2::{Advice, Mmap, MmapMut};

/// Weights that are fewer bytes stay in the caches, or nearly so.
const LEAST: usize = 64 << 20;
/// Of the memory that can be had without swapping, the share that a copy may take.
const SHARE: usize = 4;
/// Places begin at a multiple of this, a cache line.
const ALIGN: usize = 64;
/// Bytes that a thread copies at a time.
const PIECE: usize = 4 << 20;

/// Whether a copy of places is worth its memory.
fn pays(places: &[(&File, Range<usize>)]) -> bool {
    let bytes = places.iter().map(|(_, place)| place.len()).sum();
    let offered = || {
        read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
            .is_ok_and(|modes| !modes.contains("[never]"))
    };
    LEAST <= bytes && available().is_some_and(|most| bytes <= most / SHARE) && offered()
}

/// Copies places of files one behind the other; returns the copy and where it has each of them.
/// `None` if it is not worth its memory, or fails.
pub(super) fn copy(
    places: &[(&File, Range<usize>)],
    threads: usize,
) -> Option<(Mmap, Vec<Range<usize>>)> {
    if pays(places) { copy_all(places, threads) } else { None }
}

fn copy_all(places: &[(&File, Range<usize>)], threads: usize) -> Option<(Mmap, Vec<Range<usize>>)> {
    let mut end = 0usize;
    let mut ranges = Vec::with_capacity(places.len());
    for (_, place) in places {
        let start = end.checked_next_multiple_of(ALIGN)?;
        end = start.checked_add(place.len())?;
        ranges.push(start..end);
    }
    let mut memory = MmapMut::map_anon(end).ok()?;
    memory.advise(Advice::HugePage).ok()?;

    let mut pieces = Vec::new();
    let (mut rest, mut at) = (&mut memory[..], 0);
    for ((file, place), range) in places.iter().zip(&ranges) {
        let (before, after) = rest.split_at_mut(range.end - at);
        let out = &mut before[range.start - at..];
        for (i, out) in out.chunks_mut(PIECE).enumerate() {
            pieces.push((*file, place.start + i * PIECE, out));
        }
        (rest, at) = (after, range.end);
    }
    let pieces = Mutex::new(pieces.into_iter());
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> std::io::Result<()> {
        while let Some((file, from, out)) = next() {
            file.read_exact_at(out, from as u64)?;
        }
        Ok(())
    };
    let read = std::thread::scope(|scope| {
        // A thread that does not start leaves its pieces to the others.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..threads).filter_map(start).collect();
        let mine = work().is_ok();
        others.into_iter().all(|other| matches!(other.join(), Ok(Ok(())))) && mine
    });
    if !read {
        return None;
    }
    Some((memory.make_read_only().ok()?, ranges))
}

/// Bytes that can be had without swapping.
fn available() -> Option<usize> {
    let info = read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_copy_has_what_the_files_have() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..2 * PIECE + 1000).map(|i| ((i * i) >> 3) as u8).collect();
        file.write_all(&bytes).unwrap();
        let places = [5..7, 100..2 * PIECE + 900, 40..40, 0..1000];
        let of_file = places.clone().map(|place| (&file, place));
        for threads in [1, 3] {
            let (copy, ranges) = copy_all(&of_file, threads).unwrap();
            assert_eq!(ranges.len(), places.len());
            for (range, place) in ranges.iter().zip(&places) {
                assert_eq!(range.start % ALIGN, 0);
                assert!(copy[range.clone()] == bytes[place.clone()], "{place:?}");
            }
        }
    }

    #[test]
    fn a_file_that_ends_too_early_is_not_copied() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 100]).unwrap();
        assert!(copy_all(&[(&file, 0..101)], 2).is_none());
    }

    #[test]
    fn small_weights_stay_where_they_are() {
        let file = tempfile::tempfile().unwrap();
        assert!(!pays(&[(&file, 0..LEAST - 1)]));
    }
}
