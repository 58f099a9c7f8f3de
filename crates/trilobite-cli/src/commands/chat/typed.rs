//! Input at the prompt: messages, commands, and messages of several lines.

use std::path::PathBuf;

use etcetera::home_dir;
use trilobite_hub::nearest;

/// Begins and ends a message of several lines.
const QUOTES: &str = "\"\"\"";

/// The commands: name, argument and description.
pub(super) const COMMANDS: [(&str, &str, &str); 9] = [
    ("help", "", "shows this"),
    ("system", "[TEXT]", "shows or sets the system message; \"\" removes it"),
    ("set", "[NAME VALUE]", "shows or changes how answers are sampled"),
    ("clear", "", "forgets the conversation"),
    ("regen", "", "answers the last message again"),
    ("save", "FILE", "writes the conversation to a JSON file"),
    ("load", "FILE", "goes on with a conversation that was saved"),
    ("stats", "", "shows tokens, speeds and the context used"),
    ("exit", "", "leaves, as Ctrl-D does"),
];

/// Aliases of the commands, as in other programs.
const OTHER_NAMES: [(&str, &str); 10] = [
    ("?", "help"),
    ("bye", "exit"),
    ("q", "exit"),
    ("quit", "exit"),
    ("new", "clear"),
    ("reset", "clear"),
    ("redo", "regen"),
    ("regenerate", "regen"),
    ("retry", "regen"),
    ("info", "stats"),
];

/// The parsed input.
#[derive(Debug, PartialEq)]
pub(super) enum Input {
    Nothing,
    Message(String),
    Help,
    /// A new system message, or none to show it. An empty one removes it.
    System(Option<String>),
    /// A setting and its new value, or none to show it.
    Set(Option<(String, Option<String>)>),
    Clear,
    Regen,
    Save(PathBuf),
    Load(PathBuf),
    Stats,
    Exit,
}

/// A message or command that is being entered line by line.
#[derive(Debug, Default)]
pub(super) struct Draft {
    text: String,
    state: State,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Empty,
    /// The last line ended with a backslash.
    Continued,
    /// Quotes are open.
    Quoted,
}

impl Draft {
    /// Adds a line, or several pasted lines. Returns whether more lines must follow.
    pub(super) fn push(&mut self, line: &str) -> bool {
        if self.state == State::Empty {
            if let Some(inner) = quoted(line) {
                self.text = inner.to_owned();
                self.state = State::Quoted;
                return false;
            }
            if let Some(first) = opening(line) {
                self.state = State::Quoted;
                if !first.trim().is_empty() {
                    self.text = format!("{first}\n");
                }
                return true;
            }
        }
        if self.state == State::Quoted {
            return self.push_quoted(line);
        }
        self.state = State::Continued;
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        let continued = backslashes % 2 == 1;
        self.text += &line[..line.len() - usize::from(continued)];
        if continued {
            self.text.push('\n');
        }
        continued
    }

    fn push_quoted(&mut self, line: &str) -> bool {
        let Some(last) = line.trim_end().strip_suffix(QUOTES) else {
            self.text += line;
            self.text.push('\n');
            return true;
        };
        self.text += last;
        if last.is_empty() {
            // The closing quotes are on their own line, whose beginning is not part of the text.
            self.text.pop();
        }
        false
    }

    /// Parses the lines.
    pub(super) fn parse(&self) -> Result<Input, String> {
        match self.state {
            State::Quoted if self.text.trim().is_empty() => Ok(Input::Nothing),
            State::Quoted => Ok(Input::Message(self.text.clone())),
            _ => parse(self.text.trim_end_matches(['\n', '\r'])),
        }
    }

    /// The lines as a single history entry that parses to the same input.
    pub(super) fn entry(&self) -> String {
        let text = self.text.trim_end_matches(['\n', '\r']);
        let mut again = Draft::default();
        match !again.push(text) && again.parse() == self.parse() {
            true => text.to_owned(),
            false => format!("{QUOTES}{text}{QUOTES}"),
        }
    }
}

