use std::path::Path;
use std::sync::{LazyLock, Mutex};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use trilobite_convert::{Checkpoint, Options, convert, ignore_progress};
use trilobite_runtime::{
    Constraint, Finish, Limits, Lookup, Request, Sampler, Sampling, Scorer, Session,
    SessionOptions, Speculation, end_ids, generate,
};

use super::scheduler::BeforeStep;
use trilobite_structured::{Compiler, Form, Grammar};

use super::*;
use crate::metrics::Metrics;

const CONTEXT: usize = 160;
/// Number of events that fit without a reader: all events of a job.
const UNREAD: usize = CONTEXT + 2;

pub(super) fn model() -> Arc<Model> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden/llama_bitnet_online");
    let mut file = Vec::new();
    let checkpoint = Checkpoint::open(folder).unwrap();
    convert(&checkpoint, &Options::default(), &mut file, &mut ignore_progress).unwrap();
    Arc::new(Model::from_bytes(file).unwrap())
}

fn session() -> SessionOptions {
    SessionOptions { threads: 1, context: CONTEXT, ..SessionOptions::default() }
}

pub(super) fn options() -> EngineOptions {
    EngineOptions {
        session: session(),
        parallel: 6,
        pages: 1000,
        queue: 100,
        step: 32,
        speculation: Some(|| Speculation::eager(Lookup)),
        time: Duration::from_secs(3600),
        write_timeout: Duration::from_secs(3600),
    }
}

/// The settings of a job, so that it can be created twice.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    prompt: Vec<u32>,
    sampling: Sampling,
    choices: u64,
    max_tokens: Option<usize>,
    stop: Vec<String>,
    prompt_logprobs: Option<usize>,
    logprobs: Option<usize>,
    /// Whether the answer must be a list of numbers.
    formed: bool,
}

/// The constraint that allows a list of numbers.
static LIST: LazyLock<Form> = LazyLock::new(|| {
    let (model, number) = (model(), serde_json::json!({"type": "number"}));
    let tokenizer = model.tokenizer().unwrap();
    let ends = end_ids(model.metadata(), Some(tokenizer)).unwrap();
    let compiler = Compiler::new(tokenizer, model.config().vocab, &ends).unwrap();
    let schema = serde_json::json!({"type": "array", "items": number, "maxItems": 4});
    compiler.compile(&Grammar::Schema(schema)).unwrap()
});

impl Ask {
    pub(super) fn greedy(prompt: &[u32], max_tokens: usize) -> Self {
        Self {
            prompt: prompt.to_vec(),
            sampling: Sampling::default(),
            choices: 1,
            max_tokens: Some(max_tokens),
            stop: Vec::new(),
            prompt_logprobs: None,
            logprobs: None,
            formed: false,
        }
    }

    fn sampler(&self, choice: u64) -> Sampler {
        let seed = self.sampling.seed.wrapping_add(choice);
        let mut sampler = Sampler::new(Sampling { seed, ..self.sampling }).unwrap();
        sampler.constrain(self.formed.then(|| LIST.begin()));
        sampler
    }

    fn limits(&self, model: &Model) -> Limits {
        let end_ids = end_ids(model.metadata(), model.tokenizer().ok()).unwrap();
        Limits { max_tokens: self.max_tokens, end_ids, stop: self.stop.clone() }
    }

    pub(super) fn job(&self, model: &Model) -> Job {
        Job {
            prompt: self.prompt.clone(),
            samplers: (0..self.choices).map(|choice| self.sampler(choice)).collect(),
            limits: self.limits(model),
            prompt_logprobs: self.prompt_logprobs,
            logprobs: self.logprobs,
        }
    }
}

/// A choice of an answer, as its events describe it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    ids: Vec<u32>,
    text: String,
    finish: Option<Finish>,
    logprobs: Vec<TokenLogprobs>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Whole {
    pub(super) cached: usize,
    prompt: Vec<Option<TokenLogprobs>>,
    choices: Vec<Told>,
}

