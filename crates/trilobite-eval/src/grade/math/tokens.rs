//! LaTeX in the pieces that SymPy's parser divides it into.

/// A piece of LaTeX.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A digit.
    Digit(char),
    /// A letter, or the d of a differential with its variable.
    Name(String),
    /// A backslash and letters.
    Command(String),
    /// Any other sign that the grammar knows.
    Sign(char),
    /// Anything else.
    Foreign,
}

/// Commands that leave room and nothing else.
const SPACES: [&str; 13] = [
    "thinspace",
    "medspace",
    "quad",
    "qquad",
    "negthinspace",
    "negmedspace",
    "negthickspace",
    "left",
    "right",
    "vrule",
    "vcenter",
    "vbox",
    "hfil",
];

/// The pieces of a text.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let letters = |text: &str| text.bytes().take_while(u8::is_ascii_alphabetic).count();
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            ' ' | '\t' | '\r' | '\n' => {}
            '0'..='9' => tokens.push(Token::Digit(c)),
            'd' => {
                let after = rest[1..].trim_start_matches([' ', '\t', '\r', '\n']);
                let of = match after.strip_prefix('\\') {
                    Some(command) => letters(command),
                    None => letters(after).min(1),
                };
                if of > 0 {
                    let mark = usize::from(after.starts_with('\\'));
                    taken = rest.len() - after.len() + mark + of;
                    tokens.push(Token::Name(format!("d{}", &after[mark..mark + of])));
                } else {
                    tokens.push(Token::Name("d".to_owned()));
                }
            }
            'a'..='z' | 'A'..='Z' => tokens.push(Token::Name(c.to_string())),
            '\\' => {
                let length = letters(&rest[1..]);
                let command = &rest[1..1 + length];
                taken += length;
                match (command, rest[1..].chars().next()) {
                    ("", Some(',' | ':' | ';' | '!' | '*' | '-' | '.' | '/' | '"' | '(' | '=')) => {
                        taken += 1;
                    }
                    ("", Some(brace @ ('{' | '}'))) => {
                        tokens.push(Token::Sign(if brace == '{' { '⦃' } else { '⦄' }));
                        taken += 1;
                    }
                    ("", _) => tokens.push(Token::Foreign),
                    (command, _) if SPACES.contains(&command) => {}
                    _ => tokens.push(Token::Command(command.to_owned())),
                }
            }
            '+' | '-' | '*' | '/' | '^' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '!' | '_'
            | ':' | ',' | '.' | '=' | '<' | '>' | '\'' => tokens.push(Token::Sign(c)),
            _ => tokens.push(Token::Foreign),
        }
        rest = &rest[taken..];
    }
    tokens
}
