use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use trilobite_convert::{Checkpoint, HeadScan, Layout, Options, convert, ignore_progress};
use trilobite_format::Gguf;

use super::*;
use crate::head::Largest;

/// Maximum length of a sequence: long enough for the attention of a few tokens to be divided by
/// positions.
const CONTEXT: usize = 330;
/// Maximum number of sequences at a time.
const SEQUENCES: usize = 16;
const ROUNDS: usize = 10;

/// Every architecture, and every layout of those that are ternary.
const MODELS: [(&str, Layout); 12] = [
    ("bitnet_online", Layout::I2S),
    ("bitnet_online", Layout::T5_3),
    ("bitnet_online", Layout::Sparse),
    ("bitnet_odd_shape", Layout::Auto),
    ("llama_bitnet", Layout::T5_3),
    ("llama", Layout::Auto),
    ("gemma3", Layout::Auto),
    ("qwen2", Layout::Auto),
    ("qwen3", Layout::Auto),
    ("bonsai", Layout::Auto),
    ("maple", Layout::Auto),
    ("maple_gguf/model.gguf", Layout::Auto),
];

fn model(name: &str, layout: Layout) -> Arc<Model> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden").join(name);
    let options = Options { layout, head_scan: HeadScan::Always, ..Options::default() };
    let mut file = Vec::new();
    let checkpoint = Checkpoint::open(folder).unwrap();
    convert(&checkpoint, &options, &mut file, &mut ignore_progress).unwrap();
    Arc::new(Model::from_bytes(file).unwrap())
}

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }

    fn tokens(&mut self, count: usize, vocab: usize) -> Vec<u32> {
        (0..count).map(|_| self.below(vocab) as u32).collect()
    }
}

/// The bits of all logits after the last token of a sequence that is processed alone.
fn alone(forward: &mut Forward, tokens: &[u32]) -> Vec<u32> {
    let mut bits = Vec::new();
    let mut sequence = forward.sequence();
    let part = Part { sequence: &mut sequence, tokens, want: Want::From(tokens.len() - 1) };
    let sink = |_, _, logits: Logits<'_>| bits.extend(logits.values().iter().map(|x| x.to_bits()));
    forward.read(&mut [part], sink).unwrap();
    bits
}

