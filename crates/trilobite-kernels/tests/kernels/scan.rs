use crate::random::Random;
use trilobite_kernels::scan::{
    Anchors, BLOCK, Bounds, Precision, Query, REFINEMENTS, RowBounds, SCANNED, bounds, code_bytes,
    pack, pack_refinement, refinement_bytes,
};
use trilobite_kernels::{DenseMatrix, DenseType, Kernels, Workspace};

/// Number of columns whose bits have the same place in their bytes.
const PART: usize = 32;
/// Size in bytes of the first bits of a block.
const CODES: usize = 96;
/// Size in bytes of the single bits of a block.
const BITS: usize = 32;
/// The limit of the product of two norms above which a product could overflow in f32.
const HUGE: f64 = (1u128 << 126) as f64;
/// Whole groups of queries that share codes, and every number of queries left over.
const QUERIES: usize = 9;

/// The product of a row and a vector, computed by `dense_gemm`.
fn product(kernels: &Kernels, row: &[f32], x: &[f32]) -> f32 {
    let bytes: Vec<u8> = row.iter().flat_map(|w| w.to_le_bytes()).collect();
    let mut out = [0.0];
    let matrix = DenseMatrix::new(DenseType::F32, &bytes, 1, row.len()).unwrap();
    kernels.dense_gemm(&matrix, 0..1, x, &mut Workspace::default(), &mut out);
    out[0]
}

/// The first bits of a column in a block, in the layout as documented.
fn first_bits(block: &[u8], column: usize) -> u8 {
    let (part, i) = (column / PART, column % PART);
    let bytes = [block[i], block[PART + i], block[2 * PART + i]];
    match part {
        0 => bytes[0] >> 1 & 7,
        1 => bytes[1] >> 1 & 7,
        4 => bytes[2] >> 1 & 7,
        2 => bytes[0] >> 5,
        3 => bytes[1] >> 5,
        6 => bytes[2] >> 5,
        5 => (bytes[0] & 1) + 2 * (bytes[1] & 1) + 4 * (bytes[2] & 1),
        _ => (bytes[0] >> 4 & 1) + 2 * (bytes[1] >> 4 & 1) + 4 * (bytes[2] >> 4 & 1),
    }
}

/// The code of a column with some refinements, of rows whose planes these are.
fn code_of(codes: &[u8], planes: &[Vec<u8>], row: usize, cols: usize, column: usize) -> i32 {
    let (block, part, i) = (column / BLOCK, column % BLOCK / PART, column % PART);
    let block = row * cols.div_ceil(BLOCK) + block;
    let mut code = i32::from(first_bits(&codes[block * CODES..][..CODES], column % BLOCK));
    for bits in planes {
        code = 2 * code + i32::from(bits[block * BITS + i] >> part & 1);
    }
    code
}

/// A packed row.
struct Row {
    codes: Vec<u8>,
    refinements: [Vec<u8>; REFINEMENTS],
    bounds: Bounds,
    cols: usize,
}

impl Row {
    /// The code of a weight with some refinements.
    fn code(&self, column: usize, refinements: usize) -> i32 {
        code_of(&self.codes, &self.refinements[..refinements], 0, self.cols, column)
    }
}

/// The bounds of rows as they are stored.
fn stored(bounds: &[Bounds]) -> Vec<u8> {
    let number = |number: usize| bounds.iter().map(move |bounds| bounds.to_array()[number]);
    (0..Bounds::COUNT).flat_map(number).flat_map(f32::to_le_bytes).collect()
}

fn packed(row: &[f32]) -> Row {
    packed_scaled(row, &vec![1.0; row.len()])
}

fn packed_scaled(row: &[f32], factors: &[f32]) -> Row {
    let mut codes = vec![1; code_bytes(row.len())];
    let mut refinements: [_; REFINEMENTS] =
        std::array::from_fn(|_| vec![1; refinement_bytes(row.len())]);
    let bounds = bounds(row, factors);
    pack(row, factors, bounds.scale, &mut codes);
    for (index, bits) in refinements.iter_mut().enumerate() {
        pack_refinement(row, factors, bounds.scale, index, bits);
    }
    Row { codes, refinements, bounds, cols: row.len() }
}

