//! Methods of strings.

use super::super::arguments::{Args, bounds, flag, integer, limit, required, text};
use super::super::error::{Result, fail};
use super::super::escape::escape;
use super::super::format::str_format;
use super::super::machine::{Machine, Method};
use super::super::unicode;
use super::super::value::Value;

pub(super) fn method(name: &str) -> Option<Method> {
    Some(match name {
        "upper" => |m, s, a| map(m, s, a, |s| s.to_uppercase()),
        "lower" => |m, s, a| map(m, s, a, |s| s.to_lowercase()),
        "title" => |m, s, a| map(m, s, a, unicode::title),
        "capitalize" => |m, s, a| map(m, s, a, unicode::capitalize),
        "swapcase" => |m, s, a| map(m, s, a, swap_case),
        "strip" => |m, s, a| strip(m, s, a, true, true),
        "lstrip" => |m, s, a| strip(m, s, a, true, false),
        "rstrip" => |m, s, a| strip(m, s, a, false, true),
        "removeprefix" => |m, s, a| remove(m, s, a, |s, part| s.strip_prefix(part)),
        "removesuffix" => |m, s, a| remove(m, s, a, |s, part| s.strip_suffix(part)),
        "startswith" => |m, s, a| affix(m, s, a, |s, part| s.starts_with(part)),
        "endswith" => |m, s, a| affix(m, s, a, |s, part| s.ends_with(part)),
        "split" => |m, s, a| split(m, s, a, false),
        "rsplit" => |m, s, a| split(m, s, a, true),
        "splitlines" => split_lines,
        "partition" => |m, s, a| partition(m, s, a, false),
        "rpartition" => |m, s, a| partition(m, s, a, true),
        "join" => join,
        "replace" => replace,
        "find" => |m, s, a| Ok(Value::Int(find(m, s, a, false)?.map_or(-1, |at| at as i128))),
        "rfind" => |m, s, a| Ok(Value::Int(find(m, s, a, true)?.map_or(-1, |at| at as i128))),
        "index" => |m, s, a| found(find(m, s, a, false)?),
        "rindex" => |m, s, a| found(find(m, s, a, true)?),
        "count" => count,
        "center" => |m, s, a| pad(m, s, a, Side::Both),
        "ljust" => |m, s, a| pad(m, s, a, Side::Right),
        "rjust" => |m, s, a| pad(m, s, a, Side::Left),
        "zfill" => zero_fill,
        "expandtabs" => expand_tabs,
        "format" => |m, s, a| Ok(Value::str(str_format(m, receiver(s), a)?)),
        "isalpha" => |m, s, a| every(m, s, a, char::is_alphabetic),
        "isalnum" => |m, s, a| every(m, s, a, char::is_alphanumeric),
        "isdigit" | "isdecimal" => |m, s, a| every(m, s, a, |c| c.is_ascii_digit()),
        "isnumeric" => |m, s, a| every(m, s, a, char::is_numeric),
        "isspace" => |m, s, a| every(m, s, a, unicode::is_space),
        "isascii" => |m, s, a| test(m, s, a, str::is_ascii),
        "isprintable" => |m, s, a| test(m, s, a, |s| s.chars().all(unicode::is_printable)),
        "islower" => |m, s, a| test(m, s, a, is_lower),
        "isupper" => |m, s, a| test(m, s, a, is_upper),
        "istitle" => |m, s, a| test(m, s, a, |s| unicode::title(s) == s && is_cased(s)),
        _ => return None,
    })
}

fn receiver(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The text of a string, after paying for reading it.
fn read<'a>(machine: &dyn Machine, value: &'a Value) -> Result<&'a str> {
    let text = receiver(value);
    machine.budget().bytes(text.len())?;
    Ok(text)
}

fn map(machine: &dyn Machine, value: &Value, args: Args, map: fn(&str) -> String) -> Result<Value> {
    let [] = args.bind("it", [])?;
    // A change of case makes a text at most three times as long.
    machine.budget().bytes(3 * receiver(value).len())?;
    Ok(Value::str(map(receiver(value))))
}

