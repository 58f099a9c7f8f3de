//! HumanEval+: solutions are run against tests, in sandboxes, and judged as evalplus 0.3.1 judges.
//!
//! No process sees more than it needs. A harness runs one program on inputs and says what came out:
//! the reference, then the solution. The judge takes the code out of the answer and compares results,
//! and runs neither. Time is measured here.

mod sandbox;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, json};

pub use sandbox::{Confinement, SandboxLayer, confine_and_run, confinement};

use crate::error::Result;
use crate::grade::judge::{Grade, Judge};
use crate::record::Record;
use sandbox::{Reply, Sandbox, Script, Session};

/// Least time for a test.
const LEAST: Duration = Duration::from_secs(1);
/// A solution may take this many times the reference's time.
const FACTOR: u32 = 4;
/// Most time for all tests of a solution, before the grace.
const MOST: Duration = Duration::from_secs(60);
/// What evalplus waits longer.
const GRACE: Duration = Duration::from_secs(2);
/// Time for the reference to do one test, and for the judge to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most characters of an exception's name that are shown.
const MAX_NAME: usize = 80;

/// Runs solutions against their tests.
pub(crate) struct HumanEvalPlus {
    sandbox: Sandbox,
    /// The reference's results for the last problem.
    reference: RefCell<Option<(Arc<str>, Rc<Reference>)>>,
}

/// A problem, with its numbers as they are written.
#[derive(Deserialize)]
struct Problem<'a> {
    #[serde(borrow)]
    prompt: Cow<'a, str>,
    canonical_solution: Cow<'a, str>,
    entry_point: Cow<'a, str>,
    /// Lists of arguments.
    base_input: Vec<&'a RawValue>,
    plus_input: Option<Vec<&'a RawValue>>,
    atol: &'a RawValue,
}

/// What the reference gives for each input.
struct Reference {
    base: Vec<Expected>,
    plus: Vec<Expected>,
}

/// A result of the reference.
struct Expected {
    /// As the harness writes it.
    line: Vec<u8>,
    /// Time for a solution.
    limit: Duration,
}

impl HumanEvalPlus {
    /// The grader, in a sandbox that may lack these layers.
    pub(crate) fn new(allow_missing: &[SandboxLayer]) -> Result<Self> {
        Ok(Self { sandbox: Sandbox::new(allow_missing)?, reference: RefCell::new(None) })
    }

    /// The reference's results.
    fn reference(&self, record: &Record, json: &Arc<str>) -> Result<Rc<Reference>> {
        if let Some((of, reference)) = &*self.reference.borrow()
            && Arc::ptr_eq(of, json)
        {
            return Ok(Rc::clone(reference));
        }
        let problem = problem(record, json)?;
        let run = |inputs: &[&RawValue]| -> Result<Vec<Expected>> {
            let session = self.sandbox.start(Script::Harness)?;
            let code = format!("{}{}", problem.prompt, problem.canonical_solution);
            load(&session, &code, &problem.entry_point, PATIENCE)
                .map_err(|reason| record.error(format!("the canonical solution {reason}")))?;
            let expected = |(number, arguments): (usize, &&RawValue)| {
                let (answer, time) = test(&session, arguments, PATIENCE);
                let line = answer.map_err(|reason| {
                    record.error(format!("the canonical solution on test {number}: {reason}"))
                })?;
                Ok(Expected { line, limit: LEAST.max(FACTOR * time) })
            };
            inputs.iter().enumerate().map(expected).collect()
        };
        let plus = problem.plus_input.as_deref().unwrap_or_default();
        let reference = Rc::new(Reference { base: run(&problem.base_input)?, plus: run(plus)? });
        *self.reference.borrow_mut() = Some((Arc::clone(json), Rc::clone(&reference)));
        Ok(reference)
    }

