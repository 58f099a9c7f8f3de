//! The format of a single value, which `str.format` and the `%` operator share.

use super::Value;
use super::context::Context;
use super::text::{float, quote};
use crate::budget::Budget;
use crate::error::{Result, TemplateError, fail};

/// Maximum number of digits after the decimal point.
const MAX_PRECISION: usize = 1000;

/// The format of a value.
#[derive(Clone, Default)]
pub(super) struct Field {
    pub(super) fill: Option<char>,
    /// `<`, `>`, `^` or `=`.
    pub(super) align: Option<char>,
    /// The prefix of positive numbers: none, `+` or a space.
    pub(super) sign: Option<char>,
    pub(super) alternate: bool,
    pub(super) zero: bool,
    pub(super) width: usize,
    /// The separator of groups of digits.
    pub(super) grouping: Option<char>,
    pub(super) precision: Option<usize>,
    /// The format letter. Without it, the type of the value decides.
    pub(super) kind: Option<char>,
}

impl Field {
    /// Formats a string.
    pub(super) fn text(&self, text: &str, budget: &Budget) -> Result<String> {
        let kept: String = match self.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text.to_owned(),
        };
        self.padded("", &kept, '<', budget)
    }

    /// Formats an integer in the base given by the kind.
    pub(super) fn integer(&self, number: i128, budget: &Budget) -> Result<String> {
        let magnitude = number.unsigned_abs();
        let (digits, prefix) = match self.kind {
            Some('b') => (format!("{magnitude:b}"), "0b"),
            Some('o') => (format!("{magnitude:o}"), "0o"),
            Some('x') => (format!("{magnitude:x}"), "0x"),
            Some('X') => (format!("{magnitude:X}"), "0X"),
            _ => (magnitude.to_string(), ""),
        };
        let group = if prefix.is_empty() { 3 } else { 4 };
        let least = self.precision.unwrap_or(0).min(MAX_PRECISION);
        let digits = format!("{digits:0>least$}");
        let digits = self.grouped(&digits, group);
        let prefix = if self.alternate { prefix } else { "" };
        self.padded(&format!("{}{prefix}", self.sign_of(number < 0)), &digits, '>', budget)
    }

    /// Formats a float in the notation given by the kind.
    pub(super) fn float(&self, number: f64, budget: &Budget) -> Result<String> {
        let upper = matches!(self.kind, Some('E' | 'F' | 'G'));
        let precision = self.precision.unwrap_or(6);
        if precision > MAX_PRECISION {
            return fail(format!("a precision of {precision} is more than {MAX_PRECISION}"));
        }
        let magnitude = number.abs();
        let digits = match self.kind.map(|kind| kind.to_ascii_lowercase()) {
            _ if !magnitude.is_finite() => {
                if magnitude.is_nan() { "nan" } else { "inf" }.to_owned()
            }
            Some('e') => scientific(magnitude, precision),
            Some('f') => format!("{magnitude:.precision$}"),
            Some('%') => format!("{:.precision$}%", magnitude * 100.0),
            Some('g' | 'n') => general(magnitude, precision, self.alternate),
            _ => match self.precision {
                None => float(magnitude),
                Some(precision) => {
                    let general = general(magnitude, precision, false);
                    let whole = general.bytes().all(|digit| digit.is_ascii_digit());
                    if whole { general + ".0" } else { general }
                }
            },
        };
        let digits = if upper { digits.to_uppercase() } else { digits };
        let whole = digits.bytes().take_while(u8::is_ascii_digit).count();
        let digits = self.grouped(&digits[..whole], 3) + &digits[whole..];
        let negative = number.is_sign_negative() && !number.is_nan();
        self.padded(self.sign_of(negative), &digits, '>', budget)
    }

    fn sign_of(&self, negative: bool) -> &'static str {
        match (negative, self.sign) {
            (true, _) => "-",
            (_, Some('+')) => "+",
            (_, Some(' ')) => " ",
            _ => "",
        }
    }

    fn grouped(&self, digits: &str, size: usize) -> String {
        let Some(separator) = self.grouping else { return digits.to_owned() };
        let mut out = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(size) {
                out.push(separator);
            }
            out.push(digit);
        }
        out
    }

    fn padded(&self, sign: &str, body: &str, default: char, budget: &Budget) -> Result<String> {
        let length = sign.chars().count() + body.chars().count();
        let missing = self.width.saturating_sub(length);
        let zero = self.zero && self.align.is_none() && default == '>';
        let fill = self.fill.unwrap_or(if zero { '0' } else { ' ' });
        budget.bytes(missing.saturating_mul(fill.len_utf8()))?;
        let align = self.align.unwrap_or(if zero { '=' } else { default });
        let (left, inner, right) = match align {
            '<' => (0, 0, missing),
            '^' => (missing / 2, 0, missing - missing / 2),
            '=' => (0, missing, 0),
            _ => (missing, 0, 0),
        };
        let fill = |count| std::iter::repeat_n(fill, count).collect::<String>();
        Ok([&*fill(left), sign, &*fill(inner), body, &*fill(right)].concat())
    }
}

