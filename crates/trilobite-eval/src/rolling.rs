//! Rolling likelihood of whole texts: WikiText-2 as in lm-evaluation-harness.

use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use trilobite_runtime::{Perplexity, encode, prefix_token};

use crate::bytes::sha256;
use crate::data;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::metrics::{Measured, Metric};
use crate::place::Place;
use crate::protocol::{Item, Items, Protocol, Work, parse_lines};
use crate::results::Line;
use crate::task::Task;

/// The protocol of a rolling-likelihood task.
pub(crate) struct RollingProtocol<'a> {
    pub(crate) task: &'a Task,
}

impl Protocol for RollingProtocol<'_> {
    fn task(&self) -> &Task {
        self.task
    }

    fn items(&self, place: Place<'_>) -> Result<Items> {
        Ok(Items::new(pages(self.task, place.data, place.any_data)?))
    }

    fn measure(&self, path: &Path, lines: &[Line]) -> Result<Measured> {
        let metrics = metrics(&parse_lines(path, lines)?);
        Ok(Measured { metrics, ..Measured::default() })
    }

    fn count(&self, place: Place<'_>) -> Result<usize> {
        Ok(pages(self.task, place.data, place.any_data)?.len())
    }
}

/// A page, ready to be scored.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Its index.
    id: String,
    pub(crate) text: String,
    words: usize,
    bytes: usize,
}

impl Item for Page {
    fn id(&self) -> &str {
        &self.id
    }

    fn prompt_sha256(&self) -> String {
        sha256(self.text.as_bytes())
    }

    fn work(&self, _engine: &Engine) -> Result<Work<'_>> {
        Ok(Work::Answer(Box::new(|engine| Ok(json!(score(engine, self)?)))))
    }

    fn asked(&self, _engine: &Engine, _line: &Value) -> Result<Map<String, Value>> {
        Ok(Map::from_iter([("prompt".to_owned(), self.text.clone().into())]))
    }
}

/// The result of a page: a line of the results file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScoredPage {
    id: String,
    prompt_sha256: String,
    /// `ln p` of the detokenized page.
    logprob: f64,
    tokens: usize,
    /// Number of words of the original page.
    words: usize,
    /// Number of UTF-8 bytes of the original page.
    bytes: usize,
}

/// The pages of a task's text.
pub(crate) fn pages(task: &Task, folder: &Path, any: bool) -> Result<Vec<Page>> {
    let detokenizer = Detokenizer::new(task)?;
    let mut pages = Vec::new();
    for records in data::records(task, folder, any)? {
        for record in &records.items {
            for page in split(record.text("text")?) {
                pages.push(Page {
                    id: pages.len().to_string(),
                    text: detokenizer.apply(page),
                    words: detokenizer.words(page),
                    bytes: page.len(),
                });
            }
        }
    }
    Ok(pages)
}

/// Splits a text into pages. A page begins with a title, ` = Title = ` on a line of its own. As in
/// the data set that the harness loads, the newline before a title belongs to no page.
fn split(text: &str) -> Vec<&str> {
    let mut pages = Vec::new();
    let (mut start, mut at) = (0usize, 0usize);
    for line in text.split('\n') {
        let title = line.replace("= = =", "===").replace("= =", "==");
        let title = title.trim();
        if title.starts_with("= ") && title.ends_with(" =") {
            pages.push(&text[start..at.saturating_sub(1).max(start)]);
            start = at;
        }
        at += line.len() + 1;
    }
    pages.push(&text[start..]);
    pages.retain(|page| !page.trim().is_empty());
    pages
}

