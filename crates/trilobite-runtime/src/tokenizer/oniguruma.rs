//! Regular expressions of tokenizers. Their syntax is Oniguruma's in its Ruby flavour, which the
//! `regex` and `fancy-regex` crates share but for details; these are translated.

use std::iter::Peekable;
use std::str::Chars;

/// Bytes of an expression. Published ones have up to a thousand.
const MAX_LENGTH: usize = 1 << 14;

/// The characters of words, in a class; `\w` outside of a class has some more.
const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}";
const WORD_ALONE: &str = "²³¹¼½¾";

/// An expression between the `|` that are not in a group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Alternative {
    /// The expression for the Rust crates.
    pub(super) text: String,
    /// Whether it needs a backtracking engine: it looks around, refers back or is possessive.
    pub(super) backtracks: bool,
    /// Whether it depends on what comes before it.
    pub(super) looks_behind: bool,
}

/// The alternatives of an expression.
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
                        // Possessive: `fancy-regex` knows it, `regex` would take it for a nested
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

    /// What follows an opening parenthesis.
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
                    // From the middle on, Ruby takes the rest for a group of its own.
                    if !at_start {
                        return Err("sets an option in its middle".to_owned());
                    }
                    self.current.looks_behind = true;
                }
            }
        }
        Ok(())
    }

    /// What follows an opening brace: a number of repetitions, or the brace itself.
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

    /// What follows a backslash.
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
            // In the crates `\<` and `\>` are ends of words.
            '<' | '>' => self.push(c),
            _ if c.is_ascii_punctuation() || c == ' ' => {
                self.push('\\');
                self.push(c);
            }
            _ => self.push(c),
        }
        Ok(())
    }

    /// What follows an opening bracket, up to the closing one.
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
                    // A range cannot begin with many characters: the hyphen stands for itself.
                    if several && self.next_is('-') {
                        self.push_str("\\-");
                    }
                }
                // In the crates these are set operations.
                '-' | '~' if self.input.peek() == Some(&c) => {
                    return Err(format!("has {c}{c} in a class"));
                }
                _ => self.push(c),
            }
        }
        Ok(())
    }

    /// A class can begin with `^`, and then with a bracket that stands for itself.
    fn class_begins(&mut self) {
        if self.next_is('^') {
            self.push('^');
        }
        if self.next_is(']') {
            self.push_str("\\]");
        }
    }

    /// `[:name:]` in a class, behind its bracket: of all characters, where the crates have ASCII.
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
