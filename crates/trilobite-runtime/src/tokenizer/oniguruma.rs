//! Translation of regular expressions. Tokenizers use Oniguruma's Ruby syntax, which differs in
//! details from that of the `regex` and `fancy-regex` crates.

use std::iter::Peekable;
use std::str::Chars;

/// Maximum length of an expression in bytes. Published ones have up to a thousand.
const MAX_LENGTH: usize = 1 << 14;

/// Word characters within a class. Outside a class `\w` includes a few more.
const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}";
const WORD_ALONE: &str = "²³¹¼½¾";

/// A top-level alternative of an expression.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Alternative {
    /// The translated expression.
    pub(super) text: String,
    /// Whether it needs a backtracking engine: for lookaround, back references or possessive
    /// quantifiers.
    pub(super) backtracks: bool,
    /// Whether it depends on the text before the match.
    pub(super) looks_behind: bool,
}

/// Translates an expression into its top-level alternatives.
pub(super) fn translate(expression: &str) -> Result<Vec<Alternative>, String> {
    if expression.len() > MAX_LENGTH {
        return Err(format!("has {} bytes, expected at most {MAX_LENGTH}", expression.len()));
    }
    let mut translator = Translator {
        input: expression.chars().peekable(),
        done: Vec::new(),
        current: Alternative::default(),
    };
    translator.run()?;
    let Translator { mut done, current, .. } = translator;
    done.push(current);
    Ok(done)
}

