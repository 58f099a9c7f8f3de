//! Arguments that make no sense.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::process::ExitCode;

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::output;

/// The exit status.
const STATUS: u8 = 2;

/// An error in arguments, whatever the model and the files are.
#[derive(Debug)]
pub(crate) struct WrongUsage(pub(crate) String);

impl Display for WrongUsage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// The exit status of a command that failed.
pub(crate) fn exit_status(error: &anyhow::Error) -> ExitCode {
    match error.is::<WrongUsage>() {
        true => ExitCode::from(STATUS),
        false => ExitCode::FAILURE,
    }
}

/// Prints the requested help, or the error in the arguments.
pub(crate) fn report(mut error: clap::Error) -> Result<ExitCode> {
    let argument = |(kind, value): (ContextKind, &ContextValue)| match value {
        ContextValue::String(text) => match output::shown(text) {
            Cow::Owned(shown) => Some((kind, shown)),
            Cow::Borrowed(_) => None,
        },
        _ => None,
    };
    let escaped: Vec<_> = error.context().filter_map(argument).collect();
    if !escaped.is_empty() {
        // The suggestion repeats the argument.
        error.remove(ContextKind::Suggested);
    }
    for (kind, text) in escaped {
        error.insert(kind, ContextValue::String(text));
    }
    if !error.use_stderr() {
        error.print().map_err(output::Stdout)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(negative) = negative_value(&error) {
        output::say(&negative);
        return Ok(ExitCode::from(STATUS));
    }
    match error.kind() {
        // The help. stderr may be closed.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => drop(error.print()),
        _ => output::say(&one_line(&error.render().to_string())),
    }
    Ok(ExitCode::from(STATUS))
}

/// The message for a negative number after a flag. clap takes it for a flag, and suggests what does not
/// help.
fn negative_value(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let is_negative = |text: &str| {
        text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    if error.kind() != ErrorKind::UnknownArgument || !is_negative(unknown) {
        return None;
    }
    let args: Vec<_> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    // Of several digits, the first is the flag.
    let mut found = (0..args.len()).filter(|&at| args[at].starts_with(unknown.as_str()));
    let (at, None) = (found.next()?, found.next()) else { return None };
    let flag = at.checked_sub(1).and_then(|before| args.get(before))?;
    let value = &args[at];
    let is_flag = flag.starts_with('-') && flag.len() > 1 && !is_negative(flag);
    is_flag.then(|| {
        format!(
            "error: invalid value '{value}' for '{flag}': expected a number that is not negative"
        )
    })
}

/// clap's message and its suggestions, without the usage that follows.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let follows =
        |line: &str| line.starts_with("Usage:") || line.starts_with("For more information");
    let mut joined = String::new();
    for line in lines.take_while(|line| !follows(line)) {
        match line.strip_prefix("tip: ") {
            Some(tip) => joined += &format!("; {tip}"),
            None if joined.is_empty() => joined += line,
            None => joined += &format!(" {line}"),
        }
    }
    joined
}