fn test(machine: &dyn Machine, value: &Value, args: Args, test: fn(&str) -> bool) -> Result<Value> {
    let [] = args.bind("it", [])?;
    Ok(Value::Bool(test(read(machine, value)?)))
}

fn every(
    machine: &dyn Machine,
    value: &Value,
    args: Args,
    fits: fn(char) -> bool,
) -> Result<Value> {
    let [] = args.bind("it", [])?;
    let text = read(machine, value)?;
    Ok(Value::Bool(!text.is_empty() && text.chars().all(fits)))
}

fn is_cased(text: &str) -> bool {
    text.chars().any(unicode::is_cased)
}

/// `str.islower`
pub(crate) fn is_lower(text: &str) -> bool {
    is_cased(text) && text.chars().all(|c| !unicode::is_cased(c) || c.is_lowercase())
}

/// `str.isupper`
pub(crate) fn is_upper(text: &str) -> bool {
    is_cased(text) && text.chars().all(|c| !unicode::is_cased(c) || c.is_uppercase())
}

fn swap_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_lowercase() {
            true => out.extend(c.to_uppercase()),
            false => out.extend(c.to_lowercase()),
        }
    }
    out
}

fn strip(
    machine: &dyn Machine,
    value: &Value,
    args: Args,
    start: bool,
    end: bool,
) -> Result<Value> {
    let [chars] = args.bind("it", ["chars"])?;
    let chars = text(&chars, "it")?;
    if let Some(chars) = chars {
        machine.budget().spend(receiver(value).len().saturating_mul(chars.len() / 16 + 1))?;
    }
    let stripped = trim(read(machine, value)?, chars, start, end);
    Ok(Value::str(stripped))
}

/// Removes the characters in `chars`, or spaces, from the ends of a text.
pub(crate) fn trim<'a>(text: &'a str, chars: Option<&str>, start: bool, end: bool) -> &'a str {
    let matches = |c: char| match chars {
        Some(chars) => chars.contains(c),
        None => unicode::is_space(c),
    };
    let text = if start { text.trim_start_matches(matches) } else { text };
    if end { text.trim_end_matches(matches) } else { text }
}

fn remove(
    machine: &dyn Machine,
    value: &Value,
    args: Args,
    strip: for<'a> fn(&'a str, &str) -> Option<&'a str>,
) -> Result<Value> {
    let [part] = args.bind("it", ["part"])?;
    let part = required(part, "it")?;
    let Some(part) = part.as_str() else { return fail("a string is needed") };
    let whole = read(machine, value)?;
    Ok(Value::str(strip(whole, part).unwrap_or(whole)))
}

