//! An interactive chat on a terminal.

mod conversation;
mod settings;
mod terminal;
mod typed;
mod wrap;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use trilobite_runtime::{Finish, Generation, Message, Model, Sampling, Tokenizer};

use self::conversation::Conversation;
use self::settings::Settings;
use self::terminal::Terminal;
use self::typed::{COMMANDS, Input};
use self::wrap::Wrap;
use super::generator::Generator;
use super::inspect;
use super::sampling::{describe, random_seed};
use super::template::Template;
use crate::args::{Global, Run};
use crate::usage::WrongUsage;
use crate::{interrupt, model, output};

/// Number of prompt tokens to process between two checks for Ctrl-C.
const CHECK_INTERVAL: usize = 64;

/// Reads messages and commands and answers them until the user quits. A model without a chat
/// template continues every message by itself.
pub(crate) fn run(
    generator: &mut Generator,
    model: &Model,
    args: &Run,
    global: &Global,
    template: Option<&Template>,
) -> Result<ExitCode> {
    ensure!(!args.ids, WrongUsage("--ids needs a prompt: a chat shows text".to_owned()));
    let mut chat = Chat {
        tokenizer: model.tokenizer()?,
        name: model::name(&args.model),
        conversation: Conversation::new(args.system.as_deref()),
        terminal: Terminal::new()?,
        generator,
        template,
        parse_special: args.parse_special,
        show_details: !global.quiet,
        reported_full: false,
        continued: None,
        last: None,
        total: Total::default(),
    };
    if chat.show_details {
        chat.terminal.say(&chat.banner(model));
    }
    while let Some(draft) = chat.terminal.read()? {
        interrupt::clear();
        let done = match draft.parse() {
            Ok(Input::Exit) => break,
            Ok(input) => chat.take(input),
            Err(error) => {
                chat.say_error(&error);
                continue;
            }
        };
        match done {
            // The answers are no longer visible.
            Err(error) if error.is::<output::Stdout>() => return Err(error),
            Err(error) => chat.say_error(&format!("{error:#}")),
            Ok(()) => {}
        }
        // At the prompt a new signal counts as the first.
        interrupt::clear();
    }
    Ok(ExitCode::SUCCESS)
}

/// A chat and the state that its commands show.
struct Chat<'a> {
    generator: &'a mut Generator,
    tokenizer: &'a Tokenizer,
    template: Option<&'a Template>,
    terminal: Terminal,
    conversation: Conversation,
    /// The model's name.
    name: String,
    parse_special: bool,
    show_details: bool,
    /// Whether the user was told that the context is full.
    reported_full: bool,
    /// The last message, if a model without a template continued it.
    continued: Option<String>,
    last: Option<Generation>,
    total: Total,
}

impl<'a> Chat<'a> {
    /// The name of the model, and how to get help.
    fn banner(&self, model: &Model) -> String {
        let (context, most) = (self.generator.session.context(), model.config().context);
        let context = match context == most {
            true => format!("{context} tokens"),
            false => format!("{context} tokens (the model's: {most})"),
        };
        let template = match self.template {
            Some(template) => format!("chat template {}", template.name),
            None => "no chat template: the model continues what you type".to_owned(),
        };
        format!(
            "{}: {} parameters, {}, context {context}\n{template}\n{}\n\
             /help shows the commands, Ctrl-C stops an answer, Ctrl-D leaves.\n",
            self.name,
            rounded(inspect::parameters(model)),
            output::bytes(inspect::file_bytes(model)),
            self.sampling()
        )
    }

    /// A description of the sampling.
    fn sampling(&self) -> String {
        let sampling = self.generator.sampling();
        let seed = match sampling.temperature == 0.0 {
            true => String::new(),
            false => format!(", seed {}", sampling.seed),
        };
        describe(&sampling) + &seed
    }

    fn say_error(&self, error: &str) {
        self.terminal.say(&output::line(&format!("error: {error}")));
    }

    fn take(&mut self, input: Input) -> Result<()> {
        match input {
            Input::Nothing | Input::Exit => Ok(()),
            Input::Message(text) => self.message(text),
            Input::Help => {
                self.terminal.say(&help());
                Ok(())
            }
            Input::System(text) => self.system(text.as_deref()),
            Input::Set(change) => self.set(change),
            Input::Clear => {
                self.needs_template()?;
                self.conversation.clear();
                self.reported_full = false;
                self.terminal.say("the conversation is forgotten");
                Ok(())
            }
            Input::Regen => self.regen(),
            Input::Save(path) => self.save(&path),
            Input::Load(path) => self.load(&path),
            Input::Stats => {
                self.terminal.say(&self.stats());
                Ok(())
            }
        }
    }

