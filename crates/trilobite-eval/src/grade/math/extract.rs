//! Extraction and normalization of the final answer of a solution, as math-evaluation-harness does
//! before it compares answers.

use regex::Regex;

use crate::error::Result;
use crate::grade::judge::regex;
use crate::grade::math::words;
use crate::grade::python::{WORD, strip};

/// Units to drop, with their plurals. A dot matches any character.
const UNITS: &str = "east|degree|mph|kmph|ft|m sqaure| m east|sq m|deg|mile|q .|monkey|prime|ratio|\
profit of rs|rd|o|gm|p . m|lb|tile|per|dm|lt|gain|ab|way|west|a .|b .|c .|d .|e .|f .|g .|h .|t|a|h|\
no change|men|soldier|pie|bc|excess|st|inches|noon|percent|by|gal|kmh|c|acre|rise|a . m|th|π r 2|sq|\
mark|l|toy|coin|sq . m|gallon|° f|profit|minw|yr|women|feet|am|pm|hr|cu cm|square|v â € ™|are|rupee|\
rounds|cubic|cc|mtr|s|ohm|number|kmph|day|hour|minute|min|second|man|woman|sec|cube|mt|sq inch|mp|\
∏ cm ³|hectare|more|sec|unit|cu . m|cm 2|rs .|rs|kg|g|month|km|m|cm|mm|apple|liter|loss|yard|pure|\
year|increase|decrease|d|less|Surface|litre|pi sq m|s .|metre|meter|inch";

/// Extracts answers.
pub(crate) struct Extractor {
    number: Regex,
    line_end: Regex,
    array: Regex,
    text_at_end: Regex,
    units: Vec<Regex>,
    text: Regex,
    mbox: Regex,
    zeros_inside: Regex,
    zeros_at_end: Regex,
    sqrt: Regex,
}

impl Extractor {
    /// Creates an extractor.
    pub(crate) fn new() -> Result<Self> {
        let plurals = UNITS.split('|').map(|unit| format!("{unit}s"));
        let units = UNITS.split('|').map(str::to_owned).chain(plurals);
        Ok(Self {
            number: regex(r"-?\d*\.?\d+")?,
            line_end: regex(r"\n[\s\x1c-\x1f]*")?,
            array: regex(r"\\begin\{array\}\{.*?\}")?,
            text_at_end: regex(r"\\text\{.*?\}$")?,
            units: units
                .map(|unit| regex(&format!("(^|[^{WORD}]){unit}($|[^{WORD}])")))
                .collect::<Result<_>>()?,
            text: regex(r"\\text\{(.*?)\}")?,
            mbox: regex(r"\\mbox\{.*?\}")?,
            zeros_inside: regex(r"(\d+)\.0*([^\d])")?,
            zeros_at_end: regex(r"(\d+)\.0*$")?,
            sqrt: regex(&format!(r"\\sqrt([{WORD}]+)"))?,
        })
    }

    /// The normalized final answer of a solution; empty if there is none.
    pub(crate) fn answer(&self, solution: &str) -> String {
        let after = |mark: &str| solution.rsplit_once(mark).map(|(_, rest)| rest);
        let found = if let Some((_, rest)) = solution.split_once("final answer is $")
            && solution.contains("$. I hope")
        {
            strip(rest.split("$. I hope").next().unwrap_or_default()).to_owned()
        } else if let Some(rest) = after("boxed") {
            match rest.strip_prefix('{') {
                Some(rest) => balanced(rest).to_owned(),
                None => strip(rest.split('$').next().unwrap_or_default()).to_owned(),
            }
        } else if let Some(rest) = after("he answer is").or_else(|| after("final answer is")) {
            strip(rest).to_owned()
        } else {
            let plain = solution.replace(',', "");
            self.number.find_iter(&plain).last().map_or_else(String::new, |n| n.as_str().to_owned())
        };
        let found = self.line_end.replace_all(&found, "");
        let found = found.strip_prefix(':').unwrap_or(&found);
        let found = found.strip_suffix('.').unwrap_or(found);
        // The harness also normalizes twice.
        self.normalised(&self.normalised(found.strip_suffix('/').unwrap_or(found)))
    }