/// Reverses the tokenization of WikiText, as the harness does.
struct Detokenizer {
    brackets: Vec<(Regex, &'static str)>,
    spaces: Regex,
}

impl Detokenizer {
    fn new(task: &Task) -> Result<Self> {
        let regex = |pattern: &str| {
            Regex::new(pattern).map_err(|error| Error::Definition {
                task: task.name.clone(),
                message: error.to_string(),
            })
        };
        let brackets = vec![
            (regex(r"\(\s*([^\)]*?)\s*\)")?, "($1)"),
            (regex(r"\[\s*([^\]]*?)\s*\]")?, "[$1]"),
            (regex(r"\{\s*([^\}]*?)\s*\}")?, "{$1}"),
            (regex(r#""\s*([^"]*?)\s*""#)?, "\"$1\""),
            (regex(r"'\s*([^']*?)\s*'")?, "'$1'"),
        ];
        Ok(Self { brackets, spaces: regex(r"\s+")? })
    }

    fn apply(&self, page: &str) -> String {
        let mut text = page.replace("s '", "s'");
        // Python: re.sub(r"/' [0-9]/", r"/'[0-9]/", ...), which never matches these data.
        for (from, to) in [
            (" @-@ ", "-"),
            (" @,@ ", ","),
            (" @.@ ", "."),
            (" : ", ": "),
            (" ; ", "; "),
            (" . ", ". "),
            (" ! ", "! "),
            (" ? ", "? "),
            (" , ", ", "),
        ] {
            text = text.replace(from, to);
        }
        for (pattern, replacement) in &self.brackets {
            text = pattern.replace_all(&text, *replacement).into_owned();
        }
        for (from, to) in [
            ("= = = =", "===="),
            ("= = =", "==="),
            ("= =", "=="),
            (" \u{b0} ", "\u{b0}"),
            (" \n", "\n"),
            ("\n ", "\n"),
            (" N ", " 1 "),
            (" 's", "'s"),
        ] {
            text = text.replace(from, to);
        }
        text
    }

    /// `len(re.split(r"\s+", page))`, which counts empty strings at the ends.
    fn words(&self, page: &str) -> usize {
        self.spaces.split(page).count()
    }
}

/// A window of a text: tokens from `start` to `end`, of which those from `from` on are predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: usize,
    pub(crate) from: usize,
    pub(crate) end: usize,
}

/// The windows that predict each of `count` tokens after a prefix token once, at most `span` tokens
/// per window. The only context of a full window is the token before it. The last window also
/// has `span` tokens, so its context is longer.
pub(crate) fn windows(count: usize, span: usize) -> impl Iterator<Item = Window> {
    (0..count).step_by(span).map(move |done| {
        let last = (done + span).min(count);
        Window { start: last.saturating_sub(span), from: done + 1, end: last + 1 }
    })
}

/// Scores a page in windows of the context's length, each token once.
fn score(engine: &mut Engine, page: &Page) -> trilobite_runtime::Result<ScoredPage> {
    let model = engine.model();
    let prefix = prefix_token(model)?.ok_or(trilobite_runtime::Error::NoPrefix)?;
    let mut tokens = vec![prefix];
    tokens.extend(encode(model, &page.text, false)?);
    let span = engine.settings().context;
    let session = engine.session();
    let mut sum = Perplexity::default();
    for Window { start, from, end } in windows(tokens.len() - 1, span) {
        sum.add_window(session, &tokens[start..end], from - start)?;
    }
    Ok(ScoredPage {
        id: page.id.clone(),
        prompt_sha256: page.prompt_sha256(),
        logprob: -sum.negative_log_likelihood,
        tokens: sum.tokens,
        words: page.words,
        bytes: page.bytes,
    })
}

/// The metrics of scored pages.
pub(crate) fn metrics(pages: &[ScoredPage]) -> BTreeMap<String, Metric> {
    let total = |f: fn(&ScoredPage) -> f64| pages.iter().map(f).sum::<f64>();
    let nats = -total(|page| page.logprob);
    let (words, bytes) = (total(|page| page.words as f64), total(|page| page.bytes as f64));
    [
        ("word_perplexity", (nats / words).exp()),
        ("byte_perplexity", (nats / bytes).exp()),
        ("bits_per_byte", nats / bytes / std::f64::consts::LN_2),
        ("token_perplexity", (nats / total(|page| page.tokens as f64)).exp()),
    ]
    .map(|(name, value)| (name.to_owned(), Metric::plain(value)))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: the harness's Python on the same text.
    #[test]
    fn pages_are_split_and_detokenised() {
        let task = Task::named("wikitext").unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let pages = pages(&task, &folder, true).unwrap();
        let river = " = Small River =\n\nThe river's length is 1,200 metres (about 4.5 \"miles\"), and \
                     it's cold.\n\n== Course ==\n\nIt flows north; then west!\n";
        let bridge =
            " = Old Bridge =\n\nA bridge of stone-built arches: three of them at 5\u{b0}N.\n";
        assert_eq!(pages.len(), 2);
        assert_eq!((pages[0].text.as_str(), pages[0].words, pages[0].bytes), (river, 42, 162));
        assert_eq!((pages[1].text.as_str(), pages[1].words, pages[1].bytes), (bridge, 22, 84));
    }

    /// With the original data in `TRILOBITE_EVALDATA`: the harness's counts and its text.
    #[test]
    #[ignore = "needs TRILOBITE_EVALDATA, a folder of the original data sets"]
    fn the_whole_file_is_that_of_the_harness() {
        let folder = std::env::var("TRILOBITE_EVALDATA").expect("TRILOBITE_EVALDATA");
        let task = Task::named("wikitext").unwrap();
        let pages = pages(&task, Path::new(&folder), false).unwrap();
        let total = |f: fn(&Page) -> usize| pages.iter().map(f).sum::<usize>();
        assert_eq!((pages.len(), total(|page| page.words)), (62, 241_335));
        assert_eq!(total(|page| page.bytes), 1_290_527);
        let texts: Vec<&str> = pages.iter().map(|page| page.text.as_str()).collect();
        let hash = "b0ae50e166add20959a5406d9b3c99fe1f23819ec0a10149047149434fb85d81";
        assert_eq!(sha256(texts.join("\0").as_bytes()), hash);
    }
}
