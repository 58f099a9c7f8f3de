//! Wraps text at words to the width of a terminal while it arrives.

use std::mem::take;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const TAB: usize = 8;

/// Wide characters, and characters that must not begin a line.
const CLOSING: &str = "、。，．！？：；）」』】〉》〕］｝・ー…”’,.!?:;)]}";

/// Wraps prose between words. Code, tables and words longer than a line are left to the terminal,
/// so that they can be copied from it.
pub(super) struct Wrap {
    /// The width of the terminal in columns; `None` leaves the text unchanged.
    width: Option<usize>,
    /// The column of the cursor.
    column: usize,
    /// Spaces after the returned text; then the word after them, which may be incomplete.
    spaces: String,
    word: String,
    /// Whether the word continues one whose beginning was returned.
    glued: bool,
    kind: Kind,
    /// The current line, if it determines the kind of the next ones.
    line: String,
    /// The characters that end the current block of code.
    fence: Option<(char, usize)>,
    after_blank: bool,
}

/// The kind of a line.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// The line has no word yet.
    Unknown,
    Prose,
    Verbatim,
}

impl Wrap {
    pub(super) fn new(width: Option<usize>) -> Self {
        Self {
            width: width.filter(|&width| width > 0),
            column: 0,
            spaces: String::new(),
            word: String::new(),
            glued: false,
            kind: Kind::Unknown,
            line: String::new(),
            fence: None,
            after_blank: true,
        }
    }

    /// Adds text. Returns the text that can be shown: all except the word at its end.
    pub(super) fn push(&mut self, text: &str) -> String {
        let Some(width) = self.width else { return text.to_owned() };
        let mut out = String::new();
        for c in text.chars() {
            if c == '\n' {
                self.end_line(width, &mut out);
            } else if self.kind == Kind::Verbatim || self.fence.is_some() {
                self.kind = Kind::Verbatim;
                self.line.push(c);
                out.push(c);
            } else {
                self.push_prose(c, width, &mut out);
            }
        }
        out
    }

    /// Returns the remaining text.
    pub(super) fn finish(&mut self) -> String {
        let mut out = String::new();
        if let Some(width) = self.width {
            self.release(width, &mut out);
            out += &take(&mut self.spaces);
        }
        out
    }

    fn push_prose(&mut self, c: char, width: usize, out: &mut String) {
        if self.kind == Kind::Unknown {
            self.line.push(c);
        }
        if matches!(c, ' ' | '\t') {
            self.release(width, out);
            self.glued = false;
            return match self.kind {
                Kind::Verbatim => out.push(c),
                _ => self.spaces.push(c),
            };
        }
        let wide = |c: char| c.width() == Some(2);
        let breaks = wide(c) || self.word.chars().next_back().is_some_and(wide);
        // Emoji of several characters stay together.
        let joined = self.word.ends_with('\u{200d}');
        if breaks
            && !joined
            && !self.word.is_empty()
            && !CLOSING.contains(c)
            && c.width() != Some(0)
        {
            self.release(width, out);
            self.glued = false;
            if self.kind == Kind::Verbatim {
                return out.push(c);
            }
        }
        self.word.push(c);
        if self.word.width() > width {
            self.release(width, out);
            self.glued = true;
        }
    }

    /// Outputs the word, on a new line if it does not fit.
    fn release(&mut self, width: usize, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        if self.kind == Kind::Unknown {
            self.kind = self.kind_of_line();
        }
        let (spaces, word) = (take(&mut self.spaces), take(&mut self.word));
        let start = spaces.chars().fold(self.column, |column, c| match c {
            '\t' => (column / TAB + 1) * TAB,
            _ => column + 1,
        });
        let end = start + word.width();
        if end > width && self.column > 0 && !self.glued && self.kind == Kind::Prose {
            out.push('\n');
            self.column = word.width();
        } else {
            out.push_str(&spaces);
            self.column = end;
        }
        out.push_str(&word);
        if self.column > width {
            // The terminal has wrapped the word itself.
            self.column = (self.column - 1) % width + 1;
        }
    }

    fn kind_of_line(&self) -> Kind {
        let line = self.line.trim_start();
        let marked = ["|", "```", "~~~"].iter().any(|mark| line.starts_with(mark));
        match marked || (self.after_blank && is_indented(&self.line)) {
            true => Kind::Verbatim,
            false => Kind::Prose,
        }
    }

    fn end_line(&mut self, width: usize, out: &mut String) {
        self.release(width, out);
        let line = take(&mut self.line);
        self.after_blank = line.trim().is_empty() || (self.after_blank && is_indented(&line));
        self.fence = match (self.fence, fence(&line)) {
            (None, opened) => opened,
            (Some(open), Some(found))
                if found.0 == open.0
                    && found.1 >= open.1
                    && line.trim().chars().all(|c| c == open.0) =>
            {
                None
            }
            (open, _) => open,
        };
        self.spaces.clear();
        self.column = 0;
        self.glued = false;
        self.kind = Kind::Unknown;
        out.push('\n');
    }
}

