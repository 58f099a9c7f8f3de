//! Compares logits, greedy tokens and embeddings with those that a reference implementation recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use trilobite_runtime::{Embedder, Kind, Pooling, argmax};

use super::identity::{Way, outputs};
use super::{Outcome, Subject};
use crate::commands::npy::Array;
use crate::input;

/// Tolerance of the logits of dense models, in which only float rounding differs.
const DENSE: f64 = 5e-4;
/// Tolerance of the logits of ternary models at positions where no int8 code differs.
const EXACT: f64 = 1e-4;
/// Maximum length of a prompt for which the stricter limits are valid.
const SHORT: usize = 48;
/// Maximum RMS error divided by the standard deviation of the logits, for a short prompt.
const SHORT_RMS: f64 = 0.01;
/// Minimum part of its positions where no code differs.
const SHORT_EXACT: f64 = 0.6;
/// The maximum RMS error for longer prompts, where attention adds the noise of more positions.
const LONG_RMS: f64 = 0.035;
/// Minimum part of their positions with the same most likely token.
const LONG_ARGMAX: f64 = 0.94;
/// A greedy step is decided if its margin exceeds this multiple of the noise measured there ...
const DECIDED_SPREADS: f64 = 4.0;
/// ... and this part of the standard deviation of the logits.
const DECIDED_STD: f64 = 0.1;
/// Minimum cosine of an embedding with the recorded one.
const COSINE: f64 = 0.9995;
/// The name of a folder of recorded outputs beside a model.
const FOLDER: &str = "golden";

/// A folder of recorded outputs.
pub(super) struct Recorded {
    folder: PathBuf,
    /// Whether the model is a GGUF file, for which other embeddings may be recorded.
    packed: bool,
}

/// A prompt, used literally.
#[derive(Deserialize)]
struct Prompt {
    ids: Vec<u32>,
}

/// A greedy continuation.
#[derive(Deserialize)]
struct Greedy {
    ids: Vec<u32>,
    top1_minus_top2: Vec<f64>,
    #[serde(default)]
    spread: Vec<f64>,
}

/// A text to embed, as the tokens that the model reads.
#[derive(Deserialize)]
struct Text {
    ids: Vec<u32>,
}

/// The folder that was asked for, or the one beside the model, if it has recorded outputs.
pub(super) fn folder(asked: Option<&Path>, model: Option<&Path>) -> Result<Option<Recorded>> {
    let packed = model.is_some_and(Path::is_file);
    let has = |folder: &Path| {
        ["prompts.json", "texts.json"].iter().any(|name| folder.join(name).is_file())
    };
    if let Some(folder) = asked {
        ensure!(has(folder), "--recorded {}: no prompts.json or texts.json", folder.display());
        return Ok(Some(Recorded { folder: folder.to_owned(), packed }));
    }
    let beside = model.map(|model| match packed {
        true => model.with_file_name(FOLDER),
        false => model.join(FOLDER),
    });
    Ok(beside.filter(|folder| has(folder)).map(|folder| Recorded { folder, packed }))
}

/// Compares all that is recorded.
pub(super) fn compare(subject: &Subject, recorded: Option<&Recorded>) -> Result<Outcome> {
    let Some(recorded) = recorded else {
        let none = format!("none: no folder {FOLDER} beside the model, and no --recorded");
        return Ok(Outcome::Skipped(none));
    };
    match subject.model.only_embeds() {
        true => recorded.embeddings(subject),
        false => recorded.logits(subject),
    }
}

impl Recorded {
    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.folder.join(name);
        let text = input::text(&path)?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    fn array(&self, name: &str) -> Result<Array> {
        let path = self.folder.join(name);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        Array::parse(&bytes).with_context(|| path.display().to_string())
    }

