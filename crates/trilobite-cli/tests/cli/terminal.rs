//! Tests of the chat on a terminal.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::Fixture;
use crate::trilobite::{command, stdout};

/// Timeout of output that normally appears at once.
const LONG: Duration = Duration::from_secs(60);
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const UP: &str = "\u{1b}[A";
/// Runs a command, and prints the state of the terminal after it.
const SHELL: &str = "trap : INT; \"$@\"; code=$?; stty -a >&2; exit $code";

/// A chat on a pseudo terminal, with its keyboard and screen.
struct Chat {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// Number of bytes of the screen read so far.
    seen: usize,
    /// The shell that runs the chat.
    shell: Child,
}

impl Chat {
    fn start<S: AsRef<OsStr>>(home: &Path, args: impl IntoIterator<Item = S>) -> Chat {
        Chat::spawn(home, args, None)
    }

    /// Starts a chat, whose standard output can be redirected.
    fn spawn<S: AsRef<OsStr>>(
        home: &Path,
        args: impl IntoIterator<Item = S>,
        stdout: Option<File>,
    ) -> Chat {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let mut terminal = OpenOptions::new();
        let terminal =
            terminal.read(true).write(true).custom_flags(libc::O_NOCTTY).open(name).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();

        // The chat has its own session with this terminal, so that Ctrl-C is a signal.
        let mut session = Command::new("setsid");
        session.args(["-c", "sh", "-c", SHELL, "sh", env!("CARGO_BIN_EXE_trilobite")]);
        session.args(["run", "-t", "2"]).args(args);
        session.env("TRILOBITE_HOME", home).env("TERM", "xterm").env("NO_COLOR", "1");
        session.env_remove("TRILOBITE_ISA");
        session.stdin(terminal.try_clone().unwrap()).stderr(terminal.try_clone().unwrap());
        session.stdout(stdout.unwrap_or(terminal));
        let shell = session.spawn().unwrap();

        let keyboard = File::from(master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                to.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Chat { keyboard, screen, seen: 0, shell }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// The output that has not been read.
    fn unseen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()[self.seen..]).into_owned()
    }