/// Enclosures for increasing numbers of bits.
type Ends = [(f32, f32); 1 + REFINEMENTS];

/// The enclosures of a product with the high halves of the vector's codes, and with all of them.
/// `None` if the vector has no bounds.
fn enclosures(kernels: &Kernels, row: &[f32], x: &[f32], factors: &[f32]) -> Option<[Ends; 2]> {
    enclosures_with(kernels, row, x, factors, &Anchors::none(1))
}

fn enclosures_with(
    kernels: &Kernels,
    row: &[f32],
    x: &[f32],
    factors: &[f32],
    anchors: &Anchors,
) -> Option<[Ends; 2]> {
    let mut query = Query::default();
    let row = packed_scaled(row, factors);
    if !query.set(x, factors, anchors) {
        return None;
    }
    let bounds = stored(&[row.bounds]);
    let (mut sum, mut known) = ([0], [7.0]);
    kernels.known(&query, anchors, 0, &mut known);
    let one = std::slice::from_ref(&query);
    let ends = [Precision::High, Precision::Full].map(|precision| {
        kernels.scan(&row.codes, &[], one, precision, &mut sum);
        std::array::from_fn(|level| {
            if let Some(last) = level.checked_sub(1) {
                let plane = &row.refinements[last];
                kernels.refine_scan(plane, last, &[0], &query, precision, &mut sum);
            }
            query.enclose(precision, level, (sum[0], known[0]), RowBounds::new(&bounds), 0)
        })
    });
    let infinite = |(low, high)| (low, high) == (f32::NEG_INFINITY, f32::INFINITY);
    (!ends.as_flattened().iter().copied().any(infinite)).then_some(ends)
}

/// The tightest enclosure of a product.
fn enclosed(kernels: &Kernels, row: &[f32], x: &[f32]) -> Option<(f32, f32)> {
    enclosures(kernels, row, x, &vec![1.0; row.len()]).map(|ends| ends[1][REFINEMENTS])
}

/// The query of these numbers. Its codes are the numbers, because one of them has the largest magnitude
/// of a code.
fn query(codes: &[i16]) -> Query {
    let mut query = Query::default();
    let x: Vec<f32> = codes.iter().map(|code| f32::from(*code)).collect();
    assert!(query.set(&x, &vec![1.0; x.len()], &Anchors::none(0)));
    query
}

#[test]
fn packed_codes_are_the_nearest() {
    let mut random = Random(5);
    for cols in [1, 31, 256, 300, 1000] {
        let mut row = random.floats(cols);
        row[cols / 2] *= 30.0;
        let packed = packed(&row);
        let scale = f64::from(packed.bounds.scale);
        for (column, &w) in row.iter().enumerate() {
            for level in 0..=REFINEMENTS {
                let step = f64::from(1 << (REFINEMENTS - level)) * scale;
                let code = packed.code(column, level);
                let value = f64::from(2 * code + 1) * step - 128.0 * scale;
                // Values outside the range have the first or last code.
                let w = f64::from(w).clamp(-128.0 * scale, 128.0 * scale);
                assert!((w - value).abs() <= step * 1.000_001, "{cols}: {w} is {value}");
            }
        }
    }
}

