//! Prompts: a question, and what stands before it.

use std::rc::Rc;

use trilobite_runtime::Message;

use crate::draw::Examples;
use crate::error::Result;
use crate::record::Record;

/// Between a system message and the task's description, and after an example.
const BETWEEN: &str = "\n\n";
/// Between a question and its answer.
const BEFORE_ANSWER: &str = " ";

/// What stands before a question.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preface {
    /// The task's description.
    description: String,
    /// Examples.
    shots: Vec<Shot>,
}

/// An example.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    /// The question.
    pub(crate) question: String,
    /// The answer, with the space before it.
    pub(crate) answer: String,
}

impl Preface {
    /// What stands before the next item, with each example as `shot` renders its record.
    pub(crate) fn next(
        description: String,
        examples: &mut Examples<'_>,
        item: &Record,
        shot: impl FnMut(&Record) -> Result<Shot>,
    ) -> Result<Rc<Self>> {
        let shots = examples.next(item)?.into_iter().map(shot).collect::<Result<_>>()?;
        Ok(Rc::new(Self { description, shots }))
    }

    /// The prompt as plain text, as lm-evaluation-harness joins it: nothing stands between a system
    /// message or a description and what follows.
    pub(crate) fn text(&self, system: Option<&str>, question: &str) -> String {
        self.system(system) + &self.asked(question)
    }

    /// The prompt as a conversation: with `turns`, each example is a turn of its own, else all are
    /// part of the only question. The description is part of the system message.
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
        for Shot { question, answer } in &self.shots {
            messages.push(Message::new("user", question));
            messages.push(Message::new("assistant", undelimited(answer)));
        }
        messages.push(Message::new("user", question));
        messages
    }

    /// The system message, with the description.
    fn system(&self, system: Option<&str>) -> String {
        match (system.unwrap_or_default(), self.description.as_str()) {
            ("", one) | (one, "") => one.to_owned(),
            (system, description)
                if system.ends_with(char::is_whitespace)
                    || description.starts_with(char::is_whitespace) =>
            {
                format!("{system}{description}")
            }
            (system, description) => format!("{system}{BETWEEN}{description}"),
        }
    }

    /// The examples and the question.
    fn asked(&self, question: &str) -> String {
        let shots = self.shots.iter();
        let shots = shots.map(|Shot { question, answer }| format!("{question}{answer}{BETWEEN}"));
        shots.chain([question.to_owned()]).collect()
    }
}

/// An answer without the space that stands before it in plain text.
pub(crate) fn undelimited(answer: &str) -> &str {
    answer.strip_prefix(BEFORE_ANSWER).unwrap_or(answer)
}
