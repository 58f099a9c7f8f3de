//! The lexer: splits the source of a template into tokens, and removes whitespace around tags as
//! `trim_blocks`, `lstrip_blocks`, `-` and `+` demand.

use std::rc::Rc;

use super::error::{Result, TemplateError};
use super::unicode;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text outside of tags.
    Text(String),
    BlockBegin,
    BlockEnd,
    OutputBegin,
    OutputEnd,
    Name(Rc<str>),
    Str(Rc<str>),
    Int(i128),
    Float(f64),
    Operator(&'static str),
    End,
}

/// The operators. An operator precedes its own prefixes.
const OPERATORS: [&str; 26] = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";",
];

/// The tokens of a template with their line numbers.
pub(super) fn tokenize(source: &str) -> Result<Vec<(Token, usize)>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    // One newline at the end is not part of the template.
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, at: 0, line: 1, line_start: true, tokens: Vec::new() };
    lexer.template().map_err(|error| error.at(lexer.line))?;
    lexer.push(Token::End);
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    /// Whether the source read so far ends with a newline.
    line_start: bool,
    tokens: Vec<(Token, usize)>,
}

/// The kind of a tag, given by its first two characters.
#[derive(Clone, Copy, PartialEq)]
enum Tag {
    Block,
    Output,
    Comment,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((token, self.line));
    }

    /// Skips some bytes.
    fn skip(&mut self, bytes: usize) {
        let passed = &self.source[self.at..self.at + bytes];
        self.line += passed.matches('\n').count();
        if bytes > 0 {
            self.line_start = passed.ends_with('\n');
        }
        self.at += bytes;
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.skip(rest.len() - rest.trim_start_matches(unicode::is_space).len());
    }

    fn skip_if(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.skip(text.len());
        }
        found
    }

    fn template(&mut self) -> Result<()> {
        while let Some((position, tag)) = self.next_tag() {
            let text = &self.rest()[..position];
            let after = self.rest()[position + 2..].bytes().next();
            let sign = after.filter(|sign| matches!(sign, b'-' | b'+'));
            self.text(text, sign, tag != Tag::Output);
            self.skip(position + 2 + usize::from(sign.is_some()));
            match tag {
                Tag::Comment => self.comment()?,
                Tag::Block if self.skip_raw_begin() => self.raw()?,
                Tag::Block => self.tag(Token::BlockBegin, Token::BlockEnd, "%}")?,
                Tag::Output => self.tag(Token::OutputBegin, Token::OutputEnd, "}}")?,
            }
        }
        let text = self.rest();
        self.text(text, None, false);
        self.skip(text.len());
        Ok(())
    }

    fn next_tag(&self) -> Option<(usize, Tag)> {
        let tag = |second| match second {
            b'%' => Some(Tag::Block),
            b'{' => Some(Tag::Output),
            b'#' => Some(Tag::Comment),
            _ => None,
        };
        let braces = self.rest().match_indices('{').map(|(at, _)| at);
        braces.filter_map(|at| Some((at, tag(*self.rest().as_bytes().get(at + 1)?)?))).next()
    }

    /// Adds the text before a tag. The tag may remove spaces at its end.
    fn text(&mut self, text: &str, sign: Option<u8>, strip: bool) {
        let mut kept = text;
        if sign == Some(b'-') {
            kept = text.trim_end_matches(unicode::is_space);
        } else if sign.is_none() && strip {
            let line = text.rfind('\n').map_or(0, |newline| newline + 1);
            let indent = &text[line..];
            if (line > 0 || self.line_start) && indent.chars().all(unicode::is_space) {
                kept = &text[..line];
            }
        }
        if !kept.is_empty() {
            self.push(Token::Text(kept.to_owned()));
        }
    }

    /// Ends a tag: `-` removes all spaces after it, a block or a comment removes one newline.
    fn end(&mut self, sign: &str, trim: bool) {
        match sign {
            "-" => self.skip_spaces(),
            "" if trim => {
                self.skip_if("\n");
            }
            _ => {}
        }
    }

    fn comment(&mut self) -> Result<()> {
        let rest = self.rest();
        let end = rest.find("#}").ok_or_else(|| TemplateError::new("a comment has no end"))?;
        let sign = match rest.as_bytes()[..end].last() {
            Some(b'-') => "-",
            Some(b'+') => "+",
            _ => "",
        };
        self.skip(end + 2);
        self.end(sign, true);
        Ok(())
    }

    /// Skips the rest of `{% raw %}`, if the tag is that.
    fn skip_raw_begin(&mut self) -> bool {
        let spaces = unicode::is_space;
        let rest = self.rest().trim_start_matches(spaces);
        let Some(rest) = rest.strip_prefix("raw") else { return false };
        let rest = rest.trim_start_matches(spaces);
        let (sign, rest) = rest.strip_prefix('-').map_or(("", rest), |rest| ("-", rest));
        let Some(rest) = rest.strip_prefix("%}") else { return false };
        self.skip(self.rest().len() - rest.len());
        self.end(sign, false);
        true
    }

    fn raw(&mut self) -> Result<()> {
        let all = self.rest();
        for (begin, _) in all.match_indices("{%") {
            let inner = &all[begin + 2..];
            let sign = inner.bytes().next().filter(|sign| matches!(sign, b'-' | b'+'));
            let inner = &inner[usize::from(sign.is_some())..];
            let inner = inner.trim_start_matches(unicode::is_space);
            let Some(inner) = inner.strip_prefix("endraw") else { continue };
            let inner = inner.trim_start_matches(unicode::is_space);
            let marks = ["-", "+", ""];
            let end = marks
                .iter()
                .find_map(|mark| Some((*mark, inner.strip_prefix(mark)?.strip_prefix("%}")?)));
            let Some((mark, after)) = end else { continue };
            self.text(&all[..begin], sign, true);
            self.skip(all.len() - after.len());
            self.end(mark, true);
            return Ok(());
        }
        Err(TemplateError::new("{% raw %} has no end"))
    }

    fn tag(&mut self, begin: Token, end: Token, mark: &str) -> Result<()> {
        let block = end == Token::BlockEnd;
        self.push(begin);
        let mut open = Vec::new();
        loop {
            self.skip_spaces();
            let rest = self.rest();
            if open.is_empty() {
                let signs: &[&str] = if block { &["", "-", "+"] } else { &["", "-"] };
                let ends = |sign: &&&str| {
                    rest.strip_prefix(**sign).is_some_and(|rest| rest.starts_with(mark))
                };
                if let Some(sign) = signs.iter().find(ends) {
                    self.push(end);
                    self.skip(sign.len() + mark.len());
                    self.end(sign, block);
                    return Ok(());
                }
            }
            let Some(first) = rest.chars().next() else {
                return Err(TemplateError::new(format!("a tag has no end: expected {mark}")));
            };
            match first {
                '0'..='9' => self.number()?,
                '\'' | '"' => self.string(first)?,
                _ if unicode::is_word(first) => {
                    let end = rest.find(|c| !unicode::is_word(c)).unwrap_or(rest.len());
                    self.push(Token::Name(rest[..end].into()));
                    self.skip(end);
                }
                _ => {
                    let operator = OPERATORS.iter().find(|operator| rest.starts_with(**operator));
                    let Some(operator) = operator else {
                        return Err(TemplateError::new(format!("unexpected character {first:?}")));
                    };
                    match *operator {
                        "(" | "[" | "{" => open.push(*operator),
                        ")" | "]" | "}" => {
                            let expected = match open.pop() {
                                Some("(") => ")",
                                Some("[") => "]",
                                Some(_) => "}",
                                None => mark,
                            };
                            if expected != *operator {
                                let found = format!("unexpected {operator:?}");
                                return Err(TemplateError::new(format!(
                                    "{found}, expected {expected:?}"
                                )));
                            }
                        }
                        _ => {}
                    }
                    self.push(Token::Operator(operator));
                    self.skip(operator.len());
                }
            }
        }
    }

    /// Reads a number in Python's syntax, with `_` between digits.
    fn number(&mut self) -> Result<()> {
        let rest = self.rest();
        let digits = |text: &str, radix: u32| {
            let end = text.find(|c: char| c != '_' && !c.is_digit(radix)).unwrap_or(text.len());
            text[..end].trim_end_matches('_').len()
        };
        let whole = digits(rest, 10);
        let starts_with_digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        // In `.0.1` both numbers are indices.
        let after_dot = matches!(self.tokens.last(), Some((Token::Operator("."), _)));
        let mut end = whole;
        if !after_dot {
            if let Some(fraction) = rest[end..].strip_prefix('.').filter(|f| starts_with_digit(f)) {
                end += 1 + digits(fraction, 10);
            }
            if let Some(power) = rest[end..].strip_prefix(['e', 'E']) {
                let signed = power.strip_prefix(['+', '-']).unwrap_or(power);
                if starts_with_digit(signed) {
                    end = rest.len() - signed.len() + digits(signed, 10);
                }
            }
        }
        let prefix = rest.get(..2).unwrap_or_default().to_ascii_lowercase();
        let radix = match &*prefix {
            "0b" => 2,
            "0o" => 8,
            "0x" => 16,
            _ => 10,
        };
        let (token, end) = if end > whole {
            let text = rest[..end].replace('_', "");
            let value =
                text.parse().map_err(|_| TemplateError::new(format!("bad number {text}")))?;
            (Token::Float(value), end)
        } else {
            let (skip, length) = match radix {
                10 if rest.starts_with('0') => {
                    (0, rest.len() - rest.trim_start_matches(['0', '_']).len())
                }
                10 => (0, whole),
                _ => (2, digits(&rest[2..], radix)),
            };
            let text = rest[skip..skip + length].replace('_', "");
            let value = i128::from_str_radix(&text, radix);
            let value =
                value.map_err(|_| TemplateError::new(format!("bad or too large number {text}")))?;
            (Token::Int(value), skip + length)
        };
        self.push(token);
        self.skip(end);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<()> {
        let inner = &self.rest()[1..];
        let mut escaped = false;
        let end = inner.find(|c| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = end.ok_or_else(|| TemplateError::new("a string has no end"))?;
        let text = unescape(&inner[..end])?;
        self.push(Token::Str(text.into()));
        self.skip(end + 2);
        Ok(())
    }
}

/// Decodes the escapes of Python's string literals. An unknown escape is left as it is.
fn unescape(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mut chars = rest[at + 1..].chars();
        let escape = chars.next().unwrap_or('\\');
        rest = chars.as_str();
        let simple = match escape {
            '\n' => continue,
            '\\' | '\'' | '"' => Some(escape),
            'a' => Some('\u{7}'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            _ => None,
        };
        if let Some(simple) = simple {
            out.push(simple);
            continue;
        }
        let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok();
        match escape {
            '0'..='7' => {
                let end = rest.bytes().take(2).take_while(|b| matches!(b, b'0'..=b'7')).count();
                let digits = format!("{escape}{}", &rest[..end]);
                out.extend(code(&digits, 8).and_then(char::from_u32));
                rest = &rest[end..];
            }
            'x' | 'u' | 'U' => {
                let length = match escape {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let digits = rest.get(..length).unwrap_or(rest);
                let hex = digits.len() == length && digits.bytes().all(|b| b.is_ascii_hexdigit());
                let character = code(digits, 16).filter(|_| hex).and_then(char::from_u32);
                let bad = || TemplateError::new(format!("\\{escape}{digits} is not a character"));
                out.push(character.ok_or_else(bad)?);
                rest = &rest[length..];
            }
            'N' => return Err(TemplateError::new("\\N{...} in a string is not supported")),
            // Jinja2 first writes other characters as escapes, so this backslash escapes the
            // escape.
            _ if !escape.is_ascii() => {
                let code = u32::from(escape);
                out += &match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                };
            }
            _ => {
                out.push('\\');
                out.push(escape);
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}
