use trilobite_kernels::i2_s::{Rows, pack, packed_len, unpack};

const LAYOUTS: [Rows; 2] = [Rows::Flat, Rows::Padded];

fn packed(trits: &[i8], cols: usize, layout: Rows) -> Option<Vec<u8>> {
    let mut packed = vec![0xAA; packed_len(trits.len() / cols, cols, layout)?];
    pack(trits, cols, layout, &mut packed);
    Some(packed)
}

#[test]
fn packing_places_an_element_as_bitnet_cpp_does() {
    for element in 0..256 {
        let mut trits = [0; 256];
        trits[element] = 1;
        let packed = packed(&trits, 64, Rows::Flat).unwrap();
        let (block, j) = (element / 128, element % 128);
        let mut expected = [0b01_01_01_01; 64];
        expected[32 * block + j % 32] ^= 0b11 << (6 - 2 * (j / 32));
        assert_eq!(packed, expected, "element {element}");
    }
}

#[test]
fn padded_rows_are_filled_with_zero_trits() {
    let packed = packed(&[1; 2 * 100], 100, Rows::Padded).unwrap();
    let mut trits = [0; 256];
    unpack(&packed, 128, Rows::Padded, &mut trits);
    for row in trits.chunks(128) {
        assert_eq!((&row[..100], &row[100..]), (&[1; 100][..], &[0; 28][..]));
    }
}

#[test]
fn packed_length_exists_only_for_shapes_that_can_be_stored() {
    assert_eq!(packed_len(3, 100, Rows::Flat), None);
    assert_eq!(packed_len(32, 100, Rows::Flat), Some(800));
    assert_eq!(packed_len(3, 100, Rows::Padded), Some(96));
    assert_eq!(packed_len(0, 100, Rows::Flat), Some(0));
    for layout in LAYOUTS {
        assert_eq!(packed_len(usize::MAX, 128, layout), None);
        assert_eq!(packed_len(2, usize::MAX, layout), None);
    }
}

#[test]
#[should_panic = "a weight is not -1, 0 or 1"]
fn packing_refuses_a_weight_that_is_not_ternary() {
    packed(&[2], 1, Rows::Padded);
}
