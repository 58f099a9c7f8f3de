//! Multiple choice: the most likely continuation is the answer.

use std::path::Path;
use std::rc::Rc;

use minijinja::{Environment, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use trilobite_runtime::{Conversation, Message};

use crate::bytes::sha256;
use crate::data;
use crate::engine::{Engine, Prompting};
use crate::error::Result;
use crate::metrics::Measured;
use crate::outcome::with_cut;
use crate::place::Place;
use crate::prompt::{Preface, Shot, Shots, undelimited};
use crate::protocol::{Item, Items, Protocol, Work, parse_lines};
use crate::record::Record;
use crate::results::Line;
use crate::task::{Choice, Task};
use crate::template::{self, Expression, Templates};

/// The protocol of a multiple-choice task.
pub(crate) struct ChoiceProtocol<'a> {
    pub(crate) task: &'a Task,
    pub(crate) definition: &'a Choice,
}

impl Protocol for ChoiceProtocol<'_> {
    fn task(&self) -> &Task {
        self.task
    }

    fn items(&self, place: Place<'_>) -> Result<Items> {
        Ok(Items::new(questions(self.task, self.definition, place.data, place.any_data)?))
    }

    fn measure(&self, path: &Path, lines: &[Line]) -> Result<Measured> {
        Ok(measure(self.task, &parse_lines(path, lines)?))
    }
}

/// An item, ready to be scored.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Its id, unique in the task.
    id: String,
    group: Option<String>,
    preface: Rc<Preface>,
    /// The context and the continuation of each choice, without examples.
    choices: Vec<(String, String)>,
    /// Length of each choice in Unicode characters, without the space before it.
    chars: Vec<usize>,
    gold: Gold,
}

#[cfg(test)]
impl Question {
    pub(crate) fn gold(&self) -> &impl Serialize {
        &self.gold
    }

    pub(crate) fn chars(&self) -> &[usize] {
        &self.chars
    }

    pub(crate) fn requests(&self) -> Vec<(String, String)> {
        self.plain(None)
    }

    pub(crate) fn requests_after(&self, system: Option<&str>) -> Vec<(String, String)> {
        self.plain(system)
    }
}

/// The right choices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Gold {
    /// The index of the only right choice.
    One(usize),
    /// For each choice 1 if it is right, else 0.
    Many(Vec<u8>),
}

impl Gold {
    fn of(value: &Value) -> Option<Self> {
        if let Ok(gold) = usize::try_from(value.clone()) {
            return Some(Gold::One(gold));
        }
        let gold = |value: Value| u8::try_from(value).ok();
        Some(Gold::Many(value.try_iter().ok()?.map(gold).collect::<Option<_>>()?))
    }

    /// The index of the first right choice.
    fn first(&self) -> usize {
        match self {
            Gold::One(gold) => *gold,
            Gold::Many(gold) => gold.iter().position(|&gold| gold == 1).unwrap_or(0),
        }
    }

    fn holds(&self, choice: usize) -> bool {
        match self {
            Gold::One(gold) => *gold == choice,
            Gold::Many(gold) => gold.get(choice) == Some(&1),
        }
    }
}

/// The result of an item: a line of the results file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Decision {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    group: Option<String>,
    prompt_sha256: String,
    choices: Vec<Scored>,
    gold: Gold,
    /// The choice with the largest log-likelihood, the first of equal ones.
    pred: usize,
    correct: bool,
    /// The choice with the largest log-likelihood per character.
    pred_norm: usize,
    correct_norm: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Scored {
    logprob: f64,
    tokens: usize,
    chars: usize,
}

/// The items of a task.
pub(crate) fn questions(
    task: &Task,
    definition: &Choice,
    folder: &Path,
    any: bool,
) -> Result<Vec<Question>> {
    let environment = template::environment().map_err(template::definition(task))?;
    let prompts = Prompts::new(&environment, task, definition)?;
    let mut questions = Vec::new();
    for records in data::records(task, folder, any)? {
        let group = records.group.as_deref();
        let mut shots = Shots::new(task, &records);
        for record in &records.items {
            let description = prompts.description(record, group)?;
            let shot = |record: &Record| prompts.shot(record, group);
            let preface = shots.preface(description, record, shot)?;
            questions.push(prompts.question(record, group, preface)?);
        }
    }
    Ok(questions)
}