/// Whether a line after an empty one is code by its indentation.
fn is_indented(line: &str) -> bool {
    line.starts_with("    ") || line.starts_with('\t')
}

/// The characters with which a line may begin or end a block of code.
fn fence(line: &str) -> Option<(char, usize)> {
    let line = line.trim();
    let c = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let rest = line.trim_start_matches(c);
    let count = line.len() - rest.len();
    (count >= 3 && !(c == '`' && rest.contains('`'))).then_some((c, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wrapped text. It must be the same for any division of the input.
    fn wrapped(text: &str, width: usize) -> String {
        let by = |cut: &dyn Fn(usize) -> bool| {
            let mut wrap = Wrap::new(Some(width));
            let (mut out, mut piece) = (String::new(), String::new());
            for (index, c) in text.chars().enumerate() {
                piece.push(c);
                if cut(index) {
                    out += &wrap.push(&take(&mut piece));
                }
            }
            out += &wrap.push(&piece);
            out + &wrap.finish()
        };
        let whole = by(&|_| false);
        assert_eq!(by(&|_| true), whole);
        assert_eq!(by(&|index| index % 3 == 0), whole);
        whole
    }

    #[test]
    fn prose_is_broken_between_words() {
        assert_eq!(wrapped("the quick brown fox", 10), "the quick\nbrown fox");
        assert_eq!(wrapped("the quick brown fox", 9), "the quick\nbrown fox");
        assert_eq!(wrapped("the quick brown fox", 8), "the\nquick\nbrown\nfox");
        assert_eq!(wrapped("one two\n\nthree  four ", 20), "one two\n\nthree  four ");
        assert_eq!(wrapped("exactly so\nx", 10), "exactly so\nx");
        assert_eq!(wrapped("a\tb c", 9), "a\tb\nc");
        assert_eq!(
            wrapped("- an item of a list\n- another", 12),
            "- an item of\na list\n- another"
        );
        assert_eq!(wrapped("", 10), "");
    }

    #[test]
    fn a_word_that_is_longer_than_a_line_stays_whole() {
        let address = "https://example.org/a/long/path";
        assert_eq!(wrapped(&format!("see {address} now"), 10), format!("see\n{address} now"));
        assert_eq!(
            wrapped(&format!("see {address} 123456789"), 10),
            format!("see\n{address}\n123456789")
        );
        // The terminal has shown 31 characters on four lines of ten, so nine columns are left.
        assert_eq!(wrapped(&format!("{address} 12345678 x"), 10), format!("{address} 12345678\nx"));
    }

    #[test]
    fn wide_characters_count_twice_and_break_anywhere() {
        assert_eq!(wrapped("ab 日本語のテスト", 8), "ab 日本\n語のテス\nト");
        assert_eq!(wrapped("日本語。次", 6), "日本\n語。次");
        assert_eq!(wrapped("日本x y", 5), "日本x\ny");
        assert_eq!(wrapped("a 👩‍👩‍👧 b", 4), "a 👩‍👩‍👧\nb");
        assert_eq!(wrapped("e\u{301}e\u{301} e\u{301}", 4), "e\u{301}e\u{301} e\u{301}");
    }

    #[test]
    fn code_and_tables_stay_as_they_are() {
        let code = "let answer = compute(the, whole, thing);";
        for block in [
            format!("```rust\n{code}\n```\n"),
            format!("~~~\n{code}\n```\n{code}\n~~~\n"),
            format!("````\n```\n{code}\n```\n````\n"),
            format!("  ```\n  {code}\n  ```\n"),
            format!("    {code}\n    {code}\n"),
            format!("\t{code}\n"),
            format!("| one | two | three |\n|---|---|---|\n| {code} |\n"),
        ] {
            assert_eq!(
                wrapped(&format!("{block}\nand then some words"), 12),
                format!("{block}\nand then\nsome words")
            );
        }
        // Not closed, and code in the middle of a line.
        assert_eq!(wrapped(&format!("```\n{code}"), 12), format!("```\n{code}"));
        assert_eq!(wrapped("```a b``` and more words", 9).lines().count(), 1);
        assert_eq!(wrapped("```a```\nand more words", 9), "```a```\nand more\nwords");
        // The second level of a list is not code.
        assert_eq!(wrapped("- one\n    - two three", 12), "- one\n    - two\nthree");
    }

    #[test]
    fn without_a_width_the_text_is_left_alone() {
        let mut wrap = Wrap::new(None);
        assert_eq!(wrap.push("the quick "), "the quick ");
        assert_eq!(wrap.finish(), "");
    }
}
