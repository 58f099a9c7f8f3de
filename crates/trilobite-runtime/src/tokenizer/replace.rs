//! Replacements, in texts before they are cut and in tokens as they are decoded.

use super::deadline::Deadline;
use super::node::{Fault, Node};
use super::pattern::Pattern;

/// A text may grow by this factor plus a constant number of bytes. Repeated replacements could
/// otherwise fill the memory.
const MAX_GROWTH: usize = 64;
const MAX_ADDED: usize = 1 << 16;

/// Replaces every match of a pattern by a text.
pub(super) struct Replace {
    pattern: Pattern,
    content: String,
}

impl Replace {
    pub(super) fn new(pattern: Pattern, content: &str) -> Self {
        Self { pattern, content: content.to_owned() }
    }

    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        let pattern = Pattern::read(&node.need("pattern")?)?;
        Ok(Self::new(pattern, node.need("content")?.string()?))
    }

    /// The text with its replacements, at most `most` bytes, and whether its first character still
    /// is or replaces the first character of `text`.
    pub(super) fn apply(
        &self,
        text: &str,
        most: usize,
        deadline: &Deadline,
    ) -> Result<(String, bool), String> {
        let mut out = String::with_capacity(text.len());
        let mut end = 0;
        let mut first_kept = true;
        self.pattern.each_match(text, deadline, &mut |from, to| {
            out.push_str(text.get(end..from).unwrap_or_default());
            out.push_str(&self.content);
            if from == 0 && to > 0 {
                let one = text.chars().next().is_some_and(|c| c.len_utf8() == to);
                first_kept = one && !self.content.is_empty();
            }
            end = to;
            check_growth(out.len(), most)
        })?;
        out.push_str(text.get(end..).unwrap_or_default());
        Ok((out, first_kept))
    }
}

/// The maximum length to which a text of `bytes` bytes may grow.
pub(super) fn most_bytes(bytes: usize) -> usize {
    bytes.saturating_mul(MAX_GROWTH).saturating_add(MAX_ADDED)
}

pub(super) fn check_growth(bytes: usize, most: usize) -> Result<(), String> {
    if bytes > most {
        return Err(format!("its replacements make a text longer than {most} bytes"));
    }
    Ok(())
}