fn affix(
    machine: &dyn Machine,
    value: &Value,
    args: Args,
    fits: fn(&str, &str) -> bool,
) -> Result<Value> {
    let [parts, start, stop] = args.bind("it", ["prefix", "start", "end"])?;
    let parts = match required(parts, "it")? {
        Value::Tuple(parts) => parts.values.clone(),
        part => vec![part],
    };
    let whole = match (&start, &stop) {
        (None, None) => Some(receiver(value)),
        _ => {
            let whole = read(machine, value)?;
            let (start, stop) = bounds(whole.chars().count(), &start, &stop, "it")?;
            (start <= stop).then(|| characters(whole, start, stop))
        }
    };
    for part in parts {
        let Some(part) = part.as_str() else {
            return fail(format!(
                "a string or a tuple of strings is needed, not {}",
                part.type_name()
            ));
        };
        machine.budget().bytes(part.len())?;
        if whole.is_some_and(|whole| fits(whole, part)) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

/// The characters from `start` to `stop`.
fn characters(text: &str, start: usize, stop: usize) -> &str {
    let byte = |index| text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
    &text[byte(start)..byte(stop)]
}

fn split(machine: &mut dyn Machine, value: &Value, args: Args, from_end: bool) -> Result<Value> {
    let [separator, most] = args.bind("split", ["sep", "maxsplit"])?;
    let most = limit(&most, "split")?.map_or(usize::MAX, |most| most.saturating_add(1));
    let separator = text(&separator, "split")?;
    let whole = read(machine, value)?;
    machine.budget().spend(whole.len() / 2)?;
    let mut parts: Vec<&str> = match separator {
        Some("") => return fail("empty separator"),
        Some(separator) if from_end => whole.rsplitn(most, separator).collect(),
        Some(separator) => whole.splitn(most, separator).collect(),
        None => words(whole, most, from_end),
    };
    if from_end {
        parts.reverse();
    }
    machine.budget().spend(2 * parts.len())?;
    Value::list(parts.into_iter().map(Value::str).collect())
}

/// Splits a text at its spaces into at most this many parts.
fn words(text: &str, most: usize, from_end: bool) -> Vec<&str> {
    let space = unicode::is_space;
    let mut parts = Vec::new();
    let mut rest = trim(text, None, !from_end, from_end);
    while !rest.is_empty() {
        let at = if from_end { rest.rfind(space) } else { rest.find(space) };
        let Some(at) = at.filter(|_| parts.len() + 1 < most) else {
            parts.push(trim(rest, None, from_end, !from_end));
            break;
        };
        let width = rest[at..].chars().next().map_or(0, char::len_utf8);
        let (word, others) = match from_end {
            true => (&rest[at + width..], &rest[..at]),
            false => (&rest[..at], &rest[at + width..]),
        };
        parts.push(word);
        rest = trim(others, None, !from_end, from_end);
    }
    parts
}

fn split_lines(machine: &mut dyn Machine, value: &Value, args: Args) -> Result<Value> {
    let [keep] = args.bind("splitlines", ["keepends"])?;
    machine.budget().spend(receiver(value).len() / 2)?;
    let lines = lines(receiver(value), flag(&keep));
    machine.budget().spend(2 * lines.len())?;
    Value::list(lines.into_iter().map(Value::str).collect())
}

/// The lines of a text, with or without their line ends.
pub(crate) fn lines(text: &str, keep: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest.find(unicode::is_line_end);
        let end = at.map_or(rest.len(), |at| {
            let width = rest[at..].chars().next().map_or(0, char::len_utf8);
            at + if rest[at..].starts_with("\r\n") { 2 } else { width }
        });
        lines.push(&rest[..if keep { end } else { at.unwrap_or(end) }]);
        rest = &rest[end..];
    }
    lines
}

fn partition(
    machine: &mut dyn Machine,
    value: &Value,
    args: Args,
    from_end: bool,
) -> Result<Value> {
    let [separator] = args.bind("partition", ["sep"])?;
    let separator = required(separator, "partition")?;
    let whole = read(machine, value)?;
    let parts = match separator.as_str() {
        Some("") => return fail("empty separator"),
        Some(separator) if from_end => whole.rsplit_once(separator),
        Some(separator) => whole.split_once(separator),
        None => return fail("a string is needed"),
    };
    let separator = receiver(&separator);
    let parts = match parts {
        Some((before, after)) => [before, separator, after],
        None if from_end => ["", "", whole],
        None => [whole, "", ""],
    };
    Value::tuple(parts.map(Value::str).into())
}

fn join(machine: &mut dyn Machine, value: &Value, args: Args) -> Result<Value> {
    let [items] = args.bind("join", ["iterable"])?;
    let items = required(items, "join")?.iterate(machine.budget())?;
    let (separator, markup) = (receiver(value), matches!(value, Value::Markup(_)));
    let mut out = String::new();
    for (index, item) in items.iter().enumerate() {
        let Some(part) = item.as_str() else {
            let found = item.type_name();
            return fail(format!("item {index} is of type {found}, expected a string"));
        };
        let separator = if index > 0 { separator } else { "" };
        machine.budget().bytes(separator.len() + part.len())?;
        out += separator;
        match item {
            Value::Str(text) if markup => out += &escape(text),
            _ => out += part,
        }
    }
    Ok(Value::str(out))
}

fn replace(machine: &mut dyn Machine, value: &Value, args: Args) -> Result<Value> {
    let [old, new, count] = args.bind("replace", ["old", "new", "count"])?;
    let (old, new) = (required(old, "replace")?, required(new, "replace")?);
    let (Some(old), Some(new)) = (old.as_str(), new.as_str()) else {
        return fail("replace takes strings");
    };
    let count = limit(&count, "replace")?;
    Ok(Value::str(replaced(machine, receiver(value), old, new, count)?))
}

/// Replaces `old` by `new`, as often as `count` allows.
pub(crate) fn replaced(
    machine: &dyn Machine,
    text: &str,
    old: &str,
    new: &str,
    count: Option<usize>,
) -> Result<String> {
    machine.budget().bytes(text.len())?;
    let found = text.matches(old).take(count.unwrap_or(usize::MAX)).count();
    machine.budget().bytes(found.saturating_mul(new.len()))?;
    Ok(text.replacen(old, new, found))
}

/// The index of a match, in characters.
fn find(machine: &dyn Machine, value: &Value, args: Args, last: bool) -> Result<Option<usize>> {
    let [part, start, stop] = args.bind("find", ["sub", "start", "end"])?;
    let part = required(part, "find")?;
    let Some(part) = part.as_str() else { return fail("a string is needed") };
    let whole = read(machine, value)?;
    let (start, stop) = bounds(whole.chars().count(), &start, &stop, "find")?;
    if start > stop {
        return Ok(None);
    }
    let searched = characters(whole, start, stop);
    let at = if last { searched.rfind(part) } else { searched.find(part) };
    Ok(at.map(|at| start + searched[..at].chars().count()))
}

fn found(index: Option<usize>) -> Result<Value> {
    match index {
        Some(index) => Ok(Value::Int(index as i128)),
        None => fail("substring not found"),
    }
}

fn count(machine: &mut dyn Machine, value: &Value, args: Args) -> Result<Value> {
    let [part, start, stop] = args.bind("count", ["sub", "start", "end"])?;
    let part = required(part, "count")?;
    let Some(part) = part.as_str() else { return fail("a string is needed") };
    let whole = read(machine, value)?;
    let (start, stop) = bounds(whole.chars().count(), &start, &stop, "count")?;
    let count = match start <= stop {
        true => characters(whole, start, stop).matches(part).count(),
        false => 0,
    };
    Ok(Value::Int(count as i128))
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
    Both,
}

fn pad(machine: &dyn Machine, value: &Value, args: Args, side: Side) -> Result<Value> {
    let [width, fill] = args.bind("it", ["width", "fillchar"])?;
    let width = limit(&Some(required(width, "it")?), "it")?.unwrap_or(0);
    let fill = text(&fill, "it")?.unwrap_or(" ");
    if fill.chars().count() != 1 {
        return fail("the fill character must be exactly one character long");
    }
    let whole = read(machine, value)?;
    let missing = width.saturating_sub(whole.chars().count());
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        // Python's rounding.
        Side::Both => missing / 2 + (missing & width & 1),
    };
    machine.budget().bytes(whole.len().saturating_add(missing.saturating_mul(fill.len())))?;
    Ok(Value::str([&*fill.repeat(left), whole, &*fill.repeat(missing - left)].concat()))
}

