//! SentencePiece's precompiled character map.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use unicode_segmentation::UnicodeSegmentation;

/// Grapheme clusters of at least this many bytes are not looked up as a whole.
const MAX_CLUSTER: usize = 6;

/// A double-array trie of bytes. Its values are offsets of replacements in a text, where each ends
/// with a NUL.
pub(super) struct Charsmap {
    units: Vec<u32>,
    texts: String,
}

impl Charsmap {
    /// Decodes the Base64 form: the size of the trie, the trie, the replacements.
    pub(super) fn decode(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).map_err(|error| format!("is no Base64: {error}"))?;
        Self::new(&bytes)
    }

    /// Reads the size of the trie, the trie and the replacements.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, String> {
        let parts = bytes.split_first_chunk::<4>().and_then(|(size, rest)| {
            let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
            rest.split_at_checked(size / 4 * 4)
        });
        let Some((trie, texts)) = parts else {
            return Err(format!("ends before its trie does ({} bytes)", bytes.len()));
        };
        let (units, _) = trie.as_chunks::<4>();
        let texts = String::from_utf8(texts.to_vec());
        Ok(Self {
            units: units.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
            texts: texts.map_err(|_| "has replacements that are no UTF-8".to_owned())?,
        })
    }

    /// Replaces everything in a text that the map contains.
    pub(super) fn apply(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        for cluster in text.graphemes(true) {
            if cluster.len() < MAX_CLUSTER
                && let Some(replacement) = self.find(cluster)?
            {
                out.push_str(replacement);
                continue;
            }
            let mut buffer = [0; 4];
            for c in cluster.chars() {
                let character: &str = c.encode_utf8(&mut buffer);
                match self.find(character)? {
                    Some(replacement) => out.push_str(replacement),
                    None => out.push(c),
                }
            }
        }
        Ok(out)
    }

    /// Replaces everything in a text that the map contains, as SentencePiece itself does: at every
    /// place the longest match.
    pub(super) fn apply_longest(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let mut longest = None;
            self.each_prefix(rest, |length, replacement| {
                longest = Some((length, replacement));
                true
            })?;
            // A match ends between two characters.
            let longest = longest.and_then(|(length, with)| Some((rest.get(length..)?, with)));
            match longest {
                Some((after, replacement)) => {
                    out.push_str(replacement);
                    rest = after;
                }
                None => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        Ok(out)
    }

    /// The replacement of the shortest prefix of a text that has one. The reference takes it for
    /// the replacement of the whole text.
    fn find(&self, text: &str) -> Result<Option<&str>, String> {
        let mut shortest = None;
        self.each_prefix(text, |_, replacement| {
            shortest = Some(replacement);
            false
        })?;
        Ok(shortest)
    }

    /// Calls `found(length, replacement)` for every prefix of a text that has a replacement, until it
    /// returns `false`.
    fn each_prefix<'a>(
        &'a self,
        text: &str,
        mut found: impl FnMut(usize, &'a str) -> bool,
    ) -> Result<(), String> {
        let mut at = 0;
        let mut node = self.unit(at)?;
        at ^= offset(node);
        for (length, byte) in (1..).zip(text.bytes().take_while(|&byte| byte != 0)) {
            at ^= usize::from(byte);
            node = self.unit(at)?;
            if node & (1 << 31 | 0xFF) != u32::from(byte) {
                return Ok(());
            }
            at ^= offset(node);
            // Whether the node has a value.
            if node >> 8 & 1 == 1 {
                let start = self.unit(at)? & !(1 << 31);
                let rest = self.texts.get(start as usize..).ok_or_else(outside)?;
                if !found(length, rest.split('\0').next().unwrap_or_default()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn unit(&self, at: usize) -> Result<u32, String> {
        self.units.get(at).copied().ok_or_else(outside)
    }
}

/// The offset of a node's children, relative to the node.
fn offset(node: u32) -> usize {
    ((node >> 10) << ((node & (1 << 9)) >> 6)) as usize
}

fn outside() -> String {
    "its precompiled_charsmap points outside itself".to_owned()
}