    /// Waits for a text. Returns the output up to its end; the next call continues after it.
    #[track_caller]
    fn sees(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let bytes = self.screen.lock().unwrap()[self.seen..].to_vec();
            let found = bytes.windows(text.len()).position(|part| part == text.as_bytes());
            if let Some(at) = found {
                let end = at + text.len();
                self.seen += end;
                return String::from_utf8_lossy(&bytes[..end]).into_owned();
            }
            assert!(start.elapsed() < LONG, "no {text:?} in {:?}", self.unseen());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Types a line at the prompt, and waits for a text.
    #[track_caller]
    fn says(&mut self, line: &str, answer: &str) -> String {
        self.types(&format!("{line}\r"));
        self.sees(answer)
    }

    /// Waits until an answer has begun and continued for a while.
    #[track_caller]
    fn sees_an_answer(&mut self) {
        // When an answer begins, bracketed paste is disabled and enabled again.
        self.sees("\u{1b}[?2004l");
        self.sees("\u{1b}[?2004h");
        let start = Instant::now();
        while self.unseen().len() < 40 {
            assert!(start.elapsed() < LONG, "no answer: {:?}", self.unseen());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for the end, and checks that the terminal is restored.
    #[track_caller]
    fn ends(&mut self) -> Option<i32> {
        for mode in [" icanon", " iexten", " echo", " -noflsh"] {
            let seen = self.seen;
            self.sees(mode);
            self.seen = seen;
        }
        self.shell.wait().unwrap().code()
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// A model with a long context, whose answers hardly end.
fn endless() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let golden = Fixture::named("llama").folder;
    for entry in fs::read_dir(&golden).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = 1_000_000.into();
    fs::write(path, config.to_string()).unwrap();
    folder
}

/// Arguments of a chat with an answer that hardly ends.
fn endlessly(model: &TempDir) -> Vec<PathBuf> {
    let mut args = vec![model.path().to_owned()];
    args.extend(
        ["--chat-template", "chatml", "--ctx", "1000000", "--ignore-eos", "--temp", "1"]
            .map(PathBuf::from),
    );
    args
}

/// Arguments of a chat with short answers.
const SHORT: [&str; 7] = ["--chat-template", "chatml", "-n", "4", "--ignore-eos", "--temp", "0"];

/// The messages that a chat saves.
fn saved(chat: &mut Chat, path: &Path) -> Vec<(String, String)> {
    chat.says(&format!("/save {}", path.display()), " in /");
    chat.sees("> ");
    let saved: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let messages = saved["messages"].as_array().unwrap().iter();
    messages.map(|message| (text(&message["role"]), text(&message["content"]))).collect()
}

#[test]
fn a_chat_says_what_it_is_and_has_commands() {
    let home = tempfile::tempdir().unwrap();
    let mut chat = Chat::start(home.path(), SHORT);
    let banner = chat.sees("> ");
    for part in
        ["tinystories (built in): ", "parameters", "context ", "chat template chatml", "/help"]
    {
        assert!(banner.contains(part), "{banner}");
    }
    chat.says("/help", "/regen");
    chat.says("/hlep", "error: there is no command /hlep; did you mean /help?");
    chat.says("/set temp -1", "error: temperature is -1, expected 0 or more");
    chat.says("/set temp", "temp 0\r\n");
    chat.says("/set Top_K=5", "top-k 5\r\n");
    chat.says("/set", "top-k           5 ");
    chat.says("/system", "there is no system message");
    chat.says("/system Be brief.", "the system message is set");
    chat.says("/system", "Be brief.\r\n");
    chat.says("/regen", "error: there is no answer yet");
    chat.says("/stats", "conversation   0 turns");
    chat.says("hello", "length reached");
    chat.says("/regen", "with a temp of 0 there is one only");
    chat.says("/set temp 1.5", "temp 1.5\r\n");
    chat.says("/regen", "seed ");
    chat.sees("length reached");
    let stats = chat.says("/stats", "all answers    3: ");
    assert!(stats.contains("conversation   1 turn\r\n"), "{stats}");
    chat.says("/clear", "the conversation is forgotten");
    chat.says("/stats", "conversation   0 turns");
    chat.sees("> ");
    chat.types("/he\t\r");
    chat.sees("/stats");
    chat.types(CTRL_D);
    assert_eq!(chat.ends(), Some(0));

    let mut chat = Chat::start(home.path(), SHORT);
    chat.sees("> ");
    chat.types("/exit\r");
    assert_eq!(chat.ends(), Some(0));
}

#[test]
fn ctrl_c_stops_answers_and_clears_lines_and_leaves_when_it_is_meant() {
    let (home, model) = (tempfile::tempdir().unwrap(), endless());
    let mut chat = Chat::start(home.path(), endlessly(&model));
    chat.sees("> ");
    chat.types("hello\r");
    chat.sees_an_answer();
    chat.types(CTRL_C);
    let answer = chat.sees("interrupted");
    assert!(!answer.contains("^C"), "{answer}");
    chat.sees("> ");
    let messages = saved(&mut chat, &home.path().join("chat.json"));
    assert_eq!(messages.len(), 2);
    // The visible text without line breaks.
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    let bare = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let kept: String = messages[1].1.chars().filter(|c| !c.is_whitespace()).map(escaped).collect();
    assert!(bare(&answer).contains(&bare(&kept)), "{answer:?} {messages:?}");

    chat.types("half a line");
    chat.types(CTRL_C);
    chat.says("/stats", "conversation   1 turn\r\n");
    chat.sees("> ");
    chat.types(CTRL_C);
    chat.sees("Ctrl-C once more or Ctrl-D leaves");
    chat.sees("> ");
    // The user discards the line.
    chat.types(&format!("x{CTRL_C}"));
    chat.says("/stats", "conversation   1 turn\r\n");
    chat.types(&format!("\"\"\"\rbegun\r{CTRL_C}"));
    chat.says("/stats", "conversation   1 turn\r\n");
    chat.sees("> ");
    chat.types(CTRL_C);
    chat.sees("Ctrl-C once more");
    chat.types(CTRL_C);
    assert_eq!(chat.ends(), Some(0));
}

#[test]
fn ctrl_c_stops_the_reading_of_a_long_prompt_and_never_the_chat() {
    let (home, model) = (tempfile::tempdir().unwrap(), endless());
    let long = home.path().join("long.json");
    let messages = json!([
        {"role": "user", "content": "many words ".repeat(80_000)},
        {"role": "assistant", "content": "Indeed."},
    ]);
    fs::write(&long, json!({"messages": messages}).to_string()).unwrap();
    let mut chat = Chat::start(home.path(), endlessly(&model));
    chat.sees("> ");
    chat.says(&format!("/load {}", long.display()), "1 turn from ");
    chat.sees("> ");
    chat.says("hello", "\u{1b}[?2004l");
    // The second signal arrives before the first is noticed, or at the prompt.
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(5));
        chat.types(CTRL_C);
    }
    chat.sees("stopped before an answer came: the message is taken back");
    chat.says("/stats", "conversation   1 turn\r\n");
    chat.sees("> ");
    assert_eq!(saved(&mut chat, &long).len(), 2);
}

#[test]
fn what_is_typed_during_an_answer_is_for_the_next_prompt() {
    let (home, model) = (tempfile::tempdir().unwrap(), endless());
    let mut chat = Chat::start(home.path(), endlessly(&model));
    chat.sees("> ");
    chat.types("hello\r");
    chat.sees_an_answer();
    chat.types("/set n 7\r/set seed 99\rtail");
    let shown = chat.unseen().len();
    while chat.unseen().len() < shown + 200 {
        std::thread::sleep(Duration::from_millis(1));
    }
    chat.types(CTRL_C);
    let answer = chat.sees("interrupted");
    assert!(!answer.contains("/set") && !answer.contains("tail"), "{answer}");
    chat.sees("> ");
    chat.sees("\r\nn 7\r\n");
    chat.sees("\r\nseed 99\r\n");
    chat.sees("tail");
    chat.types(&format!(" and all{CTRL_C}"));
    chat.says("/stats", "conversation   1 turn\r\n");
    // Text pasted during an answer is one message, too.
    chat.says("/set n none", "n none\r\n");
    chat.types("again\r");
    chat.sees_an_answer();
    chat.types("\u{1b}[200~one\rtwo\r\u{1b}[201~");
    chat.types(&format!("{CTRL_C}\u{8}"));
    chat.sees("interrupted");
    chat.sees("two");
    chat.types("!\r");
    chat.sees_an_answer();
    chat.types(CTRL_C);
    chat.sees("interrupted");
    chat.sees("> ");
    let messages = saved(&mut chat, &home.path().join("chat.json"));
    assert_eq!(messages[4], ("user".to_owned(), "one\ntwo!".to_owned()));
}

#[test]
fn messages_have_several_lines() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("chat.json");
    let mut chat = Chat::start(home.path(), SHORT);
    for typed in [
        "\u{1b}[200~one\r  two\r\u{1b}[201~",
        "one\\\rtwo",
        "\"\"\"\rone\r\rtwo\r\"\"\"",
        "//etc",
        "\u{1b}[200~\"\"\"Doc.\"\"\"\rimport os\u{1b}[201~",
    ] {
        chat.sees("> ");
        chat.says(typed, "length reached");
    }
    let messages = saved(&mut chat, &path);
    let users = messages.iter().filter(|(role, _)| role == "user");
    let texts: Vec<&str> = users.map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        texts,
        ["one\n  two", "one\ntwo", "one\n\ntwo", "/etc", "\"\"\"Doc.\"\"\"\nimport os"]
    );
}

