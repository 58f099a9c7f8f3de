//! `trilobite run`: generation, and the parts that a chat shares with it.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use trilobite_runtime::{
    Drafted, Finish, Generation, Limits, Message, Model, Sampler, Sampling, Session, end_ids,
    generate,
};
use trilobite_structured::Form;

use super::chat;
use super::prompt_cache::PromptCache;
use super::sampling::{self, sampling};
use super::template::Template;
use crate::args::{Global, Run};
use crate::{input, interrupt, model, output};

/// A model and the state of a generation.
pub(crate) struct Generator {
    pub(crate) session: Session,
    cache: Option<PromptCache>,
    sampler: Sampler,
    sampling: Sampling,
    pub(crate) limits: Limits,
    /// The random seed, if the user gave none and it has not been printed.
    chosen_seed: Option<u64>,
    model: Arc<Model>,
    ids: bool,
    /// The form of answers.
    form: Option<Form>,
}

pub(crate) fn run(args: &Run, global: &Global) -> Result<ExitCode> {
    let terminal = std::io::stdin().is_terminal();
    let has_prompt = args.prompt.is_some() || args.prompt_file.is_some() || args.tokens.is_some();
    let wants_chat = args.chat || args.system.is_some() || args.chat_template.is_some();
    if args.tokens.is_some() && wants_chat {
        bail!("--tokens are used literally and cannot be put into a chat template");
    }
    // An interrupted conversion removes its temporary file.
    interrupt::listen()?;
    let model = model::load_to_decode(&args.model, global)?;
    let template = match args.tokens {
        Some(_) => None,
        None => Template::choose(&model, args)?,
    };
    let mut generator = Generator::new(&model, args, global, template.as_ref())?;
    if !has_prompt && terminal {
        let status = chat::run(&mut generator, &model, args, global, template.as_ref())?;
        generator.save_cache()?;
        return Ok(status);
    }

    let (prompt, text) = match &args.tokens {
        Some(ids) => (ids.clone(), None),
        None => {
            let text = prompt_text(args)?;
            (prompt_ids(&text, &model, args, template.as_ref())?, Some(text))
        }
    };
    // Before the prompt: the answer continues its line.
    if let Some(seed) = generator.chosen_seed.take() {
        output::say(&format!("seed {seed}"));
    }
    if args.echo {
        let echo = match (args.ids, text) {
            (true, _) => join(&prompt) + " ",
            (false, Some(text)) if template.is_none() => text,
            (false, _) => model.tokenizer()?.decode(&prompt, true)?,
        };
        output::print_text(&echo)?;
    }
    let generation = generator.generate(&prompt, output::print_text)?;
    if args.ids {
        output::print(&join(&generation.ids))?;
    }
    output::print("\n")?;
    if !global.quiet {
        output::say(&generator.summary(&generation));
    }
    if global.verbose {
        let Drafted { drafted, accepted } = generation.drafted;
        output::say(&format!("{accepted} of {drafted} drafted tokens were right"));
    }
    generator.save_cache()?;
    Ok(match (generation.finish, interrupt::exit_status()) {
        (Finish::Interrupted, Some(status)) => status.into(),
        _ => ExitCode::SUCCESS,
    })
}

fn join(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// The text of the prompt. A line end at the end of a file or stream is removed.
fn prompt_text(args: &Run) -> Result<String> {
    let mut text = match (&args.prompt, &args.prompt_file) {
        (Some(text), _) => return Ok(text.clone()),
        (None, Some(path)) => input::text(path)?,
        (None, None) => input::text_from(std::io::stdin()).context("stdin")?,
    };
    if let Some(rest) = text.strip_suffix('\n') {
        text.truncate(rest.strip_suffix('\r').unwrap_or(rest).len());
    }
    Ok(text)
}

/// The token ids of the prompt. If there is a template, the prompt is a message of a chat.
fn prompt_ids(
    text: &str,
    model: &Model,
    args: &Run,
    template: Option<&Template>,
) -> Result<Vec<u32>> {
    let tokenizer = model.tokenizer()?;
    let Some(template) = template else {
        return Ok(tokenizer.encode(text, true, args.parse_special)?);
    };
    let system = args.system.iter().map(|text| Message::new("system", text));
    let messages: Vec<_> = system.chain([Message::new("user", text)]).collect();
    template.encode(&messages, tokenizer)
}

impl Generator {
    fn new(
        model: &Arc<Model>,
        args: &Run,
        global: &Global,
        template: Option<&Template>,
    ) -> Result<Self> {
        // Token ids in and out need no tokenizer.
        let tokenizer = if args.tokens.is_some() && args.ids && !args.form.is_given() {
            None
        } else {
            Some(model::tokenizer(model, global)?)
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
    fn save_cache(&mut self) -> Result<()> {
        self.cache.as_mut().map_or(Ok(()), |cache| cache.save(&mut self.session))
    }

    /// The sampling settings.
    pub(crate) fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Changes the sampling settings.
    pub(crate) fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        self.sampler = Sampler::new(sampling)?;
        self.sampling = sampling;
        Ok(())
    }

    /// Generates after `prompt`, the whole context, and prints the text as it comes unless only ids
    /// are requested.
    pub(crate) fn generate(
        &mut self,
        prompt: &[u32],
        mut show: impl FnMut(&str) -> Result<()>,
    ) -> Result<Generation> {
        let tokenizer = if self.ids { None } else { Some(self.model.tokenizer()?) };
        self.sampler.constrain(self.form.as_ref().map(Form::begin));
        let mut shown = Ok(());
        let generation = generate(
            &mut self.session,
            tokenizer,
            &mut self.sampler,
            prompt,
            &self.limits,
            |_, text| {
                if shown.is_ok() && !text.is_empty() {
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
        Ok(generation)
    }

    /// The speeds and the reason for the end.
    pub(crate) fn summary(&self, generation: &Generation) -> String {
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
            "prompt {} tokens{}, generated {}{}, {finish}",
            generation.prompt_tokens,
            speed(generation.prompt_speed()),
            generation.ids.len(),
            speed(generation.decode_speed()),
        )
    }
}