/// Random sequences that are created, forked, truncated and extended, many of them in one pass.
/// Every logit has the same bits as when its sequence is processed alone.
fn sequences_together(model: &Arc<Model>, seed: u64, options: SessionOptions) {
    let vocab = model.config().vocab;
    let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
    let one = SessionOptions { threads: 1, batch: MAX_BATCH, ..options };
    let mut reference = Forward::new(Arc::clone(model), one).unwrap();
    let mut forward = Forward::new(Arc::clone(model), options).unwrap();
    let mut sequences: Vec<Sequence> = Vec::new();
    let mut shown = 0;
    for round in 0..ROUNDS {
        for _ in 0..4 {
            let at = random.below(sequences.len().max(1));
            match random.below(4) {
                0 if at < sequences.len() => {
                    let len = random.below(sequences[at].len() + 1);
                    sequences[at].truncate(len);
                }
                1 if at < sequences.len() => sequences.push(sequences[at].fork()),
                2 if sequences.len() > 4 => _ = sequences.swap_remove(at),
                _ => sequences.push(forward.sequence()),
            }
        }
        sequences.truncate(SEQUENCES);
        // In one round a sequence becomes long enough for the other division of the attention.
        let most = if round == ROUNDS - 2 { 290 } else { 40 };
        let texts: Vec<Vec<u32>> = sequences
            .iter()
            .map(|sequence| {
                let room = (CONTEXT - sequence.len()).min(most);
                let count = [0, 1, 1, 1, random.below(room + 1)][random.below(5)].min(room);
                random.tokens(count, vocab)
            })
            .collect();
        let wants: Vec<Want> = texts
            .iter()
            .map(|text| match text.len().checked_sub(1) {
                None => Want::Nothing,
                Some(last) => {
                    let from = last - random.below(last.min(9) + 1);
                    let within = [f32::INFINITY, 0.0, 0.7, 3.0][random.below(4)];
                    let count = [1 + random.below(3), usize::MAX][random.below(2)];
                    let rank = 1 + random.below(count.min(2));
                    let largest = Largest { within, rank, ..Largest::count(count) };
                    let largest = Some(largest).filter(|_| random.below(2) == 0);
                    [Want::new(from, largest), Want::Nothing][random.below(3) / 2]
                }
            })
            .collect();
        let inputs = sequences.iter_mut().zip(&texts).zip(&wants);
        let mut parts: Vec<_> =
            inputs.map(|((sequence, tokens), &want)| Part { sequence, tokens, want }).collect();
        let mut found = Vec::new();
        let sink = |part: usize, index: usize, logits: Logits<'_>| {
            let bits = logits.values().iter().enumerate();
            let bits: Vec<_> = bits.map(|(i, x)| (logits.id(i), x.to_bits())).collect();
            found.push((part, index, bits));
        };
        forward.read(&mut parts, sink).unwrap();
        let wanted = wants.iter().zip(&texts).map(|(want, text)| match *want {
            Want::Nothing => 0,
            Want::From(from) | Want::Largest { from, .. } => text.len() - from,
        });
        assert_eq!(found.len(), wanted.sum::<usize>());
        for (part, index, bits) in found {
            let end = sequences[part].len() - texts[part].len() + index + 1;
            let all = alone(&mut reference, &sequences[part].tokens()[..end]);
            assert!(bits.iter().all(|&(id, bits)| all[id as usize] == bits), "round {round}");
            if let Want::Largest { largest, .. } = wants[part] {
                let requested = |bits: &mut dyn Iterator<Item = u32>| {
                    let mut values: Vec<f32> = bits.map(f32::from_bits).collect();
                    values.sort_unstable_by(|a, b| b.total_cmp(a));
                    let least = values[largest.rank - 1] - largest.within;
                    let near = values.partition_point(|value| *value >= least);
                    values.truncate(near.min(largest.count));
                    values
                };
                let some = requested(&mut bits.iter().map(|&(_, bits)| bits));
                assert_eq!(some, requested(&mut all.into_iter()));
            }
            shown += 1;
        }
    }
    assert!(shown > ROUNDS, "{shown} tokens compared");
}

#[test]
fn sequences_read_together_have_the_bits_that_each_has_alone() {
    let caches = [CacheType::F32, CacheType::F16, CacheType::Q8];
    for (seed, (name, layout)) in MODELS.into_iter().enumerate() {
        let model = model(name, layout);
        for (index, cache) in caches.into_iter().enumerate() {
            let (threads, batch) = [(2, 256), (3, 16), (1, 7)][(seed + index) % 3];
            let options = SessionOptions {
                threads,
                context: CONTEXT,
                batch,
                cache,
                ..SessionOptions::default()
            };
            sequences_together(&model, 3 * seed as u64 + index as u64, options);
        }
    }
}

#[test]
fn forks_share_pages_until_they_write_to_them() {
    let model = model("bitnet_online", Layout::Auto);
    let mut forward = Forward::new(model, SessionOptions::default()).unwrap();
    let mut trunk = forward.sequence();
    let mut read = |sequence: &mut Sequence, count: usize| {
        let part = Part { sequence, tokens: &vec![1; count], want: Want::Nothing };
        forward.read(&mut [part], |_, _, _| {}).unwrap();
    };
    let shared = |a: &Sequence, b: &Sequence| {
        let pages = a.pages().iter().zip(b.pages());
        pages.map(|(a, b)| Arc::ptr_eq(a, b)).collect::<Vec<_>>()
    };
    read(&mut trunk, 70);
    let mut fork = trunk.fork();
    assert_eq!(shared(&trunk, &fork), [true; 3]);
    // The third page is shared and has six tokens. Then one sequence writes a seventh.
    read(&mut fork, 1);
    assert_eq!(shared(&trunk, &fork), [true, true, false]);
    read(&mut trunk, 40);
    assert_eq!(trunk.pages().len(), 4);
    trunk.truncate(64);
    assert_eq!(trunk.pages().len(), 2);
    let last = Arc::downgrade(&fork.pages()[2]);
    fork.truncate(64);
    assert!(last.upgrade().is_none(), "a page that nobody has is freed");
    assert_eq!(Arc::strong_count(&trunk.pages()[0]), 2);
}

