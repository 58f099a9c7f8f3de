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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_whole_chunks_counts() {
        let bytes: Vec<u8> = (0..3 * 8 * SUMS + 5).map(|i| (i * 37 % 251) as u8).collect();
        let words = bytes[..3 * 8 * SUMS].as_chunks::<8>().0;
        let sum = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
        assert_eq!(read_all(&bytes), sum);
    }
}
