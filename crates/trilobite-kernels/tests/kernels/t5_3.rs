use trilobite_kernels::t5_3::{TILE, pack, packed_len, unpack};

fn packed(trits: &[i8], cols: usize) -> Vec<u8> {
    let mut packed = vec![0xAA; packed_len(trits.len() / cols, cols).unwrap()];
    pack(trits, cols, &mut packed);
    packed
}

/// The byte of every plane for the first row of a single tile.
fn first_lane(trits: &[i8]) -> Vec<u8> {
    packed(trits, trits.len()).as_chunks::<TILE>().0.iter().map(|plane| plane[0]).collect()
}

#[test]
fn a_triple_is_an_index_and_a_sign() {
    for (trits, index, sign) in [
        ([0, 0, 0], 1, 0),
        ([1, 0, 0], 2, 0),
        ([-1, 0, 0], 2, 1),
        ([-1, 1, 0], 3, 0),
        ([0, 0, 1], 10, 0),
        ([1, 1, 1], 14, 0),
        ([-1, -1, -1], 14, 1),
        ([1, 1, -1], 6, 1),
    ] {
        // The signs of absent triples are 0.
        assert_eq!(first_lane(&trits), [index | sign << 7], "{trits:?}");
    }
}

#[test]
fn packing_places_the_triples_of_a_block() {
    let zero = [0x01, 0x11, 0x11, 0x01, 0x11];
    assert_eq!(first_lane(&[0; 24]), zero);
    let places = [(0, 0, 0, 7), (1, 0, 0, 6), (1, 4, 0, 5), (2, 0, 0, 4)];
    let places = places.into_iter().chain([(2, 4, 3, 7), (3, 0, 3, 6), (4, 0, 3, 5), (4, 4, 3, 4)]);
    for (triple, (plane, shift, sign_plane, bit)) in places.enumerate() {
        let mut trits = [0; 24];
        trits[3 * triple] = -1;
        let mut expected = zero;
        expected[plane] ^= 3 << shift;
        expected[sign_plane] |= 1 << bit;
        assert_eq!(first_lane(&trits), expected, "triple {triple}");
    }
}

/// The example in the README of trilobite-format.
#[test]
fn the_example_of_the_specification() {
    let mut expected = [[0x01; TILE], [0x11; TILE]];
    (expected[0][0], expected[0][1], expected[1][0]) = (0x89, 0x0c, 0x14);
    assert_eq!(packed(&[1, 0, -1, 0, 1, -1, 1, 1, 0, 0], 5), expected.as_flattened());
}

#[test]
fn a_last_block_takes_the_planes_that_it_uses() {
    for (triples, planes) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (8, 5)] {
        assert_eq!(packed_len(1, 3 * triples), Some(TILE * planes));
        assert_eq!(packed_len(33, 48 + 3 * triples - 2), Some(2 * TILE * (10 + planes)));
    }
    assert_eq!(packed_len(0, 100), Some(0));
    assert_eq!(packed_len(100, 0), Some(0));
    assert_eq!(packed_len(usize::MAX, 1), None);
    assert_eq!(packed_len(usize::MAX / 64, 2560), None);
    assert_eq!(packed_len(1, usize::MAX), None);
}

#[test]
#[should_panic = "a weight is not -1, 0 or 1"]
fn packing_refuses_a_weight_that_is_not_ternary() {
    packed(&[2], 1);
}

#[test]
fn bytes_that_packing_never_writes_are_unpacked_as_such() {
    for byte in 0..=u8::MAX {
        let packed = vec![byte; packed_len(33, 100).unwrap()];
        let mut trits = [0; 3300];
        unpack(&packed, 100, &mut trits);
        let used = |nibble| (1..=14).contains(&nibble);
        assert_eq!(trits.contains(&2), !(used(byte & 15) && used(byte >> 4)), "{byte:#04x}");
        assert!(!trits.contains(&-2));
    }
}
