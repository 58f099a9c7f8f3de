use trilobite_kernels::read_all;

#[test]
fn every_word_of_whole_chunks_counts() {
    let bytes: Vec<u8> = (0..3 * 256 + 5).map(|i| (i * 37 % 251) as u8).collect();
    let words = bytes[..3 * 256].as_chunks::<8>().0;
    let sum = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    assert_eq!(read_all(&bytes), sum);
}
