//! Generation: the model's answer is graded.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use rand_mt::Mt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use trilobite_runtime::{
    ChatTemplate, Conversation, Limits, Message, Sampler, Sampling, encode, end_ids,
    generate as generate_tokens,
};

use crate::data::{self, Record, sha256};
use crate::engine::Engine;
use crate::error::Result;
use crate::grade::Judge;
use crate::metrics::Metric;
use crate::task::{Generation, Task};
use crate::template::{self, Templates};

/// The seed with which the harness draws examples.
const SHOT_SEED: u32 = 1234;

/// An item that is ready to be answered.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    /// Its id, unique in the task.
    pub(crate) id: String,
    /// Examples: question and answer.
    pub(crate) shots: Vec<(String, String)>,
    /// The question.
    pub(crate) question: String,
    /// The prompt for a model without a chat template, where it is not the question.
    pub(crate) plain: Option<String>,
    /// What the grader compares the answer with.
    record: Record,
}

/// A graded item: a line of the results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    id: String,
    prompt_sha256: String,
    output: String,
    extracted: Value,
    gold: Value,
    correct: bool,
    /// What else the grader found.
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// What a grader finds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grade {
    /// The answer as it was found in the output.
    pub(crate) extracted: Value,
    /// What it was compared with.
    pub(crate) gold: Value,
    /// Whether they agree.
    pub(crate) correct: bool,
    /// Further findings: `correct_WAY` counts for the metrics that end in `_WAY`.
    pub(crate) more: Map<String, Value>,
}

/// The items of a task.
pub(crate) fn prompts(
    task: &Task,
    generation: &Generation,
    folder: &Path,
    any: bool,
) -> Result<Vec<Prompt>> {
    let environment = template::environment().map_err(template::definition(task))?;
    let templates = Templates::new(&environment);
    let mut prompts = Vec::new();
    for records in data::records(task, folder, any)? {
        let mut draw = Draw::new(SHOT_SEED);
        for record in &records.items {
            let render =
                |template: &str, record: &Record| templates.render(template, record, None, None);
            let mut shots = Vec::new();
            for index in draw.sample(records.shots.len(), task.shots) {
                let shot = &records.shots[index];
                let question = render(&generation.prompt, shot)?;
                shots.push((question, render(&generation.target, shot)?));
            }
            prompts.push(Prompt {
                id: render(&generation.id, record)?,
                shots,
                question: render(&generation.prompt, record)?,
                plain: generation.plain.as_ref().map(|plain| render(plain, record)).transpose()?,
                record: record.clone(),
            });
        }
    }
    Ok(prompts)
}

/// Python's `random.Random(seed).sample`.
pub(crate) struct Draw(Mt);

impl Draw {
    pub(crate) fn new(seed: u32) -> Self {
        Self(Mt::new_with_key([seed]))
    }

    /// A number below `n`, by rejection.
    fn below(&mut self, n: usize) -> usize {
        let bits = (usize::BITS - n.leading_zeros()).clamp(1, 32);
        loop {
            let value = (self.0.next_u32() >> (32 - bits)) as usize;
            if value < n {
                return value;
            }
        }
    }

    /// `count` different numbers below `n`, all of them if there are no more.
    pub(crate) fn sample(&mut self, n: usize, count: usize) -> Vec<usize> {
        let count = count.min(n);
        // Python picks from a list where that is smaller than a set of the numbers drawn.
        let set = 21
            + if count > 5 { 4usize.pow(((count * 3) as f64).log(4.0).ceil() as u32) } else { 0 };
        if n <= set {
            let mut pool: Vec<usize> = (0..n).collect();
            return (0..count)
                .map(|done| {
                    let at = self.below(n - done);
                    let value = pool[at];
                    pool[at] = pool[n - done - 1];
                    value
                })
                .collect();
        }
        let mut drawn = Vec::new();
        while drawn.len() < count {
            let value = self.below(n);
            if !drawn.contains(&value) {
                drawn.push(value);
            }
        }
        drawn
    }
}

impl Prompt {
    /// The prompt as one text.
    pub(crate) fn text(&self) -> String {
        let shots = self.shots.iter().map(|(question, answer)| format!("{question}{answer}\n\n"));
        shots.chain([self.question.clone()]).collect()
    }

    pub(crate) fn prompt_sha256(&self) -> String {
        sha256(self.text().as_bytes())
    }