#[test]
fn every_instruction_set_computes_the_exact_sums() {
    let mut random = Random(1);
    for cols in [1, 2, 31, 33, 100, 256, 257, 576, 2560, 2563, 9000] {
        for rows in [1, 3, 4, 11] {
            let most = (i32::MAX as usize / (128 * cols)).min(127 * 256 + 127) as i16;
            for extreme in [None, Some(most), Some(-most)] {
                let mut bytes = |n: usize| match extreme {
                    None => random.codes(n).into_iter().map(|code| code as u8).collect(),
                    Some(_) => vec![255; n],
                };
                let codes: Vec<u8> = bytes(rows * code_bytes(cols));
                let planes: [Vec<u8>; REFINEMENTS] =
                    std::array::from_fn(|_| bytes(rows * refinement_bytes(cols)));
                let x: [Vec<i16>; QUERIES] = std::array::from_fn(|q| {
                    let extreme = extreme.filter(|_| q % 2 == 0);
                    let code = |_| extreme.unwrap_or_else(|| random.bits() as i16 % most);
                    let mut codes: Vec<i16> = (0..cols).map(code).collect();
                    if extreme.is_none() {
                        codes[q % cols] = if q % 4 < 2 { most } else { -most };
                    }
                    codes
                });
                // The sum of the codes of seven bits of which the others are 0.
                let product_of = |x: &[i16], row: usize, level: usize| -> i32 {
                    let terms = x.iter().enumerate().map(|(column, x)| {
                        let code = code_of(&codes, &planes[..level], row, cols, column);
                        i64::from(code << (REFINEMENTS - level)) * i64::from(*x)
                    });
                    terms.sum::<i64>().try_into().unwrap()
                };
                let queries = x.each_ref().map(|x| query(x));
                // The least even base for which both halves of every code are an i8.
                let base = 2 * (i32::from(most) / 255 + 1);
                let halves = x.each_ref().map(|x| -> Vec<i16> {
                    let high = |x: &i16| (i32::from(*x) + base / 2).div_euclid(base) as i16;
                    x.iter().map(high).collect()
                });
                let products = |x: &[Vec<i16>], level| -> Vec<i32> {
                    let each = x.iter().flat_map(|x| (0..rows).map(move |row| (x, row)));
                    each.map(|(x, row)| product_of(x, row, level)).collect()
                };
                let ids: Vec<u32> = (0..rows as u32).rev().collect();
                for scanned in 0..=SCANNED {
                    let bits: Vec<&[u8]> = planes[..scanned].iter().map(|bits| &bits[..]).collect();
                    let (full, high) = (products(&x, scanned), products(&halves, scanned));
                    for kernels in Kernels::available() {
                        for n in 1..=QUERIES {
                            for (precision, expected) in
                                [(Precision::Full, &full), (Precision::High, &high)]
                            {
                                let mut sums = vec![7; n * rows];
                                kernels.scan(&codes, &bits, &queries[..n], precision, &mut sums);
                                let case = format!(
                                    "{kernels:?} {rows}x{cols} {scanned} {n} {precision:?}"
                                );
                                assert_eq!(sums, expected[..n * rows], "{case}");
                            }
                        }
                    }
                }
                for kernels in Kernels::available() {
                    for (precision, x) in [(Precision::Full, &x[0]), (Precision::High, &halves[0])]
                    {
                        let of = |row: u32, level| product_of(x, row as usize, level);
                        let mut sums: Vec<i32> = ids.iter().map(|&row| of(row, 0)).collect();
                        for level in 1..=REFINEMENTS {
                            let (query, bits) = (&queries[0], &planes[level - 1]);
                            kernels.refine_scan(bits, level - 1, &ids, query, precision, &mut sums);
                            let expected: Vec<i32> =
                                ids.iter().map(|&row| of(row, level)).collect();
                            let case = format!("{kernels:?} {rows}x{cols} {level} {precision:?}");
                            assert_eq!(sums, expected, "{case}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn products_lie_within_their_bounds() {
    let kernels = Kernels::detect().unwrap();
    let mut random = Random(2);
    for round in 0..6_000 {
        let n = [1, 3, 32, 64, 100, 576, 2560][round % 7];
        // Weights and activations of magnitudes from the smallest to nearly the largest.
        let w_size = 2f32.powi((random.bits() % 160) as i32 - 100);
        let x_size = 2f32.powi((random.bits() % 160) as i32 - 100);
        let mut row: Vec<f32> = random.floats(n).iter().map(|w| w * w_size).collect();
        let mut x: Vec<f32> = random.floats(n).iter().map(|x| x * x_size).collect();
        match round % 5 {
            // One weight or activation far larger than the others.
            1 => row[n / 2] *= 1000.0,
            2 => x[n / 3] *= 1000.0,
            // The residual is parallel to the vector, and all rounding errors have the same
            // direction.
            3 => {
                let (packed, cut) = (packed(&row), round % 3);
                for (column, (x, w)) in x.iter_mut().zip(&row).enumerate() {
                    let code = packed.code(column, REFINEMENTS - cut);
                    let value = ((2 * code + 1) << cut) - 128;
                    *x = (w - value as f32 * packed.bounds.scale).clamp(-1e30, 1e30);
                }
            }
            // Everything cancels.
            4 => {
                for i in 0..n / 2 {
                    (row[2 * i + 1], x[2 * i + 1]) = (row[2 * i], -x[2 * i]);
                }
            }
            _ => {}
        }
        let exact = product(kernels, &row, &x);
        let mut factors = vec![1.0; n];
        if round % 2 == 1 {
            factors = random.floats(n).into_iter().map(|f| (3.0 * f).exp2()).collect();
        }
        let anchors = match round % 3 {
            0 => Anchors::none(1),
            _ => anchors(kernels, &mut random, &row, &x, &factors),
        };
        match enclosures_with(kernels, &row, &x, &factors, &anchors) {
            Some(ends) => {
                for &(low, high) in ends.as_flattened() {
                    assert!(low <= exact && exact <= high, "{round}: {low} {exact} {high}");
                }
            }
            None => {
                let norm = |v: &[f32], power: i32| {
                    let scaled = |(&v, &f): (&f32, &f32)| f64::from(v) * f64::from(f).powi(power);
                    v.iter().zip(&factors).map(|pair| scaled(pair).powi(2)).sum::<f64>().sqrt()
                };
                assert!(norm(&row, -1) * norm(&x, 1) > HUGE / 16.0, "{round}: no bounds");
            }
        }
    }
}

/// A few anchors for a row: near the vector, far from it, larger or smaller, or twice the same.
fn anchors(
    kernels: &Kernels,
    random: &mut Random,
    row: &[f32],
    x: &[f32],
    factors: &[f32],
) -> Anchors {
    let (mut vectors, mut products) = (Vec::new(), Vec::new());
    for _ in 0..random.bits() % 5 {
        let (near, size) = (random.floats(1)[0], (8.0 * random.floats(1)[0]).exp2());
        let noise = random.floats(x.len());
        let anchor = |(x, noise): (&f32, f32)| size * (near * x + 0.1 * noise);
        let anchor: Vec<f32> = x.iter().zip(noise).map(anchor).collect();
        for _ in 0..=random.bits() % 4 / 3 {
            products.push(product(kernels, row, &anchor));
            vectors.extend_from_slice(&anchor);
        }
    }
    Anchors::new(1, factors, &vectors, &products)
}

/// A row whose product is the largest of two rows has the largest code. The other has errors.
#[test]
fn rounded_products_of_anchors_are_within_the_bounds() {
    let kernels = Kernels::detect().unwrap();
    let mut random = Random(9);
    let (cols, ones) = (64, [1.0; 64]);
    for _ in 0..2000 {
        let rows = [random.floats(cols), random.floats(cols)];
        let x: Vec<f32> = random.floats(cols).iter().map(|x| x + 2.0).collect();
        let (mut vectors, mut products) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let noise = random.floats(cols);
            let near: Vec<f32> = x.iter().zip(noise).map(|(x, noise)| x + 0.01 * noise).collect();
            products.extend(rows.each_ref().map(|row| product(kernels, row, &near)));
            vectors.extend(near);
        }
        let anchors = Anchors::new(2, &ones, &vectors, &products);
        assert_eq!(anchors.len(), 3);
        let mut query = Query::default();
        assert!(query.set(&x, &ones, &anchors));
        let norm = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!(query.norm() < 0.01 * norm, "{} of {norm}", query.norm());
        for (index, row) in rows.iter().enumerate() {
            let packed = packed(row);
            let (mut sum, mut known) = ([0], [0.0; 2]);
            kernels.scan(&packed.codes, &[], &[query.clone()], Precision::Full, &mut sum);
            kernels.known(&query, &anchors, 0, &mut known);
            let bounds = stored(&[packed.bounds]);
            let (low, high) = query.enclose(
                Precision::Full,
                0,
                (sum[0], known[index]),
                RowBounds::new(&bounds),
                0,
            );
            let exact = product(kernels, row, &x);
            assert!(low <= exact && exact <= high, "{low} {exact} {high}");
            let plain = enclosures(kernels, row, &x, &ones).unwrap()[1][0];
            assert!(high - low < 0.05 * (plain.1 - plain.0), "{low} {high} {plain:?}");
        }
    }
}

#[test]
fn useless_anchors_are_left_out() {
    for (vector, product) in [
        ([0.0; 4], 0.0),
        ([1.0; 4], f32::NAN),
        ([1.0; 4], f32::INFINITY),
        ([f32::INFINITY; 4], 1.0),
        ([f32::NAN; 4], 1.0),
    ] {
        assert!(Anchors::new(1, &[1.0; 4], &vector, &[product]).is_empty(), "{vector:?} {product}");
    }
    let two = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
    assert_eq!(Anchors::new(1, &[1.0; 4], &two, &[0.0, 0.0]).len(), 1);
}

#[test]
fn every_instruction_set_knows_the_same_of_anchors() {
    let mut random = Random(10);
    let (rows, cols) = (70, 8);
    let (vectors, products) = (random.floats(5 * cols), random.floats(5 * rows));
    let anchors = Anchors::new(rows, &vec![1.0; cols], &vectors, &products);
    let mut query = Query::default();
    assert!(query.set(&random.floats(cols), &vec![1.0; cols], &anchors));
    let mut all = vec![7.0; rows];
    Kernels::available()[0].known(&query, &anchors, 0, &mut all);
    for kernels in Kernels::available() {
        for first in (0..=rows).step_by(16) {
            for last in first..=rows {
                let mut some = vec![7.0; last - first];
                kernels.known(&query, &anchors, first, &mut some);
                assert_eq!(some, all[first..last], "{kernels:?} {first}..{last}");
            }
        }
    }
    // Without anchors nothing is known.
    let none = Anchors::none(20);
    assert!(query.set(&vec![1.0; cols], &vec![1.0; cols], &none));
    for kernels in Kernels::available() {
        let mut known = [7.0; 20];
        kernels.known(&query, &none, 0, &mut known);
        assert_eq!(known, [0.0; 20]);
    }
}

#[test]
fn every_instruction_set_encloses_alike() {
    let mut random = Random(8);
    let mut query = Query::default();
    assert!(query.set(&random.floats(300), &[1.0; 300], &Anchors::none(0)));
    let specials = [0.0, f32::MIN_POSITIVE / 4.0, 1e30, f32::MAX, f32::INFINITY, f32::NAN];
    for rows in [0, 1, 15, 16, 17, 100] {
        let sums: Vec<i32> = (0..rows).map(|_| random.bits() as i32 >> 4).collect();
        let bounds: Vec<Bounds> = (0..rows)
            .map(|row| {
                let mut number = |at: usize| match (row + at) % 5 {
                    0 => specials[row / 5 % specials.len()],
                    _ => random.floats(1)[0].abs(),
                };
                let residuals = std::array::from_fn(|level| number(2 + level));
                Bounds { scale: number(0), norm: number(1), residuals }
            })
            .collect();
        let bytes = stored(&bounds);
        let all = RowBounds::new(&bytes);
        let known = random.floats(rows);
        for (kernels, level) in
            Kernels::available().into_iter().flat_map(|k| (0..=REFINEMENTS).map(move |l| (k, l)))
        {
            let (mut low, mut high) = (vec![7.0; rows], vec![7.0; rows]);
            let both = (&sums[..], &known[..]);
            kernels.enclose(&query, Precision::Full, level, both, (all, 0), [&mut low, &mut high]);
            for (row, bounds) in bounds.iter().enumerate() {
                let sum = (sums[row], known[row]);
                let ends = query.enclose(Precision::Full, level, sum, all, row);
                let bits = |(low, high): (f32, f32)| (low.to_bits(), high.to_bits());
                assert_eq!(bits((low[row], high[row])), bits(ends), "{kernels:?} {bounds:?}");
            }
        }
    }
}

#[test]
fn bounds_are_tight_enough_to_be_of_use() {
    let kernels = Kernels::detect().unwrap();
    // Uniform weights are not clipped, and their residuals are uniform within a step.
    let row = Random(3).floats(2560);
    let bounds = packed(&row).bounds;
    let x = Random(4).floats(2560);
    let ends = enclosures(kernels, &row, &x, &[1.0; 2560]).unwrap();
    for (level, ((low, high), residual)) in ends[1].into_iter().zip(bounds.residuals).enumerate() {
        let step = f64::from(bounds.scale) * f64::from(32 >> level);
        let ratio = f64::from(residual) / (step * (2560.0f64 / 12.0).sqrt());
        assert!((0.95..1.05).contains(&ratio), "{level}: {ratio}");
        let norms = f64::from(residual) * (2560.0f64 / 3.0).sqrt();
        let ratio = f64::from(high - low) / 2.0 / norms;
        assert!((0.95..1.1).contains(&ratio), "{level}: {low}..{high} of {norms}");
    }
    // The high halves of the codes miss a 256th of the largest activation at most.
    let width = |(low, high): (f32, f32)| high - low;
    for (high, full) in ends[0].into_iter().zip(ends[1]) {
        let ratio = width(high) / width(full);
        assert!((1.0..1.6).contains(&ratio), "{ratio}");
    }
    // Normal weights are clipped.
    let mut random = Random(6);
    let normal = |_| random.floats(12).iter().sum::<f32>() / 2.0;
    let row: Vec<f32> = (0..2560).map(normal).collect();
    let Bounds { scale, norm, residuals } = packed(&row).bounds;
    assert!(scale * 128.0 < 3.5, "{scale}");
    for (residual, most) in residuals.iter().zip([0.26, 0.13, 0.065, 0.032, 0.020]) {
        assert!(residual / norm < most, "{}", residual / norm);
    }
}

#[test]
fn zeros_are_enclosed_by_little_more_than_zero() {
    let kernels = Kernels::detect().unwrap();
    for (row, x) in [([0.0; 40], [1.0; 40]), ([1.0; 40], [0.0; 40]), ([-0.0; 40], [0.0; 40])] {
        let (low, high) = enclosed(kernels, &row, &x).unwrap();
        assert!(-1e-40 < low && low < 0.0 && 0.0 < high && high < 1e-40, "{low} {high}");
    }
}

#[test]
fn what_is_not_finite_has_no_bounds() {
    let kernels = Kernels::detect().unwrap();
    let one = [1.0; 4];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(enclosed(kernels, &one, &[1.0, bad, 1.0, 1.0]), None);
        assert_eq!(enclosed(kernels, &[1.0, bad, 1.0, 1.0], &one), None);
    }
    assert_eq!(enclosed(kernels, &[3e38; 4], &one), None);
    assert_eq!(enclosed(kernels, &[1e25; 4], &[1e25; 4]), None);
    assert!(!Query::default().set(&[], &[], &Anchors::none(1)));
    assert!(!Query::default().set(&one, &one[..3], &Anchors::none(1)));
    let residuals = [0.5, 0.4, 0.3, 0.2, 0.1];
    let valid = Bounds { scale: 1.0, norm: 2.0, residuals };
    assert!(valid.is_valid());
    assert_eq!(RowBounds::new(&stored(&[valid, valid])).row(1), valid);
    assert!(!Bounds { scale: f32::NAN, ..valid }.is_valid());
    assert!(!Bounds { norm: f32::NAN, ..valid }.is_valid());
    assert!(!Bounds { residuals: [0.3, -1.0, 0.1, 0.0, 0.0], ..valid }.is_valid());
}