/// A number in scientific notation, with at least two digits in the exponent.
fn scientific(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", power.abs())
}

/// `%g`: this many significant digits in the shorter notation, without trailing zeros.
fn general(number: f64, precision: usize, keep_zeros: bool) -> String {
    let precision = precision.max(1);
    let rounded = format!("{number:.0$e}", precision - 1);
    let power = rounded.split_once('e').and_then(|(_, power)| power.parse::<i64>().ok());
    let power = power.unwrap_or(0);
    let trim = |text: &str| match text.contains('.') && !keep_zeros {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || power >= precision as i64 {
        let text = scientific(number, precision - 1);
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "+00"));
        return format!("{}e{exponent}", trim(digits));
    }
    trim(&format!("{number:.0$}", (precision as i64 - 1 - power) as usize))
}

/// `format(value, form)`
pub(crate) fn formatted(value: &Value, form: &str, context: &Context) -> Result<String> {
    if form.is_empty() {
        return value.to_text(context);
    }
    let field = parse(form)?;
    let budget = &context.budget;
    let kind = field.kind;
    let unknown = |kind: char| {
        fail(format!("unknown format code {kind:?} for an object of type {}", value.type_name()))
    };
    match value {
        Value::Str(text) | Value::Markup(text) => match kind {
            None | Some('s') => field.text(text, budget),
            Some(kind) => unknown(kind),
        },
        Value::Float(number) => match kind {
            None | Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'n' | '%') => {
                field.float(*number, budget)
            }
            Some(kind) => unknown(kind),
        },
        Value::Int(_) | Value::Bool(_) => {
            let number = value.as_int().unwrap_or(0);
            match kind {
                None | Some('b' | 'd' | 'n' | 'o' | 'x' | 'X') => field.integer(number, budget),
                Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') => field.float(number as f64, budget),
                Some('c') => field.text(&character(number)?, budget),
                Some(kind) => unknown(kind),
            }
        }
        _ => fail(format!("{} cannot be formatted as {}", value.type_name(), quote(form))),
    }
}

/// The character with a code.
pub(super) fn character(code: i128) -> Result<String> {
    let character = u32::try_from(code).ok().and_then(char::from_u32);
    character.map(String::from).ok_or_else(|| TemplateError::new(format!("{code} is no character")))
}

/// Parses `[[fill]align][sign][#][0][width][grouping][.precision][type]`.
fn parse(form: &str) -> Result<Field> {
    let mut field = Field::default();
    let mut rest = Cursor(form);
    let is_align = |c: char| matches!(c, '<' | '>' | '=' | '^');
    if form.chars().nth(1).is_some_and(is_align) {
        (field.fill, field.align) = (rest.next_if(|_| true), rest.next_if(|_| true));
    } else {
        field.align = rest.next_if(is_align);
    }
    field.sign = rest.next_if(|c| matches!(c, '+' | '-' | ' '));
    field.alternate = rest.next_if(|c| c == '#').is_some();
    field.zero = rest.next_if(|c| c == '0').is_some();
    field.width = rest.number()?.unwrap_or(0);
    field.grouping = rest.next_if(|c| matches!(c, ',' | '_'));
    if rest.next_if(|c| c == '.').is_some() {
        field.precision = rest.number()?;
        if field.precision.is_none() {
            return fail("format specifier missing precision");
        }
    }
    field.kind = rest.next_if(|_| true);
    match rest.0 {
        "" => Ok(field),
        _ => fail(format!("invalid format specifier {}", quote(form))),
    }
}

/// The rest of a format specification.
pub(super) struct Cursor<'a>(pub(super) &'a str);

impl Cursor<'_> {
    /// Takes the next character if it fits.
    pub(super) fn next_if(&mut self, fits: impl Fn(char) -> bool) -> Option<char> {
        let next = self.0.chars().next().filter(|&next| fits(next))?;
        self.0 = &self.0[next.len_utf8()..];
        Some(next)
    }

    /// Takes a number if one follows.
    pub(super) fn number(&mut self) -> Result<Option<usize>> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        if digits.is_empty() {
            return Ok(None);
        }
        let number = digits.parse().map(Some);
        number.map_err(|_| TemplateError::new(format!("{digits} is too large for a format")))
    }
}