#[test]
fn conversations_are_saved_and_loaded() {
    let home = tempfile::tempdir().unwrap();
    let (path, damaged) = (home.path().join("chat.json"), home.path().join("damaged.json"));
    fs::write(&damaged, "{\"messages\": [{\"role\": \"us").unwrap();
    let mut chat = Chat::start(home.path(), SHORT.iter().chain(&["--system", "Be brief."]));
    chat.sees("> ");
    chat.says("hello", "length reached");
    let messages = saved(&mut chat, &path);
    assert_eq!(messages[0], ("system".to_owned(), "Be brief.".to_owned()));
    assert_eq!(messages[1], ("user".to_owned(), "hello".to_owned()));
    chat.says(&format!("/load {}", damaged.display()), "damaged.json: EOF while parsing");
    chat.says("/load no/such", "error: no/such: No such file");
    chat.says(&format!("/save {}", damaged.display()), "exists and is no conversation");
    assert_eq!(fs::metadata(&damaged).unwrap().len(), 26);
    chat.says("/stats", "conversation   1 turn\r\n");
    chat.types("/exit\r");
    assert_eq!(chat.ends(), Some(0));

    let mut chat = Chat::start(home.path(), SHORT);
    chat.sees("> ");
    chat.says(&format!("/load {}", path.display()), "1 turn from ");
    chat.says("/system", "Be brief.\r\n");
    chat.says("more", "length reached");
    assert_eq!(saved(&mut chat, &path).len(), 5);
}

