use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use trilobite_convert::{Checkpoint, Head, HeadScan, Options, convert, ignore_progress};

use super::*;
use crate::{
    CacheType, Constraint, Finish, Generation, Limits, Model, ModelDrafter, Sampler, Sampling,
    Session, SessionOptions, generate,
};

fn drafts(text: &[u32], most: usize) -> Vec<u32> {
    let mut drafts = Vec::new();
    Lookup.draft(text, most, &mut drafts).unwrap();
    drafts
}

#[test]
fn the_longest_match_is_continued_and_the_last_of_equals() {
    assert_eq!(drafts(&[1, 2, 3, 4, 9, 1, 2], 3), [3, 4, 9]);
    assert_eq!(drafts(&[1, 2, 3, 8, 1, 2, 4, 8, 1, 2], 2), [4, 8]);
    assert_eq!(drafts(&[7, 1, 2, 3, 8, 1, 2, 4, 8, 7, 1, 2], 2), [3, 8]);
    // A single token never matches.
    assert_eq!(drafts(&[5, 2, 3, 4, 2], 3), [0; 0]);
    assert_eq!(drafts(&[], 3), [0; 0]);
    assert_eq!(drafts(&[1, 2, 1, 2], 0), [0; 0]);
}

#[test]
fn a_repetition_goes_on() {
    assert_eq!(drafts(&[5, 1, 2, 1, 2], 5), [1, 2, 1, 2, 1]);
    assert_eq!(drafts(&[6, 6, 6], 4), [6, 6, 6, 6]);
}

/// Every architecture.
const MODELS: [(&str, HeadScan); 7] = [
    ("bitnet_online", HeadScan::Always),
    ("bitnet_odd_shape", HeadScan::None),
    ("llama_bitnet", HeadScan::Always),
    ("llama", HeadScan::Always),
    ("gemma3", HeadScan::Always),
    ("qwen2", HeadScan::None),
    ("qwen3", HeadScan::Always),
];
const CONTEXT: usize = 90;

fn model(name: &str, head_scan: HeadScan) -> Arc<Model> {
    converted(name, &Options { head_scan, ..Options::default() })
}

fn converted(name: &str, options: &Options) -> Arc<Model> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden").join(name);
    let mut file = Vec::new();
    let checkpoint = Checkpoint::open(folder).unwrap();
    convert(&checkpoint, options, &mut file, &mut ignore_progress).unwrap();
    Arc::new(Model::from_bytes(file).unwrap())
}

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }
}

/// Drafts the tokens of a known answer, some of them wrongly.
struct Oracle {
    random: Random,
    prompt: usize,
    answer: Vec<u32>,
    wrong: u32,
}

impl Drafter for Oracle {
    fn draft(&mut self, text: &[u32], most: usize, drafts: &mut Vec<u32>) -> Result<()> {
        let most = self.random.below(most + 1);
        let rest = &self.answer[text.len() - self.prompt..];
        for index in 0..most {
            let right = rest.get(index).copied().filter(|_| self.random.below(5) > 0);
            drafts.push(right.unwrap_or(self.wrong));
        }
        Ok(())
    }
}

/// Allows tokens depending on the sum of the ids before, and records all logits.
struct Recorded {
    sum: u32,
    seen: Arc<Mutex<Vec<u32>>>,
}