/// The compiled expressions of a task.
struct Prompts<'a> {
    templates: Templates<'a>,
    task: &'a Task,
    definition: &'a Choice,
    choices: Expression<'a>,
    gold: Expression<'a>,
}

impl<'a> Prompts<'a> {
    fn new(
        environment: &'a Environment<'a>,
        task: &'a Task,
        definition: &'a Choice,
    ) -> Result<Self> {
        let templates = Templates::new(environment, task);
        let choices = Expression::new(environment, task, "choices", &definition.choices)?;
        let gold = Expression::new(environment, task, "gold", &definition.gold)?;
        Ok(Self { templates, task, definition, choices, gold })
    }

    fn description(&self, record: &Record, group: Option<&str>) -> Result<String> {
        self.templates.render(("description", &self.task.description), record, group, None)
    }

    /// Turns a record into an example with its first right choice.
    fn shot(&self, record: &Record, group: Option<&str>) -> Result<Shot> {
        let mut question = self.question(record, group, Rc::default())?;
        let (question, answer) = question.choices.swap_remove(question.gold.first());
        Ok(Shot { question, answer })
    }

    fn question(
        &self,
        record: &Record,
        group: Option<&str>,
        preface: Rc<Preface>,
    ) -> Result<Question> {
        let texts: Vec<String> = Vec::deserialize(self.choices.value(record, group)?)
            .map_err(|_| record.error("choices: not a list of strings"))?;
        let gold = Gold::of(&self.gold.value(record, group)?)
            .ok_or_else(|| record.error("gold: not a number or a list of 0 and 1"))?;
        let fits = match &gold {
            Gold::One(gold) => *gold < texts.len(),
            Gold::Many(gold) => {
                gold.len() == texts.len()
                    && gold.iter().all(|gold| *gold < 2)
                    && gold.contains(&0)
                    && gold.contains(&1)
            }
        };
        if texts.is_empty() || !fits {
            let (gold, count) = (json!(gold), texts.len());
            return Err(record.error(format!("gold: {gold} does not fit {count} choices")));
        }
        let Choice { id, context, continuation, .. } = self.definition;
        let render = |key, text, choice| self.templates.render((key, text), record, group, choice);
        let mut choices = Vec::new();
        for choice in &texts {
            let choice = Some(choice.as_str());
            let context = render("context", context, choice)?;
            choices.push((context, render("continuation", continuation, choice)?));
        }
        let chars = texts.iter().map(|choice| choice.chars().count()).collect();
        let id = render("id", id, None)?;
        Ok(Question { id, group: group.map(str::to_owned), preface, choices, chars, gold })
    }
}

impl Question {
    /// The context and the continuation of each choice, as plain text.
    fn plain(&self, system: Option<&str>) -> Vec<(String, String)> {
        let choices = self.choices.iter();
        choices
            .map(|(context, continuation)| {
                (self.preface.text(system, context), continuation.clone())
            })
            .collect()
    }

    /// The conversation that precedes a choice, and its continuation without the leading space.
    pub(crate) fn conversation(
        &self,
        choice: usize,
        system: Option<&str>,
        turns: bool,
    ) -> (Vec<Message>, String) {
        let (context, continuation) = &self.choices[choice];
        let messages = self.preface.messages(system, context, turns);
        (messages, undelimited(continuation).to_owned())
    }

    /// The context and the continuation of each choice, as the model gets them.
    fn requests_for(&self, engine: &Engine) -> Result<Vec<(String, String)>> {
        let Prompting { system, turns, .. } = engine.prompting();
        let system = system.as_deref();
        let Some(template) = engine.template(false)? else { return Ok(self.plain(system)) };
        let render = |choice: usize| -> Result<(String, String)> {
            let (messages, continuation) = self.conversation(choice, system, *turns);
            let conversation = Conversation { messages: &messages, ..Conversation::default() };
            Ok((template.render(&conversation)?, continuation))
        };
        (0..self.choices.len()).map(render).collect()
    }