#[test]
fn pages_are_counted_once_and_foreseen() {
    let model = model("bitnet_online", Layout::Auto);
    let mut forward = Forward::new(model, SessionOptions::default()).unwrap();
    let mut sequences = vec![forward.sequence()];
    for (at, count, missing, pages) in [
        // Three pages. The last of them has room for 26 more tokens.
        (0, 70, 3, 3),
        (0, 26, 0, 3),
        (0, 0, 0, 3),
        (0, 4, 1, 4),
        // A fork that writes to a shared page.
        (1, 28, 1, 5),
        (1, 1, 1, 6),
        // Afterwards the original is the only owner of the page.
        (0, 1, 0, 6),
    ] {
        if at == sequences.len() {
            sequences.push(sequences[0].fork());
        }
        let sequence = &mut sequences[at];
        assert_eq!(sequence.missing_pages(count), missing);
        let part = Part { sequence, tokens: &vec![1; count], want: Want::Nothing };
        forward.read(&mut [part], |_, _, _| {}).unwrap();
        assert_eq!(forward.pages(), pages);
    }
    sequences.truncate(1);
    assert_eq!(forward.pages(), 4);
    sequences.clear();
    assert_eq!(forward.pages(), 0);
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let small = model("bitnet_online", Layout::Auto);
    let vocab = small.config().vocab as u32;
    let options = SessionOptions { context: 40, threads: 1, ..SessionOptions::default() };
    let mut forward = Forward::new(small, options).unwrap();
    let (mut good, mut bad) = (forward.sequence(), forward.sequence());
    let mut fails = |tokens: &[u32], want| {
        let first = Part { sequence: &mut good, tokens: &[1, 2], want: Want::Nothing };
        let second = Part { sequence: &mut bad, tokens, want };
        let error = forward.read(&mut [first, second], |_, _, _| {}).unwrap_err();
        assert!(good.is_empty() && bad.is_empty() && good.pages().is_empty());
        error
    };
    assert!(matches!(fails(&[vocab], Want::Nothing), Error::TokenId { .. }));
    assert!(matches!(fails(&[1; 41], Want::Nothing), Error::Context { needed: 41, context: 40 }));
    assert!(matches!(
        fails(&[], Want::Largest { from: 0, largest: Largest::count(1) }),
        Error::EmptyPrompt
    ));
    let q8 = Shape { ty: CacheType::Q8, ..good.shape() };
    let mut other = Sequence::new(q8, PagePool::default());
    let part = Part { sequence: &mut other, tokens: &[1], want: Want::Nothing };
    let error = forward.read(&mut [part], |_, _, _| {}).unwrap_err();
    assert!(matches!(error, Error::ForeignSequence));
}

#[test]
fn an_invalid_code_of_an_expert_is_found() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden/maple_gguf/model.gguf");
    let mut file = std::fs::read(path).unwrap();
    assert!(Model::from_bytes(file.clone()).is_ok());
    let name = "blk.1.ffn_up_exps.weight";
    let range = Gguf::parse(&file).unwrap().tensor(name).unwrap().range.clone();
    // The last codes of the last expert: its block ends with the scale.
    file[range.end - 3] = 0xff;
    let error = Model::from_bytes(file).err().unwrap().to_string();
    assert!(error.contains(name) && error.contains("row 767"), "{error}");
}
