//! MT-bench: conversations of two questions, rated by another model.

pub(crate) mod client;
mod judge;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use trilobite_runtime::{Message, Sampler, Sampling};

pub use client::JudgeServer;
use judge::{Ratings, judged};

use crate::bytes::sha256;
use crate::data;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::generation::{self, ModelPrompt};
use crate::metrics::Measured;
use crate::outcome::with_cut;
use crate::place::Place;
use crate::protocol::{Item, Items, Protocol, Work, parse_lines};
use crate::record::Record;
use crate::results::Line;
use crate::task::{Conversation, Task};

/// Number of turns of a conversation.
const TURNS: usize = 2;
/// The reason for a missing score when no judge was given.
const NO_JUDGE: &str = "no judge was given";
/// The suffix of the file of a task's judgments.
const JUDGMENTS: &str = ".judgments.jsonl";

/// The protocol of a task whose answers are rated by another model.
pub(crate) struct ConversationProtocol<'a> {
    pub(crate) task: &'a Task,
    pub(crate) definition: &'a Conversation,
}

impl Protocol for ConversationProtocol<'_> {
    fn task(&self) -> &Task {
        self.task
    }

    fn items(&self, place: Place<'_>) -> Result<Items> {
        if place.judge.is_some() {
            // A missing prompt of the judge is an error before the model answers anything.
            Ratings::new(self.task, place.data, place.any_data)?;
        }
        Ok(Items::new(dialogues(self.task, self.definition, place.data, place.any_data)?))
    }

    fn measure(&self, path: &Path, lines: &[Line]) -> Result<Measured> {
        parse_lines::<AnsweredDialogue>(path, lines)?;
        Ok(Measured { not_run: Some(NO_JUDGE), ..Measured::default() })
    }

    fn rate(
        &self,
        place: Place<'_>,
        path: &Path,
        lines: &[Line],
        proceed: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Measured>> {
        let Some(server) = place.judge else { return Ok(None) };
        let (task, definition) = (self.task, self.definition);
        let ratings = Ratings::new(task, place.data, place.any_data)?;
        let dialogues = dialogues(task, definition, place.data, place.any_data)?;
        let answers: Vec<AnsweredDialogue> = parse_lines(path, lines)?;
        let of = |answer: &AnsweredDialogue| dialogues.iter().find(|item| item.id == answer.id);
        let held = answers.into_iter().filter_map(|answer| Some((of(&answer)?, answer)));
        let held: Vec<_> = held.collect();
        let path = place.output.join(format!("{}{JUDGMENTS}", task.name));
        let metrics = judged(&ratings, (task, definition), &held, server, &path, proceed)?;
        Ok(Some(Measured { metrics, ..Measured::default() }))
    }
}

/// A conversation, ready to be run.
#[derive(Clone, Debug)]
struct Dialogue {
    /// Its id, unique in the task.
    id: String,
    question_id: u64,
    category: String,
    temperature: f32,
    max_tokens: usize,
    /// The messages of the user.
    turns: Vec<String>,
}

/// The result of a conversation: a line of the results file, in FastChat's format with two more
/// fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AnsweredDialogue {
    id: String,
    prompt_sha256: String,
    question_id: u64,
    answer_id: String,
    model_id: String,
    choices: Vec<AnswerSet>,
    tstamp: f64,
}

/// A set of answers to the same questions. FastChat allows several; here there is one.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AnswerSet {
    index: usize,
    turns: Vec<String>,
}

impl AnsweredDialogue {
    /// The answer in a turn.
    fn turn(&self, turn: usize) -> &str {
        self.choices.first().and_then(|choice| choice.turns.get(turn)).map_or("", String::as_str)
    }
}

/// The items of a task.
fn dialogues(
    task: &Task,
    definition: &Conversation,
    folder: &Path,
    any: bool,
) -> Result<Vec<Dialogue>> {
    let mut dialogues = Vec::new();
    for records in data::records(task, folder, any)? {
        for record in &records.items {
            let category = record.text("category")?.to_owned();
            let temperature = definition.temperatures.get(&category);
            let temperature = *temperature.ok_or_else(|| {
                let known: Vec<&str> = definition.temperatures.keys().map(String::as_str).collect();
                record.error(format!("category {category:?} is none of {}", known.join(", ")))
            })?;
            let question_id = question_id(record)?;
            dialogues.push(Dialogue {
                id: question_id.to_string(),
                question_id,
                category,
                temperature,
                max_tokens: definition.max_tokens,
                turns: turns(record, "turns")?,
            });
        }
    }
    Ok(dialogues)
}