    /// The result, given the log-likelihood and the number of tokens of each choice.
    pub(crate) fn decided(&self, scores: &[(f64, usize)]) -> Decision {
        let scored = |(&(logprob, tokens), &chars)| Scored { logprob, tokens, chars };
        let choices: Vec<Scored> = scores.iter().zip(&self.chars).map(scored).collect();
        let pred = largest(choices.iter().map(|choice| choice.logprob));
        let pred_norm = largest(choices.iter().map(|choice| choice.logprob / choice.chars as f64));
        Decision {
            id: self.id.clone(),
            group: self.group.clone(),
            prompt_sha256: self.prompt_sha256(),
            correct: self.gold.holds(pred),
            correct_norm: self.gold.holds(pred_norm),
            gold: self.gold.clone(),
            choices,
            pred,
            pred_norm,
        }
    }

    fn answer(&self, engine: &mut Engine) -> Result<serde_json::Value> {
        let requests = self.requests_for(engine)?;
        let (scores, cut) = engine.score(&requests)?;
        let scores: Vec<_> =
            scores.iter().map(|(score, tokens)| (score.logprob, *tokens)).collect();
        Ok(with_cut(json!(self.decided(&scores)), cut))
    }
}

impl Item for Question {
    fn id(&self) -> &str {
        &self.id
    }

    /// The hash of the distinct contexts of the item.
    fn prompt_sha256(&self) -> String {
        let mut prompt = String::new();
        for (number, (context, _)) in self.choices.iter().enumerate() {
            if number == 0 || *context != self.choices[number - 1].0 {
                prompt += &self.preface.text(None, context);
            }
        }
        sha256(prompt.as_bytes())
    }

    fn work(&self, _engine: &Engine) -> Result<Work<'_>> {
        Ok(Work::Answer(Box::new(|engine| self.answer(engine))))
    }

    fn asked(
        &self,
        engine: &Engine,
        _line: &serde_json::Value,
    ) -> Result<Map<String, serde_json::Value>> {
        let requests = self.requests_for(engine)?.into_iter();
        let requests: Vec<_> = requests
            .map(
                |(context, continuation)| json!({"context": context, "continuation": continuation}),
            )
            .collect();
        Ok(Map::from_iter([("requests".to_owned(), requests.into())]))
    }
}

/// The index of the largest value, the first of equal ones.
fn largest(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (place, value) in values.enumerate() {
        if value > best.1 {
            best = (place, value);
        }
    }
    best.0
}

/// The metrics of scored items.
pub(crate) fn measure(task: &Task, decisions: &[Decision]) -> Measured {
    let value = |item: &Decision, metric: &str| match metric {
        "acc_norm" => f64::from(item.correct_norm),
        "mc2" => mc2(item),
        _ => f64::from(item.correct),
    };
    let values = |item: &Decision, metric: &str| vec![value(item, metric)];
    Measured::of(task, decisions, |item| item.group.as_deref(), values)
}

/// The share of the probability that falls on the right choices.
fn mc2(item: &Decision) -> f64 {
    // Relative to the largest, so that nothing underflows.
    let top = item.choices.iter().map(|choice| choice.logprob).fold(f64::NEG_INFINITY, f64::max);
    let mut sums = [0.0, 0.0];
    for (number, choice) in item.choices.iter().enumerate() {
        sums[usize::from(item.gold.holds(number))] += (choice.logprob - top).exp();
    }
    sums[1] / (sums[0] + sums[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// numpy's argmax.
    #[test]
    fn the_first_of_equals_is_the_answer() {
        assert_eq!(largest([-3.0, -1.0, -1.0].into_iter()), 1);
        assert_eq!(largest([-1.0, -1.0].into_iter()), 0);
        assert_eq!(largest([f64::NEG_INFINITY; 2].into_iter()), 0);
    }
}