    /// Runs a solution on inputs; why it fails, if it does. `before` tests were run before.
    fn failure(
        &self,
        judge: &Session,
        problem: &Problem<'_>,
        code: &str,
        before: usize,
        tests: (&[&RawValue], &[Expected]),
    ) -> Result<Option<String>> {
        let session = self.sandbox.start(Script::Harness)?;
        let all: Duration = tests.1.iter().map(|expected| expected.limit).sum();
        let end = Instant::now() + all.min(MOST) + GRACE;
        let left = || end.saturating_duration_since(Instant::now());
        if let Err(reason) = load(&session, code, &problem.entry_point, left()) {
            return Ok(Some(reason));
        }
        let mut atol: Box<RawValue> = problem.atol.to_owned();
        for (number, (arguments, expected)) in tests.0.iter().zip(tests.1).enumerate() {
            let number = before + number;
            let found = match test(&session, arguments, expected.limit.min(left())).0 {
                Ok(found) => found,
                Err(reason) => return Ok(Some(format!("test {number}: {reason}"))),
            };
            // As they are written: a number in a `Value` has at most 64 bits.
            let entry_point = json!(problem.entry_point);
            let question =
                format!(r#"{{"entry_point":{entry_point},"atol":{atol},"arguments":{arguments}}}"#);
            judge.send(question.as_bytes());
            judge.send(&expected.line);
            judge.send(&found);
            match answer::<(bool, Box<RawValue>)>(judge) {
                Some((true, tolerance)) => atol = tolerance,
                Some((false, _)) => return Ok(Some(format!("test {number}: wrong result"))),
                None => return Ok(Some(format!("test {number}: not comparable"))),
            }
        }
        Ok(None)
    }
}

impl Judge for HumanEvalPlus {
    fn grade(&self, output: &str, record: &Record) -> Result<Grade> {
        self.grade_in(output, record, None)
    }

    fn grade_in(&self, output: &str, record: &Record, chat: Option<bool>) -> Result<Grade> {
        let json = record.json.as_ref().ok_or_else(|| record.error("not a line of JSON"))?;
        let problem = problem(record, json)?;
        let judge = self.sandbox.start(Script::Judge)?;
        let question = json!({
            "output": output,
            "chat": chat,
            "prompt": problem.prompt,
            "entry_point": problem.entry_point,
        });
        judge.send(question.to_string().as_bytes());
        let (base, plus) = match answer::<String>(&judge) {
            Some(code) => {
                let reference = self.reference(record, json)?;
                let tests = (problem.base_input.as_slice(), reference.base.as_slice());
                let base = self.failure(&judge, &problem, &code, 0, tests)?;
                let inputs = problem.plus_input.as_deref().unwrap_or_default();
                let tests = (inputs, reference.plus.as_slice());
                let plus = match &base {
                    Some(reason) => Some(reason.clone()),
                    None => self.failure(&judge, &problem, &code, reference.base.len(), tests)?,
                };
                (base, plus)
            }
            None => {
                let reason = Some("no code found in time".to_owned());
                (reason.clone(), reason)
            }
        };
        let mut more = Map::from_iter([("correct_base".to_owned(), base.is_none().into())]);
        more.extend(chat.map(|chat| ("chat".to_owned(), chat.into())));
        Ok(Grade {
            correct: plus.is_none(),
            extracted: plus.unwrap_or_else(|| "passed".to_owned()).into(),
            gold: json!(problem.entry_point),
            more,
        })
    }
}

/// The problem of a record.
fn problem<'a>(record: &Record, json: &'a str) -> Result<Problem<'a>> {
    serde_json::from_str(json).map_err(|error| record.error(error))
}

/// Has a harness load a program; the error is why it does not.
fn load(
    session: &Session,
    code: &str,
    entry_point: &str,
    limit: Duration,
) -> std::result::Result<(), String> {
    session.send(json!({"code": code, "entry_point": entry_point}).to_string().as_bytes());
    match result(session.receive(limit)) {
        Ok(line) if line == b"true" => Ok(()),
        Ok(_) => Err("does not load".to_owned()),
        Err(reason) => Err(format!("does not load: {reason}")),
    }
}

/// Has a harness do a test: the result, or why there is none, and the time that it took.
fn test(
    session: &Session,
    arguments: &RawValue,
    limit: Duration,
) -> (std::result::Result<Vec<u8>, String>, Duration) {
    let start = Instant::now();
    session.send(arguments.get().as_bytes());
    let answer = session.receive(limit);
    (result(answer), start.elapsed())
}

/// What a harness says, unless it says that an exception was raised.
fn result(answer: Reply) -> std::result::Result<Vec<u8>, String> {
    #[derive(Deserialize)]
    struct Raised {
        raised: String,
    }
    match answer {
        // A list of one string would be taken for this object, too.
        Reply::Line(line) if !line.starts_with(b"{") => Ok(line),
        Reply::Line(line) => match serde_json::from_slice::<Raised>(&line) {
            // The name is the code's own choice.
            Ok(Raised { raised }) => {
                Err(raised.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect())
            }
            Err(_) => Ok(line),
        },
        Reply::Late => Err("out of time".to_owned()),
        Reply::Ended => Err("no answer".to_owned()),
    }
}

/// What the judge says, if it does.
fn answer<T: serde::de::DeserializeOwned>(judge: &Session) -> Option<T> {
    match judge.receive(PATIENCE) {
        Reply::Line(line) => serde_json::from_slice(&line).ok(),
        Reply::Late | Reply::Ended => None,
    }
}
