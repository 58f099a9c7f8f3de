//! Generation: a grader judges the text that the model generates.

use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use trilobite_runtime::{
    ChatTemplate, Conversation, Limits, Message, Sampler, encode, end_ids,
    generate as generate_tokens,
};

use crate::bytes::sha256;
use crate::data;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::grade::Judge;
use crate::metrics::Measured;
use crate::outcome::with_cut;
use crate::place::Place;
use crate::prompt::{Preface, Shot, Shots};
use crate::protocol::{Item, Items, Protocol, Work, parse_lines};
use crate::record::Record;
use crate::results::Line;
use crate::task::{Generation, Task};
use crate::template::{self, Expression, Templates};

/// The protocol of a task with generated answers.
pub(crate) struct GenerationProtocol<'a> {
    pub(crate) task: &'a Task,
    pub(crate) definition: &'a Generation,
}

impl Protocol for GenerationProtocol<'_> {
    fn task(&self) -> &Task {
        self.task
    }

    fn items(&self, place: Place<'_>) -> Result<Items> {
        let (task, definition) = (self.task, Rc::new(self.definition.clone()));
        if definition.grader.runs_code() && !place.untrusted_code {
            return Err(Error::Untrusted { task: task.name.clone() });
        }
        let prompts = prompts(task, &definition, place.data, place.any_data)?;
        let matching = definition.matching.clone().unwrap_or_default();
        let judge =
            definition.grader.judge(&matching, place.python, place.sandbox_allow_missing)?;
        let equality = judge.equality();
        let exercise = |prompt| Exercise {
            prompt,
            definition: Rc::clone(&definition),
            judge: Rc::clone(&judge),
        };
        let mut items = Items::new(prompts.into_iter().map(exercise).collect());
        items.identity.extend(equality.map(|equality| ("equality", equality.into())));
        Ok(items)
    }

    fn measure(&self, path: &Path, lines: &[Line]) -> Result<Measured> {
        Ok(measure(self.task, &parse_lines(path, lines)?))
    }
}

/// A question with its examples.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    /// Its id, unique in the task.
    pub(crate) id: String,
    group: Option<String>,
    preface: Rc<Preface>,
    /// The question.
    question: String,
    /// The question for a model without a chat template, if it differs.
    pub(crate) plain: Option<String>,
    /// The record with the data for the grader.
    record: Record,
}

/// A prompt with its stop strings and its grader.
struct Exercise {
    prompt: Prompt,
    definition: Rc<Generation>,
    judge: Rc<dyn Judge>,
}

/// The result of an item: a line of the results file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GradedAnswer {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    group: Option<String>,
    prompt_sha256: String,
    output: String,
    extracted: Value,
    gold: Value,
    correct: bool,
    /// Further findings of the grader.
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// The prompts of a task.
pub(crate) fn prompts(
    task: &Task,
    definition: &Generation,
    folder: &Path,
    any: bool,
) -> Result<Vec<Prompt>> {
    let environment = template::environment().map_err(template::definition(task))?;
    let templates = Templates::new(&environment, task);
    let gold = definition.gold.as_deref();
    let gold = gold.map(|source| Expression::new(&environment, task, "gold", source));
    let gold = gold.transpose()?;
    let mut prompts = Vec::new();
    for records in data::records(task, folder, any)? {
        let group = records.group.as_deref();
        let mut shots = Shots::new(task, &records);
        for record in &records.items {
            let render = |key: &'static str, template: &str, record: &Record| {
                templates.render((key, template), record, group, None)
            };
            let shot = |record: &Record| {
                let question = render("prompt", &definition.prompt, record)?;
                Ok(Shot { question, answer: render("target", &definition.target, record)? })
            };
            let description = render("description", &task.description, record)?;
            let plain = definition.plain.as_ref();
            let mut prompt = Prompt {
                id: render("id", &definition.id, record)?,
                group: group.map(str::to_owned),
                preface: shots.preface(description, record, shot)?,
                question: render("prompt", &definition.prompt, record)?,
                plain: plain.map(|plain| render("plain", plain, record)).transpose()?,
                record: record.clone(),
            };
            if let Some(gold) = &gold {
                let gold = gold.value(record, group)?;
                prompt.record.fields.insert("gold".to_owned(), gold);
            }
            prompts.push(prompt);
        }
    }
    Ok(prompts)
}

impl Prompt {
    /// The prompt as plain text.
    pub(crate) fn text(&self, system: Option<&str>) -> String {
        self.preface.text(system, &self.question)
    }

    /// The prompt as plain text for a model without a chat template.
    fn plain_text(&self, system: Option<&str>) -> String {
        self.preface.text(system, self.plain.as_ref().unwrap_or(&self.question))
    }

    /// The prompt as a conversation. With `turns` each example is a turn, otherwise there is one
    /// turn.
    pub(crate) fn messages(&self, system: Option<&str>, turns: bool) -> Vec<Message> {
        self.preface.messages(system, &self.question, turns)
    }

    fn sha256(&self) -> String {
        sha256(self.text(None).as_bytes())
    }
}

impl Exercise {
    /// The prompt in the form that the engine's settings call for.
    fn prompt_for(&self, engine: &Engine) -> Result<ModelPrompt> {
        let prompting = engine.prompting();
        let system = prompting.system.as_deref();
        match engine.template(true)? {
            Some(template) => Ok(ModelPrompt::Conversation {
                template,
                messages: self.prompt.messages(system, prompting.turns),
                begun: self.definition.begun.clone(),
            }),
            None => Ok(ModelPrompt::Text(self.prompt.plain_text(system))),
        }
    }