    /// The normal form of an answer.
    fn normalised(&self, answer: &str) -> String {
        let mut text = strip(answer).replace('\n', "");
        text.truncate(text.trim_end_matches('.').len());
        text = text.replace("\\!", "");
        text = self.array.replace_all(&text, "\\begin{pmatrix}").into_owned();
        for (from, to) in [
            ("\\end{array}", "\\end{pmatrix}"),
            ("bmatrix", "pmatrix"),
            ("tfrac", "frac"),
            ("dfrac", "frac"),
            ("\\left", ""),
            ("\\right", ""),
            ("\\{", "{"),
            ("\\}", "}"),
        ] {
            text = text.replace(from, to);
        }
        let bare = strip(&self.text_at_end.replace(&text, "")).to_owned();
        if !bare.is_empty() {
            text = bare;
        }
        for unit in self.units.iter().chain(&self.units) {
            let bare = unit.replace_all(&text, "$1$2");
            if !bare.is_empty() && bare != text {
                text = bare.into_owned();
            }
        }
        for gone in ["^{\\circ}", "^\\circ", "\\$", "$"] {
            text = text.replace(gone, "");
        }
        text = words::number(&text).unwrap_or(text);
        text = self.text.replace_all(&text, "$1").into_owned();
        for gone in ["x=", "y=", "z=", "x\\in", "y\\in", "z\\in", "x\\to", "y\\to", "z\\to"] {
            text = text.replace(gone, "");
        }
        for (from, to) in [
            ("\\emptyset", "{}"),
            ("(-\\infty,\\infty)", "\\mathbb{R}"),
            ("\\%", ""),
            ("%", ""),
            (" .", " 0."),
            ("{.", "{0."),
            ("infinity", "\\infty"),
        ] {
            text = text.replace(from, to);
        }
        if !text.contains("\\infty") {
            text = text.replace("inf", "\\infty");
        }
        text = text.replace("+\\inity", "\\infty").replace("and", "").replace("\\mathbf", "");
        text = self.mbox.replace_all(&text, "").into_owned();
        if text.contains('j') && !text.contains('i') {
            text = text.replace('j', "i");
        }
        text = self.zeros_inside.replace_all(&text, "$1$2").into_owned();
        text = self.zeros_at_end.replace_all(&text, "$1").into_owned();
        if text.starts_with('.') {
            text.insert(0, '0');
        }
        if let [name, value] = text.split('=').collect::<Vec<_>>()[..]
            && name.chars().count() <= 2
        {
            text = value.to_owned();
        }
        text = self.sqrt.replace_all(&text, "\\sqrt{$1}").replace(' ', "");
        for gone in ["x\\in", "y\\in", "z\\in"] {
            text = text.replace(gone, "");
        }
        slash(fractions(&text))
    }
}

/// The text before the brace that closes an opened one, or all of the text.
fn balanced(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// `\frac12` as `\frac{1}{2}`.
fn fractions(text: &str) -> String {
    let mut parts = text.split("\\frac");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += "\\frac";
        let mut chars = part.chars();
        match (chars.next(), chars.next()) {
            (Some('{'), _) => out += part,
            (Some(a), Some('{')) => out += &format!("{{{a}}}{{{}", chars.as_str()),
            (Some(a), Some(b)) => out += &format!("{{{a}}}{{{b}}}{}", chars.as_str()),
            _ => return text.to_owned(),
        }
    }
    out
}

/// `1/2` as `\frac{1}{2}`.
fn slash(text: String) -> String {
    let whole = |part: &str| {
        let digits = part.strip_prefix('-').unwrap_or(part);
        let first = digits.bytes().next().is_some_and(|digit| digit != b'0' || part == "0");
        first && digits.bytes().all(|digit| digit.is_ascii_digit())
    };
    let fits = |part: &str| part.contains("sqrt") || whole(part);
    match text.split_once('/') {
        Some((a, b)) if fits(a) && fits(b) && !b.contains('/') => format!("\\frac{{{a}}}{{{b}}}"),
        _ => text,
    }
}
