//! Ratings of conversations: prompts of the judge, ratings in its judgments, and stored judgments.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::{Client, JudgeServer};
use super::{AnsweredDialogue, Dialogue, TURNS, question_id, turns};
use crate::data;
use crate::error::{Error, Result};
use crate::grade::regex;
use crate::metrics::Metric;
use crate::record::Record;
use crate::results::AppendFile;
use crate::task::{Conversation, Task};

/// Indices of the judge's prompts and of the reference answers in a task's list of files.
const PROMPTS: usize = 1;
const REFERENCES: usize = 2;
/// The score of a judgment without a rating. Metrics ignore it.
const UNRATED: f64 = -1.0;
/// The range of ratings.
const SCALE: RangeInclusive<f64> = 1.0..=10.0;

/// A judgment, in FastChat's format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Judgment {
    pub(super) question_id: u64,
    pub(super) model: String,
    /// The name of the judge's model, and of the prompt.
    pub(super) judge: (String, String),
    pub(super) user_prompt: String,
    pub(super) judgment: String,
    /// The rating. A value that JSON cannot represent is null in files.
    pub(super) score: Option<f64>,
    /// The turn, from 1.
    pub(super) turn: usize,
    pub(super) tstamp: f64,
}

/// The judge's prompts and the patterns of its ratings.
pub(super) struct Ratings {
    prompts: HashMap<String, (String, String)>,
    references: HashMap<u64, Vec<String>>,
    rating: Regex,
    lone: Regex,
}

impl Ratings {
    /// Reads the prompts and the reference answers.
    pub(super) fn new(task: &Task, folder: &Path, any: bool) -> Result<Self> {
        let read = |number: usize| {
            let file = task.data.get(number).ok_or_else(|| Error::Definition {
                task: task.name.clone(),
                message: format!("data file {} is missing", number + 1),
            })?;
            data::read_file(task, file, number, folder, None, any)
        };
        let mut prompts = HashMap::new();
        for record in read(PROMPTS)? {
            let texts = (record.text("system_prompt")?, record.text("prompt_template")?);
            let texts = (texts.0.to_owned(), texts.1.to_owned());
            prompts.insert(record.text("name")?.to_owned(), texts);
        }
        let mut references = HashMap::new();
        for record in read(REFERENCES)? {
            references.insert(question_id(&record)?, reference(&record)?);
        }
        let (rating, lone) = (regex(r"\[\[(\d+\.?\d*)\]\]")?, regex(r"\[(\d+\.?\d*)\]")?);
        Ok(Self { prompts, references, rating, lone })
    }

    /// The name of the prompt for a turn, the system message and the user's message.
    pub(super) fn prompt(
        &self,
        definition: &Conversation,
        item: &Dialogue,
        answer: &AnsweredDialogue,
        turn: usize,
    ) -> Result<(String, String, String)> {
        let fail = |message: String| Error::Definition { task: "mt_bench".to_owned(), message };
        let referenced = definition.referenced.contains(&item.category);
        let kind = if referenced { "single-math-v1" } else { "single-v1" };
        let name = format!("{kind}{}", if turn == 0 { "" } else { "-multi-turn" });
        let (system, template) = self
            .prompts
            .get(&name)
            .ok_or_else(|| fail(format!("the judge's prompts hold no {name:?}")))?;
        let mut fields = vec![
            ("question", item.turns[0].as_str()),
            ("answer", answer.turn(0)),
            ("question_1", item.turns[0].as_str()),
            ("question_2", item.turns[1].as_str()),
            ("answer_1", answer.turn(0)),
            ("answer_2", answer.turn(1)),
        ];
        if referenced {
            let references = self
                .references
                .get(&item.question_id)
                .ok_or_else(|| fail(format!("question {} has no reference answer", item.id)))?;
            fields.push(("ref_answer_1", &references[0]));
            fields.push(("ref_answer_2", &references[1]));
        }
        let prompt = format(template, &fields)
            .ok_or_else(|| fail(format!("the judge's prompt {name:?} has an unknown field")))?;
        Ok((name, system.clone(), prompt))
    }

    /// The first rating in a judgment, if it is within the range that the prompt states.
    pub(super) fn rating(&self, judgment: &str) -> Option<f64> {
        let found = self.rating.captures(judgment).or_else(|| self.lone.captures(judgment))?;
        found[1].parse().ok().filter(|rating| SCALE.contains(rating))
    }

