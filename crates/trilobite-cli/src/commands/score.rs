//! `trilobite score`: computes log-likelihoods of continuations.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use trilobite_runtime::{Model, Request, Scorer};

use crate::args::{Global, Score};
use crate::output::{self, Progress, Unit};
use crate::{input, model};

pub(crate) fn run(args: &Score, global: &Global) -> Result<ExitCode> {
    let model = model::load(&args.model, args.compute.threads, global)?;
    args.output.iter().try_for_each(|path| model::refuse_target(&args.model, path))?;
    let source = args.input.as_ref().map_or_else(|| "stdin".into(), |f| f.display().to_string());
    let input: Box<dyn BufRead> = match &args.input {
        Some(path) => Box::new(BufReader::new(File::open(path).with_context(|| source.clone())?)),
        None => Box::new(BufReader::new(std::io::stdin())),
    };
    let lines: Vec<String> =
        input.lines().collect::<std::io::Result<_>>().with_context(|| source.clone())?;
    let mut scorer = Scorer::new(model::session(&model, &args.compute, args.ctx)?);
    let total = lines.len() as u64;
    let bar = Progress::new(total, Unit::Items, global)?;
    let mut cut = 0;
    let mut score_all = |write: &mut dyn FnMut(&str) -> Result<()>| -> Result<()> {
        for (index, line) in lines.iter().enumerate() {
            bar.set(index as u64, total);
            let line = if index == 0 { input::without_mark(line) } else { line };
            if line.trim().is_empty() {
                continue;
            }
            let (scored, is_cut) = score(&model, &mut scorer, line, args, global)
                .with_context(|| format!("{source} line {}", index + 1))?;
            cut += usize::from(is_cut);
            write(&output::json(&format!("{scored}\n")))?;
        }
        Ok(())
    };
    match &args.output {
        Some(path) => {
            output::write_result(path, |out| {
                score_all(&mut |line| Ok(out.write_all(line.as_bytes())?))
            })?;
        }
        None => score_all(&mut output::print)?,
    }
    bar.finish();
    if cut > 0 && !global.quiet {
        let limit = output::tokens(scorer.session().context());
        output::say(&format!(
            "note: the context of {limit} is too short for {cut} of {total} lines, whose first tokens \
             were left out"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// An object in which values that are not read keep their text.
struct Item<'a>(Vec<(String, Cow<'a, str>)>);

impl Item<'_> {
    /// The text of a value. Of several with the same key, the last one counts.
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rfind(|(found, _)| found == key).map(|(_, value)| &**value)
    }

    fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = Cow::Owned(value.into().to_string());
        match self.0.iter_mut().rfind(|(found, _)| found == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Item<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    fields.push((key, Cow::Borrowed(value.get())));
                }
                Ok(Item(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Display for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            write!(f, "{before}{}:{value}", Value::from(key.as_str()))?;
        }
        f.write_str("}")
    }
}

/// The line with the score added, and whether the context was cut to fit.
fn score(
    model: &Model,
    scorer: &mut Scorer,
    line: &str,
    args: &Score,
    global: &Global,
) -> Result<(String, bool)> {
    let mut item: Item<'_> = serde_json::from_str(line)?;
    let has_ids = ["context_ids", "continuation_ids"].iter().any(|key| item.get(key).is_some());
    let (request, bytes) = if has_ids {
        let continuation = ids(&item, "continuation_ids")?;
        // The text of literal ids needs a tokenizer.
        let bytes = match model.tokenizer() {
            Ok(tokenizer) => Some(tokenizer.decode(&continuation, true)?.len()),
            Err(_) => None,
        };
        (Request::from_ids(model, &ids(&item, "context_ids")?, &continuation)?, bytes)
    } else {
        let (context, continuation) = (text(&item, "context")?, text(&item, "continuation")?);
        let bytes = Some(continuation.len());
        // Prints the tokenizer's assumptions.
        model::tokenizer(model, &args.model, global)?;
        (Request::encode(model, &context, &continuation, !args.no_bos)?, bytes)
    };
    let score = scorer.score(&request)?;
    item.set("logprob", score.logprob);
    item.set("greedy", score.greedy);
    item.set("tokens", request.continuation.len());
    item.set("bytes", bytes);
    let length = request.context.len() + request.continuation.len();
    // The last token is predicted only.
    Ok((item.to_string(), length - 1 > scorer.session().context()))
}

/// The value of a key, if it can be represented.
fn value(item: &Item<'_>, key: &str) -> Option<Value> {
    serde_json::from_str(item.get(key)?).ok()
}

fn text(item: &Item<'_>, key: &str) -> Result<String> {
    match value(item, key) {
        Some(Value::String(text)) => Ok(text),
        None if item.get(key).is_none() => bail!("{key:?} is missing"),
        _ => bail!("{key:?} is not a string"),
    }
}

fn ids(item: &Item<'_>, key: &str) -> Result<Vec<u32>> {
    let array = match value(item, key) {
        Some(Value::Array(array)) => array,
        None if item.get(key).is_none() => bail!("{key:?} is missing"),
        _ => bail!("{key:?} is not an array of token ids"),
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    array.iter().map(id).collect::<Option<_>>().with_context(|| format!("{key:?}: not a token id"))
}
