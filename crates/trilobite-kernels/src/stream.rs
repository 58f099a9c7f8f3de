//! Reading memory as fast as it can be read.

/// Number of independent sums: memory and not addition limits the speed.
const SUMS: usize = 32;

/// Reads all bytes and returns a checksum, so that the time measures the bandwidth of the memory.
/// Bytes after the last whole 256 are left out.
pub fn read_all(bytes: &[u8]) -> u64 {
    let words: &[[u8; 8]] = bytes.as_chunks().0;
    let mut sums = [0u64; SUMS];
    for chunk in words.as_chunks::<SUMS>().0 {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