    fn logits(&self, subject: &Subject) -> Result<Outcome> {
        let prompts: BTreeMap<String, Prompt> = self.json("prompts.json")?;
        let ternary = is_ternary(subject);
        let (mut compared, mut worst, mut stds) = (0, 0.0f64, BTreeMap::new());
        for (name, Prompt { ids }) in &prompts {
            let file = format!("logits_{name}.npy");
            if !self.folder.join(&file).is_file() {
                continue;
            }
            ensure!(!ids.is_empty(), "{}: the prompt {name:?} is empty", self.folder.display());
            let expected = self.array(&file)?;
            let found = run(subject, ids)?;
            ensure!(
                expected.rows == found.len() && found.iter().all(|row| row.len() == expected.cols),
                "{}: [{}, {}], but the prompt has {} tokens and the model {} logits",
                self.folder.join(&file).display(),
                expected.rows,
                expected.cols,
                ids.len(),
                subject.model.config().vocab
            );
            let agreement = Agreement::of(&found, &expected);
            worst = worst.max(if ternary { agreement.rms } else { agreement.largest });
            if !agreement.is_right(ternary, ids.len()) {
                let detail = format!("logits of the prompt {name:?}: {}", agreement.describe());
                return Ok(Outcome::Failed(detail));
            }
            stds.insert(name.as_str(), expected.std());
            compared += 1;
        }
        ensure!(compared > 0, "{}: no logits_NAME.npy of a prompt", self.folder.display());
        let mut detail = format!("{}: logits of {compared} prompts, ", self.folder.display());
        detail += &match ternary {
            true => format!("RMS error at most {worst:.1e} of their standard deviation"),
            false => format!("largest difference {worst:.1e}"),
        };
        if self.folder.join("greedy.json").is_file() {
            match self.greedy(subject, &prompts, &stds)? {
                Ok(steps) => detail += &format!(", and {steps} greedy tokens"),
                Err(fault) => return Ok(Outcome::Failed(fault)),
            }
        }
        Ok(Outcome::Passed(detail))
    }

    /// The number of equal greedy tokens, or where one differs.
    fn greedy(
        &self,
        subject: &Subject,
        prompts: &BTreeMap<String, Prompt>,
        stds: &BTreeMap<&str, f64>,
    ) -> Result<Result<usize, String>> {
        let greedy: BTreeMap<String, Greedy> = self.json("greedy.json")?;
        let mut steps = 0;
        for (name, Greedy { ids, top1_minus_top2, spread }) in greedy {
            let (Some(prompt), Some(std)) = (prompts.get(&name), stds.get(name.as_str())) else {
                continue;
            };
            let noise = |step: usize| spread.get(step).map_or(0.0, |s| DECIDED_SPREADS * s);
            let decided =
                |step: &usize| top1_minus_top2[*step] >= noise(*step).max(DECIDED_STD * std);
            let count = (0..ids.len().min(top1_minus_top2.len())).take_while(decided).count();
            if count == 0 {
                continue;
            }
            let tokens = [&prompt.ids[..], &ids[..count - 1]].concat();
            let found = run(subject, &tokens)?;
            let found = found[prompt.ids.len() - 1..].iter().map(|logits| argmax(logits));
            for (step, (found, expected)) in found.zip(&ids).enumerate() {
                if found != Some(*expected) {
                    let found = found.map_or("nothing".to_owned(), |id| id.to_string());
                    let place = format!("greedy token {} of the prompt {name:?}", step + 1);
                    return Ok(Err(format!("{place} is {found}, not {expected}")));
                }
            }
            steps += count;
        }
        Ok(Ok(steps))
    }

