//! Prompts: a question with a system message, a description and examples.

use std::collections::HashMap;
use std::rc::Rc;

use trilobite_runtime::Message;

use crate::data::Records;
use crate::draw::Examples;
use crate::error::Result;
use crate::record::Record;
use crate::task::Task;

/// Separates the system message from the task's description, and examples from each other.
const SEPARATOR: &str = "\n\n";
/// Separates a question from its answer.
const ANSWER_SEPARATOR: &str = " ";

/// The part of a prompt before the question.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preface {
    /// The task's description.
    description: String,
    /// Examples.
    shots: Vec<Rc<Shot>>,
}

/// An example.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    /// The question.
    pub(crate) question: String,
    /// The answer, with the space before it.
    pub(crate) answer: String,
}

/// The examples of a group's items.
pub(crate) struct Shots<'a> {
    records: &'a [Record],
    examples: Examples<'a>,
    /// Rendered examples by index.
    rendered: HashMap<usize, Rc<Shot>>,
}

impl<'a> Shots<'a> {
    /// Creates the examples from the records of a task.
    pub(crate) fn new(task: &'a Task, records: &'a Records) -> Self {
        let examples = Examples::new(task, &records.shots, records.shared);
        Self { records: &records.shots, examples, rendered: HashMap::new() }
    }

    /// The examples and the description for the next item. `shot` renders a record as an example.
    pub(crate) fn preface(
        &mut self,
        description: String,
        item: &Record,
        shot: impl Fn(&Record) -> Result<Shot>,
    ) -> Result<Rc<Preface>> {
        let mut shots = Vec::new();
        for number in self.examples.next(item)? {
            let shot = match self.rendered.get(&number) {
                Some(shot) => Rc::clone(shot),
                None => Rc::new(shot(&self.records[number])?),
            };
            self.rendered.insert(number, Rc::clone(&shot));
            shots.push(shot);
        }
        Ok(Rc::new(Preface { description, shots }))
    }
}

impl Preface {
    /// The prompt as plain text. As in lm-evaluation-harness, nothing separates the system message
    /// and the description from the text that follows.
    pub(crate) fn text(&self, system: Option<&str>, question: &str) -> String {
        self.system(system) + &self.asked(question)
    }

    /// The prompt as a conversation. With `turns` each example is a turn, otherwise all are part of
    /// the only question. The description is part of the system message.
    pub(crate) fn messages(
        &self,
        system: Option<&str>,
        question: &str,
        turns: bool,
    ) -> Vec<Message> {
        let mut messages = Vec::new();
        let system = self.system(system);
        if !system.is_empty() {
            messages.push(Message::new("system", system));
        }
        if !turns {
            messages.push(Message::new("user", self.asked(question)));
            return messages;
        }
        for shot in &self.shots {
            messages.push(Message::new("user", &shot.question));
            messages.push(Message::new("assistant", undelimited(&shot.answer)));
        }
        messages.push(Message::new("user", question));
        messages
    }

    /// The system message, including the description.
    fn system(&self, system: Option<&str>) -> String {
        match (system.unwrap_or_default(), self.description.as_str()) {
            ("", one) | (one, "") => one.to_owned(),
            (system, description)
                if system.ends_with(char::is_whitespace)
                    || description.starts_with(char::is_whitespace) =>
            {
                format!("{system}{description}")
            }
            (system, description) => format!("{system}{SEPARATOR}{description}"),
        }
    }

    /// The examples and the question.
    fn asked(&self, question: &str) -> String {
        let shots = self.shots.iter();
        let shots = shots.map(|shot| format!("{}{}{SEPARATOR}", shot.question, shot.answer));
        shots.chain([question.to_owned()]).collect()
    }
}

/// An answer without the separator before it.
pub(crate) fn undelimited(answer: &str) -> &str {
    answer.strip_prefix(ANSWER_SEPARATOR).unwrap_or(answer)
}