#[test]
fn the_history_is_kept_where_others_cannot_read_it() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("new");
    let mut chat = Chat::start(&folder, SHORT);
    chat.sees("> ");
    chat.says("the first message", "length reached");
    chat.says("one\\\rtwo", "length reached");
    chat.types(CTRL_D);
    assert_eq!(chat.ends(), Some(0));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("chat-history")), 0o600);

    let mut chat = Chat::start(&folder, SHORT);
    chat.sees("> ");
    chat.types(UP);
    chat.sees("one");
    chat.sees("two");
    chat.types(&UP.repeat(2));
    chat.sees("the first message");
    chat.types("\r");
    chat.sees("length reached");
    chat.types(CTRL_D);
    assert_eq!(chat.ends(), Some(0));

    // If the history cannot be written, the chat works the same.
    let file = home.path().join("file");
    fs::write(&file, "hi").unwrap();
    let mut chat = Chat::start(&file, SHORT);
    chat.sees("> ");
    let said = chat.says("hello", "length reached");
    assert!(!said.contains("error"), "{said}");
    chat.types(CTRL_D);
    assert_eq!(chat.ends(), Some(0));
    // A prompt outside of a chat is not added to the history.
    let home = tempfile::tempdir().unwrap();
    let mut run = command(["run", "-q", "-n", "1"]);
    run.stdin(File::open(&file).unwrap()).env("TRILOBITE_HOME", home.path());
    stdout(&mut run).unwrap();
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_full_context_leaves_the_oldest_turns_out() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("chat.json");
    let mut chat = Chat::start(home.path(), SHORT.iter().chain(&["--ctx", "128"]));
    chat.sees("> ");
    let mut said = String::new();
    for _ in 0..6 {
        said += &chat.says("Once upon a time there was a little dog", "length reached");
    }
    let note = "the context of 128 tokens is full";
    assert_eq!(said.matches(note).count(), 1, "{said}");
    let stats = chat.says("/stats", "all answers");
    assert!(stats.contains("left out of the context"), "{stats}");
    assert_eq!(saved(&mut chat, &path).len(), 12);
    chat.says(&"a long message ".repeat(60), "error: the message does not fit");
    chat.says("hello", "length reached");
    assert_eq!(saved(&mut chat, &path).len(), 14);
    // Another conversation can fill the context, too.
    chat.says("/clear", "the conversation is forgotten");
    let stats = chat.says("/stats", "all answers");
    assert!(!stats.contains("left out"), "{stats}");
}

#[test]
fn answers_are_broken_at_words_on_a_terminal_only() {
    let home = tempfile::tempdir().unwrap();
    let args = ["--temp", "0", "-n", "60"];
    let mut plain = command(["run", "-q", "--echo", "-p", "Once upon a time"]);
    let plain = stdout(plain.args(args)).unwrap();
    let mut chat = Chat::start(home.path(), args);
    chat.sees("no chat template: the model continues what you type");
    chat.sees("> ");
    let narrow = Winsize { ws_row: 24, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&chat.keyboard, narrow).unwrap();
    chat.types("Once upon a time\r");
    chat.sees("\u{1b}[?2004l");
    chat.sees("\u{1b}[?2004h");
    let shown = chat.sees("prompt ");
    let shown = shown.trim_end_matches("prompt ");
    assert!(shown.lines().all(|line| line.chars().count() <= 40), "{shown:?}");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(shown), words(&plain));
    for command in ["/system be", "/clear", "/save x", "/load x"] {
        chat.says(command, "error: without a chat template");
    }
    chat.says("/regen", "prompt ");
    drop(chat);

    let out = home.path().join("out");
    let mut chat = Chat::spawn(home.path(), args, Some(File::create(&out).unwrap()));
    chat.sees("> ");
    chat.says("Once upon a time", "prompt ");
    chat.types(CTRL_D);
    assert_eq!(chat.ends(), Some(0));
    assert_eq!(fs::read_to_string(out).unwrap(), plain);
}

#[test]
fn a_request_to_end_leaves_the_terminal_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let mut chat = Chat::start(home.path(), SHORT);
    chat.sees("> ");
    let mut kill = Command::new("sh");
    let shell = chat.shell.id();
    let chats = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    kill.args(["-c", "kill -TERM $0", chats.trim()]);
    assert!(kill.status().unwrap().success());
    assert_eq!(chat.ends(), Some(143));
}

#[test]
fn a_system_message_that_the_template_refuses_is_not_set() {
    let home = tempfile::tempdir().unwrap();
    let template = home.path().join("own.jinja");
    let source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
                  {% for m in messages %}{{ m.content }}{% endfor %}";
    fs::write(&template, source).unwrap();
    let args = ["--chat-template", template.to_str().unwrap(), "-n", "4", "--ignore-eos"];
    let mut chat = Chat::start(home.path(), args);
    chat.sees("> ");
    chat.says("/system Be brief.", "no system");
    chat.says("/system", "there is no system message");
    chat.says("hello", "length reached");
    assert_eq!(json!(saved(&mut chat, &home.path().join("a.json"))[0]), json!(["user", "hello"]));
}
