//! A copy of the weights in large pages.
//!
//! A decoded token reads nearly all weights once. A file is usually cached in pages of 4 KB, so the
//! processor translates an address every 4 KB and its prefetcher stops at the end of each page.
//! With pages of 2 MB the same reads are up to a fifth faster. Linux gives large pages to anonymous
//! memory on request.

use std::fs::{File, read_to_string};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use memmap2::{Advice, Mmap, MmapMut};

/// Minimum size in bytes of the weights to copy. Smaller ones mostly stay in the caches.
const MIN_BYTES: usize = 64 << 20;
/// The copy may take one part in this many of the memory available without swapping.
const MEMORY_DIVISOR: usize = 4;
/// Alignment of the copied places: a cache line.
const ALIGN: usize = 64;
/// Bytes that a thread copies at a time.
const PIECE_BYTES: usize = 4 << 20;

/// Whether a copy of these places is worth its memory.
fn pays(places: &[(&File, Range<usize>)]) -> bool {
    let bytes = places.iter().map(|(_, place)| place.len()).sum();
    let offered = || {
        read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
            .is_ok_and(|modes| !modes.contains("[never]"))
    };
    MIN_BYTES <= bytes
        && available().is_some_and(|most| bytes <= most / MEMORY_DIVISOR)
        && offered()
}

/// Copies places of files into one block of memory. Returns the block and the range of each place
/// in it, or `None` if the copy is not worth its memory or fails.
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
        for (i, out) in out.chunks_mut(PIECE_BYTES).enumerate() {
            pieces.push((*file, place.start + i * PIECE_BYTES, out));
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
        // If a thread does not start, the others copy its pieces.
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

/// Memory available without swapping, in bytes.
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
        let bytes: Vec<u8> = (0..2 * PIECE_BYTES + 1000).map(|i| ((i * i) >> 3) as u8).collect();
        file.write_all(&bytes).unwrap();
        let places = [5..7, 100..2 * PIECE_BYTES + 900, 40..40, 0..1000];
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
        assert!(!pays(&[(&file, 0..MIN_BYTES - 1)]));
    }
}
