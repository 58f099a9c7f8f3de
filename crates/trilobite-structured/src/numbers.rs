//! Bounds the numbers of JSON to what every parser can represent.

/// Maximum digits before the exponent: enough for any type, and it ends a repetition of digits.
const MOST_DIGITS: u32 = 64;
/// Maximum digits of the exponent: 10^(64 + 99) is finite.
const MOST_EXPONENT: u32 = 2;

/// The lexical position in a JSON text.
#[derive(Clone, Copy, Default)]
pub(crate) struct Numbers {
    place: Place,
    /// Digits so far of the number or of its exponent.
    digits: u32,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Place {
    #[default]
    Between,
    Text,
    /// After the backslash of a string.
    Escape,
    Digits,
    Exponent,
}

impl Numbers {
    /// Whether the position is within a string.
    pub(crate) fn in_text(&self) -> bool {
        matches!(self.place, Place::Text | Place::Escape)
    }

    /// Advances by some bytes. Returns `false` if they make a number too long.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        let mut fits = true;
        for &byte in bytes {
            fits &= self.push_byte(byte);
        }
        fits
    }

    fn push_byte(&mut self, byte: u8) -> bool {
        self.place = match (self.place, byte) {
            (Place::Text, b'\\') => Place::Escape,
            (Place::Text, b'"') => Place::Between,
            (Place::Text | Place::Escape, _) => Place::Text,
            (_, b'"') => Place::Text,
            (Place::Between, b'0'..=b'9') => {
                self.digits = 1;
                Place::Digits
            }
            (place @ (Place::Digits | Place::Exponent), b'0'..=b'9') => {
                self.digits += 1;
                let most = if place == Place::Digits { MOST_DIGITS } else { MOST_EXPONENT };
                if self.digits > most {
                    return false;
                }
                place
            }
            (Place::Digits, b'.') => Place::Digits,
            (Place::Digits, b'e' | b'E') => {
                self.digits = 0;
                Place::Exponent
            }
            (Place::Exponent, b'+' | b'-') => Place::Exponent,
            _ => Place::Between,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_bounded_and_strings_are_not() {
        let fits = |text: &str| Numbers::default().push(text.as_bytes());
        let digits = "7".repeat(MOST_DIGITS as usize);
        assert!(fits(&format!("[{digits}, -{digits}e-99, true, 1E+10, 0.5]")));
        assert!(fits(&format!("{{\"{digits}9\\\"9e999\": 1}}")));
        assert!(!fits(&format!("[{digits}7")));
        assert!(!fits("1e100"));
        assert!(!fits("{\"a\": 1.5E-100"));
        assert!(format!("{digits}e99").parse::<f64>().unwrap().is_finite());
    }
}
