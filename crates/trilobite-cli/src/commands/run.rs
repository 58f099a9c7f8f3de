//! `trilobite run`: generation, and what a chat shares with it.

use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use trilobite_runtime::{
    ChatTemplate, Finish, Generation, Limits, Message, Model, Sampler, Sampling, Session,
    Tokenizer, end_ids, generate,
};

use super::chat;
use crate::args::{Global, Run};
use crate::{interrupt, model, output};

/// A model with everything that a generation needs.
pub(crate) struct Generator {
    pub(crate) session: Session,
    pub(crate) sampler: Sampler,
    pub(crate) limits: Limits,
    /// All tokens so far, for the repetition penalty.
    pub(crate) context: Vec<u32>,
    model: Arc<Model>,
    ids: bool,
    talk: bool,
}

pub(crate) fn run(args: &Run, global: &Global) -> Result<ExitCode> {
    let terminal = std::io::stdin().is_terminal();
    let has_prompt = args.prompt.is_some() || args.prompt_file.is_some() || args.tokens.is_some();
    if args.tokens.is_some() && (args.chat || args.system.is_some()) {
        bail!("--tokens are used literally and cannot be put into a chat template");
    }
    let model = model::load_to_decode(&args.model, global)?;
    let mut generator = Generator::new(&model, args, global)?;
    interrupt::listen()?;
    if !has_prompt && terminal {
        return chat::run(&mut generator, &model, args);
    }

    let prompt = match &args.tokens {
        Some(ids) => ids.clone(),
        None => prompt_ids(&model, args)?,
    };
    if args.echo {
        let echo = match (args.ids, &args.prompt) {
            (true, _) => join(&prompt) + " ",
            (false, Some(text)) if !args.chat => text.clone(),
            (false, _) => model.tokenizer()?.decode(&prompt, true)?,
        };
        output::print(&echo)?;
    }
    let generation = generator.print(&prompt)?;
    if args.ids {
        output::print(&join(&generation.ids))?;
    }
    output::print("\n")?;
    generator.report(&generation);
    let interrupted = generation.finish == Finish::Interrupted;
    Ok(if interrupted { interrupt::EXIT_STATUS.into() } else { ExitCode::SUCCESS })
}

fn join(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// The prompt's text as token ids, in the chat template when that was asked for.
fn prompt_ids(model: &Model, args: &Run) -> Result<Vec<u32>> {
    let text = match (&args.prompt, &args.prompt_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => {
            std::fs::read_to_string(path).with_context(|| path.display().to_string())?
        }
        (None, None) => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("stdin")?;
            text
        }
    };
    let tokenizer = model.tokenizer()?;
    if !args.chat {
        ensure!(args.system.is_none(), "--system needs --chat: it is a message of a chat");
        return Ok(tokenizer.encode(&text, true, args.parse_special)?);
    }
    let template = template(model, tokenizer)?;
    let mut messages = system_message(args);
    messages.push(Message::new("user", text));
    Ok(template.encode(&messages, tokenizer)?)
}

/// The model's chat template.
pub(crate) fn template(model: &Model, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
    ChatTemplate::from_metadata(model.metadata(), tokenizer)?
        .ok_or_else(|| trilobite_runtime::Error::NoTemplate.into())
}

/// The beginning of a conversation.
pub(crate) fn system_message(args: &Run) -> Vec<Message> {
    args.system.iter().map(|text| Message::new("system", text)).collect()
}

impl Generator {
    fn new(model: &Arc<Model>, args: &Run, global: &Global) -> Result<Self> {
        let talk = !global.quiet;
        // Literal tokens in, ids out: runs without a tokenizer.
        let tokenizer = if args.tokens.is_some() && args.ids {
            None
        } else {
            Some(model::tokenizer(model, global)?)
        };
        let end_ids =
            if args.ignore_eos { Vec::new() } else { end_ids(model.metadata(), tokenizer)? };
        let sampling = sampling(model, args)?;
        let sampler = Sampler::new(sampling)?;
        if sampling.temperature > 0.0 && args.seed.is_none() && talk {
            eprintln!("seed {}", sampling.seed);
        }
        Ok(Self {
            session: model::session(model, &args.compute, args.ctx)?,
            sampler,
            limits: Limits { max_tokens: args.n, end_ids, stop: args.stop.clone() },
            context: Vec::new(),
            model: Arc::clone(model),
            ids: args.ids,
            talk,
        })
    }

    /// Generates after `prompt` and prints the text as it comes, unless only ids are wanted.
    pub(crate) fn print(&mut self, prompt: &[u32]) -> Result<Generation> {
        let tokenizer = if self.ids { None } else { Some(self.model.tokenizer()?) };
        let mut printed = Ok(());
        interrupt::clear();
        let generation = generate(
            &mut self.session,
            tokenizer,
            &mut self.sampler,
            &mut self.context,
            prompt,
            &self.limits,
            |_, text| {
                if printed.is_ok() && !text.is_empty() {
                    printed = output::print(text);
                }
                if printed.is_err() || interrupt::seen() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        )?;
        printed?;
        Ok(generation)
    }

    /// Says how fast it went and why it ended.
    pub(crate) fn report(&self, generation: &Generation) {
        if !self.talk {
            return;
        }
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
        eprintln!(
            "prompt {} tokens{}, generated {}{}, {finish}",
            generation.prompt_tokens,
            speed(generation.prompt_speed()),
            generation.ids.len(),
            speed(generation.decode_speed()),
        );
    }
}

/// The flags, and where they say nothing the defaults that the model file carries. As in
/// transformers these count only when they ask for sampling.
fn sampling(model: &Model, args: &Run) -> Result<Sampling> {
    let metadata = model.metadata();
    let greedy = Sampling::default();
    let float = |key: &str| metadata.f32(&format!("trilobite.generation.{key}"));
    let sample = metadata.bool("trilobite.generation.do_sample")?.unwrap_or(false);
    let default_temperature = float("temperature")?.unwrap_or(1.0);
    let top_k = metadata.u32("trilobite.generation.top_k")?.map_or(greedy.top_k, |k| k as usize);
    let top_p = float("top_p")?.unwrap_or(greedy.top_p);
    let penalty = float("repetition_penalty")?.unwrap_or(greedy.repeat_penalty);
    Ok(Sampling {
        temperature: args.temp.unwrap_or(if sample { default_temperature } else { 0.0 }),
        top_k: args.top_k.unwrap_or(top_k),
        top_p: args.top_p.unwrap_or(top_p),
        min_p: args.min_p,
        repeat_penalty: args.repeat_penalty.unwrap_or(penalty),
        seed: args.seed.unwrap_or_else(random_seed),
    })
}

/// A seed that differs from run to run, short enough to type again.
fn random_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs() & 0xffff_ffff
}
