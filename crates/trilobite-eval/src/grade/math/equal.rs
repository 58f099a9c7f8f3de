//! Equality of two normalized answers.

use crate::error::Result;
use crate::grade::math::latex::Statement;
use crate::grade::math::symbolic::Symbolic;
use crate::grade::python::{float, is_close, strip};

/// Relative tolerance for numbers, the same as in the reference grader.
const TOLERANCE: f64 = 1e-4;
/// Maximum nesting of brackets that is compared.
const DEPTH: usize = 64;

/// Whether an answer equals the reference by the rules of math-evaluation-harness: as text, as
/// numbers (also as percentages), element by element, or as expressions, which SymPy compares if it
/// is given.
pub(crate) fn equal(answer: &str, reference: &str, symbolic: Option<&Symbolic>) -> Result<bool> {
    Comparison { symbolic, depth: 0 }.equal(answer, reference)
}

struct Comparison<'a> {
    symbolic: Option<&'a Symbolic>,
    depth: usize,
}

impl Comparison<'_> {
    fn equal(&mut self, answer: &str, reference: &str) -> Result<bool> {
        self.depth += 1;
        let equal = self.depth <= DEPTH && self.compared(answer, reference)?;
        self.depth -= 1;
        Ok(equal)
    }

    fn compared(&mut self, answer: &str, reference: &str) -> Result<bool> {
        if answer == reference {
            return Ok(true);
        }
        if let (Some(a), Some(b)) = (number(answer), number(reference)) {
            return Ok([b / 100.0, b, b * 100.0].iter().any(|&b| is_close(a, b, TOLERANCE)));
        }
        if answer.is_empty() {
            return Ok(false);
        }
        let answer = strip(answer);
        let vectors = vectors(answer, reference);
        let reference = strip(vectors.as_deref().unwrap_or(reference));
        if without_brackets(answer, reference)
            || self.elements(answer, reference)?
            || self.matrices(answer, reference)?
        {
            return Ok(true);
        }
        let equal = match (sides(answer), sides(reference)) {
            (Some((al, ar)), Some((bl, br))) => {
                let (a, b) = (format!("{al} - ({ar})"), format!("{bl} - ({br})"));
                self.same(&a, &b)? || self.same(&format!("-({a})"), &b)?
            }
            (Some((name, value)), None) if is_name(name, reference) => {
                self.equal(value, reference)?
            }
            (None, Some((name, value))) if is_name(name, answer) => self.equal(answer, value)?,
            _ => false,
        };
        Ok(equal || self.same(answer, reference)?)
    }

    /// Whether two lists in brackets are equal element by element.
    fn elements(&mut self, answer: &str, reference: &str) -> Result<bool> {
        match (inner(answer), inner(reference)) {
            (Some(a), Some(b)) => self.all(&split(a, ","), &split(b, ",")),
            _ => Ok(false),
        }
    }

    /// Whether two texts that are each a single matrix are equal entry by entry.
    fn matrices(&mut self, answer: &str, reference: &str) -> Result<bool> {
        let (Some(a), Some(b)) = (rows(answer), rows(reference)) else { return Ok(false) };
        if a.len() != b.len() {
            return Ok(false);
        }
        for (a, b) in a.iter().zip(&b) {
            if !self.all(&split(a, "&"), &split(b, "&"))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn all(&mut self, answers: &[&str], references: &[&str]) -> Result<bool> {
        if answers.len() != references.len() {
            return Ok(false);
        }
        for (a, b) in answers.iter().zip(references) {
            if !self.equal(a, b)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether two expressions, equations or sets are equal.
    fn same(&self, a: &str, b: &str) -> Result<bool> {
        if let Some(symbolic) = self.symbolic {
            return symbolic.equal(a, b);
        }
        Ok(match (Statement::parse(a), Statement::parse(b)) {
            (Some(a), Some(b)) => a.same(&b),
            (None, None) => same_sets(a, b),
            _ => false,
        })
    }
}

fn number(text: &str) -> Option<f64> {
    float(&text.replace(',', ""))
}

fn split<'a>(text: &'a str, at: &str) -> Vec<&'a str> {
    text.split(at).collect()
}

/// If only the answer is a matrix, the reference's text in braces as a matrix. The reference grader
/// makes this conversion.
fn vectors(answer: &str, reference: &str) -> Option<String> {
    if !answer.contains("pmatrix") || reference.contains("pmatrix") {
        return None;
    }
    let (start, end) = (reference.find('{'), reference.rfind('}'));
    let found = start.zip(end).and_then(|(start, end)| reference.get(start..=end));
    let found = found.filter(|found| found.contains(',')).unwrap_or_default();
    if found.is_empty() {
        return Some(String::new());
    }
    let entries = found.trim_matches(['{', '}']).replace(',', "\\");
    Some(format!("\\begin{{pmatrix}}{entries}\\end{{pmatrix}}"))
}

/// Whether two answers are equal up to case and brackets.
fn without_brackets(answer: &str, reference: &str) -> bool {
    let within = |open: char, close: char| answer.starts_with(open) && answer.ends_with(close);
    let square = within('[', ']') && !reference.starts_with('(');
    let round = within('(', ')') && !reference.starts_with('[');
    let plain = |text: &str| {
        let text = if square || round { text.trim_matches(['[', ']', '(', ')']) } else { text };
        text.replace(['{', '}', '(', ')'], "").to_lowercase()
    };
    plain(answer) == plain(reference)
}

/// The text between the first and the last character, if the first opens a bracket and some text
/// follows before a bracket is closed.
fn inner(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(['(', '['])?;
    let second = rest.chars().next()?;
    rest.get(second.len_utf8()..)?.contains([')', ']']).then_some(())?;
    let mut inner = rest.chars();
    inner.next_back();
    Some(inner.as_str())
}

/// The rows of a text that is a single matrix.
fn rows(text: &str) -> Option<Vec<&str>> {
    let text =
        ["\\begin{pmatrix}", "\\begin{bmatrix}"].iter().find_map(|b| text.strip_prefix(b))?;
    let text = ["\\end{pmatrix}", "\\end{bmatrix}"].iter().find_map(|e| text.strip_suffix(e))?;
    Some(text.split("\\\\").map(strip).filter(|row| !row.is_empty()).collect())
}

/// The sides of an equation with a single equals sign.
fn sides(text: &str) -> Option<(&str, &str)> {
    let (left, right) = text.split_once('=')?;
    (!right.contains('=')).then(|| (strip(left), strip(right)))
}

/// Whether the left side of one answer is a variable name that the other omits.
fn is_name(left: &str, other: &str) -> bool {
    left.chars().count() <= 2 && !other.contains('=')
}

/// Whether two sets of numbers and names in braces have the same elements.
fn same_sets(a: &str, b: &str) -> bool {
    let elements = |text: &str| -> Option<Vec<String>> {
        let inner = text.strip_prefix('{')?.strip_suffix('}')?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "+-*/().".contains(c);
        let element = |text: &str| {
            let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            (!text.is_empty() && text.chars().all(fits)).then_some(text)
        };
        let mut elements: Vec<String> = inner.split(',').map(element).collect::<Option<_>>()?;
        elements.sort_unstable();
        elements.dedup();
        Some(elements)
    };
    elements(a).is_some_and(|a| elements(b) == Some(a))
}
