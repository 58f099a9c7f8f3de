//! The characters that represent bytes in byte-level vocabularies.

/// The first of the characters that represent bytes other than themselves.
const FIRST: u32 = 0x100;

/// The character of each byte.
static CHARACTERS: [char; 256] = {
    let mut characters = ['\0'; 256];
    let mut others = 0;
    let mut byte = 0u8;
    loop {
        // Printable Latin-1 characters except spaces represent themselves.
        let character = if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            Some(byte as char)
        } else {
            others += 1;
            char::from_u32(FIRST + others - 1)
        };
        if let Some(character) = character {
            characters[byte as usize] = character;
        }
        if byte == u8::MAX {
            break characters;
        }
        byte += 1;
    }
};

/// The byte of each character.
static BYTES: [Option<u8>; 0x144] = {
    let mut bytes = [None; 0x144];
    let mut byte = 0u8;
    loop {
        bytes[CHARACTERS[byte as usize] as usize] = Some(byte);
        if byte == u8::MAX {
            break bytes;
        }
        byte += 1;
    }
};

/// The characters that represent the bytes of a text.
pub(super) fn to_characters(text: &str) -> String {
    text.bytes().map(|byte| CHARACTERS[usize::from(byte)]).collect()
}

/// The bytes that characters represent, or `None` if one represents no byte.
pub(super) fn from_characters(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| BYTES.get(c as usize).copied().flatten()).collect()
}
