//! Numbers in words, with the results of the package `word2number`: of `2 hundred and twelve` it
//! uses the words `hundred twelve`, which are 1200.

use crate::grade::python;

/// The values of number words.
const WORDS: [(&str, u64); 32] = [
    ("zero", 0),
    ("one", 1),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
    ("ten", 10),
    ("eleven", 11),
    ("twelve", 12),
    ("thirteen", 13),
    ("fourteen", 14),
    ("fifteen", 15),
    ("sixteen", 16),
    ("seventeen", 17),
    ("eighteen", 18),
    ("nineteen", 19),
    ("twenty", 20),
    ("thirty", 30),
    ("forty", 40),
    ("fifty", 50),
    ("sixty", 60),
    ("seventy", 70),
    ("eighty", 80),
    ("ninety", 90),
    ("hundred", HUNDRED),
    ("thousand", 1000),
    ("million", 1_000_000),
    ("billion", 1_000_000_000),
];
const HUNDRED: u64 = 100;
/// The values of words that split a number into groups, the largest first.
const SCALES: [u64; 3] = [1_000_000_000, 1_000_000, 1000];

/// The number in the words of a text, in digits. `None` if there are no such words or they form no
/// number.
pub(super) fn number(text: &str) -> Option<String> {
    let lower = text.replace('-', " ").to_lowercase();
    if !lower.is_empty() && lower.bytes().all(|byte| byte.is_ascii_digit()) {
        let digits = lower.trim_start_matches('0');
        return Some(if digits.is_empty() { "0" } else { digits }.to_owned());
    }
    let mut words: Vec<u64> = Vec::new();
    let mut decimals: Option<Vec<u64>> = None;
    for word in python::words(&lower) {
        if word == "point" {
            if decimals.is_some() {
                return None;
            }
            decimals = Some(Vec::new());
        } else if let Some((_, value)) = WORDS.iter().find(|(name, _)| *name == word) {
            decimals.as_mut().unwrap_or(&mut words).push(*value);
        }
    }
    let all = words.iter().chain(decimals.iter().flatten());
    if words.is_empty() && decimals.is_none()
        || SCALES.iter().any(|scale| all.clone().filter(|word| *word == scale).count() > 1)
    {
        return None;
    }
    let whole = whole(&words)?;
    match decimals.as_deref() {
        None | Some([]) => Some(whole.to_string()),
        // A word that is not a digit makes the fraction zero and the result a float.
        Some(digits) if digits.iter().any(|digit| *digit > 9) => Some(whole.to_string()),
        Some(digits) => {
            let digits: String = digits.iter().map(u64::to_string).collect();
            let fraction: f64 = format!("0.{digits}").parse().ok()?;
            let sum = whole as f64 + fraction;
            Some(format!("{sum:?}"))
        }
    }
}

/// The value of words without a fraction.
fn whole(words: &[u64]) -> Option<u64> {
    match words {
        [] => return Some(0),
        [one] => return Some(*one),
        _ => {}
    }
    let (mut total, mut rest, mut last) = (0u64, words, None);
    for scale in SCALES {
        let Some(at) = rest.iter().position(|word| *word == scale) else { continue };
        // A smaller scale before a larger one is invalid.
        if rest[..at].iter().any(|word| SCALES.contains(word)) {
            return None;
        }
        total += group(&rest[..at])? * scale;
        let after = &rest[at + 1..];
        // If nothing follows, the words after the previous scale count twice.
        last = Some(if after.is_empty() && last.is_some() { rest } else { after });
        rest = after;
    }
    match last {
        None => group(words),
        Some([]) => Some(total),
        Some(last) => Some(total + group(last)?),
    }
}

/// The value of the words between two scales. At most four count.
fn group(words: &[u64]) -> Option<u64> {
    Some(match *words {
        [a, b, c, d] => a * b + c + d,
        [a, b, c] => a * b + c,
        [a, b] if words.contains(&HUNDRED) => a * b,
        [a, b] => a + b,
        [a, ..] => a,
        [] => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of word2number 1.1.
    #[test]
    fn numbers_are_read_as_word2number_reads_them() {
        for (text, expected) in [
            ("twelve", Some("12")),
            ("two hundred and five", Some("205")),
            ("one hundred forty-two", Some("142")),
            ("forty two thousand", Some("42000")),
            ("two million three thousand nineteen", Some("2003019")),
            ("two million three thousand", Some("2004003")),
            ("two billion three million", Some("2004000003")),
            ("two billion three thousand", Some("2000004003")),
            ("two billion three million four thousand", Some("2003005004")),
            ("one of them", Some("1")),
            ("hundred twelve", Some("1200")),
            ("one two three four five", Some("1")),
            ("thousand", Some("1000")),
            ("three point one four", Some("3.14")),
            ("point five", Some("0.5")),
            ("three point ten", Some("3")),
            ("point", Some("0")),
            ("007", Some("7")),
            ("-7", None),
            ("thousand two", None),
            ("thousand million", None),
            ("one thousand two thousand", None),
            ("\\frac{1}{2}", None),
        ] {
            assert_eq!(number(text).as_deref(), expected, "{text}");
        }
    }
}
