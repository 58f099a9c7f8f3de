//! Bytes as characters, as byte-level vocabularies write them.

/// The first of the characters that stand for bytes that do not stand for themselves.
const FIRST: u32 = 0x100;

/// By byte, its character.
static CHARACTERS: [char; 256] = {
    let mut characters = ['\0'; 256];
    let mut others = 0;
    let mut byte = 0u8;
    loop {
        // What Latin-1 prints, spaces excepted, stands for itself.
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

/// By character, the byte that it stands for.
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

/// The characters of a text's bytes.
pub(super) fn to_characters(text: &str) -> String {
    text.bytes().map(|byte| CHARACTERS[usize::from(byte)]).collect()
}

/// The bytes of characters, if every one stands for a byte.
pub(super) fn from_characters(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| BYTES.get(c as usize).copied().flatten()).collect()
}