impl Constraint for Recorded {
    fn forbid(&mut self, logits: &mut [f32]) -> Result<()> {
        self.seen.lock().unwrap().extend(logits.iter().map(|logit| logit.to_bits()));
        for (id, logit) in (0..).zip(logits) {
            if (self.sum + id).is_multiple_of(5) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn advance(&mut self, id: u32) -> Result<()> {
        assert_ne!((self.sum + id) % 5, 0);
        self.sum += id;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.sum % 97 == 3
    }
}

/// Everything observable of a generation: its tokens, why it ended, the text passed to the
/// listener, the tokens and the next logits of the session, all logits passed to the constraint,
/// and the next token of the sampler.
#[derive(Debug, PartialEq)]
struct Seen {
    ids: Vec<u32>,
    finish: Finish,
    heard: Vec<(u32, String)>,
    tokens: Vec<u32>,
    logits: Vec<u32>,
    constrained: Vec<u32>,
    next: u32,
}

struct Case {
    options: SessionOptions,
    sampling: Sampling,
    bias: Vec<(u32, f32)>,
    constrained: bool,
    limits: Limits,
    prompt: Vec<u32>,
    /// Number of tokens after which the listener stops.
    max_heard: usize,
}

impl Case {
    fn random(random: &mut Random, vocab: usize, cache: CacheType) -> Self {
        let some = |random: &mut Random, value: f32| [0.0, value][random.below(2)];
        let sampling = Sampling {
            temperature: some(random, 0.8),
            top_k: [0, 2, 40][random.below(3)],
            top_p: [1.0, 0.9][random.below(2)],
            min_p: [0.0, 0.1, 0.5][random.below(3)],
            repeat_penalty: [1.0, 1.0, 1.0, 1.3][random.below(4)],
            frequency_penalty: [0.0, 0.0, 0.0, 0.4][random.below(4)],
            loop_penalty: some(random, 0.8),
            seed: random.below(1000) as u64,
            ..Sampling::default()
        };
        let end_ids = (0..random.below(3)).map(|_| random.below(vocab) as u32).collect();
        let max_tokens = [None, Some(random.below(40))][random.below(2)];
        let count = 1 + random.below(40);
        let (threads, batch) = [(1, 256), (2, 5)][random.below(2)];
        Self {
            options: SessionOptions {
                threads,
                context: CONTEXT,
                batch,
                cache,
                ..SessionOptions::default()
            },
            sampling,
            bias: (0..random.below(4) / 3).map(|id| (id as u32, 1.5)).collect(),
            constrained: random.below(3) == 0,
            limits: Limits { max_tokens, end_ids, stop: Vec::new() },
            // Few different tokens, so that penalties and repetitions occur.
            prompt: (0..count).map(|_| random.below(4) as u32).collect(),
            max_heard: [usize::MAX, random.below(30)][random.below(3) / 2],
        }
    }

    fn run(&self, model: &Arc<Model>, speculation: Option<Speculation>) -> (Seen, Drafted) {
        let mut session = Session::new(Arc::clone(model), self.options).unwrap();
        session.speculate(speculation);
        let mut sampler =
            Sampler::new(self.sampling).unwrap().with_bias(self.bias.clone()).unwrap();
        let constrained = Arc::new(Mutex::new(Vec::new()));
        if self.constrained {
            let recorded = Recorded { sum: 0, seen: Arc::clone(&constrained) };
            sampler.constrain(Some(Box::new(recorded)));
        }
        let mut heard = Vec::new();
        let listen = |id: u32, text: &str| {
            heard.push((id, text.to_owned()));
            if heard.len() > self.max_heard {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let Generation { ids, finish, drafted, .. } =
            generate(&mut session, None, &mut sampler, &self.prompt, &self.limits, listen).unwrap();
        let tokens = session.tokens().to_vec();
        sampler.constrain(None);
        sampler.watch(&[]);
        session.truncate(CONTEXT - 1);
        let logits = session.next_logits(&[1]).unwrap();
        let next = sampler.sample(logits, &[]).unwrap();
        let logits = logits.values().iter().map(|logit| logit.to_bits()).collect();
        let constrained = constrained.lock().unwrap().clone();
        (Seen { ids, finish, heard, tokens, logits, constrained, next }, drafted)
    }
}

#[test]
fn drafts_change_nothing() {
    let mut all = Drafted::default();
    let mut random = Random(ChaCha8Rng::seed_from_u64(0));
    let mut ends = Vec::new();
    for (name, head_scan) in MODELS {
        let model = model(name, head_scan);
        for &cache in CacheType::ALL {
            for round in 0..8 {
                let case = Case::random(&mut random, model.config().vocab, cache);
                let (alone, none) = case.run(&model, None);
                assert_eq!(none, Drafted::default());
                let oracle = Oracle {
                    random: Random(ChaCha8Rng::seed_from_u64(round)),
                    prompt: case.prompt.len(),
                    answer: alone.ids.clone(),
                    wrong: random.below(model.config().vocab) as u32,
                };
                let (seen, drafted) = case.run(&model, Some(Speculation::eager(oracle)));
                assert!(seen == alone, "{name}, {cache}, {round}:\n{seen:?}\n{alone:?}");
                let (looked_up, _) = case.run(&model, Some(Speculation::eager(Lookup)));
                assert!(looked_up == alone, "{name}, {cache}, {round}, looked up");
                let (paced, _) = case.run(&model, Some(Speculation::default()));
                assert!(paced == alone, "{name}, {cache}, {round}, paced");
                all.drafted += drafted.drafted;
                all.accepted += drafted.accepted;
                ends.push(alone.finish);
            }
        }
    }
    assert!(all.accepted > 300 && all.drafted - all.accepted > 300, "{all:?}");
    let times = |end: Finish| ends.iter().filter(|other| **other == end).count();
    let expected = [Finish::EndOfText, Finish::Length, Finish::ContextFull, Finish::Interrupted];
    assert!(expected.iter().all(|end| times(end.clone()) > 4), "{ends:?}");
}

#[test]
fn a_model_drafts_what_it_would_say_itself() {
    let model = model("bitnet_online", HeadScan::Always);
    let rounded = Options { head: Head::Q8_0, head_scan: HeadScan::None, ..Options::default() };
    let other = converted("bitnet_online", &rounded);
    let options = SessionOptions { threads: 1, context: CONTEXT, ..SessionOptions::default() };
    let case = Case {
        options,
        sampling: Sampling::default(),
        bias: Vec::new(),
        constrained: false,
        limits: Limits { max_tokens: Some(40), ..Limits::default() },
        prompt: vec![5, 6, 7],
        max_heard: usize::MAX,
    };
    let (alone, _) = case.run(&model, None);
    // With a context shorter than the answer, and with another model of the same vocabulary.
    for (small, context) in [(&model, CONTEXT), (&model, 20), (&other, CONTEXT)] {
        let options = SessionOptions { context, ..options };
        let session = Session::new(Arc::clone(small), options).unwrap();
        let drafter = ModelDrafter::new(session, &model).unwrap();
        let (seen, drafted) = case.run(&model, Some(Speculation::eager(drafter)));
        assert_eq!(seen, alone);
        assert!(drafted.drafted > 0);
        if Arc::ptr_eq(small, &model) {
            assert_eq!(drafted.accepted, drafted.drafted);
        }
    }
}

#[test]
fn a_model_with_another_vocabulary_cannot_guess() {
    let model = model("bitnet_online", HeadScan::None);
    let other = self::model("gemma3", HeadScan::None);
    let options = SessionOptions { threads: 1, ..SessionOptions::default() };
    let session = Session::new(other, options).unwrap();
    let error = ModelDrafter::new(session, &model).err().unwrap().to_string();
    assert!(error.starts_with("the drafting model has another vocabulary: "), "{error}");
}
