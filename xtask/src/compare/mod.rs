//! `cargo xtask compare`: models and engines beside each other, from the file to the plots.
//!
//! Every number comes from a program that was run (`trilobite bench`, `perplexity`, `eval`, `inspect`,
//! or a peer) or from models.toml, and then it is marked as published. A cell without a number says
//! why.

mod machine;
mod measure;
mod plots;
mod process;
mod report;
mod score;
mod subject;
mod svg;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use trilobite_format::model::Role;

use self::measure::{Perplexity, Spread};
use self::score::Score;
use self::subject::{BUILT_IN, Kind, Subject};

/// Compares models, and other engines, in memory, speed and scores.
///
/// A MODEL is a name of models/models.toml (it is fetched if it is not there), a GGUF file, a
/// checkpoint folder (it is converted), or `tinystories`, the built-in one; NAME=MODEL names its row.
/// The default is everything that is there: the built-in model, its dense twin, and what was pulled.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Models
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Another engine with its model: COMMAND takes llama-bench's -p, -n, -t, -r and -o json
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    peers: Vec<String>,
    /// Tasks to score
    #[arg(long, value_name = "TASK,TASK", value_delimiter = ',', default_value = score::DEFAULT_TASKS)]
    tasks: Vec<String>,
    /// Folder of the data sets [default: where `trilobite pull --data` puts them]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only the first N items of each task; 0 is all
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// More arguments of `trilobite eval`, such as --run-untrusted-code
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    eval_args: Option<String>,
    /// Text for the perplexity that is checked first [default: models/tinystories/story.txt]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Tokens in a window of the perplexity [default: 128 for the default text, else 512]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// Tokens of the prompt that is read
    #[arg(short, long, value_name = "N", default_value_t = 512)]
    prompt: usize,
    /// Tokens that are decoded
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    decode: usize,
    /// Interleaved rounds
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Threads [default: all cores]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Folder of the report
    #[arg(short, long, value_name = "DIR", default_value = "target/compare")]
    output: PathBuf,
    /// Local mirror that models are copied from
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Fetch nothing
    #[arg(long)]
    no_fetch: bool,
    /// Command put before every measured one, such as one that keeps the machine quiet
    #[arg(long, value_name = "COMMAND")]
    wrap: Option<String>,
    /// The binary to use [default: a release build of this checkout]
    #[arg(long, value_name = "FILE")]
    trilobite: Option<PathBuf>,
}

impl Args {
    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(cores)
    }
}

/// A number, or why there is none.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Cell<T> {
    Value(T),
    NotRun(String),
}

impl<T> Cell<T> {
    fn value(&self) -> Option<&T> {
        match self {
            Cell::Value(value) => Some(value),
            Cell::NotRun(_) => None,
        }
    }
}

impl<T> From<Result<T>> for Cell<T> {
    fn from(result: Result<T>) -> Self {
        result.map_or_else(|error| Cell::NotRun(format!("{error:#}")), Cell::Value)
    }
}

/// What was measured of a subject.
#[derive(Serialize)]
struct Row {
    name: String,
    /// Its name in models.toml.
    listed: Option<String>,
    engine: &'static str,
    /// What was run: a file, or a command.
    source: String,
    notes: Vec<String>,
    sha256: Option<String>,
    file_bytes: Cell<u64>,
    non_embedding_bytes: Cell<u64>,
    peak_resident_bytes: Cell<u64>,
    perplexity: Cell<Perplexity>,
    prefill: Cell<Spread>,
    decode: Cell<Spread>,
    joules_per_token: Cell<Spread>,
    scores: BTreeMap<String, Cell<Score>>,
    /// Why its speed is not measured.
    #[serde(skip)]
    measure: Result<(), String>,
    /// Why its scores are not.
    #[serde(skip)]
    score: Result<(), String>,
}

impl Row {
    /// A row that could not be run at all.
    fn new(name: &str, listed: Option<String>, why: &str) -> Self {
        Row {
            name: name.to_owned(),
            listed,
            engine: "Trilobite",
            source: String::new(),
            notes: Vec::new(),
            sha256: None,
            file_bytes: Cell::NotRun(why.to_owned()),
            non_embedding_bytes: Cell::NotRun(why.to_owned()),
            peak_resident_bytes: Cell::NotRun(why.to_owned()),
            perplexity: Cell::NotRun(why.to_owned()),
            prefill: Cell::NotRun(why.to_owned()),
            decode: Cell::NotRun(why.to_owned()),
            joules_per_token: Cell::NotRun(why.to_owned()),
            scores: BTreeMap::new(),
            measure: Err(why.to_owned()),
            score: Err(why.to_owned()),
        }
    }
}

/// The text that all perplexities are of, and what is known of it.
struct Text {
    file: PathBuf,
    context: usize,
    /// The perplexity that PyTorch computes with the built-in model.
    expected: Option<f64>,
}

