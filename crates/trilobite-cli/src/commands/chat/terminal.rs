//! The terminal of a chat: line editing, a persistent history, and input that is typed during an
//! answer.

use std::fs::DirBuilder;
use std::io::{IsTerminal, stderr, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use etcetera::BaseStrategy;
use rustyline::completion::Completer;
use rustyline::config::{Behavior, Config};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ConditionalEventHandler, Context, Editor, Event, EventContext, EventHandler, Helper,
    KeyEvent,
};

use super::typed::{COMMANDS, Draft};
use super::wrap::Wrap;
use crate::{interrupt, output};

const PROMPT: &str = "> ";
/// The prompt for further lines of a message.
const CONTINUATION_PROMPT: &str = ". ";
/// Maximum number of messages in the history.
const MAX_HISTORY: usize = 1000;
/// Values of TERM without line editing.
const PLAIN_TERMINALS: [&str; 3] = ["dumb", "cons25", "emacs"];
/// The escape sequence that enables bracketed paste.
const MARK_PASTES: &str = "\u{1b}[?2004h";

/// Reads messages from the terminal.
pub(super) struct Terminal {
    editor: Editor<Line, FileHistory>,
    /// Whether Ctrl-C ended the line.
    ctrl_c: Arc<AtomicBool>,
    history: Option<PathBuf>,
    /// Whether line editing is unavailable.
    plain: bool,
    #[cfg(unix)]
    _silent: Option<silent::Silent>,
}

impl Terminal {
    pub(super) fn new() -> Result<Self> {
        let behavior = match stdout().is_terminal() {
            true => Behavior::Stdio,
            // The prompt must not go to stdout, which carries the result.
            false => Behavior::PreferTerm,
        };
        let config = Config::builder().behavior(behavior).max_history_size(MAX_HISTORY)?.build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Line));
        let ctrl_c = Arc::new(AtomicBool::new(false));
        let handler = EventHandler::Conditional(Box::new(CtrlC(Arc::clone(&ctrl_c))));
        editor.bind_sequence(KeyEvent::ctrl('C'), handler);
        let history = history_file();
        if let Some(history) = history.as_deref().filter(|path| path.is_file()) {
            // An unreadable history is ignored.
            let _ = editor.load_history(history);
        }
        let term = std::env::var("TERM").unwrap_or_default();
        let plain = PLAIN_TERMINALS.iter().any(|plain| plain.eq_ignore_ascii_case(&term));
        if !plain {
            // At the prompt Ctrl-C is a key.
            interrupt::outlive_ctrl_c();
        }
        Ok(Self {
            editor,
            ctrl_c,
            history,
            plain,
            #[cfg(unix)]
            _silent: if plain { None } else { silent::Silent::begin()? },
        })
    }

    /// Reads the next message or command. Returns `None` when the user quits.
    pub(super) fn read(&mut self) -> Result<Option<Draft>> {
        let (mut draft, mut begun, mut asked) = (Draft::default(), false, false);
        loop {
            // Before the terminal reads keys again, Ctrl-C is a signal.
            if asked && interrupt::seen() {
                return Ok(None);
            }
            match self.read_line(if begun { CONTINUATION_PROMPT } else { PROMPT })? {
                Typed::Line(line) => {
                    (begun, asked) = (draft.push(&line), false);
                    if !begun {
                        self.remember(&draft.entry());
                        return Ok(Some(draft));
                    }
                }
                Typed::End if !begun => return Ok(None),
                Typed::Discarded { empty: true } if !begun => {
                    if asked {
                        return Ok(None);
                    }
                    // If this one was a signal, it does not count twice.
                    interrupt::clear();
                    self.say("Ctrl-C once more or Ctrl-D leaves, /help shows the commands.");
                    asked = true;
                }
                // The earlier lines of the message are discarded too.
                Typed::Discarded { .. } | Typed::End => {
                    (draft, begun, asked) = (Draft::default(), false, false);
                }
            }
        }
    }

    fn read_line(&mut self, prompt: &str) -> Result<Typed> {
        match self.editor.readline(prompt) {
            Ok(line) => Ok(match self.ctrl_c.swap(false, Ordering::SeqCst) {
                true => Typed::Discarded { empty: line.is_empty() },
                false => Typed::Line(line),
            }),
            Err(ReadlineError::Interrupted) => Ok(Typed::Discarded { empty: true }),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds a message to the history. A history that cannot be written is ignored.
    fn remember(&mut self, entry: &str) {
        if entry.trim().is_empty() || !matches!(self.editor.add_history_entry(entry), Ok(true)) {
            return;
        }
        let Some(path) = &self.history else { return };
        if path.is_file() || (!path.exists() && path.parent().is_some_and(make_private)) {
            let _ = self.editor.append_history(path);
        }
    }

    /// Prepares for an answer: text typed or pasted meanwhile goes to the next prompt.
    pub(super) fn begin_answer(&self) -> Result<()> {
        match stdout().is_terminal() && !self.plain {
            true => output::print(MARK_PASTES),
            false => Ok(()),
        }
    }

    /// The width of the terminal in columns, if answers are shown on one.
    pub(super) fn width(&self) -> Option<usize> {
        let (width, _) = terminal_size::terminal_size_of(stdout())?;
        Some(width.0.into())
    }

    /// Prints a message on stderr, wrapped at words.
    pub(super) fn say(&self, text: &str) {
        output::say_lines(&wrapped(text), false);
    }

    /// Prints a less important message on stderr.
    pub(super) fn say_faintly(&self, text: &str) {
        let faint = stderr().is_terminal() && !self.plain;
        let faint = faint && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        output::say_lines(&wrapped(text), faint);
    }
}

fn wrapped(text: &str) -> String {
    let size = terminal_size::terminal_size_of(stderr());
    let mut wrap = Wrap::new(size.map(|(width, _)| width.0.into()));
    wrap.push(text) + &wrap.finish()
}

/// The path of the history: in TRILOBITE_HOME, or in the user's state folder.
fn history_file() -> Option<PathBuf> {
    let named = std::env::var_os("TRILOBITE_HOME").filter(|home| !home.is_empty());
    let folder = match named {
        Some(home) => PathBuf::from(home),
        None => {
            let base = etcetera::choose_base_strategy().ok()?;
            base.state_dir().unwrap_or_else(|| base.data_dir()).join("trilobite")
        }
    };
    Some(folder.join("chat-history"))
}

/// Creates a folder with access for its owner only, unless it exists.
fn make_private(folder: &Path) -> bool {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder).is_ok()
}

