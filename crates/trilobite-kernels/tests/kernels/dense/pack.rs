use super::ggml;
use trilobite_kernels::{DenseMatrix, DenseType, Kernels, pack_tq2_0};

#[test]
fn rows_are_packed_as_ggml_packs_them() {
    let mut types = Vec::new();
    for (ty, bytes, weights) in ggml("pack") {
        let mut packed = vec![0xaa; bytes.len()];
        ty.pack_row(&weights, &mut packed).unwrap();
        assert_eq!(packed, bytes, "{ty:?}");
        types.push(ty);
    }
    let packed = DenseType::ALL[1..].iter().filter(|ty| ty.packs());
    assert!(packed.clone().all(|ty| types.contains(ty)) && packed.count() == types.len());
}

#[test]
fn what_a_type_cannot_hold_is_not_packed() {
    for ty in DenseType::ALL.into_iter().filter(|ty| ty.packs()) {
        let mut out = vec![0; ty.row_len(64).unwrap()];
        let mut packed = |x: f32| {
            let mut row = [0.5; 64];
            row[40] = x;
            ty.pack_row(&row, &mut out)
        };
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(packed(x).unwrap_err().to_bits(), x.to_bits(), "{ty:?}");
        }
        let wide = matches!(ty, DenseType::F32 | DenseType::BF16);
        assert_eq!(packed(-1e8), if wide { Ok(()) } else { Err(-1e8) }, "{ty:?}");
        assert_eq!(packed(6e4), Ok(()), "{ty:?}");
    }
}

#[test]
fn a_row_of_tq2_0_is_packed_exactly_or_not_at_all() {
    let unpacked = |bytes: &[u8]| {
        let matrix = DenseMatrix::new(DenseType::TQ2_0, bytes, 1, 512).unwrap();
        let mut row = vec![0.0; 512];
        Kernels::best().dense_row(&matrix, 0, &mut row);
        row
    };
    let trit = |i: usize| ((i * i + i / 7) % 3) as f32 - 1.0;
    let mut row: Vec<f32> = (0..512).map(|i| trit(i) * if i < 256 { 0.75 } else { 2e-7 }).collect();
    row[300] = -0.0;
    // 2e-7 is no f16, but its neighbour is.
    let mut packed = vec![0xff; 2 * 66];
    assert!(matches!(pack_tq2_0(&row, &mut packed), Err(at) if at >= 256));
    let tiny = half::f16::from_f32(2e-7).to_f32();
    row[256..].iter_mut().for_each(|x| *x = if *x == 0.0 { *x } else { tiny.copysign(*x) });
    pack_tq2_0(&row, &mut packed).unwrap();
    assert_eq!(unpacked(&packed), row);
    assert_eq!(DenseType::TQ2_0.find_invalid(&packed, 512), None);

    row[256..].fill(0.0);
    pack_tq2_0(&row, &mut packed).unwrap();
    assert_eq!(unpacked(&packed), row);
    assert_eq!(packed[66 + 64..], [0, 0]);
    for other in [0.5, -0.750_000_1, f32::NAN, f32::INFINITY] {
        row[97] = other;
        assert_eq!(pack_tq2_0(&row, &mut packed), Err(97), "{other}");
    }
    row.fill(f32::INFINITY);
    assert_eq!(pack_tq2_0(&row, &mut packed), Err(0));
}