    fn embeddings(&self, subject: &Subject) -> Result<Outcome> {
        let pooling = match subject.model.config().pooling {
            Some(Pooling::Mean) => "mean",
            Some(Pooling::Last) => "last",
            other => {
                let pooling = other.map_or("no", |pooling| pooling.name());
                return Ok(Outcome::Skipped(format!("none for {pooling} pooling")));
            }
        };
        let names = [
            format!("embeddings_gguf_{pooling}.npy"),
            format!("embeddings_{pooling}.npy"),
            "embeddings.npy".to_owned(),
        ];
        let mut names = names.iter().skip(usize::from(!self.packed));
        let Some(name) = names.find(|name| self.folder.join(name).is_file()) else {
            return Ok(Outcome::Skipped(format!("none for {pooling} pooling")));
        };
        let (texts, expected): (Vec<Text>, Array) = (self.json("texts.json")?, self.array(name)?);
        ensure!(
            expected.rows == texts.len() && expected.cols == subject.model.config().hidden,
            "{}: [{}, {}], but there are {} texts and vectors of {}",
            self.folder.join(name).display(),
            expected.rows,
            expected.cols,
            texts.len(),
            subject.model.config().hidden
        );
        let mut least = 1.0f64;
        for (at, (Text { ids }, expected)) in texts.into_iter().zip(expected.rows()).enumerate() {
            let options = Way::at_once(&ids, subject.threads)?.options;
            let mut embedder = Embedder::new(Arc::clone(&subject.model), options, None)?;
            let found = embedder.embed_first(&[ids])?.swap_remove(0);
            let cosine = cosine(&found.values, expected);
            least = least.min(cosine);
            if cosine.is_nan() || cosine < COSINE {
                let detail = format!("text {} has a cosine of {cosine:.6}", at + 1);
                return Ok(Outcome::Failed(format!("{detail} with the recorded one ({name})")));
            }
        }
        let place = self.folder.join(name);
        Ok(Outcome::Passed(format!("{}: cosines at least {least:.6}", place.display())))
    }
}

/// The logits after every token.
fn run(subject: &Subject, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
    outputs(&subject.model, &Way::at_once(tokens, subject.threads)?, tokens)
}

fn is_ternary(subject: &Subject) -> bool {
    let matrices = subject.model.weights().layers.iter().flat_map(|layer| layer.matrices());
    matrices.into_iter().any(|matrix| matches!(matrix.kind, Kind::Ternary { .. }))
}

/// How far logits agree with recorded ones.
struct Agreement {
    /// The largest difference.
    largest: f64,
    /// The RMS difference divided by the standard deviation of the logits.
    rms: f64,
    /// The part of the positions where no int8 code differs.
    exact: f64,
    /// The part of the positions with the same most likely token.
    argmax: f64,
}

impl Agreement {
    fn of(found: &[Vec<f32>], expected: &Array) -> Self {
        let (mut largest, mut squares, mut exact, mut same) = (0.0f64, 0.0, 0, 0);
        for (found, expected) in found.iter().zip(expected.rows()) {
            let errors = found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b));
            squares += errors.clone().map(|error| error * error).sum::<f64>();
            // A NaN counts as infinite, which `max` would hide.
            let size = |error: f64| if error.is_nan() { f64::INFINITY } else { error.abs() };
            let most = errors.map(size).fold(0.0, f64::max);
            largest = largest.max(most);
            exact += usize::from(most <= EXACT);
            same += usize::from(argmax(found) == argmax(expected));
        }
        let positions = found.len() as f64;
        Self {
            largest,
            rms: (squares / expected.values.len() as f64).sqrt() / expected.std(),
            exact: exact as f64 / positions,
            argmax: same as f64 / positions,
        }
    }

    fn is_right(&self, ternary: bool, tokens: usize) -> bool {
        match tokens {
            _ if !ternary => self.largest <= DENSE,
            1 => self.exact == 1.0,
            2..=SHORT => self.rms <= SHORT_RMS && self.exact >= SHORT_EXACT,
            _ => self.rms <= LONG_RMS && self.argmax >= LONG_ARGMAX,
        }
    }

    fn describe(&self) -> String {
        format!(
            "largest difference {:.1e}, RMS error {:.1e} of the standard deviation, {:.0} % of the \
             positions within {EXACT:.0e}, the most likely token is the same at {:.0} %",
            self.largest,
            self.rms,
            100.0 * self.exact,
            100.0 * self.argmax
        )
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
