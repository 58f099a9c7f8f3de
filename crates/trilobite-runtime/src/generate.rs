//! Generation of tokens, and of text as soon as the tokens determine it.

mod many;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::head::Logits;
use crate::sampler::Sampler;
use crate::sequence::{Part, Want};
use crate::session::Session;
use crate::speculate::Drafted;
use crate::tokenizer::Tokenizer;

pub use many::generate_many;

/// Number of prompt tokens that precede the generated ones when they are decoded. A SentencePiece
/// tokenizer drops a space at the beginning of a text, and a continuation keeps that space.
const PROMPT_TAIL: usize = 4;

/// The conditions that end a generation.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Maximum number of tokens to generate. Without it the context is the limit.
    pub max_tokens: Option<usize>,
    /// Ids that end the generation. The text does not include them.
    pub end_ids: Vec<u32>,
    /// Stop strings. The text ends before the first one that appears.
    pub stop: Vec<String>,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model generated one of the end ids, or the constraint allows no more text.
    EndOfText,
    /// A stop string appeared.
    Stop(String),
    /// The maximum number of tokens was reached.
    Length,
    /// The context is full.
    ContextFull,
    /// The listener stopped the generation.
    Interrupted,
}

/// A finished generation.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The generated ids, including the one that ended the generation.
    pub ids: Vec<u32>,
    /// Their text without the end; empty without a tokenizer.
    pub text: String,
    /// Why the generation ended.
    pub finish: Finish,
    /// Number of prompt tokens that were processed.
    pub prompt_tokens: usize,
    /// Time of the prefill, from its start to the logits of the last prompt token.
    pub prompt_time: Duration,
    /// Time of the decoding steps, which produce all tokens but the first.
    pub decode_time: Duration,
    /// Tokens that were drafted.
    pub drafted: Drafted,
}

impl Generation {
    /// Prompt tokens processed per second, or `None` if there was nothing to process.
    pub fn prompt_speed(&self) -> Option<f64> {
        let seconds = self.prompt_time.as_secs_f64();
        (seconds > 0.0).then(|| self.prompt_tokens as f64 / seconds)
    }

    /// Tokens decoded per second, the first one not counted.
    pub fn decode_speed(&self) -> Option<f64> {
        let passes = self.ids.len().checked_sub(1).filter(|&passes| passes > 0)?;
        Some(passes as f64 / self.decode_time.as_secs_f64())
    }
}

/// Generates a continuation of `prompt`, which holds the tokens of the whole context. Tokens that
/// the session has processed already are not processed again.
///
/// `listen(id, text)` is called with every generated id and the text that has become certain. The
/// text is often empty, since a character can span several tokens. The listener can stop the
/// generation. If text is held back at the end, a further call has it, with the last id again.
///
/// The session does not process the last generated token. Its speculation changes the time alone.
///
/// # Errors
/// The prompt is empty, does not fit in the context, or holds unknown ids.
pub fn generate(
    session: &mut Session,
    tokenizer: Option<&Tokenizer>,
    sampler: &mut Sampler,
    prompt: &[u32],
    limits: &Limits,
    listen: impl FnMut(u32, &str) -> ControlFlow<()>,
) -> Result<Generation> {
    let start = Instant::now();
    // The last prompt token is always processed: its logits predict the first new token.
    let kept = session.rewind(prompt, prompt.len().saturating_sub(1));
    let (forward, sequence, mut speculation) = session.split();
    let before = speculation.as_ref().map(|speculation| speculation.counts());
    let continuation = Continuation::new(tokenizer, limits.clone(), prompt);
    let text = prompt.to_vec();
    let mut answer = Answer { sampler, continuation, text, listen, finish: None };
    let mut next = prompt[kept..].to_vec();
    let mut prompt_time = Duration::ZERO;
    let finish = loop {
        let count = answer.continuation.ids.len();
        if limits.max_tokens.is_some_and(|max| count >= max) {
            break Finish::Length;
        }
        // The prompt must fit. After that a full context ends the generation.
        if count > 0 && sequence.len() >= forward.context() {
            break Finish::ContextFull;
        }
        let sure = next.len();
        if let Some(speculation) = speculation.as_mut().filter(|_| count > 0) {
            // The token after the last draft is within the limits too.
            let room = limits.max_tokens.map_or(usize::MAX, |max| max - count - 1);
            let room = room.min(forward.context() - sequence.len() - 1);
            next.extend_from_slice(speculation.draft(&answer.text, room)?);
        }
        let from = sure.checked_sub(1).ok_or(Error::EmptyPrompt)?;
        let needs = answer.sampler.needs_after(&answer.continuation.ids, &next[sure..]);
        let part = Part { sequence: &mut *sequence, tokens: &next, want: Want::new(from, needs) };
        let (mut expected, mut failure) = (from, None);
        forward.read(&mut [part], |_, index, logits| {
            if index != expected || answer.finish.is_some() || failure.is_some() {
                return;
            }
            match answer.take(logits) {
                Ok(id) if next.get(index + 1) == Some(&id) => {
                    answer.sampler.watch(&answer.continuation.ids);
                    expected += 1;
                }
                // The tokens that follow were drafted wrongly.
                Ok(_) => expected = usize::MAX,
                Err(error) => failure = Some(error),
            }
        })?;
        sequence.truncate(answer.text.len() - 1);
        if let Some(error) = failure {
            return Err(error);
        }
        match (count, &mut speculation) {
            (0, _) => prompt_time = start.elapsed(),
            (_, Some(speculation)) => speculation.note(answer.continuation.ids.len() - count - 1),
            _ => {}
        }
        if let Some(finish) = answer.finish.take() {
            break finish;
        }
        next.clear();
        next.extend(answer.text.last());
    };
    let Answer { mut continuation, mut listen, .. } = answer;
    let rest = continuation.finish()?;
    if let Some(&last) = continuation.ids.last().filter(|_| !rest.is_empty()) {
        // The generation has ended, so the listener's answer has no effect.
        let _ = listen(last, &rest);
    }
    let drafted = speculation.zip(before).map(|(now, before)| now.counts() - before);
    Ok(Generation {
        prompt_tokens: prompt.len() - kept,
        prompt_time,
        decode_time: start.elapsed() - prompt_time,
        ids: continuation.ids,
        text: continuation.text,
        finish,
        drafted: drafted.unwrap_or_default(),
    })
}

