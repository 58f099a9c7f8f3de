use std::sync::Arc;

use trilobite_convert::{Checkpoint, Options, convert, ignore_progress};

use super::*;
use crate::{CacheType, Logits, Model, Part, SessionOptions, Want};

fn model(name: &str) -> Arc<Model> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden").join(name);
    let mut file = Vec::new();
    let checkpoint = Checkpoint::open(folder).unwrap();
    convert(&checkpoint, &Options::default(), &mut file, &mut ignore_progress).unwrap();
    Arc::new(Model::from_bytes(file).unwrap())
}

fn forward(model: &Arc<Model>, cache: CacheType) -> Forward {
    let options = SessionOptions { threads: 1, context: 120, cache, ..SessionOptions::default() };
    Forward::new(Arc::clone(model), options).unwrap()
}

/// The bits of the logits after `tokens`.
fn logits(forward: &mut Forward, sequence: &mut Sequence, tokens: &[u32]) -> Vec<u32> {
    let mut bits = Vec::new();
    let part = Part { sequence, tokens, want: Want::From(0) };
    let sink = |_, _, logits: Logits<'_>| bits.extend(logits.values().iter().map(|x| x.to_bits()));
    forward.read(&mut [part], sink).unwrap();
    bits
}

fn text(count: usize) -> Vec<u32> {
    (0..count as u32).map(|index| 1 + index * 7 % 90).collect()
}

#[test]
fn what_is_loaded_goes_on_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["bitnet_online", "llama_bitnet", "llama", "gemma3", "qwen2", "qwen3"];
    let (more, mut keys) = ([5, 6, 7], Vec::new());
    for name in names {
        let model = model(name);
        for &cache in CacheType::ALL {
            let mut forward = forward(&model, cache);
            let key = TextKey::new(&forward);
            assert!(!keys.contains(&key));
            keys.push(key);
            for count in [0, 1, 31, 32, 33, 96, 100] {
                let path = folder.path().join("cache");
                let mut sequence = forward.sequence();
                logits(&mut forward, &mut sequence, &text(count));
                sequence.save(&path, key).unwrap();
                let mut loaded = forward.sequence();
                // The previous tokens are replaced.
                logits(&mut forward, &mut loaded, &[3; 40]);
                loaded.load(&path, key, model.config()).unwrap();
                assert_eq!(loaded.tokens(), text(count));
                let expected = logits(&mut forward, &mut sequence, &more);
                assert_eq!(logits(&mut forward, &mut loaded, &more), expected, "{name}, {cache}");
                // Also if the loaded text is truncated first.
                let half = count / 2;
                loaded.truncate(half);
                let mut other = forward.sequence();
                logits(&mut forward, &mut other, &text(half));
                let expected = logits(&mut forward, &mut other, &more);
                assert_eq!(logits(&mut forward, &mut loaded, &more), expected, "{name}, {cache}");
            }
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "temporary files remain");
}

#[test]
fn single_pages_continue_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut forward = forward(&model("bitnet_online"), CacheType::F16);
    let (mut sequence, tokens) = (forward.sequence(), text(100));
    logits(&mut forward, &mut sequence, &tokens);
    let mut key = TextKey::new(&forward);
    let mut keys = Vec::new();
    for (index, page) in tokens.chunks_exact(PAGE).enumerate() {
        sequence.save_page(&folder.path().join(key.name()), key, index).unwrap();
        keys.push(key);
        key = key.then(page);
    }
    let mut loaded = forward.sequence();
    // In the middle of the second page.
    logits(&mut forward, &mut loaded, &tokens[..40]);
    let load = |loaded: &mut Sequence, index: usize, of: usize, tokens: &[u32]| {
        let path = folder.path().join(keys[of].name());
        loaded.load_page(&path, keys[index], index, tokens)
    };
    let page = |index: usize| &tokens[index * PAGE..(index + 1) * PAGE];
    load(&mut loaded, 1, 1, page(1)).unwrap();
    // Another page, other tokens, or a gap before the page are errors.
    assert!(load(&mut loaded, 2, 1, page(1)).is_err());
    assert!(load(&mut loaded, 2, 2, page(1)).is_err());
    loaded.truncate(63);
    assert!(load(&mut loaded, 2, 2, page(2)).is_err());
    assert_eq!(loaded.len(), 63);
    load(&mut loaded, 1, 1, page(1)).unwrap();
    load(&mut loaded, 2, 2, page(2)).unwrap();
    assert_eq!(loaded.tokens(), &tokens[..96]);
    let expected = logits(&mut forward, &mut sequence, &[9]);
    logits(&mut forward, &mut loaded, &tokens[96..]);
    assert_eq!(logits(&mut forward, &mut loaded, &[9]), expected);
}

