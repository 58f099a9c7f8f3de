//! The kinds of tokens in a vocabulary.

/// The kind of a token, numbered as in llama.cpp. [`keys::TOKEN_KINDS`](crate::keys::TOKEN_KINDS)
/// holds the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Ordinary text.
    Normal = 1,
    /// A placeholder for text that the vocabulary cannot express.
    Unknown = 2,
    /// A control token, such as the beginning or end of a text. It has no text of its own.
    Control = 3,
    /// An added token, matched by its text before all others.
    UserDefined = 4,
    /// A placeholder for an unused id.
    Unused = 5,
    /// One byte, a fallback for text that no other token covers.
    Byte = 6,
}

impl TokenKind {
    /// All kinds, by number.
    pub const ALL: [Self; 6] =
        [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];

    /// The number of the kind in files.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The kind with this number. As in llama.cpp, an unknown number is [`Normal`](Self::Normal).
    pub fn of(number: i32) -> Self {
        Self::ALL.into_iter().find(|kind| kind.number() == number).unwrap_or(Self::Normal)
    }
}