    fn graded(&self, output: String, chat: Option<bool>) -> Result<Value> {
        let grade = self.judge.grade_in(&output, &self.prompt.record, chat)?;
        Ok(json!(GradedAnswer {
            id: self.prompt.id.clone(),
            group: self.prompt.group.clone(),
            prompt_sha256: self.prompt.sha256(),
            output,
            extracted: grade.extracted,
            gold: grade.gold,
            correct: grade.correct,
            more: grade.more,
        }))
    }
}

impl Item for Exercise {
    fn id(&self) -> &str {
        &self.prompt.id
    }

    fn prompt_sha256(&self) -> String {
        self.prompt.sha256()
    }

    fn work(&self, engine: &Engine) -> Result<Work<'_>> {
        let asked = self.prompt_for(engine)?;
        let Generation { stop, chat_stop, plain_stop, max_tokens, .. } = &*self.definition;
        let chat = matches!(asked, ModelPrompt::Conversation { .. });
        let stop = [stop.as_slice(), if chat { chat_stop } else { plain_stop }].concat();
        let (prompt, limits, cut) = tokens(engine, &asked, *max_tokens, &stop)?;
        let graded = move |output| Ok(with_cut(self.graded(output, Some(chat))?, cut));
        Ok(Work::Generate { prompt, limits, grade: Box::new(graded) })
    }

    fn asked(&self, engine: &Engine, _line: &Value) -> Result<Map<String, Value>> {
        let prompt = self.prompt_for(engine)?.text()?;
        Ok(Map::from_iter([("prompt".to_owned(), prompt.into())]))
    }

    fn grade(&self, output: String, chat: Option<bool>) -> Result<Option<Value>> {
        self.graded(output, chat).map(Some)
    }
}

/// The prompt of a model.
pub(crate) enum ModelPrompt {
    /// A text to continue.
    Text(String),
    /// A conversation whose last message the model answers.
    Conversation {
        template: ChatTemplate,
        messages: Vec<Message>,
        /// The beginning of the answer, which the model continues.
        begun: String,
    },
}

impl ModelPrompt {
    /// The prompt as the text that the model gets.
    pub(crate) fn text(&self) -> trilobite_runtime::Result<String> {
        match self {
            ModelPrompt::Text(text) => Ok(text.clone()),
            ModelPrompt::Conversation { template, messages, begun } => {
                let conversation = Conversation { messages, ..Conversation::default() };
                Ok(template.render(&conversation)? + begun)
            }
        }
    }
}

/// The tokens of a prompt and the limits of the answer. If the context has no room for it, the
/// earliest tokens of the prompt are dropped, as in lm-evaluation-harness. Returns their number too.
fn tokens(
    engine: &Engine,
    asked: &ModelPrompt,
    max_tokens: usize,
    stop: &[String],
) -> trilobite_runtime::Result<(Vec<u32>, Limits, usize)> {
    let model = engine.model();
    let tokenizer = model.tokenizer()?;
    let bos = engine.prompting().bos;
    let tokens = match asked {
        ModelPrompt::Conversation { template, messages, begun } if bos => {
            template.encode_begun(messages, begun, tokenizer)?
        }
        ModelPrompt::Conversation { .. } => tokenizer.encode(&asked.text()?, false, true)?,
        ModelPrompt::Text(text) => encode(model, text, bos)?,
    };
    let room = engine.settings().context.saturating_sub(max_tokens).max(1);
    let cut = tokens.len().saturating_sub(room);
    let limits = Limits {
        max_tokens: Some(max_tokens),
        end_ids: end_ids(model.metadata(), Some(tokenizer))?,
        stop: stop.to_vec(),
    };
    Ok((tokens[cut..].to_vec(), limits, cut))
}

/// Generates an answer by itself. Returns the number of tokens dropped from the prompt too.
pub(crate) fn generate(
    engine: &mut Engine,
    asked: &ModelPrompt,
    sampler: &mut Sampler,
    max_tokens: usize,
) -> trilobite_runtime::Result<(String, usize)> {
    let (tokens, limits, cut) = tokens(engine, asked, max_tokens, &[])?;
    let model = engine.shared_model();
    let tokenizer = Some(model.tokenizer()?);
    let go_on = |_: u32, _: &str| ControlFlow::Continue(());
    let session = engine.session();
    let generation = generate_tokens(session, tokenizer, sampler, &tokens, &limits, go_on)?;
    Ok((generation.text, cut))
}

/// The metrics of graded items.
fn measure(task: &Task, answers: &[GradedAnswer]) -> Measured {
    let values = |answer: &GradedAnswer, metric: &str| -> Vec<f64> {
        let verdict = |verdict: &Value| f64::from(verdict == &Value::Bool(true));
        // These metrics count every instruction of IFEval by itself.
        if let Some(way) = metric.strip_prefix("inst_level_") {
            let list = answer.more.get(&format!("instructions_{way}"));
            return list.and_then(Value::as_array).into_iter().flatten().map(verdict).collect();
        }
        let way = metric.rsplit_once('_').map(|(_, way)| format!("correct_{way}"));
        match way.and_then(|field| answer.more.get(&field)) {
            Some(correct) => vec![verdict(correct)],
            None => vec![f64::from(answer.correct)],
        }
    };
    Measured::of(task, answers, |answer| answer.group.as_deref(), values)
}
