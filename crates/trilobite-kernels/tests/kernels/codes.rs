use trilobite_kernels::Codes;

#[test]
fn codes_keep_their_zeros_when_the_shape_changes() {
    let mut codes = Codes::new(3, 300);
    for (tokens, cols) in [(3, 300), (2, 7), (3, 129), (1, 300), (4, 300)] {
        codes.reset(tokens, cols);
        codes.rows_mut().for_each(|row| row.codes.fill(-1));
        let parts = codes.parts_mut();
        assert_eq!((parts.rows.len(), parts.codes.len()), (tokens * parts.stride, cols));
        for row in parts.rows.chunks(parts.stride) {
            let (before, after) = (&row[..parts.codes.start], &row[parts.codes.end..]);
            assert!(before.len() >= 128 && after.len() >= 128);
            assert!(before.iter().chain(after).all(|x| *x == 0));
            assert!(row[parts.codes.clone()].iter().all(|x| *x == -1));
        }
    }
}