impl Text {
    fn of(args: &Args) -> Result<Self> {
        if let Some(file) = &args.text {
            return Ok(Text {
                file: file.clone(),
                context: args.ctx.unwrap_or(512),
                expected: None,
            });
        }
        let folder = crate::root().join("models/tinystories");
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

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds is 0, expected at least 1");
    let tasks = score::tasks(&args.tasks)?;
    let binary = crate::trilobite::binary(args.trilobite.as_deref())?;
    let text = Text::of(args)?;
    std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;

    let mut rows = Vec::new();
    let mut subjects = Vec::new();
    for (name, listed, kind) in subject::prepare(&binary, args)? {
        match kind {
            Ok(kind) => {
                let subject = Subject { name, listed, kind };
                rows.push(checked(&binary, &subject, &text));
                subjects.push(subject);
            }
            Err(error) => {
                let why = format!("{error:#}");
                // Without a network every model that is to be fetched has the same fate: told once.
                let said = rows.iter().any(|row: &Row| row.measure.as_ref() == Err(&why));
                eprintln!("{name}: {}", if said { "the same" } else { &why });
                rows.push(Row::new(&name, listed.clone(), &why));
                // Never run: its row says why.
                subjects.push(Subject { name, listed, kind: Kind::Model(None) });
            }
        }
    }
    let measured = measure::interleaved(&binary, args, &subjects, &mut rows);
    let data = score::fetch(&binary, args, &tasks);
    if let Err(error) = &data {
        eprintln!("data: {error:#}");
    }
    for (row, subject) in rows.iter_mut().zip(&subjects) {
        score::row(&binary, args, &tasks, subject, row, data.as_ref().err());
    }
    let machine = machine::fingerprint(&binary, args, &measured)?;
    report::write(args, &text, &tasks, &rows, machine)
}

/// A subject's row with its memory and perplexity: first of all, whether it computes what it should.
fn checked(binary: &Path, subject: &Subject, text: &Text) -> Row {
    let mut row = Row::new(&subject.name, subject.listed.clone(), "");
    let model = match &subject.kind {
        Kind::Peer(command) => {
            peer(&mut row, command, text);
            return row;
        }
        Kind::Model(model) => model.as_deref(),
    };
    row.source = model.map_or("the model in the binary".into(), |path| path.display().to_string());
    let facts = match subject::inspect(binary, model) {
        Ok(facts) => facts,
        Err(error) => {
            return Row::new(&subject.name, subject.listed.clone(), &format!("{error:#}"));
        }
    };
    let bytes = |name: &str| match facts[name].as_u64() {
        Some(bytes) => Cell::Value(bytes),
        None => Cell::NotRun("inspect does not say".to_owned()),
    };
    row.file_bytes = bytes("file_bytes");
    row.non_embedding_bytes = bytes("non_embedding_bytes");
    row.sha256 = facts["sha256"].as_str().map(str::to_owned);
    let mut perplexity = measure::perplexity(binary, model, &text.file, text.context);
    if let (Ok(perplexity), true) = (&mut perplexity, row.is_built_in(model)) {
        perplexity.expected = text.expected;
    }
    row.perplexity = perplexity.into();
    let shapes = facts["tensors"].as_array().into_iter().flatten();
    let embedding = shapes.into_iter().find(|tensor| tensor["name"] == Role::Embedding.name(0));
    let vocabulary = embedding.and_then(|tensor| tensor["shape"][0].as_u64());
    (row.measure, row.score) = verdict(&row.perplexity, vocabulary);
    row
}

impl Row {
    fn is_built_in(&self, model: Option<&Path>) -> bool {
        model.is_none() && self.name == BUILT_IN
    }
}

/// Whether a model with this perplexity is worth measuring, and scoring.
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
    // Untrained weights have the speed of trained ones, but nothing to score.
    match vocabulary.filter(|tokens| value > 0.5 * *tokens as f64) {
        Some(tokens) => {
            (Ok(()), Err(format!("its perplexity of {value:.0} over {tokens} tokens is chance")))
        }
        None => (Ok(()), Ok(())),
    }
}

/// Fills in what can be known of a peer before it is measured.
fn peer(row: &mut Row, command: &[String], text: &Text) {
    const SILENT: &str = "the peer does not say";
    row.engine = "peer";
    row.source = command.join(" ");
    row.non_embedding_bytes = Cell::NotRun(SILENT.to_owned());
    let model = command.iter().position(|word| word == "-m" || word == "--model");
    let model = model.and_then(|at| command.get(at + 1)).map(Path::new);
    let file = model.filter(|path| path.is_file());
    row.file_bytes = match file.and_then(|path| Some(path.metadata().ok()?.len())) {
        Some(bytes) => Cell::Value(bytes),
        None => Cell::NotRun("its command names no file with -m".to_owned()),
    };
    let perplexity = measure::peer_perplexity(command, &text.file, text.context);
    row.perplexity = perplexity.into();
    row.measure = match &row.perplexity {
        // A peer that cannot be checked is measured, and its row says so.
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