pub(super) fn read(mut answer: Answer) -> std::result::Result<Whole, Failure> {
    let mut whole = Whole { cached: 0, prompt: Vec::new(), choices: Vec::new() };
    while let Some(event) = answer.blocking_next() {
        let choice = match event {
            Event::Prompt { cached, logprobs } => {
                (whole.cached, whole.prompt) = (cached, logprobs);
                continue;
            }
            Event::Failed(failure) => return Err(failure),
            Event::Empty { choice } | Event::Token(Token { choice, .. }) => choice,
        };
        whole.choices.resize(whole.choices.len().max(choice + 1), Told::default());
        let told = &mut whole.choices[choice];
        if let Event::Token(token) = event {
            told.ids.push(token.id);
            told.text += &token.text;
            told.finish = token.finish;
            told.logprobs.extend(token.logprobs);
        }
    }
    Ok(whole)
}

/// Answers jobs in this thread, like a server that receives all at once. `before_step` gets the
/// tokens of each part of a step.
fn answered(
    model: &Arc<Model>,
    options: EngineOptions,
    jobs: Vec<Job>,
    metrics: &ModelMetrics,
    before_step: Option<BeforeStep>,
) -> Vec<std::result::Result<Whole, Failure>> {
    let queue = Queue::new(options.queue, metrics.queued.clone());
    let arrived = Instant::now();
    let (waiting, answers): (Vec<_>, Vec<_>) = jobs
        .into_iter()
        .map(|job| {
            let (events, answer) = Answer::channel(job.samplers.len(), UNREAD);
            let deadline = arrived + options.time;
            (Waiting { job, events, arrived, deadline }, answer)
        })
        .unzip();
    queue.push(waiting).unwrap();
    queue.close();
    let forward = Forward::new(Arc::clone(model), options.session).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let mut scheduler = Scheduler::new(forward, tokenizer, &queue, options, metrics.clone(), None);
    scheduler.before_step = before_step;
    scheduler.work();
    answers.into_iter().map(read).collect()
}

/// The choices of a request as `trilobite run` and `trilobite score` would compute them.
fn alone(model: &Arc<Model>, ask: &Ask) -> (Vec<Told>, Vec<Option<f64>>) {
    let session = || {
        let mut session = Session::new(Arc::clone(model), session()).unwrap();
        session.speculate(None);
        session
    };
    let mut scorer = Scorer::new(session());
    let mut score = |context: &[u32], id: u32| {
        let request = Request { context: context.to_vec(), continuation: vec![id] };
        scorer.score(&request).unwrap().logprob
    };
    let choices = (0..ask.choices)
        .map(|choice| {
            let (tokenizer, mut sampler) = (model.tokenizer().unwrap(), ask.sampler(choice));
            let limits = ask.limits(model);
            let go = |_: u32, _: &str| std::ops::ControlFlow::Continue(());
            let made =
                generate(&mut session(), Some(tokenizer), &mut sampler, &ask.prompt, &limits, go)
                    .unwrap();
            let logprob = |(at, &id): (usize, &u32)| TokenLogprobs {
                id,
                logprob: score(&[&ask.prompt[..], &made.ids[..at]].concat(), id),
                top: Vec::new(),
            };
            let logprobs = match ask.logprobs {
                Some(_) => made.ids.iter().enumerate().map(logprob).collect(),
                None => Vec::new(),
            };
            let finish = (ask.max_tokens != Some(0)).then_some(made.finish);
            Told { ids: made.ids, text: made.text, finish, logprobs }
        })
        .collect();
    let prompt = match ask.prompt_logprobs {
        Some(_) => (0..ask.prompt.len())
            .map(|at| (at > 0).then(|| score(&ask.prompt[..at], ask.prompt[at])))
            .collect(),
        None => Vec::new(),
    };
    (choices, prompt)
}