/// The result of a prompt.
enum Typed {
    Line(String),
    /// Ctrl-C: the line is empty or discarded.
    Discarded {
        empty: bool,
    },
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// Ctrl-C ends a line as Enter does and sets a flag. An error would lose what was typed after it.
struct CtrlC(Arc<AtomicBool>);

impl ConditionalEventHandler for CtrlC {
    fn handle(&self, _: &Event, _: u16, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        self.0.store(true, Ordering::SeqCst);
        Some(Cmd::AcceptLine)
    }
}

/// The helper of the line editor.
struct Line;

impl Helper for Line {}
impl Highlighter for Line {}
impl Validator for Line {}
impl Hinter for Line {
    type Hint = String;
}

impl Completer for Line {
    type Candidate = String;

    /// Completes the names of commands.
    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let names = COMMANDS.iter().map(|(name, arguments, _)| match *arguments {
            "" => format!("/{name}"),
            _ => format!("/{name} "),
        });
        let begun = &line[..at];
        let fitting = names.filter(|name| begun.starts_with('/') && name.starts_with(begun));
        Ok((0, fitting.collect()))
    }
}

#[cfg(unix)]
mod silent {
    use std::io::{IsTerminal, Write, stdin, stdout};

    use anyhow::Result;
    use rustix::termios::{InputModes, LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
    use signal_hook::consts::SIGTERM;
    use signal_hook::iterator::Signals;

    /// The escape sequence that disables bracketed paste.
    const LEAVE_PASTES: &str = "\u{1b}[?2004l";

    /// While this exists, the terminal keeps input for the editor, byte by byte and without echo.
    pub(super) struct Silent(Termios);

    impl Silent {
        pub(super) fn begin() -> Result<Option<Self>> {
            let Ok(before) = tcgetattr(stdin()) else { return Ok(None) };
            let mut modes = before.clone();
            modes.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN;
            // Ctrl-C stops an answer and must not discard input.
            modes.local_modes |= LocalModes::NOFLSH;
            modes.input_modes -= InputModes::ICRNL;
            if tcsetattr(stdin(), OptionalActions::Drain, &modes).is_err() {
                return Ok(None);
            }
            let silent = Self(before);
            silent.end_at_request()?;
            Ok(Some(silent))
        }

        /// Makes SIGTERM end the process at any time and restore the terminal.
        fn end_at_request(&self) -> Result<()> {
            let before = Self(self.0.clone());
            let mut signals = Signals::new([SIGTERM])?;
            std::thread::Builder::new().spawn(move || {
                if signals.forever().next().is_some() {
                    drop(before);
                    std::process::exit(128 + SIGTERM);
                }
            })?;
            Ok(())
        }
    }

    impl Drop for Silent {
        fn drop(&mut self) {
            let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
            if stdout().is_terminal() {
                let _ = stdout().write_all(LEAVE_PASTES.as_bytes());
                let _ = stdout().flush();
            }
        }
    }
}
