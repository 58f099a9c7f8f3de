//! HumanEval+: runs solutions against tests in sandboxes, and judges them as evalplus 0.3.1 does.
//!
//! No process sees more than it needs. A harness runs a program on inputs and returns the results:
//! first the reference, then the solution. The judge extracts the code from the answer and compares
//! results, but runs neither program. Time is measured here.

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

/// Minimum time limit of a test.
const MIN_LIMIT: Duration = Duration::from_secs(1);
/// The time limit of a test is this many times the reference's time.
const LIMIT_FACTOR: u32 = 4;
/// Maximum time for all tests of a solution, without the grace period.
const MAX_TOTAL: Duration = Duration::from_secs(60);
/// The grace period of evalplus.
const GRACE: Duration = Duration::from_secs(2);
/// Time limit of a test of the reference, and of a response of the judge.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// Maximum number of characters shown of an exception's name.
const MAX_NAME: usize = 80;

/// Runs solutions against their tests.
pub(crate) struct HumanEvalPlus {
    sandbox: Sandbox,
    /// The reference's results for the most recent problem.
    reference: RefCell<Option<(Arc<str>, Rc<Reference>)>>,
}

/// A problem. Its numbers are kept as they are written.
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

/// The results of the reference for each input.
struct Reference {
    base: Vec<Expected>,
    plus: Vec<Expected>,
}

/// A result of the reference.
struct Expected {
    /// The line that the harness writes.
    line: Vec<u8>,
    /// Time limit for a solution.
    limit: Duration,
}

impl HumanEvalPlus {
    /// Creates the grader. Its sandbox may lack these layers.
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
            load(&session, &code, &problem.entry_point, REPLY_LIMIT)
                .map_err(|reason| record.error(format!("the canonical solution {reason}")))?;
            let expected = |(number, arguments): (usize, &&RawValue)| {
                let (answer, time) = test(&session, arguments, REPLY_LIMIT);
                let line = answer.map_err(|reason| {
                    record.error(format!("the canonical solution on test {number}: {reason}"))
                })?;
                Ok(Expected { line, limit: MIN_LIMIT.max(LIMIT_FACTOR * time) })
            };
            inputs.iter().enumerate().map(expected).collect()
        };
        let plus = problem.plus_input.as_deref().unwrap_or_default();
        let reference = Rc::new(Reference { base: run(&problem.base_input)?, plus: run(plus)? });
        *self.reference.borrow_mut() = Some((Arc::clone(json), Rc::clone(&reference)));
        Ok(reference)
    }

    /// Runs a solution on inputs and returns the reason if it fails. `before` is the number of
    /// tests run earlier.
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
        let end = Instant::now() + all.min(MAX_TOTAL) + GRACE;
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
            // As written: a number in a `Value` has at most 64 bits.
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

/// Makes a harness load a program. The error is the reason why it fails.
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

/// Makes a harness run a test. Returns the result or the reason of a failure, and the time taken.
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

/// The result in a harness's reply. A raised exception is an error.
fn result(answer: Reply) -> std::result::Result<Vec<u8>, String> {
    #[derive(Deserialize)]
    struct Raised {
        raised: String,
    }
    match answer {
        // A list of one string would also deserialize into this object.
        Reply::Line(line) if !line.starts_with(b"{") => Ok(line),
        Reply::Line(line) => match serde_json::from_slice::<Raised>(&line) {
            // The code chooses the name.
            Ok(Raised { raised }) => {
                Err(raised.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect())
            }
            Err(_) => Ok(line),
        },
        Reply::Late => Err("out of time".to_owned()),
        Reply::Ended => Err("no answer".to_owned()),
    }
}

/// The judge's response, if there is a valid one.
fn answer<T: serde::de::DeserializeOwned>(judge: &Session) -> Option<T> {
    match judge.receive(REPLY_LIMIT) {
        Reply::Line(line) => serde_json::from_slice(&line).ok(),
        Reply::Late | Reply::Ended => None,
    }
}
