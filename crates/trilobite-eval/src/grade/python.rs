//! Functions of Python's strings and numbers that differ from Rust's.

/// The characters that `\w` matches, as the inside of a class of the `regex` crate.
pub(crate) const WORD: &str = r"\p{L}\p{N}_";

/// `str.isspace` of one character.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split`.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `float`, which allows single underscores between digits.
pub(crate) fn float(text: &str) -> Option<f64> {
    let bytes = strip(text).as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let fits = |at: usize| digit(at.checked_sub(1)) && digit(Some(at + 1));
    if (0..bytes.len()).any(|at| bytes[at] == b'_' && !fits(at)) {
        return None;
    }
    strip(text).replace('_', "").parse().ok()
}

/// `math.isclose` with this relative tolerance.
pub(crate) fn is_close(a: f64, b: f64, tolerance: f64) -> bool {
    let difference = (a - b).abs();
    a == b || (difference.is_finite() && difference <= tolerance * a.abs().max(b.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Python 3.11.
    #[test]
    fn strings_and_numbers_are_those_of_python() {
        assert_eq!(strip(" \u{a0}\u{1c}a b\u{85}\n"), "a b");
        assert_eq!(words(" a\u{1f}b \u{3000}").collect::<Vec<_>>(), ["a", "b"]);
        for (text, number) in [
            (" 1_000 ", Some(1000.0)),
            ("4343_6", Some(43436.0)),
            ("1.", Some(1.0)),
            ("-.5e1", Some(-5.0)),
            ("Infinity", Some(f64::INFINITY)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1_.5", None),
            ("", None),
            ("1 000", None),
        ] {
            assert_eq!(float(text), number, "{text}");
        }
        assert!(is_close(1.0, 1.00009, 1e-4) && !is_close(1.0, 1.0002, 1e-4));
        assert!(is_close(f64::INFINITY, f64::INFINITY, 1e-4));
        assert!(!is_close(f64::INFINITY, 1.0, 1e-4) && !is_close(f64::NAN, f64::NAN, 1e-4));
    }
}
