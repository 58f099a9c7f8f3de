//! The expressions of pre-tokenizers, compared with Oniguruma, which the `tokenizers` crate uses.

use std::collections::BTreeSet;

use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

use super::super::deadline::Deadline;
use super::super::pattern::Pattern;
use super::reference::random_texts;

/// The places where the reference cuts a text.
fn their_cuts(split: &tokenizers::pre_tokenizers::split::Split, text: &str) -> Vec<String> {
    let mut pieces = PreTokenizedString::from(text);
    split.pre_tokenize(&mut pieces).unwrap();
    let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits.into_iter().map(|(piece, _, _)| piece.to_owned()).collect()
}

fn our_cuts(pattern: &Pattern, text: &str) -> Vec<String> {
    let mut cuts = Vec::new();
    let mut end = 0;
    let mut cut = |from: usize, to: usize| {
        if from < to {
            cuts.push(text[from..to].to_owned());
        }
    };
    pattern
        .each_match(text, &Deadline::for_text(text), &mut |from, to| {
            cut(end, from);
            cut(from, to);
            end = to;
            Ok(())
        })
        .unwrap();
    cut(end, text.len());
    cuts
}

fn both(expression: &str) -> (Pattern, tokenizers::pre_tokenizers::split::Split) {
    use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
    let behavior = tokenizers::SplitDelimiterBehavior::Isolated;
    let theirs = SplitPattern::Regex(expression.to_owned());
    let ours =
        Pattern::expression(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    (ours, Split::new(theirs, behavior, false).unwrap())
}

/// Expressions of published tokenizers, and constructs in which Oniguruma and the crates differ.
fn expressions() -> BTreeSet<&'static str> {
    let mut all: BTreeSet<&str> = trilobite_format::model::Words::ALL
        .iter()
        .flat_map(|words| words.expressions)
        .copied()
        .collect();
    all.extend([
        // DeepSeek
        "[\r\n]",
        r"\s?\p{L}+",
        r"\s?\p{P}+",
        "[一-龥ࠀ-一가-퟿]+",
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
        // BLOOM
        r" ?[^(\s|[.,!?…。，、।۔،])]+",
        // Kimi
        r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        // tiktoken's, with possessive repetitions
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        // Digits in threes from the right
        r"\d{1,3}(?=(?:\d{3})*\b)",
        r"(?<=\d)(?=(\d{3})+(?!\d))",
        "^.", ".$", r"(?m:.+)", "(?i)the|a", r"\h+", r"[\w-]+", r"[\d.-]+", r"\bt\w*", r"[^\W\d_]+",
        "[[:alpha:]]+", "[[:digit:]]", "[[:alnum:]]+", "[[:upper:]]", "[[:lower:]]", "[[:space:]]+",
        "[[:punct:]]+", "[[:word:]]+", r"[\w½]+", r"[^\w]+", r"[\W²]+", r"\B", r"a\b", r"\p{^L}+", r"\P{L}+", r"\W+", r"\S+", r"\D+", "a{,2}", "r{", r"\<x\>", "[]-]", "[^]a]+",
        "(?>a|ab)b", r"(r)(u|i)\1?", r"\Aa|a\z", "a*", "", "(a|b)*", r"\w", r"\d", r"\s", r"\p{Alpha}", r"\b",
    ]);
    all
}

/// The classes that occur in [`expressions`].
const CLASSES: [&str; 26] = [
    r"\w",
    r"[\w]",
    r"\d",
    r"\s",
    r"\h",
    r"\p{L}",
    r"\p{Lu}",
    r"\p{Ll}",
    r"\p{Lt}",
    r"\p{Lm}",
    r"\p{Lo}",
    r"\p{M}",
    r"\p{N}",
    r"\p{P}",
    r"\p{S}",
    r"\p{Han}",
    r"\p{Alpha}",
    "[[:alpha:]]",
    "[[:digit:]]",
    "[[:alnum:]]",
    "[[:upper:]]",
    "[[:lower:]]",
    "[[:space:]]",
    "[[:punct:]]",
    "[[:word:]]",
    "(?i:[a-z])",
];

/// The assigned characters without most of the ideographs and hieroglyphs.
fn characters() -> impl Iterator<Item = char> {
    let ranges =
        [0..0x3400, 0x9FF0..0xD800, 0xF900..0x1_3500, 0x1_6000..0x2_0010, 0xE0000..0xE0200];
    ranges.into_iter().flatten().filter_map(char::from_u32)
}

/// The characters at the ends of each run of characters of the same classes, and all below U+2200
/// and in the presentation forms, some of which expressions name or match without regard to case.
/// An expression cuts the other characters as it cuts their neighbors.
fn characters_at_bounds() -> Vec<char> {
    let text: String = characters().collect();
    // By code point, a bit for each class.
    let mut classes = vec![0u32; 0xE0201];
    for (bit, class) in CLASSES.into_iter().enumerate() {
        let mut member = |from: usize, _| {
            let c = text[from..].chars().next().unwrap();
            classes[c as usize] |= 1 << bit;
            Ok(())
        };
        both(class).0.each_match(&text, &Deadline::for_text(&text), &mut member).unwrap();
    }
    let named = |c: char| c < '\u{2200}' || ('\u{FB00}'..'\u{10000}').contains(&c);
    let inside = |c: char| {
        let at = c as usize;
        classes[at - 1] == classes[at] && classes[at] == classes[at + 1]
    };
    characters().filter(|c| named(*c) || !inside(*c)).collect()
}

/// Cuts the characters in texts of 512 of them. `line` is the text of one.
fn compare_cuts(expression: &str, characters: &[char], line: impl Fn(&char) -> String) {
    let (ours, theirs) = both(expression);
    for some in characters.chunks(512) {
        let text: String = some.iter().map(&line).collect();
        let (found, expected) = (our_cuts(&ours, &text), their_cuts(&theirs, &text));
        if found != expected {
            let differs = found.iter().zip(&expected).find(|(a, b)| a != b);
            panic!("{expression}: {differs:?} near U+{:04X}", some[0] as u32);
        }
    }
}

#[test]
fn classes_contain_the_characters_of_onigurumas() {
    let characters: Vec<char> = characters().collect();
    for class in CLASSES {
        compare_cuts(class, &characters, |c| format!("{c}\n-"));
    }
}

#[test]
fn expressions_cut_every_kind_of_character_as_onigurumas_do() {
    let characters = characters_at_bounds();
    for expression in expressions() {
        compare_cuts(expression, &characters, |c| format!("{c}a {c}1{c} '{c}\n{c}A"));
    }
}

#[test]
fn expressions_cut_mixed_texts_as_onigurumas_do() {
    let texts = random_texts(3, 3000);
    for expression in expressions() {
        let (ours, theirs) = both(expression);
        for text in &texts {
            assert_eq!(our_cuts(&ours, text), their_cuts(&theirs, text), "{expression} {text:?}");
        }
    }
}
