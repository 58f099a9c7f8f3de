use crate::*;

/// A file with every metadata type and tensors of several types.
fn small_file() -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "bitnet-b1.58");
    metadata.insert("u8", 1u8);
    metadata.insert("i8", -1i8);
    metadata.insert("u16", 2u16);
    metadata.insert("i16", -2i16);
    metadata.insert("u32", 3u32);
    metadata.insert("i32", -3i32);
    metadata.insert("f32", 0.5f32);
    metadata.insert("bool", true);
    metadata.insert("u64", u64::MAX);
    metadata.insert("i64", i64::MIN);
    metadata.insert("f64", 0.25f64);
    metadata.insert("strings", vec!["<s>".to_owned(), String::new(), "é".to_owned()]);
    metadata.insert("u8s", vec![1u8, 2]);
    metadata.insert("i8s", vec![-1i8, 2]);
    metadata.insert("u16s", vec![1u16, 2]);
    metadata.insert("i16s", vec![-1i16, 2]);
    metadata.insert("u32s", vec![1u32, 2]);
    metadata.insert("i32s", vec![-1i32, 2]);
    metadata.insert("u64s", vec![1u64, 2]);
    metadata.insert("i64s", vec![-1i64, 2]);
    metadata.insert("f32s", vec![1f32, 2.0]);
    metadata.insert("f64s", vec![1f64, 2.0]);
    metadata.insert("bools", vec![true, false]);
    metadata.insert("none", Vec::<u32>::new());
    let tensors = vec![
        ("a".to_owned(), TensorType::F32, vec![3]),
        ("b".to_owned(), TensorType::I2S, vec![2, 64]),
        ("c".to_owned(), TensorType::I2R, vec![2, 3]),
    ];
    let mut writer = Writer::new(Vec::new(), &metadata, tensors).unwrap();
    writer.tensor("a", &[1; 12]).unwrap();
    writer.tensor("b", &[2; 64]).unwrap();
    writer.piece("c", &[3; 64]).unwrap();
    writer.piece("c", &[4; 32]).unwrap();
    writer.finish().unwrap()
}

#[test]
fn metadata_is_equal_if_its_types_and_bits_are() {
    let file = small_file();
    let all = || Gguf::parse(&file).unwrap().metadata().clone();
    assert_eq!(all(), all());
    let values = all();
    for (at, (key, value)) in values.iter().enumerate() {
        let equal = values.iter().map(|(_, other)| value == other);
        assert!(equal.enumerate().all(|(other, equal)| equal == (at == other)), "{key}");
    }
    let kinds: [fn(f32) -> Value; 4] = [
        |v| v.into(),
        |v| f64::from(v).into(),
        |v| vec![1.0, v].into(),
        |v| vec![1.0, f64::from(v)].into(),
    ];
    for of in kinds {
        assert_eq!(of(f32::NAN), of(f32::NAN));
        assert_ne!(of(0.0), of(-0.0));
    }
    assert_ne!(Value::from(vec![1.0]), vec![1.0, 1.0].into());
}

#[test]
fn what_is_written_is_read() {
    let file = small_file();
    assert!(file.len().is_multiple_of(32));
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!(gguf.version(), 3);
    let metadata = gguf.metadata();
    assert_eq!(metadata.len(), 25);
    assert_eq!(metadata.str("general.architecture").unwrap(), Some("bitnet-b1.58"));
    assert_eq!(metadata.get("i64"), Some(&Value::I64(i64::MIN)));
    assert_eq!(metadata.f32("f64").unwrap(), Some(0.25));
    assert_eq!(metadata.bool("bool").unwrap(), Some(true));
    assert_eq!(metadata.strings("strings").unwrap().unwrap(), ["<s>", "", "é"]);
    assert_eq!(metadata.get("bools"), Some(&Value::Array(Array::Bool(vec![true, false]))));
    assert_eq!(metadata.f32s("f32s").unwrap(), Some(&[1.0, 2.0][..]));

    let names: Vec<_> = gguf.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let b = gguf.tensor("b").unwrap();
    assert_eq!((b.ty, b.shape.as_slice(), b.count()), (TensorType::I2S, &[2, 64][..], 128));
    assert_eq!(b.bytes(&file), [2; 64]);
    assert_eq!(gguf.tensor("c").unwrap().bytes(&file)[63..65], [3, 4]);
    assert!(gguf.tensor("d").is_none());
    assert!(gguf.tensors().iter().all(|t| t.range.start.is_multiple_of(32)));
}

