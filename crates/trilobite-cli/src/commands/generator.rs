//! Generation, shared by single prompts and chats.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Result;
use trilobite_runtime::{
    Error, Finish, Generation, Limits, Model, Sampler, Sampling, Session, end_ids, generate,
};
use trilobite_structured::Form;

use super::sampling::{self, sampling};
use super::template::Template;
use crate::args::{Global, Run};
use crate::prompt_cache::PromptCache;
use crate::{interrupt, model, output};

/// A model and the state of a generation.
pub(super) struct Generator {
    pub(super) session: Session,
    cache: Option<PromptCache>,
    sampler: Sampler,
    sampling: Sampling,
    pub(super) limits: Limits,
    /// The random seed, if the user gave none and it has not been printed.
    chosen_seed: Option<u64>,
    model: Arc<Model>,
    ids: bool,
    /// The form of answers.
    form: Option<Form>,
}

impl Generator {
    /// The generator of a command. `-v` prints its settings.
    pub(super) fn new(
        model: &Arc<Model>,
        args: &Run,
        global: &Global,
        template: Option<&Template>,
    ) -> Result<Self> {
        // Token ids in and out need no tokenizer, unless the text has a form or an end.
        let has_text = args.form.is_given() || !args.stop.is_empty();
        let tokenizer = if args.tokens.is_some() && args.ids && !has_text {
            None
        } else {
            Some(model::tokenizer(model, &args.model, global)?)
        };
        let end_ids =
            if args.ignore_eos { Vec::new() } else { end_ids(model.metadata(), tokenizer)? };
        let form = match tokenizer {
            Some(tokenizer) => args.form.compile(model, tokenizer)?,
            None => None,
        };
        let sampling = sampling(model, args, template.is_some())?;
        let sampler = Sampler::new(sampling)?;
        let chosen = sampling.temperature > 0.0 && args.seed.is_none() && !global.quiet;
        if global.verbose {
            output::say(&sampling::describe(&sampling));
        }
        let mut session = model::session(model, &args.compute, args.ctx)?;
        if args.no_speculate {
            session.speculate(None);
        }
        if let Some(path) = &args.draft {
            let drafter =
                model::drafter(path, model, &session, &args.compute, args.model.no_cache, global)?;
            session.speculate(Some(drafter));
        }
        let cache = PromptCache::open(&args.cache, &mut session)?;
        let stop = template.map_or(&[][..], |template| template.stop);
        let stop = args.stop.iter().cloned().chain(stop.iter().map(|&text| text.to_owned()));
        Ok(Self {
            session,
            cache,
            sampler,
            sampling,
            limits: Limits { max_tokens: args.n, end_ids, stop: stop.collect() },
            chosen_seed: chosen.then_some(sampling.seed),
            model: Arc::clone(model),
            ids: args.ids,
            form,
        })
    }

    /// Saves the keys and values for the next run, if requested.
    pub(super) fn save_cache(&mut self) -> Result<()> {
        self.cache.as_mut().map_or(Ok(()), |cache| cache.save(&mut self.session))
    }

    /// The sampling settings.
    pub(super) fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// The random seed, once, if the user gave none.
    pub(super) fn unshown_seed(&mut self) -> Option<u64> {
        self.chosen_seed.take()
    }

    /// Changes the sampling settings.
    pub(super) fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        self.sampler = Sampler::new(sampling)?;
        self.sampling = sampling;
        Ok(())
    }

    /// Checks that a prompt can be continued, before anything is printed.
    pub(super) fn check(&self, prompt: &[u32]) -> Result<(), Error> {
        let (needed, context) = (prompt.len(), self.session.context());
        if needed == 0 {
            return Err(Error::EmptyPrompt);
        }
        if needed > context {
            return Err(Error::Context { needed, context });
        }
        model::check_ids(prompt, self.model.config().vocab)
    }

    /// Generates after `prompt`, the whole context, and prints the text as it comes unless only ids
    /// are requested.
    pub(super) fn generate(
        &mut self,
        prompt: &[u32],
        mut show: impl FnMut(&str) -> Result<()>,
    ) -> Result<Generation> {
        // Only the text shows where a stop text begins.
        let needs_text = !self.ids || !self.limits.stop.is_empty();
        let tokenizer = if needs_text { Some(self.model.tokenizer()?) } else { None };
        self.sampler.constrain(self.form.as_ref().map(Form::begin));
        let mut shown = Ok(());
        let generation = generate(
            &mut self.session,
            tokenizer,
            &mut self.sampler,
            prompt,
            &self.limits,
            |_, text| {
                if shown.is_ok() && !self.ids && !text.is_empty() {
                    shown = show(text);
                }
                if shown.is_err() || interrupt::seen() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        )?;
        shown?;
        if self.cache.is_some() && self.limits.max_tokens == Some(0) {
            // Nothing is generated, but the cache needs the prompt.
            let known = self.session.rewind(prompt, prompt.len());
            self.session.read(&prompt[known..])?;
        }
        Ok(generation)
    }

    /// The speeds and the reason for the end.
    pub(super) fn summary(&self, generation: &Generation) -> String {
        let speed = |speed: Option<f64>| {
            speed.map_or(String::new(), |speed| format!(" ({speed:.1} tokens/s)"))
        };
        let finish = match &generation.finish {
            Finish::EndOfText => "end of text".into(),
            Finish::Stop(text) => format!("stopped at {text:?}"),
            Finish::Length => "length reached".into(),
            Finish::ContextFull => format!("context of {} full", self.session.context()),
            Finish::Interrupted => "interrupted".into(),
        };
        format!(
            "prompt {}{}, generated {}{}, {finish}",
            output::tokens(generation.prompt_tokens),
            speed(generation.prompt_speed()),
            generation.ids.len(),
            speed(generation.decode_speed()),
        )
    }
}