/// The text between opening and closing quotes, if it contains no others.
fn quoted(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix(QUOTES)?.strip_suffix(QUOTES)?;
    let inner = inner.strip_prefix('\n').unwrap_or(inner);
    let inner = inner.strip_suffix('\n').unwrap_or(inner);
    (!inner.contains(QUOTES)).then_some(inner)
}

/// The rest of a line after opening quotes. Pasted lines that begin with quotes are a program.
fn opening(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix(QUOTES).filter(|rest| !rest.contains('\n'))
}

fn parse(text: &str) -> Result<Input, String> {
    let trimmed = text.trim();
    let Some(command) = trimmed.strip_prefix('/') else {
        return Ok(match trimmed.is_empty() {
            true => Input::Nothing,
            false => Input::Message(text.to_owned()),
        });
    };
    if command.starts_with('/') {
        return Ok(Input::Message(text.replacen('/', "", 1)));
    }
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    let Some(&(_, arguments, _)) = COMMANDS.iter().find(|(known, ..)| *known == name) else {
        return Err(unknown(name));
    };
    if rest.is_empty() != arguments.is_empty() && !arguments.starts_with('[') {
        return Err(match arguments {
            "" => format!("/{name} takes nothing after it, but there is {rest:?}"),
            _ => format!("/{name} needs a {arguments}"),
        });
    }
    Ok(match name {
        "help" => Input::Help,
        "system" => Input::System(match rest {
            "" => None,
            "\"\"" => Some(String::new()),
            _ => Some(rest.to_owned()),
        }),
        "set" => Input::Set(setting(rest)),
        "clear" => Input::Clear,
        "regen" => Input::Regen,
        "save" => Input::Save(path(rest)),
        "load" => Input::Load(path(rest)),
        "stats" => Input::Stats,
        "exit" => Input::Exit,
        _ => return Err(unknown(name)),
    })
}

/// Parses `NAME`, `NAME VALUE` or `NAME=VALUE`.
fn setting(text: &str) -> Option<(String, Option<String>)> {
    let apart = |c: char| c.is_whitespace() || c == '=';
    let (name, value) = text.split_once(apart).unwrap_or((text, ""));
    let value = value.trim_start_matches(apart);
    (!name.is_empty()).then(|| (name.to_owned(), (!value.is_empty()).then(|| value.to_owned())))
}

/// A path in which `~/` is the home folder, as in a shell.
fn path(text: &str) -> PathBuf {
    let home = text.strip_prefix("~/").and_then(|rest| Some(home_dir().ok()?.join(rest)));
    home.unwrap_or_else(|| text.into())
}