#[test]
fn a_wrong_or_damaged_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let bitnet = model("bitnet_online");
    let mut forward = forward(&bitnet, CacheType::Q8);
    let key = TextKey::new(&forward);
    let mut sequence = forward.sequence();
    logits(&mut forward, &mut sequence, &text(50));
    sequence.save(&path, key).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let fails = |bytes: &[u8], expected: &str| {
        std::fs::write(&path, bytes).unwrap();
        let mut loaded = sequence.fork();
        loaded.truncate(40);
        let error = loaded.load(&path, key, bitnet.config()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("cache"), "{expected}: {error}");
        assert!(!error.contains('\n'), "{error}");
        assert_eq!(loaded.tokens(), text(40));
    };
    let places = [
        (0, "no cache of keys"),
        (8, "another model"),
        (39, "another model"),
        // The counts are wrong.
        (40, "expected"),
        (47, "expected"),
        (48, "its pages have"),
        (55, "its pages have"),
        (HEADER, "checksum"),
        (HEADER + 4 * 50, "checksum"),
        (whole.len() - HASH - 1, "checksum"),
        (whole.len() - 1, "checksum"),
    ];
    for (at, expected) in places {
        for bit in [0x01, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            fails(&bytes, expected);
        }
    }
    for length in [0, 7, HEADER, HEADER + HASH - 1] {
        fails(&whole[..length], "too few");
    }
    for length in [HEADER + HASH, HEADER + 100, whole.len() - 1] {
        fails(&whole[..length], "expected");
    }
    fails(&[&whole[..], &[0]].concat(), "expected");
    std::fs::write(&path, &whole).unwrap();

    // A folder in place of a file.
    let mut loaded = forward.sequence();
    let error = loaded.load(folder.path(), key, bitnet.config()).unwrap_err();
    assert!(error.to_string().ends_with("it is not a file"), "{error}");
    let error = loaded.load(&folder.path().join("none"), key, bitnet.config()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
    // Files of another model, and of another cache type.
    for (model, cache) in [(model("llama"), CacheType::Q8), (bitnet.clone(), CacheType::F32)] {
        let other = self::forward(&model, cache);
        let key = TextKey::new(&other);
        let error = other.sequence().load(&path, key, model.config()).unwrap_err();
        assert!(error.to_string().contains("another model"), "{error}");
    }
    loaded.load(&path, key, bitnet.config()).unwrap();
}

/// Writes the beginning of a file of `count` tokens, and a hole in place of the rest.
fn with_hole(path: &Path, key: TextKey, sequence: &Sequence, count: u64) {
    let mut file = File::create(path).unwrap();
    let page_bytes = sequence.page_bytes() as u64;
    file.write_all(MAGIC).unwrap();
    file.write_all(&key.0).unwrap();
    file.write_all(&count.to_le_bytes()).unwrap();
    file.write_all(&page_bytes.to_le_bytes()).unwrap();
    let pages = count.div_ceil(PAGE as u64) * page_bytes;
    file.set_len((HEADER + HASH) as u64 + 4 * count + pages).unwrap();
}

#[test]
fn a_file_with_more_tokens_than_the_model_can_read_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let model = model("bitnet_online");
    let forward = forward(&model, CacheType::Q8);
    let (mut sequence, key) = (forward.sequence(), TextKey::new(&forward));
    let context = model.config().context as u64;
    // A terabyte of tokens, if the file system can hold such a file.
    for count in [context + 1, 1 << 20, 1 << 30] {
        with_hole(&path, key, &sequence, count);
        let error = sequence.load(&path, key, model.config()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("{count} tokens, expected at most {context}")), "{error}");
        let error = sequence.load_page(&path, key, 0, &text(PAGE)).unwrap_err().to_string();
        assert!(error.ends_with(&format!("{count} tokens, expected at most 32")), "{error}");
    }
    with_hole(&path, key, &sequence, context);
    let error = sequence.load(&path, key, model.config()).unwrap_err().to_string();
    assert!(error.ends_with("checksum differs"), "{error}");
}

#[test]
fn tokens_outside_the_vocabulary_are_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let model = model("bitnet_online");
    let mut forward = forward(&model, CacheType::Q8);
    let (mut sequence, key) = (forward.sequence(), TextKey::new(&forward));
    logits(&mut forward, &mut sequence, &text(3));
    sequence.save(&path, key).unwrap();
    // The last token becomes another one, and the checksum fits.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[HEADER + 8..HEADER + 12].copy_from_slice(&1_000_000u32.to_le_bytes());
    let end = bytes.len() - HASH;
    let hash = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&hash);
    std::fs::write(&path, bytes).unwrap();
    let error = sequence.load(&path, key, model.config()).unwrap_err().to_string();
    assert!(error.contains("its token 1000000 is outside the vocabulary"), "{error}");
    assert_eq!(sequence.tokens(), text(3));
}

#[test]
fn what_cannot_be_written_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let forward = forward(&model("bitnet_online"), CacheType::F32);
    let (sequence, key) = (forward.sequence(), TextKey::new(&forward));
    let error = sequence.save(&folder.path().join("none/cache"), key).unwrap_err();
    assert!(matches!(error, Error::CacheWrite { .. }));
    // A folder of that name cannot be replaced.
    let path = folder.path().join("folder");
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(sequence.save(&path, key).unwrap_err(), Error::CacheWrite { .. }));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
