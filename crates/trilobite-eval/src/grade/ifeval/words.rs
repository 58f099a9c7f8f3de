//! Words as found by NLTK's `word_tokenize` (the rules of the Penn Treebank).

use regex::Regex;

use crate::error::Result;
use crate::grade::ifeval::punkt::Punkt;
use crate::grade::judge::regex;
use crate::grade::python;

/// Opening quotes.
const OPENING: [(&str, &str); 4] = [
    (r"([«“‘„]|[`]+)", " $1 "),
    (r#"^""#, "``"),
    (r"(``)", " $1 "),
    (r#"([ \(\[{<])("|'{2})"#, "$1 `` "),
];
/// Punctuation, brackets and dashes.
const MARKS: [(&str, &str); 12] = [
    (r#"([^\.])(\.)([\]\)}>"'»”’ ]*)\s*$"#, "$1 $2 $3 "),
    (r"([:,])([^\d])", " $1 $2"),
    (r"([:,])$", " $1 "),
    (r"(\.{2,})", " $1 "),
    (r"([;@#$%&])", " $1 "),
    (r"([\x{2012}-\x{2015}])", " $1 "),
    (r#"([^\.])(\.)([\]\)}>"']*)\s*$"#, "$1 $2$3 "),
    (r"([?!])", " $1 "),
    (r"([^'])' ", "$1 ' "),
    (r"([*])", " $1 "),
    (r"([\]\[\(\)\{\}<>])", " $1 "),
    (r"(--)", " $1 "),
];
/// Closing quotes and contractions.
const CLOSING: [(&str, &str); 16] = [
    (r"([»”’])", " $1 "),
    (r"''", " '' "),
    (r#"""#, " '' "),
    (r"\s+", " "),
    (r"([^' ])('[sS]|'[mM]|'[dD]|') ", "$1 $2 "),
    (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "$1 $2 "),
    (r"(?i)\b(can)(not)\b", " $1 $2 "),
    (r"(?i)\b(d)('ye)\b", " $1 $2 "),
    (r"(?i)\b(gim)(me)\b", " $1 $2 "),
    (r"(?i)\b(gon)(na)\b", " $1 $2 "),
    (r"(?i)\b(got)(ta)\b", " $1 $2 "),
    (r"(?i)\b(lem)(me)\b", " $1 $2 "),
    (r"(?i)\b(more)('n)\b", " $1 $2 "),
    (r"(?i)\b(wan)(na)(\s)", " $1 $2 $3"),
    (r"(?i) ('t)(is)\b", " $1 $2 "),
    (r"(?i) ('t)(was)\b", " $1 $2 "),
];

/// The tokenizer.
pub(crate) struct Words {
    opening: Vec<Rule>,
    marks: Vec<Rule>,
    closing: Vec<Rule>,
    /// Contractions before which an apostrophe is not an opening quote.
    contraction: Regex,
}

/// A pattern and its replacement.
type Rule = (Regex, &'static str);

impl Words {
    /// Creates the tokenizer.
    pub(crate) fn new() -> Result<Self> {
        let rule = |&(pattern, by): &(&str, &'static str)| Ok((regex(pattern)?, by));
        let rules = |rules: &[(&str, &'static str)]| rules.iter().map(rule).collect::<Result<_>>();
        Ok(Self {
            opening: rules(&OPENING)?,
            marks: rules(&MARKS)?,
            closing: rules(&CLOSING)?,
            contraction: regex(r"^(?i:re|ve|ll|m|t|s|d|n)\b")?,
        })
    }

    /// The words of a text.
    pub(crate) fn of(&self, text: &str, punkt: &Punkt) -> Vec<String> {
        let mut words = Vec::new();
        for sentence in punkt.sentences(text) {
            let text = self.apostrophes(&replaced(sentence.to_owned(), &self.opening));
            let text = format!(" {} ", replaced(text, &self.marks));
            let text = replaced(text, &self.closing);
            words.extend(python::words(&text).map(str::to_owned));
        }
        words
    }

    /// Inserts a space after every apostrophe that opens a quotation.
    fn apostrophes(&self, text: &str) -> String {
        let mut out = String::new();
        let word = |c: char| c == '_' || c.is_alphanumeric();
        let (mut before, mut rest) = (None, text);
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            out.push(c);
            let opens = c == '\'' && !before.is_some_and(word) && rest.starts_with(word);
            if opens && !self.contraction.is_match(rest) {
                out.push(' ');
            }
            before = Some(c);
        }
        out
    }
}

/// Applies rules one after the other.
fn replaced(text: String, rules: &[Rule]) -> String {
    let replace = |text: String, (pattern, by): &Rule| pattern.replace_all(&text, *by).into_owned();
    rules.iter().fold(text, replace)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output of NLTK.
    #[test]
    fn words_are_those_of_nltk() {
        let text = "He said: \"CAN'T you see, Mr. O'NEIL? I'll go (NOW)... COST $3.88, 50% -- OK.\" \
                    THE 'END'";
        let expected = [
            "He", "said", ":", "``", "CA", "N'T", "you", "see", ",", "Mr.", "O'NEIL", "?", "I",
            "'ll", "go", "(", "NOW", ")", "...", "COST", "$", "3.88", ",", "50", "%", "--", "OK.",
            "''", "THE", "'", "END", "'",
        ];
        let words = Words::new().unwrap().of(text, &Punkt::new().unwrap());
        assert_eq!(words, expected);
    }
}
