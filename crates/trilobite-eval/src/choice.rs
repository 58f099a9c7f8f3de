//! Multiple choice: the likeliest of some continuations is the answer.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::{Environment, Value};
use serde::{Deserialize, Serialize};

use crate::data::{self, Record, sha256};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::metrics::Metric;
use crate::task::{Choice, Task};
use crate::template::{self, Templates};

/// An item that is ready to be scored.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Its id, unique in the task.
    pub(crate) id: String,
    group: Option<String>,
    /// Context and continuation of each choice.
    pub(crate) requests: Vec<(String, String)>,
    /// Unicode characters of each choice, without the space before it.
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
}

/// Which choices are right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Gold {
    /// The number of the right one.
    One(usize),
    /// 1 for each right one, 0 for each wrong one.
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

    fn holds(&self, choice: usize) -> bool {
        match self {
            Gold::One(gold) => *gold == choice,
            Gold::Many(gold) => gold.get(choice) == Some(&1),
        }
    }
}

/// A scored item: a line of the results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    group: Option<String>,
    prompt_sha256: String,
    choices: Vec<Scored>,
    gold: Gold,
    /// The choice with the largest log-likelihood, the first of equals.
    pred: usize,
    correct: bool,
    /// The choice with the largest log-likelihood a character.
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
    choice: &Choice,
    folder: &Path,
    any: bool,
) -> Result<Vec<Question>> {
    let environment = template::environment().map_err(template::definition(task))?;
    let prompts = Prompts::new(&environment, task, choice)?;
    let mut questions = Vec::new();
    for records in data::records(task, folder, any)? {
        let group = records.group.as_deref();
        let mut before = match records.items.first() {
            Some(first) => prompts.templates.render(&task.description, first, group, None)?,
            None => String::new(),
        };
        if records.shots.len() < task.shots {
            let message =
                format!("{} examples, {} need {}", records.shots.len(), task.name, task.shots);
            return Err(records.shots.first().map_or(
                Error::Definition { task: task.name.clone(), message: message.clone() },
                |first| first.error(message),
            ));
        }
        for shot in &records.shots[..task.shots] {
            let shot = prompts.question(shot, group, "")?;
            let Gold::One(gold) = shot.gold else { continue };
            let (context, continuation) = &shot.requests[gold];
            before += &format!("{context}{continuation}\n\n");
        }
        for record in &records.items {
            questions.push(prompts.question(record, group, &before)?);
        }
    }
    Ok(questions)
}

/// The compiled expressions of a task.
struct Prompts<'a> {
    templates: Templates<'a>,
    choice: &'a Choice,
    choices: minijinja::Expression<'a, 'a>,
    gold: minijinja::Expression<'a, 'a>,
}

impl<'a> Prompts<'a> {
    fn new(environment: &'a Environment<'a>, task: &Task, choice: &'a Choice) -> Result<Self> {
        let compile = |source: &'a str| {
            environment.compile_expression(source).map_err(template::definition(task))
        };
        let (choices, gold) = (compile(&choice.choices)?, compile(&choice.gold)?);
        Ok(Self { templates: Templates::new(environment), choice, choices, gold })
    }

    fn question(&self, record: &Record, group: Option<&str>, before: &str) -> Result<Question> {
        let context = template::context(record, group, None);
        let value =
            self.choices.eval(&context).map_err(|error| record.error(template::reason(&error)))?;
        let choices: Vec<String> = Vec::deserialize(value)
            .map_err(|_| record.error("the choices are not a list of strings"))?;
        let value =
            self.gold.eval(&context).map_err(|error| record.error(template::reason(&error)))?;
        let gold = Gold::of(&value)
            .ok_or_else(|| record.error("the right choice is not a number or a list of 0 and 1"))?;
        let fits = match &gold {
            Gold::One(gold) => *gold < choices.len(),
            Gold::Many(gold) => {
                gold.len() == choices.len()
                    && gold.iter().all(|gold| *gold < 2)
                    && gold.contains(&0)
                    && gold.contains(&1)
            }
        };
        if choices.is_empty() || !fits {
            return Err(record.error(format!("right is {gold:?} of {} choices", choices.len())));
        }
        let mut requests = Vec::new();
        for choice in &choices {
            let choice = Some(choice.as_str());
            let context = self.templates.render(&self.choice.context, record, group, choice)?;
            let continuation =
                self.templates.render(&self.choice.continuation, record, group, choice)?;
            requests.push((format!("{before}{context}"), continuation));
        }
        let chars = choices.iter().map(|choice| choice.chars().count()).collect();
        let id = self.templates.render(&self.choice.id, record, group, None)?;
        Ok(Question { id, group: group.map(str::to_owned), requests, chars, gold })
    }
}