/// An answer in progress.
struct Answer<'a, 't, L> {
    sampler: &'a mut Sampler,
    continuation: Continuation<'t>,
    /// The prompt and the tokens of the answer.
    text: Vec<u32>,
    listen: L,
    finish: Option<Finish>,
}

impl<L: FnMut(u32, &str) -> ControlFlow<()>> Answer<'_, '_, L> {
    /// Chooses the token after the text from its logits. The sampler has seen the answer so far.
    fn take(&mut self, logits: Logits<'_>) -> Result<u32> {
        let id = self.sampler.sample(logits, &self.text)?;
        self.text.push(id);
        let (piece, finish) = self.continuation.push(id)?;
        let finish = finish.or_else(|| self.sampler.is_complete().then_some(Finish::EndOfText));
        let flow = (self.listen)(id, &piece);
        self.finish = finish.or(flow.is_break().then_some(Finish::Interrupted));
        Ok(id)
    }
}

/// The tokens that continue a prompt, and their text.
pub struct Continuation<'a> {
    limits: Limits,
    stream: TextStream<'a>,
    ids: Vec<u32>,
    text: String,
    ended: bool,
}

impl<'a> Continuation<'a> {
    /// Creates an empty continuation of `prompt`.
    pub fn new(tokenizer: Option<&'a Tokenizer>, limits: Limits, prompt: &[u32]) -> Self {
        let tail = prompt.len().saturating_sub(PROMPT_TAIL);
        let stream = TextStream::new(tokenizer, &prompt[tail..]);
        Self { limits, stream, ids: Vec::new(), text: String::new(), ended: false }
    }

    /// Adds a token. Returns the text that has become certain and, if this token ends the
    /// generation, the reason.
    ///
    /// # Errors
    /// The tokenizer cannot decode the token.
    pub fn push(&mut self, id: u32) -> Result<(String, Option<Finish>)> {
        self.ids.push(id);
        let (piece, finish) = match self.limits.end_ids.contains(&id) {
            true => (self.stream.finish()?, Some(Finish::EndOfText)),
            false => {
                let (piece, stop) = self.stream.push(id, &self.limits.stop)?;
                (piece, stop.map(Finish::Stop))
            }
        };
        self.ended = finish.is_some();
        self.text += &piece;
        Ok((piece, finish))
    }

    /// Ends the text. Returns the text that was held back.
    ///
    /// # Errors
    /// The tokenizer cannot decode the tokens.
    pub fn finish(&mut self) -> Result<String> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(String::new());
        }
        let rest = self.stream.finish()?;
        self.text += &rest;
        Ok(rest)
    }

    /// The tokens, including the one that ended the generation.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The text that is certain.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Decodes ids piece by piece. It holds back incomplete characters and possible stop strings.
struct TextStream<'a> {
    tokenizer: Option<&'a Tokenizer>,
    ids: Vec<u32>,
    /// `ids[..shown]` have been decoded. Decoding starts at `from`, which is a little earlier,
    /// since the text of a token can depend on the token before it.
    from: usize,
    shown: usize,
    /// Text that may be the beginning of a stop string.
    held: String,
}

impl<'a> TextStream<'a> {
    /// Creates a stream for text that follows `before`.
    fn new(tokenizer: Option<&'a Tokenizer>, before: &[u32]) -> Self {
        Self { tokenizer, ids: before.to_vec(), from: 0, shown: before.len(), held: String::new() }
    }

