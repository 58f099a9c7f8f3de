//! Character classes and case mappings of Python, where they differ from Rust's.

/// `str.isspace`: the characters that `strip`, `split` and whitespace control treat as spaces.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Whether a regular expression treats a character as part of a word.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The line boundaries of `str.splitlines`.
pub(super) fn is_line_end(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// `str.isprintable`.
pub(super) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // After another character, only unprintable characters are escaped.
    let mut text = String::from("a");
    text.push(c);
    text.escape_debug().count() == 2
}

/// Appends the title case of a character. It differs from the upper case for digraphs, ligatures
/// and Georgian.
pub(super) fn push_title(c: char, out: &mut String) {
    match c {
        '\u{1c4}'..='\u{1cc}' => {
            out.push(['\u{1c5}', '\u{1c8}', '\u{1cb}'][(c as usize - 0x1c4) / 3])
        }
        '\u{1f1}'..='\u{1f3}' => out.push('\u{1f2}'),
        '\u{10d0}'..='\u{10ff}' => out.push(c),
        _ => {
            let mut upper = c.to_uppercase();
            out.extend(upper.next());
            upper.for_each(|c| out.extend(c.to_lowercase()));
        }
    }
}

/// `str.capitalize`.
pub(super) fn capitalize(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    if let Some(first) = chars.next() {
        push_title(first, &mut out);
    }
    // Lower-case the whole string, so that a final sigma is recognized.
    let skipped = text.chars().next().map_or(0, |c| c.to_lowercase().count());
    out.extend(text.to_lowercase().chars().skip(skipped));
    out
}

/// `str.title`: every letter that does not follow a letter begins a word.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            push_title(c, &mut out);
        }
        in_word = is_cased(c);
    }
    out
}

/// Whether a character has a case.
pub(super) fn is_cased(c: char) -> bool {
    c.is_lowercase()
        || c.is_uppercase()
        || matches!(c, '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}')
}