fn unknown(name: &str) -> String {
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, known)| *known);
    let near = other.or_else(|| nearest(name, COMMANDS.map(|(known, ..)| known)));
    let hint = near.map_or("/help shows all.".to_owned(), |near| format!("did you mean /{near}?"));
    format!("there is no command /{name}; {hint} A message that begins with / is sent with //")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses lines, and checks that each line but the last asks for another line.
    fn entered(lines: &[&str]) -> Result<Input, String> {
        let mut draft = Draft::default();
        let (last, first) = lines.split_last().unwrap();
        for line in first {
            assert!(draft.push(line), "{lines:?}: whole after {line:?}");
        }
        assert!(!draft.push(last), "{lines:?}: not whole");
        let input = draft.parse();
        // From the history the entry comes back as one text.
        let mut again = Draft::default();
        assert!(!again.push(&draft.entry()), "{lines:?}: {:?} is not whole", draft.entry());
        assert_eq!(again.parse(), input, "{lines:?}");
        input
    }

    fn message(text: &str) -> Result<Input, String> {
        Ok(Input::Message(text.to_owned()))
    }

    #[test]
    fn messages_are_sent_as_they_were_typed() {
        assert_eq!(entered(&["hi"]), message("hi"));
        assert_eq!(entered(&["  indented "]), message("  indented "));
        assert_eq!(entered(&["a / b"]), message("a / b"));
        assert_eq!(entered(&["//etc/passwd"]), message("/etc/passwd"));
        assert_eq!(entered(&["//"]), message("/"));
        assert_eq!(entered(&["two\nlines\n"]), message("two\nlines"));
        for nothing in ["", "  ", "\t", "\n\n"] {
            assert_eq!(entered(&[nothing]), Ok(Input::Nothing));
        }
    }

    #[test]
    fn a_backslash_at_the_end_continues_a_line() {
        assert_eq!(entered(&["one\\", "two\\", "three"]), message("one\ntwo\nthree"));
        assert_eq!(entered(&["one\\", ""]), message("one"));
        assert_eq!(entered(&["\\", "\\", "x"]), message("\n\nx"));
        assert_eq!(entered(&["/system Be brief.\\", "Be kind."]), {
            Ok(Input::System(Some("Be brief.\nBe kind.".into())))
        });
        // An even number of quotes is text, and pasted lines are not examined.
        let mut draft = Draft::default();
        assert!(!draft.push("C:\\\\"));
        assert_eq!(draft.parse(), message("C:\\\\"));
        assert_eq!(entered(&["#define A \\\n  1"]), message("#define A \\\n  1"));
    }

    #[test]
    fn quotes_surround_a_message_of_several_lines() {
        assert_eq!(entered(&["\"\"\"", "one", "", "  two", "\"\"\""]), message("one\n\n  two"));
        assert_eq!(entered(&["\"\"\"one", "two\"\"\""]), message("one\ntwo"));
        assert_eq!(entered(&["\"\"\"one\"\"\" "]), message("one"));
        assert_eq!(entered(&["\"\"\"", "/help", "\"\"\""]), message("/help"));
        assert_eq!(entered(&["\"\"\"", "a \\", "\"\"\""]).map(|_| ()), Ok(()));
        assert_eq!(entered(&["\"\"\"", "\"\"\""]), Ok(Input::Nothing));
        assert_eq!(entered(&["\"\"\"\none\ntwo\n\"\"\""]), message("one\ntwo"));
        // The beginning of a pasted program.
        let program = "\"\"\"Doc.\"\"\"\nimport os\n\"\"\"More.\"\"\"";
        assert_eq!(entered(&[program]), message(program));
    }

    #[test]
    fn commands_take_what_they_need() {
        assert_eq!(entered(&["/help"]), Ok(Input::Help));
        assert_eq!(entered(&[" /exit  "]), Ok(Input::Exit));
        assert_eq!(entered(&["/system"]), Ok(Input::System(None)));
        assert_eq!(entered(&["/system \"\""]), Ok(Input::System(Some(String::new()))));
        assert_eq!(entered(&["/set"]), Ok(Input::Set(None)));
        let set =
            |value: Option<&str>| Ok(Input::Set(Some(("temp".into(), value.map(Into::into)))));
        assert_eq!(entered(&["/set temp"]), set(None));
        for typed in ["/set temp 0.5", "/set temp=0.5", "/set  temp =  0.5 ", "/set\ttemp\t0.5"] {
            assert_eq!(entered(&[typed]), set(Some("0.5")), "{typed:?}");
        }
        assert_eq!(entered(&["/save my chat.json"]), Ok(Input::Save("my chat.json".into())));
        assert_eq!(entered(&["/load a"]), Ok(Input::Load("a".into())));
        for (typed, said) in [
            ("/clear now", "/clear takes nothing after it, but there is \"now\""),
            ("/save", "/save needs a FILE"),
            ("/load  ", "/load needs a FILE"),
        ] {
            assert_eq!(entered(&[typed]), Err(said.to_owned()));
        }
    }

    #[test]
    fn other_names_are_errors_with_a_hint() {
        for (typed, hint) in [
            ("/hlep", "no command /hlep; did you mean /help? A message"),
            ("/HELP", "no command /HELP; did you mean /help? A message"),
            ("/regenerate", "did you mean /regen?"),
            ("/bye", "did you mean /exit?"),
            ("/frobnicate x", "no command /frobnicate; /help shows all. A message"),
            ("/usr/bin/env: not found", "is sent with //"),
            ("/", "no command /; /help shows all. A message"),
            ("/ help", "no command /; /help"),
            ("/* a comment\n */", "no command /*;"),
        ] {
            let said = entered(&[typed]).unwrap_err();
            assert!(said.contains(hint), "{typed}: {said}");
        }
    }
}