    /// The prompt as a conversation: one turn with all examples in it, or a turn for each.
    pub(crate) fn messages(&self, turns: bool) -> Vec<Message> {
        if !turns {
            return vec![Message::new("user", self.text())];
        }
        let mut messages = Vec::new();
        for (question, answer) in &self.shots {
            messages.push(Message::new("user", question));
            messages.push(Message::new("assistant", answer.trim_start()));
        }
        messages.push(Message::new("user", &self.question));
        messages
    }
}

/// Answers an item and grades the answer.
pub(crate) fn answer(
    engine: &mut Engine,
    generation: &Generation,
    judge: &dyn Judge,
    prompt: &Prompt,
) -> Result<Answer> {
    let messages = prompt.messages(engine.settings().turns);
    let text = prompt.plain.clone().unwrap_or_else(|| prompt.text());
    let asked = Asked { text: &text, messages: &messages, begun: &generation.begun };
    let chats = engine.chats()?;
    let more = if chats { &generation.chat_stop } else { &generation.plain_stop };
    let stop = [generation.stop.as_slice(), more].concat();
    let mut sampler = Sampler::new(Sampling::default())?;
    let output = generate(engine, &asked, &mut sampler, generation.max_tokens, &stop)?;
    graded(judge, prompt, output, Some(chats))
}

/// An answer that came from elsewhere, graded.
pub(crate) fn graded(
    judge: &dyn Judge,
    prompt: &Prompt,
    output: String,
    chat: Option<bool>,
) -> Result<Answer> {
    let grade = judge.grade_in(&output, &prompt.record, chat)?;
    Ok(Answer {
        id: prompt.id.clone(),
        prompt_sha256: prompt.prompt_sha256(),
        output,
        extracted: grade.extracted,
        gold: grade.gold,
        correct: grade.correct,
        more: grade.more,
    })
}

/// What a model is asked: as plain text, or as a conversation where it has a chat template.
pub(crate) struct Asked<'a> {
    /// The plain text.
    pub(crate) text: &'a str,
    /// The conversation.
    pub(crate) messages: &'a [Message],
    /// The beginning of the answer in the conversation.
    pub(crate) begun: &'a str,
}

/// Generates an answer. Of a prompt that leaves no room for it, the earliest tokens are dropped, as
/// lm-evaluation-harness does.
pub(crate) fn generate(
    engine: &mut Engine,
    asked: &Asked<'_>,
    sampler: &mut Sampler,
    max_tokens: usize,
    stop: &[String],
) -> trilobite_runtime::Result<String> {
    let model = engine.shared_model();
    let tokenizer = model.tokenizer()?;
    let (chat, bos) = (engine.settings().chat, engine.settings().bos);
    let template = ChatTemplate::from_metadata(model.metadata(), tokenizer)?;
    let tokens = match template.filter(|_| chat) {
        Some(template) if bos => template.encode_begun(asked.messages, asked.begun, tokenizer)?,
        Some(template) => {
            let conversation = Conversation { messages: asked.messages, ..Conversation::default() };
            let prompt = template.render(&conversation)? + asked.begun;
            tokenizer.encode(&prompt, false, true)?
        }
        None => encode(&model, asked.text, bos)?,
    };
    let room = engine.settings().context.saturating_sub(max_tokens).max(1);
    let tokens = &tokens[tokens.len().saturating_sub(room)..];
    let limits = Limits {
        max_tokens: Some(max_tokens),
        end_ids: end_ids(model.metadata(), Some(tokenizer))?,
        stop: stop.to_vec(),
    };
    let go_on = |_: u32, _: &str| ControlFlow::Continue(());
    let session = engine.session();
    Ok(generate_tokens(session, Some(tokenizer), sampler, tokens, &limits, go_on)?.text)
}

/// The metrics of graded items.
pub(crate) fn metrics(task: &Task, answers: &[Answer]) -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::new();
    for name in &task.metrics {
        let field = name.rsplit_once('_').map(|(_, way)| format!("correct_{way}"));
        let value = |answer: &Answer| match field.as_deref() {
            Some(field) if answer.more.contains_key(field) => {
                f64::from(answer.more.get(field).and_then(Value::as_bool) == Some(true))
            }
            _ => f64::from(answer.correct),
        };
        // Each instruction of IFEval counts by itself in the metrics named after it.
        let list = name.strip_prefix("inst_level_").map(|way| format!("instructions_{way}"));
        let values: Vec<f64> = match list {
            Some(list) => {
                let verdicts =
                    answers.iter().filter_map(|answer| answer.more.get(&list)?.as_array());
                verdicts.flatten().map(|verdict| f64::from(verdict == &Value::Bool(true))).collect()
            }
            None => answers.iter().map(value).collect(),
        };
        metrics.insert(name.clone(), Metric::mean(&values));
    }
    metrics
}
