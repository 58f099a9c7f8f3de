//! The plan of a comparison: tests, tasks and goals, from its arguments or from a file of rows.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::args::Args;
use super::tasks::{self, Task};

/// The plan of a comparison.
pub(super) struct Plan {
    pub(super) title: String,
    pub(super) passes: Vec<Pass>,
    /// The tasks to score; empty if nothing is scored.
    pub(super) tasks: Vec<Task>,
    /// Items of each task; 0 is all.
    pub(super) limit: usize,
    /// Whether the report includes the technical report's figures.
    pub(super) published: bool,
    pub(super) rows: Vec<RowSpec>,
    pub(super) goals: Vec<Goal>,
    pub(super) notes: Vec<String>,
}

/// A measured process: prefill, decoding, or both.
pub(super) struct Pass {
    pub(super) prompt: usize,
    pub(super) decode: usize,
    pub(super) threads: usize,
    /// The names of the rows to run; `None` means all.
    rows: Option<Vec<String>>,
}

/// A measured speed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Test {
    pub(super) kind: TestKind,
    pub(super) tokens: usize,
    pub(super) threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TestKind {
    Prefill,
    Decode,
}

/// A row of a file.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowSpec {
    pub(super) name: String,
    /// A model for Trilobite; `$NAME` stands for the variable's value.
    pub(super) model: Option<String>,
    /// Another engine and its model, as for `--peer`.
    pub(super) peer: Option<String>,
    /// More arguments of `trilobite bench` and `trilobite perplexity`.
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// The difference from other rows.
    pub(super) note: Option<String>,
}

/// A target for the ratio of two speeds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Goal {
    pub(super) name: String,
    /// The beginning of the test's name: `tg64` stands for any number of threads.
    pub(super) test: String,
    pub(super) ours: Vec<String>,
    pub(super) theirs: Vec<String>,
    pub(super) at_least: f64,
}

/// A file of rows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowsFile {
    title: String,
    #[serde(default)]
    notes: Vec<String>,
    row: Vec<RowSpec>,
    test: Vec<TestSpec>,
    #[serde(default)]
    goal: Vec<Goal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestSpec {
    name: String,
    rows: Vec<String>,
}

impl Plan {
    pub(super) fn of(args: &Args) -> Result<Plan> {
        if let Some(path) = &args.rows {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let only = args.only.as_deref().unwrap_or_default();
            return Plan::of_rows(&text, only).with_context(|| path.display().to_string());
        }
        let tasks = match &args.tasks {
            _ if args.synthetic => Vec::new(),
            Some(names) => tasks::tasks(names)?,
            None if args.published => tasks::tasks(&tasks::published_tasks())?,
            None => tasks::tasks(&tasks::DEFAULT_TASKS.map(str::to_owned))?,
        };
        let (prompt, decode, threads) = (args.prompt, args.decode, args.threads());
        Ok(Plan {
            title: match args.synthetic {
                true => "Models compared: random weights in their shapes".to_owned(),
                false => "Models compared".to_owned(),
            },
            passes: vec![Pass { prompt, decode, threads, rows: None }],
            tasks,
            limit: args.limit.unwrap_or(if args.published { 0 } else { 100 }),
            published: true,
            rows: Vec::new(),
            goals: Vec::new(),
            notes: Vec::new(),
        })
    }

    fn of_rows(text: &str, only: &str) -> Result<Plan> {
        let RowsFile { title, notes, row: mut rows, test: tests, goal: goals } =
            toml::from_str(text)?;
        let known = |name: &String| rows.iter().any(|row| row.name == *name);
        let mut passes = Vec::new();
        for test in tests {
            let missing: Vec<_> = test.rows.iter().filter(|name| !known(name)).collect();
            ensure!(
                missing.is_empty(),
                "{} names rows that are not listed: {missing:?}",
                test.name
            );
            let Test { kind, tokens, threads } = Test::parse(&test.name)?;
            let (prompt, decode) = match kind {
                TestKind::Prefill => (tokens, 0),
                TestKind::Decode => (0, tokens),
            };
            if test.name.contains(only) {
                passes.push(Pass { prompt, decode, threads, rows: Some(test.rows) });
            }
        }
        ensure!(!passes.is_empty(), "no test's name contains {only:?}");
        for goal in &goals {
            let named = goal.ours.iter().chain(&goal.theirs);
            let missing: Vec<_> = named.filter(|name| !known(name)).collect();
            ensure!(
                missing.is_empty(),
                "{} names rows that are not listed: {missing:?}",
                goal.name
            );
        }
        rows.retain(|row| passes.iter().any(|pass| pass.has(&row.name)));
        let tasks = Vec::new();
        Ok(Plan { title, passes, tasks, limit: 0, published: false, rows, goals, notes })
    }

    /// All tests, in the order of the passes.
    pub(super) fn tests(&self) -> Vec<Test> {
        self.passes.iter().flat_map(Pass::tests).collect()
    }

    /// The first test of a kind.
    pub(super) fn first(&self, kind: TestKind) -> Option<Test> {
        self.tests().into_iter().find(|test| test.kind == kind)
    }

