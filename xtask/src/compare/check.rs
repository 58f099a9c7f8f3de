//! Checks that a subject computes the right results, before its speed and scores are measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::args::Args;
use super::perplexity::{self, Perplexity};
use super::row::{Cell, Row};
use super::subject::{self, Kind, Subject};

/// The text of all perplexities, and the expected value.
pub(super) struct Text {
    pub(super) file: PathBuf,
    pub(super) context: usize,
    /// The perplexity that PyTorch computes with the built-in model.
    expected: Option<f64>,
}

impl Text {
    pub(super) fn of(args: &Args) -> Result<Self> {
        if let Some(file) = &args.text {
            return Ok(Text {
                file: file.clone(),
                context: args.ctx.unwrap_or(512),
                expected: None,
            });
        }
        let folder = crate::repository::root().join("models/tinystories");
        let path = folder.join("perplexity.json");
        let json = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let known: Value = serde_json::from_slice(&json)?;
        let context = known["ctx"].as_u64().context("perplexity.json names no ctx")? as usize;
        let expected = known["perplexity"].as_f64();
        let as_known = args.ctx.is_none_or(|asked| asked == context);
        Ok(Text {
            file: folder.join("story.txt").canonicalize()?,
            context: args.ctx.unwrap_or(context),
            expected: expected.filter(|_| as_known),
        })
    }
}

/// Creates a subject's row with its memory and perplexity, which shows whether its results are
/// right.
pub(super) fn checked(binary: &Path, subject: &Subject, text: &Text) -> Row {
    let mut row = Row::new(subject, "");
    let model = match &subject.kind {
        Err(why) => return Row::new(subject, why),
        Ok(Kind::Peer(command)) => {
            peer(&mut row, command, &subject.env, text);
            return row;
        }
        Ok(Kind::Model(model)) => model.as_deref(),
    };
    row.source = subject.shown(model);
    let mut inspection = subject::inspection(binary, model);
    row.ran("inspect", &inspection);
    let facts = match subject::inspect(&mut inspection) {
        Ok(facts) => facts,
        Err(error) => return Row::new(subject, &format!("{error:#}")),
    };
    let bytes = |name: &str| match facts[name].as_u64() {
        Some(bytes) => Cell::Value(bytes),
        None => Cell::NotRun("inspect does not say".to_owned()),
    };
    row.file_bytes = bytes("file_bytes");
    row.non_embedding_bytes = bytes("non_embedding_bytes");
    row.sha256 = facts["sha256"].as_str().map(str::to_owned);
    let architecture = facts["architecture"].as_str().unwrap_or_default();
    let context = facts["metadata"][format!("{architecture}.context_length")].as_u64();
    row.context = context.and_then(|tokens| usize::try_from(tokens).ok());
    let mut command = perplexity::command(binary, model, subject, &text.file, text.context);
    row.ran("perplexity", &command);
    let mut perplexity = perplexity::of_model(&mut command);
    if let (Ok(perplexity), None) = (&mut perplexity, model) {
        perplexity.expected = text.expected;
    }
    row.perplexity = perplexity.into();
    let shapes = facts["tensors"].as_array().into_iter().flatten();
    let embedding = shapes.into_iter().find(|tensor| tensor["name"] == "token_embd.weight");
    let vocabulary = embedding.and_then(|tensor| tensor["shape"][0].as_u64());
    (row.measure, row.score) = verdict(&row.perplexity, vocabulary);
    row
}

/// Whether to measure and to score a model with this perplexity; otherwise the reasons.
fn verdict(
    perplexity: &Cell<Perplexity>,
    vocabulary: Option<u64>,
) -> (Result<(), String>, Result<(), String>) {
    let perplexity = match perplexity {
        Cell::Value(perplexity) => perplexity,
        Cell::NotRun(why) => {
            let why = format!("its perplexity could not be checked: {why}");
            return (Err(why.clone()), Err(why));
        }
    };
    let value = perplexity.value;
    if !value.is_finite() {
        let why = format!("its perplexity is {value}: it computes something wrong");
        return (Err(why.clone()), Err(why));
    }
    if let Some(expected) = perplexity.expected.filter(|right| (value / right - 1.0).abs() > 0.01) {
        let why = format!("its perplexity is {value:.4}, expected {expected:.4}");
        return (Err(why.clone()), Err(why));
    }
    // Untrained weights are as fast as trained ones. Their scores mean nothing.
    match vocabulary.filter(|tokens| value > 0.5 * *tokens as f64) {
        Some(tokens) => {
            (Ok(()), Err(format!("its perplexity of {value:.0} over {tokens} tokens is chance")))
        }
        None => (Ok(()), Ok(())),
    }
}

/// Fills in the memory and the perplexity of a peer, and checks the latter.
fn peer(row: &mut Row, command: &[String], env: &BTreeMap<String, String>, text: &Text) {
    const SILENT: &str = "the peer does not say";
    row.engine = "peer";
    row.source = subject::words(env, command);
    row.non_embedding_bytes = Cell::NotRun(SILENT.to_owned());
    let model = perplexity::model_of(command).map(Path::new);
    let file = model.filter(|path| path.is_file());
    row.file_bytes = match file.and_then(|path| Some(path.metadata().ok()?.len())) {
        Some(bytes) => Cell::Value(bytes),
        None => Cell::NotRun("its command names no file with -m".to_owned()),
    };
    let perplexity = perplexity::of_peer(command, env, &text.file, text.context);
    row.perplexity = perplexity.into();
    row.measure = match &row.perplexity {
        // A peer without a check is measured, with a note in its row.
        Cell::NotRun(why) => {
            row.notes.push(format!("Its perplexity was not checked: {why}."));
            Ok(())
        }
        checked => verdict(checked, None).0,
    };
    row.score = Err("scores are those of models that Trilobite runs".to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn perplexity(value: f64, expected: Option<f64>) -> Cell<Perplexity> {
        let method = String::new();
        Cell::Value(Perplexity { value, bits_per_byte: None, method, expected })
    }

    #[test]
    fn only_what_computes_right_is_measured() {
        assert_eq!(verdict(&perplexity(9.26, Some(9.2657)), Some(2048)), (Ok(()), Ok(())));
        let (measure, score) = verdict(&perplexity(99.8, Some(17.1)), Some(2048));
        assert!(measure.unwrap_err().contains("99.8000, expected 17.1000") && score.is_err());
        let (measure, score) = verdict(&perplexity(2100.0, None), Some(2048));
        assert!(measure.is_ok() && score.unwrap_err().contains("chance"));
        assert!(verdict(&perplexity(f64::NAN, None), None).0.is_err());
        assert!(verdict(&Cell::NotRun("no".into()), None).0.is_err());
    }
}
