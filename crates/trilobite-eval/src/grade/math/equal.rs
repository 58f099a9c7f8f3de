//! Whether two answers in normal form are equal.

use crate::error::Result;
use crate::grade::math::expression::Expression;
use crate::grade::math::symbolic::Symbolic;

/// Relative distance of numbers that count as equal: that of the reference grader.
const TOLERANCE: f64 = 1e-4;

/// Whether an answer equals the reference: as text, as numbers (also as percentages), element by
/// element, or as expressions, which SymPy compares where it is given.
pub(crate) fn equal(answer: &str, reference: &str, symbolic: Option<&Symbolic>) -> Result<bool> {
    // Also where nothing is left of both, a unit for example.
    if answer.trim().to_lowercase() == reference.trim().to_lowercase() {
        return Ok(true);
    }
    if let (Some(a), Some(b)) = (number(answer), number(reference)) {
        return Ok([b / 100.0, b, b * 100.0].iter().any(|&b| close(a, b)));
    }
    let (answer, reference) = (answer.trim(), reference.trim());
    if answer.is_empty() {
        return Ok(false);
    }
    // Brackets do not matter, unless one answer is a closed interval and the other is not.
    if interval_kind(answer) == interval_kind(reference) {
        let plain = |text: &str| text.replace(['{', '}', '(', ')', '[', ']'], "").to_lowercase();
        if plain(answer) == plain(reference) {
            return Ok(true);
        }
        if let (Some(a), Some(b)) = (inner(answer), inner(reference))
            && let (Some(a), Some(b)) = (elements(a), elements(b))
            && a.len() == b.len()
            && a.len() > 1
        {
            return all(a.into_iter().zip(b), symbolic);
        }
    }
    if let (Some(a), Some(b)) = (matrix(answer), matrix(reference)) {
        let fits = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.len() == b.len());
        return Ok(fits && all(a.into_iter().flatten().zip(b.into_iter().flatten()), symbolic)?);
    }
    if let (Some((al, ar)), Some((bl, br))) = (answer.split_once('='), reference.split_once('=')) {
        let (a, b) = (format!("({al})-({ar})"), format!("({bl})-({br})"));
        return Ok(same(&a, &b, symbolic)? || same(&format!("-({a})"), &b, symbolic)?);
    }
    same(answer, reference, symbolic)
}

/// Whether all of some pairs are equal.
fn all<'a>(
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
    symbolic: Option<&Symbolic>,
) -> Result<bool> {
    for (a, b) in pairs {
        if !equal(a, b, symbolic)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether two expressions are equal.
fn same(a: &str, b: &str, symbolic: Option<&Symbolic>) -> Result<bool> {
    if let Some(symbolic) = symbolic {
        return symbolic.equal(a, b);
    }
    Ok(match (Expression::parse(a), Expression::parse(b)) {
        (Some(a), Some(b)) => a.same(&b, TOLERANCE),
        _ => false,
    })
}

fn number(text: &str) -> Option<f64> {
    let text = text.replace(',', "");
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.trim().parse().ok().filter(|_| plain)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

/// The brackets around an answer, if they are an interval's or a tuple's.
fn interval_kind(text: &str) -> Option<(char, char)> {
    let first = text.chars().next().filter(|c| "([".contains(*c))?;
    let last = text.chars().last().filter(|c| ")]".contains(*c))?;
    Some((first, last))
}

/// What is inside the brackets around an answer.
fn inner(text: &str) -> Option<&str> {
    interval_kind(text).map(|_| &text[1..text.len() - 1])
}

/// The elements between commas outside brackets; `None` if brackets do not match.
fn elements(text: &str) -> Option<Vec<&str>> {
    let (mut depth, mut start, mut parts) = (0i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    parts.push(&text[start..]);
    (depth == 0).then_some(parts)
}

/// The rows of a matrix.
fn matrix(text: &str) -> Option<Vec<Vec<&str>>> {
    let (_, rest) = text.split_once("\\begin{pmatrix}")?;
    let (body, _) = rest.split_once("\\end{pmatrix}")?;
    let body = body.strip_suffix("\\\\").unwrap_or(body);
    Some(body.split("\\\\").map(|row| row.split('&').collect()).collect())
}
