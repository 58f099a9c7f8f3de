//! Words as NLTK's `word_tokenize` finds them (the rules of the Penn Treebank).

use fancy_regex::Regex;

use crate::error::Result;
use crate::grade::fancy;
use crate::grade::ifeval::punkt::Punkt;

/// What is replaced before brackets and dashes are padded.
const BEFORE: [(&str, &str); 18] = [
    // Opening quotes.
    (r"([«“‘„]|[`]+)", " $1 "),
    (r#"^""#, "``"),
    (r"(``)", " $1 "),
    (r#"([ \(\[{<])("|'{2})"#, "$1 `` "),
    (r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "$1 "),
    // Punctuation.
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
    // Brackets and dashes.
    (r"([\]\[\(\)\{\}<>])", " $1 "),
    (r"(--)", " $1 "),
    (r"\A([\s\S]*)\z", " $1 "),
];
/// Closing quotes and contractions.
const AFTER: [(&str, &str); 16] = [
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
    (r"(?i)\b(wan)(na)(?=\s)", " $1 $2 "),
    (r"(?i) ('t)(is)\b", " $1 $2 "),
    (r"(?i) ('t)(was)\b", " $1 $2 "),
];

/// The tokenizer.
pub(crate) struct Words {
    rules: Vec<(Regex, &'static str)>,
}

impl Words {
    /// The tokenizer.
    pub(crate) fn new() -> Result<Self> {
        let rule =
            |&(pattern, replacement): &(&str, &'static str)| Ok((fancy(pattern)?, replacement));
        let rules = BEFORE.iter().chain(&AFTER).map(rule).collect::<Result<_>>()?;
        Ok(Self { rules })
    }

    /// The words of a text.
    pub(crate) fn of(&self, text: &str, punkt: &Punkt) -> Result<Vec<String>> {
        let mut words = Vec::new();
        for sentence in punkt.sentences(text)? {
            let mut text = sentence.to_owned();
            for (pattern, replacement) in &self.rules {
                text = pattern.replace_all(&text, *replacement).into_owned();
            }
            words.extend(text.split_whitespace().map(str::to_owned));
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NLTK's own answer.
    #[test]
    fn words_are_those_of_nltk() {
        let text = "He said: \"CAN'T you see, Mr. O'NEIL? I'll go (NOW)... COST $3.88, 50% -- OK.\" \
                    THE 'END'";
        let expected = [
            "He", "said", ":", "``", "CA", "N'T", "you", "see", ",", "Mr.", "O'NEIL", "?", "I",
            "'ll", "go", "(", "NOW", ")", "...", "COST", "$", "3.88", ",", "50", "%", "--", "OK.",
            "''", "THE", "'", "END", "'",
        ];
        let words = Words::new().unwrap().of(text, &Punkt::new().unwrap()).unwrap();
        assert_eq!(words, expected);
    }
}
