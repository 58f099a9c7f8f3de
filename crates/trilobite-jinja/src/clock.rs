//! The clock of `strftime_now`.

use jiff::civil::DateTime;

use super::budget::Budget;
use super::error::{Result, fail};

/// The source of the current time.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The system's local time.
    #[default]
    System,
    /// A fixed time.
    Stopped(DateTime),
}

impl Clock {
    fn now(self) -> DateTime {
        match self {
            Clock::System => jiff::ZonedDateTime::now().datetime(),
            Clock::Stopped(time) => time,
        }
    }

    /// Python's `datetime.now().strftime(format)`, in English.
    pub(super) fn format(self, format: &str, budget: &Budget) -> Result<String> {
        let now = self.now();
        let mut out = String::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            let directive = &rest[at..];
            let is_flag = |c: char| c.is_ascii_digit() || matches!(c, '-' | '_' | '^' | '#');
            let letter = directive[1..].trim_start_matches(is_flag).chars().next();
            let Some(letter) = letter else { return fail("a time's format ends after %") };
            let flags = directive[1..].find(letter).unwrap_or(0);
            let end = 1 + flags + letter.len_utf8();
            let directive = match letter {
                // The format of the C locale.
                'c' => "%a %b %e %H:%M:%S %Y",
                'r' => "%I:%M:%S %p",
                'x' => "%m/%d/%y",
                // A naive time has no zone.
                'z' | 'Z' => "",
                'f' => "%6f",
                _ => &directive[..end],
            };
            budget.spend(10)?;
            match jiff::fmt::strtime::format(directive, now) {
                Ok(text) => out += &text,
                Err(_) => return fail(format!("a time cannot be written as {directive:?}")),
            }
            rest = &rest[at + end..];
        }
        out.push_str(rest);
        budget.bytes(out.len())?;
        Ok(out)
    }
}