pub(super) fn assert_alone(model: &Arc<Model>, ask: &Ask, whole: &Whole) {
    let (choices, prompt) = alone(model, ask);
    // Another test compares the likeliest tokens.
    let mut told = whole.choices.clone();
    told.iter_mut().flat_map(|told| &mut told.logprobs).for_each(|known| known.top.clear());
    assert_eq!(told, choices, "{ask:?}");
    let known: Vec<Option<f64>> =
        whole.prompt.iter().map(|known| known.as_ref().map(|known| known.logprob)).collect();
    assert_eq!(known, prompt, "{ask:?}");
}

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// A random request. Many have a common beginning.
    fn ask(&mut self, beginnings: &[Vec<u32>]) -> Ask {
        let mut prompt = self.one(beginnings);
        prompt.truncate(self.below(prompt.len()) + 1);
        let more = self.below(40);
        prompt.extend((0..more).map(|_| self.below(300) as u32));
        let sampling = Sampling {
            temperature: self.one(&[0.0, 0.7, 1.0]),
            top_k: self.one(&[0, 5]),
            top_p: self.one(&[1.0, 0.9]),
            min_p: self.one(&[0.0, 0.2]),
            repeat_penalty: self.one(&[1.0, 1.0, 1.2]),
            frequency_penalty: self.one(&[0.0, 0.0, 0.5]),
            presence_penalty: self.one(&[0.0, 0.0, -0.5]),
            loop_penalty: self.one(&[0.0, 0.8]),
            seed: self.below(1000) as u64,
        };
        Ask {
            prompt,
            sampling,
            choices: self.one(&[1, 1, 2, 3]),
            max_tokens: self.one(&[None, Some(0), Some(1), Some(20), Some(20), Some(60)]),
            stop: self.one(&[vec![], vec![], vec!["e".to_owned(), "ab".to_owned()]]),
            prompt_logprobs: self.one(&[None, None, None, Some(0), Some(3)]),
            logprobs: self.one(&[None, None, Some(0), Some(4)]),
            formed: self.one(&[false, false, true]),
        }
    }
}

#[test]
fn answers_have_the_bits_that_each_has_alone() {
    let model = model();
    let mut preemptions = 0;
    let mut cached = 0;
    let (mut drafted, mut accepted) = (0, 0);
    // With room for all runs, and for little more than one. Few runs at a time have drafts.
    for (seed, pages, parallel) in [(1, 1000, 6), (2, 12, 6), (3, 6, 6), (4, 1000, 2), (5, 6, 3)] {
        let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
        let beginnings: Vec<Vec<u32>> =
            (0..3).map(|_| (0..90).map(|_| random.below(300) as u32).collect()).collect();
        let asks: Vec<Ask> = (0..24).map(|_| random.ask(&beginnings)).collect();
        let metrics = Metrics::new().of_model("test");
        let step = [7, 32, 16][seed as usize % 3];
        let options = EngineOptions { pages, parallel, step, ..options() };
        let jobs = asks.iter().map(|ask| ask.job(&model)).collect();
        let wholes = answered(&model, options, jobs, &metrics, None);
        for (ask, whole) in asks.iter().zip(wholes) {
            assert_alone(&model, ask, &whole.unwrap());
        }
        preemptions += metrics.preemptions.get();
        cached += metrics.cached_tokens.get();
        drafted += metrics.drafted_tokens.get();
        accepted += metrics.accepted_tokens.get();
    }
    assert!(accepted > 50 && drafted - accepted > 50, "{accepted} of {drafted} drafts");
    assert!(preemptions > 0 && cached > 0, "{preemptions} preemptions, {cached} cached tokens");
}

#[test]
fn the_likeliest_tokens_come_first() {
    let model = model();
    let ask = Ask { logprobs: Some(5), prompt_logprobs: Some(5), ..Ask::greedy(&[7, 8, 9], 4) };
    let metrics = Metrics::new().of_model("test");
    let whole = answered(&model, options(), vec![ask.job(&model)], &metrics, None).remove(0);
    let whole = whole.unwrap();
    assert_eq!(whole.prompt[0], None);
    let prompt = whole.prompt[1..].iter().flatten().zip(&ask.prompt[1..]);
    let answer = whole.choices[0].logprobs.iter().zip(&whole.choices[0].ids);
    for (known, &id) in prompt.chain(answer) {
        assert_eq!((known.id, known.top.len()), (id, 5));
        assert!(known.top.is_sorted_by(|a, b| a.1 >= b.1));
        assert!(known.top[0].1 >= known.logprob);
    }
    // A greedy answer has the likeliest tokens.
    for known in &whole.choices[0].logprobs {
        assert_eq!(known.top[0], (known.id, known.logprob));
    }
}