    /// The label of a test's line in the table.
    pub(super) fn label(&self, test: Test) -> String {
        let what = match test.kind {
            TestKind::Prefill => "prefill of",
            TestKind::Decode => "decode of",
        };
        let same = self.passes.iter().all(|pass| pass.threads == test.threads);
        let threads = match test.threads {
            _ if same => String::new(),
            1 => ", 1 thread".to_owned(),
            n => format!(", {n} threads"),
        };
        format!("{what} {} tokens, tokens/s{threads}", test.tokens)
    }
}

impl Pass {
    pub(super) fn has(&self, row: &str) -> bool {
        self.rows.as_ref().is_none_or(|rows| rows.iter().any(|name| name == row))
    }

    pub(super) fn tests(&self) -> impl Iterator<Item = Test> + use<> {
        let threads = self.threads;
        let both = [(TestKind::Decode, self.decode), (TestKind::Prefill, self.prompt)];
        let measured = both.into_iter().filter(|(_, tokens)| *tokens > 0);
        measured.map(move |(kind, tokens)| Test { kind, tokens, threads })
    }
}

impl Test {
    /// The name, such as `pp512-2` or `tg64-1`: kind, tokens, threads.
    pub(super) fn name(self) -> String {
        let kind = match self.kind {
            TestKind::Prefill => "pp",
            TestKind::Decode => "tg",
        };
        format!("{kind}{}-{}", self.tokens, self.threads)
    }

    fn parse(name: &str) -> Result<Test> {
        let (kind, rest) = match (name.strip_prefix("pp"), name.strip_prefix("tg")) {
            (Some(rest), _) => (TestKind::Prefill, rest),
            (_, Some(rest)) => (TestKind::Decode, rest),
            _ => bail!("test {name:?} is neither ppTOKENS-THREADS nor tgTOKENS-THREADS"),
        };
        let numbers = rest
            .split_once('-')
            .and_then(|(tokens, threads)| Some((tokens.parse().ok()?, threads.parse().ok()?)));
        match numbers {
            Some((tokens, threads)) if tokens > 0 && threads > 0 => {
                Ok(Test { kind, tokens, threads })
            }
            _ => bail!(
                "test {name:?}: tokens and threads are two numbers, as in {}512-2",
                &name[..2]
            ),
        }
    }
}

/// Replaces each `$NAME` in a word by the value of that variable.
pub(super) fn expand(word: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut pieces = word.split('$');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        let (name, rest) = piece.split_at(end.unwrap_or(piece.len()));
        ensure!(!name.is_empty(), "{word:?}: a $ stands before no name");
        let value = variable(name).filter(|value| !value.is_empty());
        text += &value.with_context(|| format!("the variable {name} of {word:?} is not set"))?;
        text += rest;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_rows_are_whole() {
        let text = |name: &str| {
            let folder = crate::repository::root().join("benches/peers");
            std::fs::read_to_string(folder.join(name)).unwrap()
        };
        for (name, counts) in
            [("2b4t.toml", (13, 5, 5)), ("dense.toml", (27, 2, 9)), ("types.toml", (19, 2, 7))]
        {
            let plan = Plan::of_rows(&text(name), "").unwrap();
            assert_eq!((plan.rows.len(), plan.passes.len(), plan.goals.len()), counts);
            assert!(plan.rows.iter().all(|row| row.model.is_some() != row.peer.is_some()));
        }
        let text = text("2b4t.toml");
        let plan = Plan::of_rows(&text, "tg64-1").unwrap();
        assert_eq!((plan.rows.len(), plan.tests().len()), (3, 1));
        let error = Plan::of_rows(&text, "tg65").err().unwrap();
        assert_eq!(error.to_string(), "no test's name contains \"tg65\"");
    }

    #[test]
    fn a_file_that_contradicts_itself_is_refused() {
        let refused = |test: &str, rows: &str, goal: &str| {
            let text = format!(
                "title = \"t\"\n[[row]]\nname = \"a\"\nmodel = \"a.gguf\"\n\
                 [[test]]\nname = {test:?}\nrows = {rows}\n{goal}"
            );
            format!("{:#}", Plan::of_rows(&text, "").err().unwrap())
        };
        assert!(refused("pp512-2", "[\"b\"]", "").contains("not listed: [\"b\"]"));
        for name in ["pp0-2", "pp512", "pp512-0", "tgx-1"] {
            assert!(refused(name, "[\"a\"]", "").contains("two numbers"), "{name}");
        }
        assert!(refused("xx512-2", "[\"a\"]", "").contains("neither"));
        let goal = "[[goal]]\nname = \"g\"\ntest = \"pp512\"\nours = [\"a\"]\ntheirs = [\"c\"]\n\
                    at_least = 2";
        assert!(refused("pp512-2", "[\"a\"]", goal).contains("g names rows that are not listed"));
    }

    #[test]
    fn names_of_variables_are_replaced() {
        let variable = |name: &str| (name == "PEERS").then(|| "/p".to_owned());
        assert_eq!(expand("$PEERS/a.gguf", variable).unwrap(), "/p/a.gguf");
        assert_eq!(expand("-m", variable).unwrap(), "-m");
        assert_eq!(expand("x$PEERS", variable).unwrap(), "x/p");
        let error = expand("$SYNTH/a", variable).unwrap_err().to_string();
        assert_eq!(error, "the variable SYNTH of \"$SYNTH/a\" is not set");
        assert!(expand("a$", variable).is_err());
    }
}
