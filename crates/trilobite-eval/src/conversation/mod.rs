//! MT-bench: conversations of two questions, rated by another model.

mod client;
mod judge;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use trilobite_runtime::{Message, Sampler, Sampling};

pub use client::JudgeServer;
pub(crate) use judge::{Ratings, judged};

use crate::data::{self, Record, sha256};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::generation::{self, Asked};
use crate::task::{Conversation as Definition, Task};

/// Turns of a conversation.
const TURNS: usize = 2;

/// A conversation that is ready to be held.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    /// Its id, unique in the task.
    pub(crate) id: String,
    question_id: u64,
    category: String,
    temperature: f32,
    /// The user's part.
    turns: Vec<String>,
}

impl Conversation {
    pub(crate) fn prompt_sha256(&self) -> String {
        sha256(self.turns.join("\0").as_bytes())
    }
}

/// A held conversation: a line of the results, in FastChat's format with two more fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    id: String,
    prompt_sha256: String,
    question_id: u64,
    answer_id: String,
    model_id: String,
    choices: Vec<Choice>,
    tstamp: f64,
}

/// One of several sets of answers to the same questions; here there is one.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Choice {
    index: usize,
    turns: Vec<String>,
}

impl Answer {
    /// The answer to a turn.
    fn turn(&self, turn: usize) -> &str {
        self.choices.first().and_then(|choice| choice.turns.get(turn)).map_or("", String::as_str)
    }
}

/// The items of a task.
pub(crate) fn conversations(
    task: &Task,
    definition: &Definition,
    folder: &Path,
    any: bool,
) -> Result<Vec<Conversation>> {
    let mut conversations = Vec::new();
    for records in data::records(task, folder, any)? {
        for record in &records.items {
            let category = record.text("category")?.to_owned();
            let temperature = definition.temperatures.get(&category);
            let temperature = *temperature.ok_or_else(|| {
                let known: Vec<&str> = definition.temperatures.keys().map(String::as_str).collect();
                record.error(format!("category {category:?} is none of {}", known.join(", ")))
            })?;
            let question_id = question_id(record)?;
            conversations.push(Conversation {
                id: question_id.to_string(),
                question_id,
                category,
                temperature,
                turns: turns(record, "turns")?,
            });
        }
    }
    Ok(conversations)
}

fn question_id(record: &Record) -> Result<u64> {
    let id = record.fields.get("question_id").and_then(|id| u64::try_from(id.clone()).ok());
    id.ok_or_else(|| record.error("\"question_id\" is not a whole number"))
}

/// A record's list of the texts of two turns.
fn turns(record: &Record, field: &str) -> Result<Vec<String>> {
    let list = record.fields.get(field).and_then(|list| Vec::deserialize(list.clone()).ok());
    let fits = |list: &Vec<String>| list.len() == TURNS;
    list.filter(fits).ok_or_else(|| record.error(format!("{field:?} is not a list of two texts")))
}

/// Holds a conversation: the second question is asked after the first was answered.
pub(crate) fn answer(
    engine: &mut Engine,
    definition: &Definition,
    item: &Conversation,
) -> Result<Answer> {
    let sampling = Sampling { temperature: item.temperature, ..Sampling::default() };
    // One source of random numbers for both turns, begun anew for each conversation.
    let mut sampler = Sampler::new(sampling).map_err(Error::Model)?;
    let mut messages = Vec::new();
    let mut answers = Vec::new();
    for question in &item.turns {
        messages.push(Message::new("user", question));
        let text = plain(&messages);
        let asked = Asked { text: &text, messages: &messages, begun: "" };
        let output =
            generation::generate(engine, &asked, &mut sampler, definition.max_tokens, &[])?;
        let output = output.trim().to_owned();
        messages.push(Message::new("assistant", &output));
        answers.push(output);
    }
    let identity = format!("{} {} {answers:?}", engine.model_sha256(), item.id);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Answer {
        id: item.id.clone(),
        prompt_sha256: item.prompt_sha256(),
        question_id: item.question_id,
        answer_id: sha256(identity.as_bytes())[..22].to_owned(),
        model_id: engine.name().to_owned(),
        choices: vec![Choice { index: 0, turns: answers }],
        tstamp: now.as_secs_f64(),
    })
}

/// A conversation for a model without a chat template: its messages with blank lines between.
fn plain(messages: &[Message]) -> String {
    messages.iter().map(|message| format!("{}\n\n", message.text())).collect()
}