#[test]
fn what_was_read_before_is_not_read_again() {
    let model = model();
    let engine = engine(&model, options());
    let prompt: Vec<u32> = (0..70).map(|id| id * 3).collect();
    let cached = |prompt: &[u32]| {
        let job = Ask::greedy(prompt, 4).job(&model);
        let whole = read(engine.submit(vec![job]).unwrap().remove(0)).unwrap();
        assert_alone(&model, &Ask::greedy(prompt, 4), &whole);
        whole.cached
    };
    assert_eq!(cached(&prompt), 0);
    // All but the last token, whose logits are needed.
    assert_eq!(cached(&prompt), 69);
    assert_eq!(cached(&prompt[..50]), 49);
    assert_eq!(cached(&[&prompt[..41], &[1, 2, 3]].concat()), 41);
    assert_eq!(cached(&[1, 2, 3]), 0);
}

#[test]
fn prompts_that_come_together_share_what_they_begin_with() {
    let model = model();
    let beginning: Vec<u32> = (0..100).collect();
    let asks: Vec<Ask> =
        (0..5).map(|last| Ask::greedy(&[&beginning[..], &[200 + last]].concat(), 3)).collect();
    let metrics = Metrics::new().of_model("test");
    let jobs = asks.iter().map(|ask| ask.job(&model)).collect();
    let wholes = answered(&model, options(), jobs, &metrics, None);
    for (ask, whole) in asks.iter().zip(wholes) {
        assert_alone(&model, ask, &whole.unwrap());
    }
    // No run waits for another for fewer than eight tokens.
    let cached = metrics.cached_tokens.get();
    assert!((4 * 93..=4 * 100).contains(&cached), "{cached} of 400");
}

#[test]
fn a_prompt_is_read_in_pieces_between_the_tokens_of_answers() {
    let model = model();
    let asks = [Ask::greedy(&[1], 30), Ask::greedy(&[2; 120], 1)];
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&steps);
    let look: BeforeStep = Box::new(move |parts| {
        seen.lock().unwrap().push(parts.iter().map(|part| part.len()).collect::<Vec<_>>());
    });
    let options = EngineOptions { step: 16, speculation: None, ..options() };
    let jobs = asks.iter().map(|ask| ask.job(&model)).collect();
    answered(&model, options, jobs, &Metrics::new().of_model("test"), Some(look));
    let steps = steps.lock().unwrap();
    // 120 tokens in steps of 16, in each of which the other answer gets a token.
    assert_eq!(steps[..8], [vec![vec![1, 16]; 7], vec![vec![1, 8]]].concat());
    assert_eq!(steps.len(), 30);
}

#[test]
fn a_fault_ends_the_request_that_has_it() {
    struct Faulty(usize);
    impl Constraint for Faulty {
        fn forbid(&mut self, _: &mut [f32]) -> trilobite_runtime::Result<()> {
            Ok(())
        }
        fn advance(&mut self, _: u32) -> trilobite_runtime::Result<()> {
            self.0 += 1;
            assert!(self.0 < 5, "the fifth token");
            Ok(())
        }
    }
    let model = model();
    let asks: Vec<Ask> = (1..5).map(|id| Ask::greedy(&[id; 40], 20)).collect();
    let mut jobs: Vec<Job> = asks.iter().map(|ask| ask.job(&model)).collect();
    let sampler = jobs[1].samplers.remove(0).with_constraint(Box::new(Faulty(0)));
    jobs[1].samplers.push(sampler);
    // A step with token 4 fails as a whole.
    let look: BeforeStep =
        Box::new(|parts| assert!(!parts.iter().any(|part| part.contains(&4)), "the token 4"));
    let metrics = Metrics::new().of_model("test");
    let wholes = answered(&model, options(), jobs, &metrics, Some(look));
    assert_eq!(wholes[1], Err(Failure::Panic("the fifth token".to_owned())));
    assert_eq!(wholes[3], Err(Failure::Panic("the token 4".to_owned())));
    for index in [0, 2] {
        assert_alone(&model, &asks[index], wholes[index].as_ref().unwrap());
    }
}

fn engine(model: &Arc<Model>, options: EngineOptions) -> Engine {
    Engine::start(model, options, Metrics::new().of_model("test"), None).unwrap()
}

/// A request whose answer is longer than what fits without a reader.
fn long() -> Ask {
    Ask { sampling: Sampling { temperature: 1.0, ..Sampling::default() }, ..Ask::greedy(&[1], 150) }
}