    /// Answers a message.
    fn message(&mut self, text: String) -> Result<()> {
        if self.template.is_none() {
            self.go_on(&text)?;
            self.continued = Some(text);
            return Ok(());
        }
        self.conversation.push(Message::new("user", text));
        match self.answer() {
            Ok(Some(answer)) => self.conversation.push(Message::new("assistant", answer)),
            Ok(None) => {
                self.conversation.pop();
                self.terminal.say("stopped before an answer came: the message is taken back");
            }
            Err(error) => {
                self.conversation.pop();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Generates another answer to the last message.
    fn regen(&mut self) -> Result<()> {
        let old = self.conversation.pop();
        ensure!(old.is_some() || self.continued.is_some(), "there is no answer yet");
        let sampling = self.generator.sampling();
        if sampling.temperature > 0.0 {
            let seed = random_seed();
            self.generator.set_sampling(Sampling { seed, ..sampling })?;
            if self.show_details {
                self.terminal.say_faintly(&format!("seed {seed}"));
            }
        }
        let Some(old) = old else {
            let text = self.continued.clone().unwrap_or_default();
            return self.go_on(&text);
        };
        let answer = match self.answer() {
            Ok(Some(answer)) => answer,
            stopped => {
                self.conversation.push(old);
                stopped?;
                self.terminal.say("stopped before an answer came: the earlier one stays");
                return Ok(());
            }
        };
        if answer == old.text() && sampling.temperature == 0.0 {
            self.terminal
                .say("the same answer: with a temp of 0 there is one only (/set temp 0.7)");
        }
        self.conversation.push(Message::new("assistant", answer));
        Ok(())
    }

    /// Continues a text without a template.
    fn go_on(&mut self, text: &str) -> Result<()> {
        let prompt = self.tokenizer.encode(text, true, self.parse_special)?;
        self.generate(&prompt, text)?;
        Ok(())
    }

    /// Answers the last message of the conversation. Returns `None` if it was stopped before any
    /// text was visible.
    fn answer(&mut self) -> Result<Option<String>> {
        let (template, tokenizer) = (self.needs_template()?, self.tokenizer);
        let context = self.generator.session.context();
        let encode = |messages: &[Message]| template.encode(messages, tokenizer);
        let prompt = self.conversation.prompt(context, encode)?;
        if prompt.dropped > 0 && !std::mem::replace(&mut self.reported_full, true) {
            self.terminal.say(&format!(
                "the context of {context} tokens is full: from now on the oldest turns are left out \
                 (/stats counts them)"
            ));
        }
        let generation = self.generate(&prompt.ids, "")?;
        let seen = |generation: &Generation| {
            !generation.text.is_empty() || generation.finish != Finish::Interrupted
        };
        Ok(generation.filter(seen).map(|generation| generation.text))
    }

    /// Generates after a prompt and shows the text after `begun`, which it continues. Returns
    /// `None` if it was stopped during the prefill.
    fn generate(&mut self, prompt: &[u32], begun: &str) -> Result<Option<Generation>> {
        let mut wrap = Wrap::new(self.terminal.width());
        let mut show = |text: &str| output::print_text(&wrap.push(text));
        self.terminal.begin_answer()?;
        show(begun)?;
        let read = self.read(prompt)?;
        let generation = match read {
            Some((tokens, time)) => {
                let mut generation = self.generator.generate(prompt, &mut show)?;
                generation.prompt_tokens += tokens;
                generation.prompt_time += time;
                Some(generation)
            }
            None => None,
        };
        output::print_text(&wrap.finish())?;
        output::print("\n")?;
        if let Some(generation) = &generation {
            if self.show_details {
                self.terminal.say_faintly(&self.generator.summary(generation));
            }
            self.total.add(generation);
            self.last = Some(generation.clone());
        }
        Ok(generation)
    }

    /// Processes a prompt except for its last token. Returns the number of tokens that were new to
    /// the context and the time they took, or `None` if Ctrl-C was pressed.
    fn read(&mut self, prompt: &[u32]) -> Result<Option<(usize, Duration)>> {
        let start = Instant::now();
        let session = &mut self.generator.session;
        if prompt.len() > session.context() {
            // `generate` reports the error.
            return Ok(Some((0, Duration::ZERO)));
        }
        let end = prompt.len().saturating_sub(1);
        let kept = session.rewind(prompt, end);
        for piece in prompt[kept..end].chunks(CHECK_INTERVAL) {
            if interrupt::seen() {
                return Ok(None);
            }
            session.read(piece)?;
        }
        Ok(Some((end - kept, start.elapsed())))
    }

    fn needs_template(&self) -> Result<&'a Template> {
        match self.template {
            Some(template) => Ok(template),
            None => bail!(
                "without a chat template there is no conversation; `run` takes one with \
                 --chat-template"
            ),
        }
    }

    /// Shows or sets the system message.
    fn system(&mut self, text: Option<&str>) -> Result<()> {
        let template = self.needs_template()?;
        let Some(text) = text else {
            self.terminal.say(self.conversation.system().unwrap_or("there is no system message"));
            return Ok(());
        };
        if !text.is_empty() {
            // Some templates do not accept a system message.
            let messages = [Message::new("system", text), Message::new("user", "Hello")];
            template.encode(&messages, self.tokenizer)?;
        }
        self.conversation.set_system(text);
        self.terminal.say(match (text.is_empty(), self.conversation.turns()) {
            (true, _) => "the system message is removed",
            (false, 0) => "the system message is set",
            (false, _) => {
                "the system message is set for the conversation as it is; /clear begins a new one"
            }
        });
        Ok(())
    }

    /// Shows or changes the sampling settings.
    fn set(&mut self, change: Option<(String, Option<String>)>) -> Result<()> {
        let max_tokens = self.generator.limits.max_tokens;
        let mut settings = Settings { sampling: self.generator.sampling(), max_tokens };
        let Some((name, value)) = change else {
            self.terminal.say(&settings.list());
            return Ok(());
        };
        let name = Settings::name(&name)?;
        if let Some(value) = value {
            settings = settings.with(name, &value)?;
            self.generator.limits.max_tokens = settings.max_tokens;
            if settings.max_tokens == max_tokens {
                self.generator.set_sampling(settings.sampling)?;
            }
        }
        self.terminal.say(&format!("{name} {}", settings.value(name)));
        Ok(())
    }

    fn save(&self, path: &Path) -> Result<()> {
        self.needs_template()?;
        self.conversation.save(path, &self.name)?;
        self.terminal.say(&format!("{} in {}", turns(self.conversation.turns()), path.display()));
        Ok(())
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        self.needs_template()?;
        self.conversation = Conversation::load(path)?;
        self.reported_full = false;
        self.terminal.say(&format!("{} from {}", turns(self.conversation.turns()), path.display()));
        Ok(())
    }

    /// The number of tokens, the speeds and the context used.
    fn stats(&self) -> String {
        let session = &self.generator.session;
        let mut out =
            format!("  context        {} of {} tokens\n", session.position(), session.context());
        if self.template.is_some() {
            let left_out = match self.conversation.turns_left_out() {
                0 => String::new(),
                count => format!(", {count} of them left out of the context"),
            };
            let turns = turns(self.conversation.turns());
            out += &format!("  conversation   {turns}{left_out}\n");
        }
        if let Some(last) = &self.last {
            out += &format!("  last answer    {}\n", self.generator.summary(last));
        }
        out + &format!("  all answers    {}\n  {}\n", self.total.describe(), self.sampling())
    }
}

/// Totals over all answers.
#[derive(Default)]
struct Total {
    answers: usize,
    prompt_tokens: usize,
    prompt_time: Duration,
    generated: usize,
    /// Number of tokens after the first of each answer.
    decoded: usize,
    decode_time: Duration,
}

impl Total {
    fn add(&mut self, generation: &Generation) {
        self.answers += 1;
        self.prompt_tokens += generation.prompt_tokens;
        self.prompt_time += generation.prompt_time;
        self.generated += generation.ids.len();
        self.decoded += generation.ids.len().saturating_sub(1);
        self.decode_time += generation.decode_time;
    }

    fn describe(&self) -> String {
        let speed = |tokens: usize, time: Duration| match tokens {
            0 => String::new(),
            _ => format!(" ({:.1} tokens/s)", tokens as f64 / time.as_secs_f64()),
        };
        format!(
            "{}: prompts {}{}, generated {}{}",
            self.answers,
            output::tokens(self.prompt_tokens),
            speed(self.prompt_tokens, self.prompt_time),
            self.generated,
            speed(self.decoded, self.decode_time)
        )
    }
}

fn turns(count: usize) -> String {
    format!("{count} {}", if count == 1 { "turn" } else { "turns" })
}

/// A human-readable number of parameters.
fn rounded(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{:.0} thousand", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} million", count as f64 / 1e6),
        _ => format!("{:.2} billion", count as f64 / 1e9),
    }
}

/// A description of the commands and keys.
fn help() -> String {
    let commands = COMMANDS.map(|(name, arguments, does)| {
        let typed = format!("/{name} {arguments}");
        format!("  {typed:20} {does}\n")
    });
    commands.concat()
        + "  //TEXT               sends a message that begins with /\n\n\
           A \\ at the end of a line continues the message on the next line. \"\"\" before and after a \
           message lets it have several lines, and lines that are pasted are one message. Ctrl-C \
           stops an answer and takes back what is typed, Ctrl-D leaves.\n"
}