fn zero_fill(machine: &mut dyn Machine, value: &Value, args: Args) -> Result<Value> {
    let [width] = args.bind("zfill", ["width"])?;
    let width = limit(&Some(required(width, "zfill")?), "zfill")?.unwrap_or(0);
    let whole = read(machine, value)?;
    let missing = width.saturating_sub(whole.chars().count());
    machine.budget().bytes(missing)?;
    let sign = whole.len() - whole.strip_prefix(['+', '-']).unwrap_or(whole).len();
    Ok(Value::str([&whole[..sign], &*"0".repeat(missing), &whole[sign..]].concat()))
}

fn expand_tabs(machine: &mut dyn Machine, value: &Value, args: Args) -> Result<Value> {
    let [size] = args.bind("expandtabs", ["tabsize"])?;
    let size = integer(&size, "expandtabs")?.unwrap_or(8);
    let size = usize::try_from(size).unwrap_or(0);
    let whole = read(machine, value)?;
    machine.budget().bytes(whole.matches('\t').count().saturating_mul(size))?;
    let (mut out, mut column) = (String::with_capacity(whole.len()), 0);
    for c in whole.chars() {
        match c {
            '\t' => {
                let spaces = if size > 0 { size - column % size } else { 0 };
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            _ => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(Value::str(out))
}