    /// The score of a stored judgment, or the rating in its text if it has none.
    fn score(&self, judgment: &Judgment) -> f64 {
        let kept = judgment.score.filter(|score| *score == UNRATED || SCALE.contains(score));
        kept.or_else(|| self.rating(&judgment.judgment)).unwrap_or(UNRATED)
    }
}

/// The reference answers of a record in FastChat's format for answers.
fn reference(record: &Record) -> Result<Vec<String>> {
    let choice = record.fields.get("choices").and_then(|choices| choices.get_item_by_index(0).ok());
    let fields = [("turns".to_owned(), choice.and_then(|c| c.get_attr("turns").ok()))];
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    turns(&Record { fields, ..record.clone() }, "turns")
}

/// Python's `str.format` with names in braces; `None` where there is no such name.
fn format(template: &str, fields: &[(&str, &str)]) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        let (_, value) = fields.iter().find(|(field, _)| *field == name)?;
        text += before;
        text += value;
        rest = after;
    }
    Some(text + rest)
}

/// Has all answers of a run rated, and returns the metrics. Judgments are lines of `path`. Those of
/// the same judge and prompts are reused. `proceed` returns whether to continue.
pub(super) fn judged(
    ratings: &Ratings,
    (task, definition): (&Task, &Conversation),
    items: &[(&Dialogue, AnsweredDialogue)],
    server: &JudgeServer,
    path: &Path,
    proceed: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<BTreeMap<String, Metric>> {
    let mut known = HashMap::new();
    let mut file = AppendFile::open(path)?;
    for judgment in stored(path, &file.lines()?)? {
        let score = ratings.score(&judgment);
        let Judgment { question_id, turn, judge, user_prompt, .. } = judgment;
        known.insert((question_id, turn, judge, user_prompt), score);
    }
    let client = Client::new(server);
    let mut scores = Vec::new();
    for (count, (item, answer)) in items.iter().enumerate() {
        for turn in 0..TURNS {
            let (done, total) = (count * TURNS + turn, items.len() * TURNS);
            if !proceed(done, total) {
                let (task, path) = (task.name.clone(), path.to_owned());
                return Err(Error::Interrupted { task, done, total, what: "judgments", path });
            }
            let (name, system, user_prompt) = ratings.prompt(definition, item, answer, turn)?;
            let judge = (server.model.clone(), name);
            let key = (item.question_id, turn + 1, judge.clone(), user_prompt.clone());
            let score = match known.get(&key) {
                Some(&score) => score,
                None => {
                    let judgment = client.ask(&system, &user_prompt)?;
                    let score = ratings.rating(&judgment).unwrap_or(UNRATED);
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let judgment = Judgment {
                        question_id: item.question_id,
                        model: answer.model_id.clone(),
                        judge,
                        score: Some(score),
                        user_prompt,
                        judgment,
                        turn: turn + 1,
                        tstamp: now.as_secs_f64(),
                    };
                    file.append(&json!(judgment))?;
                    score
                }
            };
            scores.push((item.category.as_str(), turn, score));
        }
    }
    file.sync()?;
    Ok(metrics(&scores))
}

/// The judgments of earlier runs. A line may be `null`, which is no judgment.
fn stored(path: &Path, text: &str) -> Result<Vec<Judgment>> {
    let parse = |(index, line): (usize, &str)| {
        let judgment = serde_json::from_str::<Option<Judgment>>(line);
        judgment.transpose().map(|judgment| {
            judgment.map_err(|error| Error::Record {
                path: path.to_owned(),
                line: index + 1,
                message: format!("not a judgment: {error}"),
            })
        })
    };
    text.lines().enumerate().filter_map(parse).collect()
}

/// The mean rating over all turns, over each turn and over each category.
fn metrics(scores: &[(&str, usize, f64)]) -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::new();
    let mut add = |name: String, fits: &dyn Fn(&str, usize) -> bool| {
        let rated = scores
            .iter()
            .filter(|(category, turn, score)| *score != UNRATED && fits(category, *turn));
        let values: Vec<f64> = rated.map(|(.., score)| *score).collect();
        if !values.is_empty() {
            metrics.insert(name, Metric::mean(&values));
        }
    };
    add("rating".to_owned(), &|_, _| true);
    for turn in 0..TURNS {
        add(format!("rating_turn_{}", turn + 1), &|_, of| of == turn);
    }
    for (category, ..) in scores {
        add(format!("rating_{category}"), &|of, _| of == *category);
    }
    let unrated = scores.iter().filter(|(.., score)| *score == UNRATED).count();
    metrics.insert("unrated".to_owned(), Metric::plain(unrated as f64));
    metrics
}
