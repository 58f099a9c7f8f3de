//! Kinds of tokens.

/// What a token is for, by llama.cpp's numbers in [`keys::TOKEN_KINDS`](crate::keys::TOKEN_KINDS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal = 1,
    /// Stands for what the vocabulary lacks.
    Unknown = 2,
    /// Begins or ends something, and is no text.
    Control = 3,
    /// Found by its text before anything else.
    UserDefined = 4,
    /// Fills an id that nothing has trained.
    Unused = 5,
    /// One byte, for what no other token spells.
    Byte = 6,
}

impl TokenKind {
    /// All kinds, by number.
    pub const ALL: [Self; 6] =
        [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];

    /// The number in files.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The kind of a number. One that is not known counts as [`Normal`](Self::Normal), as in
    /// llama.cpp.
    pub fn of(number: i32) -> Self {
        Self::ALL.into_iter().find(|kind| kind.number() == number).unwrap_or(Self::Normal)
    }
}
