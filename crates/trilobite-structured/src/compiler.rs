//! From a grammar to what masks tokens.

use llguidance::{Matcher, ParserFactory};
use toktrie::{SimpleVob, TokEnv};
use trilobite_runtime::{Constraint, Error as RuntimeError, Result as RuntimeResult, Tokenizer};

use crate::error::{Error, Result};
use crate::grammar::Grammar;
use crate::numbers::Numbers;
use crate::reasoning::Reasoning;
use crate::vocabulary;

/// Makes forms for the answers of one model.
pub struct Compiler {
    factory: ParserFactory,
    tokens: TokEnv,
    /// Tokens that end reasoning.
    close: Vec<u32>,
    ends: Vec<u32>,
}

/// A grammar for the tokens of a model.
pub struct Form(Mask);

impl Compiler {
    /// A compiler for a model whose logits are of `vocab` tokens, of which some end a text.
    ///
    /// # Errors
    /// The tokenizer does not tell the bytes of its tokens, or the vocabulary is too large.
    pub fn new(tokenizer: &Tokenizer, vocab: usize, end_ids: &[u32]) -> Result<Self> {
        let tokens = vocabulary::read(tokenizer, vocab, end_ids)?;
        let mut factory =
            ParserFactory::new_simple(&tokens).map_err(|error| Error::Masks(error.to_string()))?;
        factory.quiet();
        // Errors are for the author of a grammar, not for that of the parser.
        factory.limits_mut().verbose_errors = false;
        let close = tokenizer.encode(crate::reasoning::CLOSE, false, true)?;
        Ok(Self { factory, tokens, close, ends: end_ids.to_vec() })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// It is wrong, or it has what is not supported.
    pub fn compile(&self, grammar: &Grammar) -> Result<Form> {
        let parser = self.factory.create_parser(grammar.top_level()?);
        let mut matcher = Matcher::new(parser);
        // The first mask finds grammars that allow nothing.
        matcher.compute_mask_or_eos().map_err(|error| grammar.error(&error.to_string()))?;
        match matcher.get_error() {
            Some(fault) => Err(grammar.error(&fault)),
            None => {
                let numbers = grammar.is_json().then(Numbers::default);
                Ok(Form(Mask { matcher, numbers, tokens: TokEnv::clone(&self.tokens) }))
            }
        }
    }

    /// Lets an answer begin with reasoning, of at most `budget` tokens; what follows the reasoning has a
    /// form, if there is one. With `open` the prompt has begun the reasoning; else an answer that has
    /// a form does not begin with any.
    pub fn with_reasoning(
        &self,
        form: Option<&Form>,
        open: bool,
        budget: Option<usize>,
    ) -> Option<Box<dyn Constraint>> {
        let then = form.map(Form::begin);
        match (then, open, budget) {
            (Some(then), false, _) => Some(then),
            (None, _, None) => None,
            (then, _, _) => Some(Box::new(Reasoning::new(
                TokEnv::clone(&self.tokens),
                self.close.clone(),
                self.ends.clone(),
                then,
                open,
                budget,
            ))),
        }
    }
}

impl Form {
    /// The constraint of an answer that has not begun.
    pub fn begin(&self) -> Box<dyn Constraint> {
        let Mask { matcher, numbers, tokens } = &self.0;
        let (matcher, tokens) = (matcher.deep_clone(), TokEnv::clone(tokens));
        Box::new(Mask { matcher, numbers: *numbers, tokens })
    }
}

/// What the next token of an answer may be.
struct Mask {
    matcher: Matcher,
    /// Bounds the numbers of JSON.
    numbers: Option<Numbers>,
    tokens: TokEnv,
}

impl Mask {
    /// Takes away tokens that make numbers too long, unless nothing else is allowed, such as of a
    /// constant.
    fn bound_numbers(&self, allowed: &mut SimpleVob) {
        let Some(numbers) = self.numbers.filter(|numbers| !numbers.in_text()) else { return };
        let mut bounded = allowed.clone();
        for id in allowed.iter() {
            if !{ numbers }.push(vocabulary::bytes(&self.tokens, id)) {
                bounded.disallow_token(id);
            }
        }
        if !bounded.is_zero() {
            *allowed = bounded;
        }
    }
}

impl Constraint for Mask {
    fn forbid(&mut self, logits: &mut [f32]) -> RuntimeResult<()> {
        let mut allowed = self.matcher.compute_mask_or_eos().map_err(failed)?;
        self.bound_numbers(&mut allowed);
        let mut any = false;
        for (id, logit) in logits.iter_mut().enumerate() {
            if allowed.is_allowed(id as u32) {
                any = true;
            } else {
                *logit = f32::NEG_INFINITY;
            }
        }
        match any {
            true => Ok(()),
            false => Err(RuntimeError::Constraint("no token may come next".to_owned())),
        }
    }

    fn advance(&mut self, id: u32) -> RuntimeResult<()> {
        if let Some(numbers) = &mut self.numbers {
            numbers.push(vocabulary::bytes(&self.tokens, id));
        }
        self.matcher.consume_token(id).map_err(failed)
    }

    fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

fn failed(error: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::Constraint(error.to_string())
}