    /// Adds an id. Returns the text that has become certain and the stop string that it completes.
    fn push(&mut self, id: u32, stop: &[String]) -> Result<(String, Option<String>)> {
        self.ids.push(id);
        let piece = self.decode(false)?;
        self.held.push_str(&piece);
        let found = stop
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)))
            .min();
        if let Some((at, stop)) = found {
            self.held.truncate(at);
            return Ok((std::mem::take(&mut self.held), Some(stop.clone())));
        }
        let keep = stop.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let held = self.held.split_off(self.held.len() - keep);
        Ok((std::mem::replace(&mut self.held, held), None))
    }

    /// Returns all text that was held back.
    fn finish(&mut self) -> Result<String> {
        let piece = self.decode(true)?;
        Ok(std::mem::take(&mut self.held) + &piece)
    }

    /// Decodes the new ids. Unless `all`, an incomplete character at the end is held back.
    fn decode(&mut self, all: bool) -> Result<String> {
        let Some(tokenizer) = self.tokenizer else { return Ok(String::new()) };
        let before = tokenizer.decode_part(&self.ids[self.from..self.shown], false)?;
        let now = tokenizer.decode_part(&self.ids[self.from..], false)?;
        if now.len() <= before.len() || (now.ends_with('\u{fffd}') && !all) {
            return Ok(String::new());
        }
        // `now` begins with `before`, unless a replacement character has become a real one.
        let piece = now.get(before.len()..).unwrap_or(&now).to_owned();
        self.from = self.shown;
        self.shown = self.ids.len();
        Ok(piece)
    }
}

/// Length of the longest suffix of `text` that is a prefix of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).filter(|&at| at > 0);
    starts.rev().find(|&at| text.ends_with(&stop[..at])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer with one token per byte, like byte-level BPE without merges.
    fn bytes_tokenizer() -> Tokenizer {
        let mut chars: Vec<char> = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ').collect();
        let mut bytes: Vec<u32> = chars.iter().map(|&c| c as u32).collect();
        for byte in 0..256 {
            if !bytes.contains(&byte) {
                chars.extend(char::from_u32(256 + (bytes.len() as u32 - 188)));
                bytes.push(byte);
            }
        }
        let vocab: serde_json::Map<_, _> = chars
            .iter()
            .zip(&bytes)
            .map(|(c, &byte)| (c.to_string(), serde_json::Value::from(byte)))
            .collect();
        let json = serde_json::json!({
            "version": "1.0", "added_tokens": [],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
                "trim_offsets": true, "use_regex": false},
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": false},
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        });
        Tokenizer::from_json(json.to_string().as_bytes()).unwrap()
    }

    fn stream(text: &str, stop: &[&str]) -> (Vec<String>, Option<String>, String) {
        let tokenizer = bytes_tokenizer();
        let stop: Vec<String> = stop.iter().map(|&s| s.to_owned()).collect();
        let mut stream = TextStream::new(Some(&tokenizer), &[]);
        let mut pieces = Vec::new();
        for id in tokenizer.encode(text, false, false).unwrap() {
            let (piece, stop) = stream.push(id, &stop).unwrap();
            pieces.push(piece);
            if stop.is_some() {
                return (pieces, stop, String::new());
            }
        }
        let rest = stream.finish().unwrap();
        (pieces, None, rest)
    }

    #[test]
    fn characters_are_never_split() {
        let text = "aé日本🦀 z";
        let (pieces, _, rest) = stream(text, &[]);
        assert_eq!(pieces.concat() + &rest, text);
        assert!(
            pieces.iter().all(|piece| piece.chars().count() <= 1 && !piece.contains('\u{fffd}'))
        );
    }

    /// As in Llama 2, a space belongs to the word that follows it, and a leading space is dropped.
    #[test]
    fn a_continuation_keeps_its_first_space() {
        let json = serde_json::json!({
            "version": "1.0", "added_tokens": [],
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ]},
            "model": {"type": "BPE", "vocab": {"\u{2581}one": 0, "\u{2581}two": 1}, "merges": []},
        });
        let tokenizer = Tokenizer::from_json(json.to_string().as_bytes()).unwrap();
        let mut alone = TextStream::new(Some(&tokenizer), &[]);
        assert_eq!(alone.push(1, &[]).unwrap().0, "two");
        let mut after = TextStream::new(Some(&tokenizer), &[0]);
        assert_eq!(after.push(1, &[]).unwrap().0, " two");
        assert_eq!(after.push(0, &[]).unwrap().0, " one");
    }

    #[test]
    fn stop_texts_are_held_back_and_cut() {
        let (pieces, stop, _) = stream("one\nQuestion: two", &["\nQ", "zzz"]);
        assert_eq!(pieces.concat(), "one");
        assert_eq!(stop.as_deref(), Some("\nQ"));
        let (pieces, stop, rest) = stream("abab", &["abac"]);
        assert_eq!((pieces.concat() + &rest).as_str(), "abab");
        assert_eq!(stop, None);
        let (pieces, stop, _) = stream("aXbYc", &["Yc", "bY"]);
        assert_eq!((pieces.concat().as_str(), stop.as_deref()), ("aX", Some("bY")));
    }

    #[test]
    fn an_unfinished_character_appears_at_the_end() {
        let tokenizer = bytes_tokenizer();
        let mut stream = TextStream::new(Some(&tokenizer), &[]);
        assert_eq!(stream.push(0xe6, &[]).unwrap().0, "");
        assert_eq!(stream.finish().unwrap(), "\u{fffd}");
    }
}
