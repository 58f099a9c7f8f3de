//! The tokens of LaTeX, as in SymPy's parser, and the meanings of commands.

use super::expression::Function;

/// A token of LaTeX.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A digit.
    Digit(char),
    /// A letter, or the d of a differential with its variable.
    Name(String),
    /// A backslash and letters.
    Command(String),
    /// Any other character of the grammar.
    Sign(char),
    /// Anything else.
    Foreign,
}

/// Commands for spacing.
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

/// Splits a text into tokens.
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

/// Commands between the sides of a relation.
pub(super) const RELATIONS: [&str; 9] =
    ["leq", "le", "leqq", "leqslant", "geq", "ge", "geqq", "geqslant", "neq"];

/// Whether a command is neither a name nor a function, or is not supported.
pub(super) fn is_no_name(name: &str) -> bool {
    const SIGNS: [&str; 18] = [
        "cdot",
        "times",
        "div",
        "to",
        "rightarrow",
        "Rightarrow",
        "longrightarrow",
        "Longrightarrow",
        "langle",
        "rangle",
        "rfloor",
        "rceil",
        "int",
        "sum",
        "prod",
        "lim",
        "limits",
        "mathit",
    ];
    SIGNS.contains(&name) || RELATIONS.contains(&name)
}

/// Whether a command applies a function.
pub(super) fn is_function(name: &str) -> bool {
    matches!(name, "sqrt" | "overline" | "lfloor" | "lceil" | "log" | "ln" | "lg")
        || function(name).is_some()
}

/// The function of a command.
pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "exp" => Function::Exponential,
        "sin" => Function::Sine,
        "cos" => Function::Cosine,
        "tan" => Function::Tangent,
        "csc" => Function::Cosecant,
        "sec" => Function::Secant,
        "cot" => Function::Cotangent,
        "arcsin" => Function::Arcsine,
        "arccos" => Function::Arccosine,
        "arctan" => Function::Arctangent,
        "arccsc" => Function::Arccosecant,
        "arcsec" => Function::Arcsecant,
        "arccot" => Function::Arccotangent,
        "sinh" => Function::HyperbolicSine,
        "cosh" => Function::HyperbolicCosine,
        "tanh" => Function::HyperbolicTangent,
        "arsinh" => Function::AreaSine,
        "arcosh" => Function::AreaCosine,
        "artanh" => Function::AreaTangent,
        _ => return None,
    })
}