#[test]
fn a_transposed_matrix_is_told_by_its_type() {
    let (down, stored) = ("blk.0.ffn_down.weight", "blk.0.ffn_down_t.weight");
    let tensors = vec![
        (stored.to_owned(), TensorType::I2T, vec![3, 2]),
        ("blk.1.ffn_down.weight".to_owned(), TensorType::I2R, vec![2, 3]),
        ("blk.2.ffn_down_t.weight".to_owned(), TensorType::I8, vec![3, 2]),
    ];
    let mut writer = Writer::new(Vec::new(), &Metadata::new(), tensors).unwrap();
    writer.tensor(stored, &[1; 3 * 32 + 32]).unwrap();
    writer.tensor("blk.1.ffn_down.weight", &[2; 2 * 32 + 32]).unwrap();
    writer.tensor("blk.2.ffn_down_t.weight", &[3; 6]).unwrap();
    let file = writer.finish().unwrap();
    // Other programs see an I2_R tensor with this name.
    let at = file.windows(stored.len()).position(|bytes| bytes == stored.as_bytes()).unwrap();
    let dimensions = [2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
    assert!(file[at + stored.len()..].starts_with(&dimensions));
    assert!(file[at + stored.len() + 20..].starts_with(&7401u32.to_le_bytes()));

    let gguf = Gguf::parse(&file).unwrap();
    let info = gguf.matrix(down).unwrap();
    assert_eq!((&info.name[..], info.ty), (stored, TensorType::I2T));
    assert_eq!((&info.shape[..], &info.matrix_shape()[..]), (&[3, 2][..], &[2, 3][..]));
    assert_eq!((gguf.tensor(down), gguf.tensor(stored)), (None, Some(info)));
    let other = gguf.matrix("blk.1.ffn_down.weight").unwrap();
    assert_eq!((other.ty, &other.matrix_shape()[..]), (TensorType::I2R, &[2, 3][..]));
    // The name has no effect on other types.
    assert_eq!(gguf.tensor("blk.2.ffn_down_t.weight").unwrap().ty, TensorType::I8);
    assert_eq!(gguf.matrix("blk.2.ffn_down.weight"), None);
}

#[test]
fn integers_of_any_width_are_read_where_they_fit() {
    let file = small_file();
    let gguf = Gguf::parse(&file).unwrap();
    let metadata = gguf.metadata();
    for (key, value) in [("u8", 1), ("u16", 2), ("u32", 3)] {
        assert_eq!(metadata.u32(key).unwrap(), Some(value));
    }
    for key in ["u8s", "u16s", "u32s", "u64s"] {
        assert_eq!(metadata.u32s(key).unwrap(), Some(vec![1, 2]));
    }
    for key in ["i8s", "i16s", "i32s", "i64s"] {
        assert_eq!(metadata.i32s(key).unwrap(), Some(vec![-1, 2]));
    }
    assert_eq!(metadata.u64("u64").unwrap(), Some(u64::MAX));
    assert_eq!(metadata.u32("absent").unwrap(), None);
    let message = metadata.u32("i32").unwrap_err().to_string();
    assert_eq!(message, "metadata key \"i32\" is -3, which does not fit a u32");
    let message = metadata.u32("strings").unwrap_err().to_string();
    assert_eq!(message, "metadata key \"strings\" is array of 3 string, expected a u32");
}

#[test]
fn metadata_inserted_twice_keeps_its_place() {
    let mut metadata = Metadata::new();
    metadata.insert("a", 1u32);
    metadata.insert("b", 2u32);
    metadata.insert("a", "new");
    let entries: Vec<_> = metadata.iter().collect();
    assert_eq!(entries, [("a", &Value::from("new")), ("b", &Value::U32(2))]);
}

#[test]
fn a_file_cut_anywhere_or_with_any_byte_changed_never_panics() {
    let file = small_file();
    let data = Gguf::parse(&file).unwrap().tensors()[0].range.start;
    let end = Gguf::parse(&file).unwrap().tensors().iter().map(|tensor| tensor.range.end).max();
    let mut header = 0;
    for len in 0..file.len() {
        assert!(Gguf::parse(&file[..len]).is_err(), "cut at {len}");
        // The header is enough to find the end of the file.
        match Gguf::least_len(&file[..len]) {
            Ok(least) => assert_eq!(Some(least as usize), end, "cut at {len}"),
            Err(error) => {
                assert!(len < 4 || matches!(error, Error::Truncated { .. }), "{len}: {error}");
                header = len + 1;
            }
        }
    }
    assert_eq!(header.next_multiple_of(32), data);
    for at in 0..data {
        for byte in [0, 1, 3, 0x7f, 0x80, 0xff] {
            let mut changed = file.clone();
            changed[at] = byte;
            if let Ok(gguf) = Gguf::parse(&changed) {
                for tensor in gguf.tensors() {
                    assert!(tensor.range.end <= changed.len());
                }
            }
        }
    }
}

#[test]
fn a_pointer_is_told_from_damage() {
    let pointer = [LFS_POINTER, b"v1\noid sha256:00\nsize 1\n"].concat();
    assert!(matches!(Gguf::parse(&pointer), Err(Error::LfsPointer)));
    assert!(matches!(Metadata::parse(&pointer), Err(Error::LfsPointer)));
}

#[test]
fn sizes_of_types() {
    let sizes = |ty: TensorType, shape: &[u64]| ty.byte_len(shape);
    assert_eq!(sizes(TensorType::F32, &[2, 3]), Some(24));
    assert_eq!(sizes(TensorType::Bf16, &[2, 3]), Some(12));
    assert_eq!(sizes(TensorType::Q8_0, &[2, 64]), Some(136));
    assert_eq!(sizes(TensorType::Q8_0, &[64, 2]), None);
    for (ty, block, bytes) in [
        (TensorType::Q4_0, 32, 18),
        (TensorType::Q4_1, 32, 20),
        (TensorType::Q5_0, 32, 22),
        (TensorType::Q5_1, 32, 24),
        (TensorType::Q4K, 256, 144),
        (TensorType::Q5K, 256, 176),
        (TensorType::Q6K, 256, 210),
        (TensorType::Q1_0, 128, 18),
        (TensorType::Q2_0, 64, 18),
        (TensorType::Pq2_0, 128, 34),
        (TensorType::Ptq1_0, 128, 28),
    ] {
        assert_eq!(sizes(ty, &[5, 3 * block]), Some(15 * bytes), "{ty}");
        assert_eq!(sizes(ty, &[block, block / 2]), None, "{ty}");
    }
    assert_eq!(sizes(TensorType::Tq1_0, &[2, 512]), Some(216));
    assert_eq!(sizes(TensorType::Tq2_0, &[1, 256]), Some(66));
    assert_eq!(sizes(TensorType::Tq2_0, &[2, 128]), None);
    assert_eq!(sizes(TensorType::I2S, &[6, 64]), Some(96 + 32));
    assert_eq!(sizes(TensorType::I2S, &[5, 64]), None);
    assert_eq!(sizes(TensorType::I2R, &[5, 129]), Some(5 * 64 + 32));
    assert_eq!(sizes(TensorType::T5_3, &[32, 24]), Some(32 * 5 + 32));
    assert_eq!(sizes(TensorType::T5_3, &[33, 25]), Some(64 * 6 + 32));
    assert_eq!(sizes(TensorType::T5_3, &[640, 2560]), Some(640 * 534 + 32));
    for ty in TensorType::ALL {
        let name = if ty == TensorType::I2T { "blk.0.ffn_down_t.weight" } else { "a.weight" };
        assert_eq!(TensorType::of(ty.id(), name), Some(ty));
        assert_eq!(ty.byte_len(&[]), None);
        assert_eq!(ty.byte_len(&[4, 0, 256]), None);
        assert_eq!(ty.byte_len(&[u64::MAX, 256]), None);
        assert_eq!(ty.byte_len(&[1 << 62, 1, 128]), None);
    }
    assert_eq!(TensorType::F32.byte_len(&[u64::MAX / 2]), None);
}

#[test]
fn ternary_tail_keeps_the_first_float_only() {
    let mut bytes = vec![0x55; 32];
    bytes.extend(ternary::tail(0.75));
    assert_eq!(bytes.len(), 64);
    assert!(bytes[36..].iter().all(|&b| b == 0));
    bytes[36..].fill(0xff);
    assert_eq!(ternary::split(&bytes), Some((&[0x55; 32][..], 0.75)));
    assert_eq!(ternary::split(&[0; 31]), None);
}

#[test]
fn a_ternary_matrix_has_one_scale() {
    // Each block is all ones or all zeros, with its own scale.
    let blocks = |blocks: [(bool, u8); 3]| {
        let tq1_0 = |zero| if zero { [[128; 48], [127; 48]].concat() } else { vec![255; 96] };
        let block = |code: &[u8], scale| [code, &[scale, 0]].concat();
        let of = |codes: &dyn Fn(bool) -> Vec<u8>| -> Vec<u8> {
            blocks.iter().flat_map(|(zero, scale)| block(&codes(*zero), *scale)).collect()
        };
        let tq1_0 = of(&|zero| tq1_0(zero)[..52].to_vec());
        let tq2_0 = of(&|zero| vec![if zero { 0x55 } else { 0xaa }; 64]);
        [(TensorType::Tq1_0, tq1_0), (TensorType::Tq2_0, tq2_0)]
    };
    for (scales, one) in [
        ([(false, 1), (false, 1), (false, 1)], Some(1)),
        ([(true, 0), (false, 5), (true, 7)], Some(5)),
        ([(true, 9), (false, 5), (false, 5)], Some(5)),
        ([(true, 0), (true, 0), (true, 3)], Some(0)),
        ([(false, 1), (true, 0), (false, 2)], None),
        ([(false, 1), (false, 0), (false, 1)], None),
        ([(false, 0), (false, 0), (false, 0)], Some(0)),
    ] {
        for (ty, bytes) in blocks(scales) {
            let expected = one.map(|scale| [scale, 0]);
            assert_eq!(ty.one_scale(&bytes), expected, "{ty} {scales:?}");
            assert_eq!(TensorType::Q8_0.one_scale(&bytes), None);
        }
    }
}

#[test]
fn the_writer_insists_on_order_and_length() {
    let tensors = || ["a", "b"].map(|name| (name.to_owned(), TensorType::F32, vec![2])).to_vec();
    let writer = || Writer::new(Vec::new(), &Metadata::new(), tensors()).unwrap();
    assert!(matches!(writer().tensor("b", &[0; 8]), Err(Error::Order { .. })));
    assert!(matches!(writer().tensor("a", &[0; 7]), Err(Error::Length { .. })));
    assert!(matches!(writer().piece("a", &[0; 9]), Err(Error::Length { .. })));
    assert!(matches!(writer().finish(), Err(Error::Length { .. })));
    let mut half = writer();
    half.piece("a", &[0; 4]).unwrap();
    assert!(matches!(half.tensor("a", &[0; 8]), Err(Error::Length { found: 12, .. })));
    assert!(matches!(half.piece("b", &[0; 4]), Err(Error::Order { .. })));
    half.piece("a", &[0; 4]).unwrap();
    half.tensor("b", &[0; 8]).unwrap();
    assert!(matches!(half.tensor("b", &[0; 8]), Err(Error::Order { .. })));
    half.finish().unwrap();

    let new = |tensors| Writer::new(Vec::new(), &Metadata::new(), tensors).map(|_| ());
    let mut twice = tensors();
    twice[1].0 = "a".to_owned();
    assert!(matches!(new(twice), Err(Error::DuplicateTensor(_))));
    let odd = vec![("a".to_owned(), TensorType::I2S, vec![3, 3])];
    assert!(matches!(new(odd), Err(Error::Shape { .. })));
    let scalar = vec![("a".to_owned(), TensorType::F32, vec![])];
    assert!(matches!(new(scalar), Err(Error::Dimensions { .. })));
    let nameless = vec![(String::new(), TensorType::F32, vec![1])];
    assert!(matches!(new(nameless), Err(Error::NameLength { .. })));
}

/// Tensors of type 42 at the distances that their sizes give.
#[test]
fn positions_tell_the_layouts_of_type_42_apart() {
    // Shapes, outermost first, the bytes of a block of 256 weights, and bytes after the last tensor.
    let parse = |shapes: &[[u64; 2]], bytes: &[u64], after: usize| {
        let mut raw = Raw::new(shapes.len() as u64, 0);
        let mut offset = 0u64;
        for (i, ([rows, cols], bytes)) in shapes.iter().zip(bytes).enumerate() {
            raw.tensor(&format!("t{i}"), &[*cols, *rows], 42, offset);
            offset += (rows * cols * bytes / 256).next_multiple_of(32);
        }
        let len = raw.0.len().next_multiple_of(32) + offset as usize + after;
        raw.0.resize(len, 0);
        Gguf::parse(&raw.0)
    };
    let types = |shapes: &[[u64; 2]], bytes: u64, after: usize| {
        let gguf = parse(shapes, &vec![bytes; shapes.len()], after).unwrap();
        let tensors = gguf.tensors().iter().map(|tensor| (tensor.ty, tensor.range.len() as u64));
        let sizes = shapes.iter().map(|[rows, cols]| rows * cols * bytes / 256);
        let (types, lengths): (Vec<_>, Vec<_>) = tensors.unzip();
        assert_eq!(lengths, sizes.collect::<Vec<_>>());
        types
    };
    use TensorType::{Pq2_0, Q2_0};
    for (bytes, ty) in [(72, Q2_0), (68, Pq2_0)] {
        // One tensor decides: the first is as long in both layouts, the last is not counted.
        assert_eq!(types(&[[1, 128], [64, 128], [1, 128]], bytes, 0), [ty; 3]);
        assert_eq!(types(&[[64, 128], [1, 256]], bytes, 100), [ty; 2]);
        // The last tensor counts if the end of the file fits.
        assert_eq!(types(&[[64, 128]], bytes, 0), [ty]);
    }
    // Only Q2_0 has blocks of 64.
    assert_eq!(types(&[[64, 192]], 72, 0), [Q2_0]);
    let error = |shapes: &[[u64; 2]], bytes: &[u64], after| {
        parse(shapes, bytes, after).unwrap_err().to_string()
    };
    let ambiguous =
        "type 42 of tensor \"t0\" has three layouts, which only sizes tell apart: it has";
    contains(error(&[[1, 128], [1, 128]], &[72, 72], 0), &format!("{ambiguous} 64 bytes, Q2_0 36"));
    contains(error(&[[64, 128]], &[72], 32), ambiguous);
    let sizes = "it has 2272 bytes, Q2_0 2304, PQ2_0 2176, STQ1_0 none";
    contains(error(&[[64, 128], [64, 128]], &[71, 72], 0), sizes);
    let sizes = "\"t1\" has three layouts, which only sizes tell apart: it has 2176";
    contains(error(&[[64, 128], [64, 128], [1, 128]], &[72, 68, 68], 0), sizes);
    contains(error(&[[64, 256], [64, 256]], &[42, 42], 0), "unsupported type 42 (STQ1_0)");
}

/// Builds headers that the writer refuses to write.
struct Raw(Vec<u8>);

impl Raw {
    fn new(tensors: u64, entries: u64) -> Raw {
        let mut raw = Raw(MAGIC.to_vec());
        raw.u32(3).u64(tensors).u64(entries);
        raw
    }
    fn u32(&mut self, v: u32) -> &mut Raw {
        self.0.extend(v.to_le_bytes());
        self
    }
    fn u64(&mut self, v: u64) -> &mut Raw {
        self.0.extend(v.to_le_bytes());
        self
    }
    fn text(&mut self, v: &str) -> &mut Raw {
        self.u64(v.len() as u64);
        self.0.extend(v.as_bytes());
        self
    }
    /// Appends a tensor. The dimensions are in file order, innermost first.
    fn tensor(&mut self, name: &str, dimensions: &[u64], ty: u32, offset: u64) -> &mut Raw {
        self.text(name).u32(dimensions.len() as u32);
        for &d in dimensions {
            self.u64(d);
        }
        self.u32(ty).u64(offset)
    }
    fn error(&mut self) -> String {
        self.0.resize(self.0.len().next_multiple_of(32) + 256, 0);
        Gguf::parse(&self.0).unwrap_err().to_string()
    }
}

#[track_caller]
fn contains(message: String, part: &str) {
    assert!(message.contains(part), "{message:?} lacks {part:?}");
}

#[test]
fn other_files_and_byte_orders_are_named() {
    let parse = |bytes: &[u8]| Gguf::parse(bytes).unwrap_err().to_string();
    contains(parse(b"PK\x03\x04abc"), "not a GGUF file: it starts with [50, 4b, 03, 04]");
    contains(parse(b""), "not a GGUF file");
    contains(parse(b"GGUF\0\0\0\x03\0\0"), "big-endian");
    contains(parse(b"GGUF\x01\0\0\0"), "version 1 is not supported");
    contains(parse(b"GGUF\xff\xff\xff\xff"), "version 4294967295 is not supported");
    contains(parse(b"GGUF\x03\0\0\0\0"), "truncated GGUF: the number of tensors at byte 8");
}

#[test]
fn counts_beyond_the_file_are_refused_before_allocation() {
    contains(Raw::new(u64::MAX, 0).error(), "the number of tensors (18446744073709551615)");
    contains(Raw::new(0, 1 << 40).error(), "the number of metadata entries");
    contains(Raw::new(0, 1).u64(u64::MAX).error(), "a metadata key at byte 32");
    contains(Raw::new(0, 1).text("k").u32(8).u64(1 << 60).error(), "truncated GGUF: k at");
    contains(Raw::new(0, 1).text("k").u32(9).u32(6).u64(1 << 62).error(), "truncated GGUF: k");
    contains(Raw::new(0, 1).text("k").u32(9).u32(8).u64(1 << 62).error(), "truncated GGUF: k");
    contains(Raw::new(0, 1).text("k").u32(9).u32(7).u64(1 << 62).error(), "truncated GGUF: k");
}

#[test]
fn malformed_metadata_is_refused() {
    contains(Raw::new(0, 1).text("").error(), "length of 0");
    contains(Raw::new(0, 1).text("k").u32(13).error(), "unknown value type 13");
    contains(Raw::new(0, 1).text("k").u32(9).u32(9).u64(0).error(), "array of arrays");
    contains(Raw::new(0, 1).text("k").u32(9).u32(77).u64(0).error(), "unknown value type 77");
    contains(Raw::new(0, 1).text("k").u32(7).u32(2).error(), "the byte 2 where a boolean");
    contains(Raw::new(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1).error(), "twice");
    let mut latin = Raw::new(0, 1);
    latin.text("k").u32(8).u64(1).0.push(0xe9);
    contains(latin.error(), "k at byte 45 is not UTF-8");
    for alignment in [0, 4, 24, 1 << 21] {
        let mut raw = Raw::new(0, 1);
        raw.text("general.alignment").u32(4).u32(alignment);
        contains(raw.error(), "general.alignment is");
    }
}

#[test]
fn malformed_tensors_are_refused() {
    contains(Raw::new(1, 0).tensor("t", &[], 0, 0).error(), "has 0 dimensions");
    contains(Raw::new(1, 0).tensor("t", &[1; 5], 0, 0).error(), "has 5 dimensions");
    contains(Raw::new(1, 0).tensor("t", &[0], 0, 0).error(), "cannot have the shape [0]");
    contains(
        Raw::new(1, 0).tensor("t", &[1 << 33, 1 << 33], 0, 0).error(),
        "cannot have the shape",
    );
    contains(
        Raw::new(1, 0).tensor("t", &[63, 2], 36, 0).error(),
        "I2_S cannot have the shape [2, 63]",
    );
    contains(Raw::new(1, 0).tensor("t", &[256], 10, 0).error(), "unsupported type 10 (Q2_K)");
    contains(Raw::new(1, 0).tensor("t", &[256], 99, 0).error(), "unsupported type 99");
    contains(Raw::new(1, 0).tensor("t", &[4], 0, 16).error(), "no multiple of 32");
    contains(Raw::new(1, 0).tensor("t", &[4], 0, 1 << 40).error(), "the file has");
    contains(Raw::new(1, 0).tensor("t", &[4], 0, u64::MAX - 31).error(), "the file has");
    contains(Raw::new(1, 0).tensor("t", &[1 << 20], 0, 0).error(), "needs 4194304 bytes");
    let mut raw = Raw::new(2, 0);
    contains(
        raw.tensor("a", &[9], 0, 0).tensor("b", &[4], 0, 32).error(),
        "\"a\" and \"b\" overlap",
    );
    let mut raw = Raw::new(2, 0);
    contains(raw.tensor("a", &[4], 0, 0).tensor("a", &[4], 0, 32).error(), "\"a\" occurs twice");
    contains(Raw::new(1, 0).tensor("\x1b[2J", &[4], 99, 0).error(), "\\u{1b}[2J");
}

#[test]
fn version_2_is_read() {
    let mut file = small_file();
    file[4] = 2;
    assert_eq!(Gguf::parse(&file).unwrap().version(), 2);
}