struct Translator<'a> {
    input: Peekable<Chars<'a>>,
    done: Vec<Alternative>,
    current: Alternative,
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), String> {
        let mut depth = 0usize;
        while let Some(c) = self.input.next() {
            match c {
                '|' if depth == 0 => self.done.push(std::mem::take(&mut self.current)),
                '(' => {
                    depth += 1;
                    self.group()?;
                }
                ')' => {
                    depth = depth.saturating_sub(1);
                    self.push(')');
                }
                '[' => self.class()?,
                '\\' => self.escape(false)?,
                '{' => self.interval(),
                '*' | '+' | '?' => {
                    self.push(c);
                    match self.input.peek() {
                        // Possessive: `fancy-regex` supports it, `regex` would parse a nested
                        // repetition.
                        Some('+') => self.current.backtracks = true,
                        _ => continue,
                    }
                    self.input.next();
                    self.push('+');
                }
                '^' => {
                    self.current.looks_behind = true;
                    self.push('^');
                }
                _ => self.push(c),
            }
        }
        Ok(())
    }

    fn push(&mut self, c: char) {
        self.current.text.push(c);
    }

    fn push_str(&mut self, text: &str) {
        self.current.text.push_str(text);
    }

    fn next_is(&mut self, wanted: char) -> bool {
        self.input.next_if_eq(&wanted).is_some()
    }

    /// Translates the text after an opening parenthesis.
    fn group(&mut self) -> Result<(), String> {
        self.push('(');
        if !self.next_is('?') {
            return Ok(());
        }
        self.push('?');
        match self.input.peek().copied() {
            Some('=' | '!' | '>') => self.current.backtracks = true,
            Some('<') => {
                self.input.next();
                self.push('<');
                if let Some('=' | '!') = self.input.peek() {
                    self.current.backtracks = true;
                    self.current.looks_behind = true;
                }
            }
            Some(':') => {}
            _ => {
                let at_start = self.done.is_empty() && self.current.text == "(?";
                while let Some(flag) = self.input.next_if(|&c| c.is_ascii_alphabetic() || c == '-')
                {
                    match flag {
                        'i' | '-' => self.push(flag),
                        // Ruby's "multiline" lets the dot match line ends.
                        'm' => self.push('s'),
                        _ => return Err(format!("uses the option {flag:?}, which is not known")),
                    }
                }
                if self.input.peek() == Some(&')') {
                    // After the start of a group, Ruby treats the rest as a group of its own.
                    if !at_start {
                        return Err("sets an option in its middle".to_owned());
                    }
                    self.current.looks_behind = true;
                }
            }
        }
        Ok(())
    }

    /// Translates the text after an opening brace, which is a repetition or a literal brace.
    fn interval(&mut self) {
        let mut ahead = self.input.clone();
        let inside: String = ahead.by_ref().take_while(|&c| c != '}').collect();
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let closed = self.input.clone().nth(inside.chars().count()) == Some('}');
        match inside.split_once(',') {
            Some(("", high)) if closed && !high.is_empty() && number(high) => {
                self.push_str(&format!("{{0,{high}}}"));
            }
            Some((low, high)) if closed && !low.is_empty() && number(low) && number(high) => {
                self.push_str(&format!("{{{inside}}}"));
            }
            None if closed && !inside.is_empty() && number(&inside) => {
                self.push_str(&format!("{{{inside}}}"));
            }
            _ => {
                self.push_str("\\{");
                return;
            }
        }
        self.input = ahead;
    }

    /// Translates the text after a backslash.
    fn escape(&mut self, in_class: bool) -> Result<(), String> {
        let Some(c) = self.input.next() else { return Err("ends with a backslash".to_owned()) };
        match c {
            'h' => self.push_str("[0-9A-Fa-f]"),
            'H' => self.push_str("[^0-9A-Fa-f]"),
            'w' if in_class => self.push_str(WORD),
            'W' if in_class => self.push_str(&format!("[^{WORD}]")),
            'w' => self.push_str(&format!("[{WORD}{WORD_ALONE}]")),
            'W' => self.push_str(&format!("[^{WORD}{WORD_ALONE}]")),
            'b' if in_class => self.push_str("\\x08"),
            'b' | 'B' => {
                let word = format!("[{WORD}{WORD_ALONE}]");
                let (inside, outside) = if c == 'b' { ('!', '=') } else { ('=', '!') };
                self.current.backtracks = true;
                self.current.looks_behind = true;
                self.push_str(&format!(
                    "(?:(?<={word})(?{inside}{word})|(?<!{word})(?{outside}{word}))"
                ));
            }
            'A' => {
                self.current.looks_behind = true;
                self.push_str("\\A");
            }
            'p' | 'P' => {
                let braced = self.next_is('{');
                // Within the braces, `^` inverts too.
                let inverted = braced && self.next_is('^');
                self.push_str(if (c == 'P') != inverted { "\\P" } else { "\\p" });
                if braced {
                    self.push('{');
                    let name: String = self.input.by_ref().take_while(|&c| c != '}').collect();
                    self.push_str(&name);
                    self.push('}');
                }
            }
            'd' | 'D' | 's' | 'S' | 'n' | 'r' | 't' | 'f' | 'v' | 'a' | 'x' | 'u' | 'z' => {
                self.push('\\');
                self.push(c);
            }
            'e' => self.push_str("\\x1B"),
            _ if c.is_ascii_alphanumeric() => {
                self.current.backtracks = true;
                self.current.looks_behind = true;
                self.push('\\');
                self.push(c);
            }
            // In the crates `\<` and `\>` match the start and the end of a word.
            '<' | '>' => self.push(c),
            _ if c.is_ascii_punctuation() || c == ' ' => {
                self.push('\\');
                self.push(c);
            }
            _ => self.push(c),
        }
        Ok(())
    }

    /// Translates the text after an opening bracket, up to the closing one.
    fn class(&mut self) -> Result<(), String> {
        let mut depth = 1usize;
        self.push('[');
        self.class_begins();
        while depth > 0 {
            let Some(c) = self.input.next() else { return Err("has an open class".to_owned()) };
            match c {
                ']' => {
                    depth -= 1;
                    self.push(']');
                }
                '[' if self.input.peek() == Some(&':') => {
                    let named = self.named_class()?;
                    self.push_str(named);
                }
                '[' => {
                    depth += 1;
                    self.push('[');
                    self.class_begins();
                }
                '\\' => {
                    let several = self.input.peek().is_some_and(|c| "dDsSwWpPhH".contains(*c));
                    self.escape(true)?;
                    // A class of many characters cannot start a range, so the hyphen is a literal.
                    if several && self.next_is('-') {
                        self.push_str("\\-");
                    }
                }
                // The crates have set operations of these characters.
                '-' | '~' if self.input.peek() == Some(&c) => {
                    return Err(format!("has {c}{c} in a class"));
                }
                _ => self.push(c),
            }
        }
        Ok(())
    }

    /// Translates `^` and then a literal `]` at the start of a class.
    fn class_begins(&mut self) {
        if self.next_is('^') {
            self.push('^');
        }
        if self.next_is(']') {
            self.push_str("\\]");
        }
    }

    /// Translates `[:name:]` in a class, after its bracket. It covers Unicode; in the crates,
    /// ASCII.
    fn named_class(&mut self) -> Result<&'static str, String> {
        let inside: String = self.input.by_ref().take_while(|&c| c != ']').collect();
        match inside.as_str() {
            ":alpha:" => Ok(r"\p{Alphabetic}"),
            ":digit:" => Ok(r"\d"),
            ":alnum:" => Ok(r"\p{Alphabetic}\d"),
            ":upper:" => Ok(r"\p{Uppercase}"),
            ":lower:" => Ok(r"\p{Lowercase}"),
            ":space:" => Ok(r"\s"),
            ":punct:" => Ok(r"\p{P}\p{S}"),
            ":word:" => Ok(WORD),
            ":xdigit:" => Ok("0-9A-Fa-f"),
            _ => Err(format!("has the class [{inside}], which is not known")),
        }
    }
}