fn question_id(record: &Record) -> Result<u64> {
    let id = record.fields.get("question_id").and_then(|id| u64::try_from(id.clone()).ok());
    id.ok_or_else(|| record.error("\"question_id\" is not a whole number"))
}

/// The field of a record with the texts of two turns.
fn turns(record: &Record, field: &str) -> Result<Vec<String>> {
    let list = record.fields.get(field).and_then(|list| Vec::deserialize(list.clone()).ok());
    let fits = |list: &Vec<String>| list.len() == TURNS;
    list.filter(fits).ok_or_else(|| record.error(format!("{field:?} is not a list of two texts")))
}

impl Dialogue {
    /// The prompt after these answers.
    fn prompt_for(&self, engine: &Engine, answers: &[String]) -> Result<ModelPrompt> {
        let system = engine.prompting().system.iter();
        let mut messages: Vec<Message> =
            system.map(|system| Message::new("system", system)).collect();
        for (number, question) in self.turns.iter().take(answers.len() + 1).enumerate() {
            messages.push(Message::new("user", question));
            messages.extend(answers.get(number).map(|answer| Message::new("assistant", answer)));
        }
        Ok(match engine.template(true)? {
            Some(template) => {
                ModelPrompt::Conversation { template, messages, begun: String::new() }
            }
            None => ModelPrompt::Text(plain(&messages)),
        })
    }

    /// Asks the second question after the model has answered the first.
    fn answer(&self, engine: &mut Engine) -> Result<Value> {
        let sampling = Sampling { temperature: self.temperature, ..Sampling::default() };
        // One random number generator for both turns, reseeded for each conversation.
        let mut sampler = Sampler::new(sampling).map_err(Error::Model)?;
        let (mut answers, mut most_cut) = (Vec::<String>::new(), 0);
        for _ in &self.turns {
            let asked = self.prompt_for(engine, &answers)?;
            let (output, cut) =
                generation::generate(engine, &asked, &mut sampler, self.max_tokens)?;
            most_cut = most_cut.max(cut);
            answers.push(output.trim().to_owned());
        }
        let identity = format!("{} {} {answers:?}", engine.model_sha256(), self.id);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let answered = AnsweredDialogue {
            id: self.id.clone(),
            prompt_sha256: self.prompt_sha256(),
            question_id: self.question_id,
            answer_id: sha256(identity.as_bytes())[..22].to_owned(),
            model_id: engine.name().to_owned(),
            choices: vec![AnswerSet { index: 0, turns: answers }],
            tstamp: now.as_secs_f64(),
        };
        Ok(with_cut(json!(answered), most_cut))
    }
}

impl Item for Dialogue {
    fn id(&self) -> &str {
        &self.id
    }

    fn prompt_sha256(&self) -> String {
        sha256(self.turns.join("\0").as_bytes())
    }

    fn work(&self, _engine: &Engine) -> Result<Work<'_>> {
        Ok(Work::Answer(Box::new(|engine| self.answer(engine))))
    }

    fn asked(&self, engine: &Engine, line: &Value) -> Result<Map<String, Value>> {
        let answers = line.pointer("/choices/0/turns").and_then(Value::as_array);
        let answers: Vec<String> =
            answers.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let turns = 0..self.turns.len();
        let prompt = |turn: usize| -> Result<Value> {
            let before = answers.get(..turn).unwrap_or_default();
            Ok(self.prompt_for(engine, before)?.text()?.into())
        };
        let prompts: Vec<Value> = turns.map(prompt).collect::<Result<_>>()?;
        Ok(Map::from_iter([("prompts".to_owned(), prompts.into())]))
    }
}

/// A conversation for a model without a chat template: its messages separated by empty lines.
fn plain(messages: &[Message]) -> String {
    messages.iter().map(|message| format!("{}\n\n", message.text())).collect()
}
