//! The constraint of reasoning.

use std::collections::VecDeque;

use toktrie::TokEnv;
use trilobite_runtime::{Constraint, Error, Result};

use crate::vocabulary;

/// The tag before reasoning.
pub const THINK: &str = "<think>";
/// The tag after reasoning.
pub const THINK_END: &str = "</think>";
/// The text that ends reasoning when its budget is used up.
pub(crate) const CLOSE: &str = "\n</think>\n\n";

/// Limits reasoning and constrains the text after it.
pub(crate) struct Reasoning {
    tokens: TokEnv,
    stage: Stage,
    /// The last bytes, among which tags are searched.
    text: Vec<u8>,
    /// Remaining budget in tokens.
    left: Option<usize>,
    close: Vec<u32>,
    ends: Vec<u32>,
    then: Option<Box<dyn Constraint>>,
}

enum Stage {
    /// Reasoning can still begin.
    Beginning,
    Reasoning,
    /// The remaining tokens of the closing text are forced.
    Closing(VecDeque<u32>),
    Answer,
}

impl Reasoning {
    pub(crate) fn new(
        tokens: TokEnv,
        close: Vec<u32>,
        ends: Vec<u32>,
        then: Option<Box<dyn Constraint>>,
        open: bool,
        left: Option<usize>,
    ) -> Self {
        let stage = if open { Stage::Reasoning } else { Stage::Beginning };
        let mut reasoning = Self { tokens, stage, text: Vec::new(), left, close, ends, then };
        reasoning.bound();
        reasoning
    }

    /// Starts closing if the budget is used up.
    fn bound(&mut self) {
        if matches!(self.stage, Stage::Reasoning) && self.left == Some(0) {
            self.stage = Stage::Closing(self.close.iter().copied().collect());
        }
    }

    /// Whether a token contains text after the closing tag, which the constraint would miss.
    fn overruns(&self, id: u32) -> bool {
        let bytes = vocabulary::bytes(&self.tokens, id);
        let Some(at) = bytes.iter().position(|&byte| byte == b'>') else { return false };
        if bytes[at + 1..].trim_ascii().is_empty() {
            return false;
        }
        let text = [&self.text, bytes].concat();
        let end = find(&text, THINK_END).map(|at| at + THINK_END.len());
        end.is_some_and(|end| !text[end..].trim_ascii().is_empty())
    }
}

impl Constraint for Reasoning {
    fn forbid(&mut self, logits: &mut [f32]) -> Result<()> {
        match &self.stage {
            Stage::Beginning => {}
            Stage::Reasoning if self.then.is_some() => {
                for (id, logit) in logits.iter_mut().enumerate() {
                    if self.ends.contains(&(id as u32)) || self.overruns(id as u32) {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
            Stage::Reasoning => {}
            Stage::Closing(tokens) => {
                let next = tokens.front().copied();
                let kept = next.and_then(|id| logits.get(id as usize).copied());
                logits.fill(f32::NEG_INFINITY);
                let nothing = || Error::Constraint("no token ends reasoning".to_owned());
                let (id, kept) = next.zip(kept).ok_or_else(nothing)?;
                logits[id as usize] = if kept.is_finite() { kept } else { 0.0 };
            }
            Stage::Answer => {
                if let Some(then) = &mut self.then {
                    then.forbid(logits)?;
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, id: u32) -> Result<()> {
        match &mut self.stage {
            Stage::Beginning => {
                self.text.extend(vocabulary::bytes(&self.tokens, id));
                let begun = self.text.trim_ascii_start();
                if begun.starts_with(THINK.as_bytes()) {
                    self.stage = Stage::Reasoning;
                    self.text.clear();
                } else if !THINK.as_bytes().starts_with(begun) {
                    self.stage = Stage::Answer;
                }
            }
            Stage::Reasoning => {
                self.text.extend(vocabulary::bytes(&self.tokens, id));
                self.left = self.left.map(|left| left.saturating_sub(1));
                if find(&self.text, THINK_END).is_some() {
                    self.stage = Stage::Answer;
                } else {
                    let kept = self.text.len().min(THINK_END.len() - 1);
                    self.text.drain(..self.text.len() - kept);
                }
            }
            Stage::Closing(tokens) => {
                tokens.pop_front();
                if tokens.is_empty() {
                    self.stage = Stage::Answer;
                }
            }
            Stage::Answer => {
                if let Some(then) = &mut self.then {
                    then.advance(id)?;
                }
            }
        }
        self.bound();
        Ok(())
    }

    fn is_complete(&self) -> bool {
        let answers = matches!(self.stage, Stage::Answer);
        answers && self.then.as_ref().is_some_and(|then| then.is_complete())
    }
}

fn find(text: &[u8], tag: &str) -> Option<usize> {
    text.windows(tag.len()).position(|window| window == tag.as_bytes())
}