impl Question {
    /// The hash of its different contexts.
    pub(crate) fn prompt_sha256(&self) -> String {
        let mut prompt = String::new();
        for (number, (context, _)) in self.requests.iter().enumerate() {
            if number == 0 || *context != self.requests[number - 1].0 {
                prompt += context;
            }
        }
        sha256(prompt.as_bytes())
    }

    /// What the log-likelihood of each choice, with its number of tokens, makes of it.
    pub(crate) fn decided(&self, scores: &[(f64, usize)]) -> Answer {
        let scored = |(&(logprob, tokens), &chars)| Scored { logprob, tokens, chars };
        let choices: Vec<Scored> = scores.iter().zip(&self.chars).map(scored).collect();
        let pred = largest(choices.iter().map(|choice| choice.logprob));
        let pred_norm = largest(choices.iter().map(|choice| choice.logprob / choice.chars as f64));
        Answer {
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
}

/// Scores an item.
pub(crate) fn answer(
    engine: &mut Engine,
    question: &Question,
) -> trilobite_runtime::Result<Answer> {
    let scores = engine.score(&question.requests)?;
    let scores: Vec<_> = scores.iter().map(|(score, tokens)| (score.logprob, *tokens)).collect();
    Ok(question.decided(&scores))
}

/// The place of the largest value, the first of equals.
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
pub(crate) fn metrics(task: &Task, answers: &[Answer]) -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::new();
    for name in &task.metrics {
        let value = |answer: &Answer| match name.as_str() {
            "acc_norm" => f64::from(answer.correct_norm),
            "mc2" => mc2(answer),
            _ => f64::from(answer.correct),
        };
        if task.groups.is_empty() {
            let values: Vec<f64> = answers.iter().map(value).collect();
            metrics.insert(name.clone(), Metric::mean(&values));
            continue;
        }
        let mut groups: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for answer in answers {
            let group = answer.group.as_deref().unwrap_or_default();
            groups.entry(group).or_default().push(value(answer));
        }
        let mut categories: BTreeMap<&str, Vec<Vec<f64>>> = BTreeMap::new();
        for (group, values) in &groups {
            let category = task.groups.get(*group).map_or("", |group| &group.category);
            categories.entry(category).or_default().push(values.clone());
        }
        let all: Vec<Vec<f64>> = groups.into_values().collect();
        let means: Vec<f64> = all.iter().map(|values| Metric::mean(values).value).collect();
        metrics.insert(name.clone(), Metric::pooled(&all));
        metrics.insert(format!("{name}_macro"), Metric::plain(Metric::mean(&means).value));
        for (category, groups) in categories {
            metrics.insert(format!("{name}_{category}"), Metric::pooled(&groups));
        }
    }
    metrics
}

/// The probability of the right choices among all.
fn mc2(answer: &Answer) -> f64 {
    // Relative to the largest, so that nothing underflows.
    let top = answer.choices.iter().map(|choice| choice.logprob).fold(f64::NEG_INFINITY, f64::max);
    let mut sums = [0.0, 0.0];
    for (number, choice) in answer.choices.iter().enumerate() {
        sums[usize::from(answer.gold.holds(number))] += (choice.logprob - top).exp();
    }
    sums[1] / (sums[0] + sums[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As numpy's argmax.
    #[test]
    fn the_first_of_equals_is_the_answer() {
        assert_eq!(largest([-3.0, -1.0, -1.0].into_iter()), 1);
        assert_eq!(largest([-1.0, -1.0].into_iter()), 0);
        assert_eq!(largest([f64::NEG_INFINITY; 2].into_iter()), 0);
    }
}
