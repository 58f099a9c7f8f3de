//! Compiles grammars to token masks.

use llguidance::{Matcher, ParserFactory};
use toktrie::{SimpleVob, TokEnv};
use trilobite_runtime::{Constraint, Error as RuntimeError, Result as RuntimeResult, Tokenizer};

use crate::error::{Error, Result};
use crate::grammar::{Grammar, one_line};
use crate::numbers::Numbers;
use crate::reasoning::Reasoning;
use crate::vocabulary;

/// Compiles grammars for the vocabulary of a model.
pub struct Compiler {
    factory: ParserFactory,
    tokens: TokEnv,
    /// The tokens of [`CLOSE`](crate::reasoning::CLOSE).
    close: Vec<u32>,
    ends: Vec<u32>,
}

/// A grammar compiled for the vocabulary of a model.
pub struct Form(Mask);

impl Compiler {
    /// Creates a compiler for a model with `vocab` logits. `end_ids` are the tokens that end a text.
    ///
    /// # Errors
    /// The tokenizer cannot decode a token, or the vocabulary is empty or too large.
    pub fn new(tokenizer: &Tokenizer, vocab: usize, end_ids: &[u32]) -> Result<Self> {
        let tokens = vocabulary::read(tokenizer, vocab, end_ids)?;
        let mut factory =
            ParserFactory::new_simple(&tokens).map_err(|error| Error::Masks(error.to_string()))?;
        factory.quiet();
        // Verbose errors contain the state of the parser.
        factory.limits_mut().verbose_errors = false;
        let close = tokenizer.encode(crate::reasoning::CLOSE, false, true)?;
        Ok(Self { factory, tokens, close, ends: end_ids.to_vec() })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// The grammar is invalid, not supported, or matches nothing.
    pub fn compile(&self, grammar: &Grammar) -> Result<Form> {
        let parser = self.factory.create_parser(grammar.top_level()?);
        let mut matcher = Matcher::new(parser);
        // The first mask reveals grammars that match nothing.
        matcher.compute_mask_or_eos().map_err(|error| grammar.error(&error.to_string()))?;
        match matcher.get_error() {
            Some(fault) => Err(grammar.error(&fault)),
            None => {
                let numbers = grammar.is_json().then(Numbers::default);
                Ok(Form(Mask { matcher, numbers, tokens: TokEnv::clone(&self.tokens) }))
            }
        }
    }

    /// Returns a constraint that limits reasoning to `budget` tokens and applies `form` to the text after
    /// it. `open` means that the prompt begins the reasoning. Otherwise an answer with a form has no
    /// reasoning.
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
    /// Returns the constraint of a new answer.
    pub fn begin(&self) -> Box<dyn Constraint> {
        let Mask { matcher, numbers, tokens } = &self.0;
        let (matcher, tokens) = (matcher.deep_clone(), TokEnv::clone(tokens));
        Box::new(Mask { matcher, numbers: *numbers, tokens })
    }
}

/// The constraint of an answer in progress.
struct Mask {
    matcher: Matcher,
    /// The position in JSON, to bound its numbers.
    numbers: Option<Numbers>,
    tokens: TokEnv,
}

impl Mask {
    /// Removes tokens that make a number too long, unless no other token is allowed, as in a long
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
    RuntimeError::Constraint(one_line(&error.to_string()))
}
