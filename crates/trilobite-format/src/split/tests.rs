use super::*;
use crate::{TensorType, Writer};

/// A part with one tensor, called `name`.
fn part(index: u16, count: u16, name: &str) -> Gguf {
    let mut metadata = Metadata::new();
    metadata.insert("general.name", format!("in part {index}"));
    metadata.insert(INDEX, index);
    metadata.insert(COUNT, count);
    metadata.insert(TENSORS, 2i32);
    let tensors = vec![(name.to_owned(), TensorType::F32, vec![1])];
    let mut writer = Writer::new(Vec::new(), &metadata, tensors).unwrap();
    writer.piece(name, &1f32.to_le_bytes()).unwrap();
    Gguf::parse(&writer.finish().unwrap()).unwrap()
}

#[test]
fn names_follow_from_the_name_of_any_part() {
    let split = Split { index: 1, count: 3 };
    let names: Vec<String> = split.names("a-00001-of-00003-00002-of-00003.gguf").unwrap().collect();
    let expected = [1, 2, 3].map(|i| format!("a-00001-of-00003-{i:05}-of-00003.gguf"));
    assert_eq!(names, expected);
    for wrong in ["a.gguf", "a-00001-of-00003.gguf", "a-00002-of-00004.gguf"] {
        let message = split.names(wrong).err().unwrap().to_string();
        assert!(message.contains("part 2 of 3") && message.contains(wrong), "{message}");
    }
}

#[test]
fn parts_become_one_index() {
    let joined = Gguf::join(vec![part(0, 2, "a"), part(1, 2, "b")]).unwrap();
    assert_eq!(joined.metadata().str("general.name").unwrap(), Some("in part 0"));
    assert_eq!(Split::of(joined.metadata()).unwrap(), None);
    let parts = ["a", "b"].map(|name| joined.tensor(name).unwrap().part);
    assert_eq!(parts, [0, 1]);
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let error = |parts: Vec<Gguf>| Gguf::join(parts).unwrap_err().to_string();
    let swapped = error(vec![part(1, 2, "a"), part(0, 2, "b")]);
    assert_eq!(swapped, "part 1 of 2 says of itself that it is part 2 of 2");
    let foreign = error(vec![part(0, 2, "a"), part(1, 3, "b")]);
    assert_eq!(foreign, "part 2 of 2 says of itself that it is part 2 of 3");
    assert_eq!(error(vec![part(0, 2, "a"), part(1, 2, "a")]), "tensor \"a\" occurs twice");
    let missing = error(vec![part(0, 3, "a"), part(1, 3, "b"), part(2, 3, "c")]);
    assert_eq!(missing, "the parts have 3 tensors, the first part says 2");
    let metadata = part(7, 2, "a").metadata().clone();
    assert!(Split::of(&metadata).is_err());
}