fn long_job(model: &Model) -> Job {
    let job = long().job(model);
    Job { limits: Limits { end_ids: Vec::new(), ..job.limits }, ..job }
}

#[test]
fn who_does_not_read_keeps_nobody_waiting_and_is_given_up() {
    let model = model();
    let write_timeout = Duration::from_millis(1);
    let engine = engine(&model, EngineOptions { write_timeout, parallel: 1, ..options() });
    let slow = engine.submit(vec![long_job(&model)]).unwrap().remove(0);
    // Wait until the other run, whose client does not read, has been aborted.
    let ask = Ask::greedy(&[5, 6], 5);
    let whole = read(engine.submit(vec![ask.job(&model)]).unwrap().remove(0)).unwrap();
    assert_alone(&model, &ask, &whole);
    // The buffer was full, so the answer ends without a reason.
    assert_eq!(read(slow), Err(Failure::Ended));
}

#[test]
fn who_does_not_read_gives_up_pages() {
    let model = model();
    let metrics = Metrics::new().of_model("test");
    // Pages for one context and a copied page.
    let options = EngineOptions { parallel: 2, pages: 0, ..options() };
    let engine = Engine::start(&model, options, metrics.clone(), None).unwrap();
    let slow = engine.submit(vec![long_job(&model)]).unwrap().remove(0);
    let other = engine.submit(vec![long_job(&model)]).unwrap().remove(0);
    // The other run continues to its end beside the first, which is older.
    let whole = read(other).unwrap();
    assert_eq!(whole.choices[0].ids.len(), 150);
    assert_eq!(metrics.preemptions.get(), 1);
    assert_eq!(read(slow).unwrap(), whole);
}

#[test]
fn who_leaves_makes_room() {
    let model = model();
    let engine = engine(&model, EngineOptions { parallel: 1, ..options() });
    let left = engine.submit(vec![long_job(&model)]).unwrap();
    let waiting = engine.submit(vec![long_job(&model)]).unwrap();
    let ask = Ask::greedy(&[5, 6], 5);
    let answer = engine.submit(vec![ask.job(&model)]).unwrap().remove(0);
    drop((left, waiting));
    assert_alone(&model, &ask, &read(answer).unwrap());
}

#[test]
fn a_full_queue_refuses_and_an_ending_one_too() {
    let model = model();
    let engine = engine(&model, EngineOptions { parallel: 1, queue: 2, ..options() });
    let mut first = engine.submit(vec![long_job(&model)]).unwrap().remove(0);
    // The first run has started, and stays because its client does not read.
    assert!(matches!(first.blocking_next(), Some(Event::Prompt { .. })));
    let many = |count: usize| (0..count).map(|_| long_job(&model)).collect::<Vec<_>>();
    assert!(matches!(engine.submit(many(3)), Err(Refused::TooMany { limit: 2 })));
    let second = engine.submit(many(1)).unwrap().remove(0);
    assert!(matches!(engine.submit(many(2)), Err(Refused::Full)));
    engine.close();
    assert!(matches!(engine.submit(many(1)), Err(Refused::Ending)));
    // Accepted jobs are answered.
    assert_eq!(read(first).unwrap().choices[0].ids.len(), 150);
    assert_eq!(read(second).unwrap().choices[0].ids.len(), 150);
}

#[test]
fn an_engine_that_is_dropped_tells_who_waits() {
    let model = model();
    let engine = engine(&model, EngineOptions { parallel: 1, ..options() });
    let running = engine.submit(vec![long_job(&model)]).unwrap().remove(0);
    let waiting = engine.submit(vec![long_job(&model)]).unwrap().remove(0);
    drop(engine);
    assert_eq!(read(running), Err(Failure::Ended));
    assert_eq!(read(waiting), Err(Failure::Ended));
}

#[test]
fn a_request_ends_when_its_time_is_over() {
    let model = model();
    let options = EngineOptions { time: Duration::ZERO, ..options() };
    let wholes =
        answered(&model, options, vec![long_job(&model)], &Metrics::new().of_model("test"), None);
    assert_eq!(wholes, [Err(Failure::Time(Duration::ZERO))]);
}
