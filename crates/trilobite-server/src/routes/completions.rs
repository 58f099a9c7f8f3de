//! `/v1/completions`.

use std::cmp::Ordering;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::Map;

use super::blocking::blocking;
use super::body::Body;
use super::stream::{Chunks, Envelope, merge, respond};
use crate::api::completions::{
    Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, Prompt,
};
use crate::api::error::{ApiResult, ErrorBody};
use crate::api::{StreamEvent, Usage, finish_reason, token_text};
use crate::app::App;
use crate::engine::{Answer, Event, Token, TokenLogprobs};
use crate::served::{Served, Wanted};

/// Continues texts.
#[utoipa::path(
    post,
    path = "/v1/completions",
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The answers; with `stream` as server-sent events", content(
            (Completion = "application/json"),
            (StreamEvent = "text/event-stream"),
        )),
        (status = "4XX", description = "The request is wrong, or too much", body = ErrorBody),
        (status = "5XX", description = "The server is at fault, or ends", body = ErrorBody),
    )
)]
pub(super) async fn completions(
    State(app): State<Arc<App>>,
    Body(fields): Body,
) -> ApiResult<Response> {
    let request = CompletionRequest::read(fields)?;
    let served = Arc::clone(app.model(request.common.model.as_deref())?);
    let (served, request, texts, wanted) = blocking(move || {
        let seed = request.common.first_seed();
        let (mut texts, mut wanted) = (Vec::new(), Vec::new());
        for prompt in request.prompt.each() {
            let one = want(&served, &request, prompt.clone(), seed)?;
            texts.push(Text::new(&served, &request, prompt, &one.prompt)?);
            wanted.push(one);
        }
        Ok((served, request, texts, wanted))
    })
    .await?;
    let tokens: Vec<usize> = wanted.iter().map(|wanted| wanted.prompt.len()).collect();
    let answers = served.submit(wanted, "prompt")?;
    let envelope = Envelope::new("cmpl", served.name());
    let choices = request.common.choices();
    let ends = vec![TextEnd::default(); choices * texts.len()];
    let (streams, includes_usage) = (request.common.streams(), request.common.includes_usage());
    let writer = CompletionWriter { served, envelope, choices, request, texts, ends };
    if streams {
        return Ok(respond(answers, tokens, writer, includes_usage));
    }
    Ok(Json(collect(answers, tokens, writer).await?).into_response())
}

fn want(
    served: &Served,
    request: &CompletionRequest,
    prompt: Prompt,
    seed: u64,
) -> ApiResult<Wanted> {
    Ok(Wanted {
        prompt: served.prompt(prompt, request.adds_special_tokens())?,
        samplers: served.constrain(
            request.common.samplers(served.model(), false, seed)?,
            request.common.form.as_ref(),
        )?,
        max_tokens: Some(request.limit(served.max_tokens())),
        stop: request.common.stops().to_vec(),
        prompt_logprobs: request.logprobs.filter(|_| request.echoes()),
        logprobs: request.logprobs,
    })
}

/// A prompt to echo before its answers.
struct Text {
    text: String,
    tokens: Vec<u32>,
    /// Tokens that the tokenizer adds before the text.
    added: usize,
    /// Characters that the tokenizer adds before the text: the space of SentencePiece.
    lead: usize,
}

impl Text {
    /// The prompt as sent, or the text of its tokens. It is empty without `echo`.
    fn new(
        served: &Served,
        request: &CompletionRequest,
        prompt: Prompt,
        tokens: &[u32],
    ) -> ApiResult<Self> {
        if !request.echoes() {
            return Ok(Self { text: String::new(), tokens: Vec::new(), added: 0, lead: 0 });
        }
        let (text, added) = match prompt {
            Prompt::Text(text) => {
                let plain = served.encode(&text, false)?.len();
                (text, tokens.len().saturating_sub(plain))
            }
            Prompt::Tokens(ids) => (served.tokenizer()?.decode(&ids, true)?, 0),
        };
        let bytes = tokens[added..].iter().flat_map(|&id| served.token_bytes(id));
        let joined = String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned();
        let lead = joined.strip_suffix(text.as_str()).map_or(0, |lead| lead.chars().count());
        Ok(Self { text, tokens: tokens.to_vec(), added, lead })
    }
}

/// Waits for all answers.
async fn collect(
    answers: Vec<Answer>,
    tokens: Vec<usize>,
    mut writer: CompletionWriter,
) -> ApiResult<Completion> {
    let mut usage = Usage::default();
    let mut choices: Vec<Option<CompletionChoice>> = writer.ends.iter().map(|_| None).collect();
    let mut events = merge(answers);
    while let Some((prompt, event)) = events.next().await {
        let pieces = match event {
            Event::Prompt { cached, logprobs } => {
                usage.add_prompt(tokens.get(prompt).copied().unwrap_or(0), cached);
                writer.echo(prompt, &logprobs)
            }
            Event::Token(token) => {
                usage.add_token();
                vec![writer.piece(prompt, token)]
            }
            Event::Empty { choice } => vec![writer.nothing(prompt, choice)],
            Event::Failed(failure) => return Err(failure.into()),
        };
        for piece in pieces {
            match choices.get_mut(piece.index) {
                Some(Some(choice)) => choice.append(piece),
                Some(choice) => *choice = Some(piece),
                None => {}
            }
        }
    }
    let choices = choices.into_iter().flatten().collect();
    Ok(writer.answer(choices, Some(usage)))
}

impl CompletionChoice {
    fn append(&mut self, piece: Self) {
        self.text += &piece.text;
        self.finish_reason = piece.finish_reason.or(self.finish_reason);
        match (&mut self.logprobs, piece.logprobs) {
            (Some(all), Some(new)) => {
                all.tokens.extend(new.tokens);
                all.token_logprobs.extend(new.token_logprobs);
                all.top_logprobs.extend(new.top_logprobs);
                all.text_offset.extend(new.text_offset);
            }
            (all @ None, new) => *all = new,
            (Some(_), None) => {}
        }
    }
}

/// The end of a text whose tokens are decoded one by one.
#[derive(Clone, Debug, Default, PartialEq)]
struct TextEnd {
    /// Number of complete characters.
    characters: usize,
    /// The bytes of an incomplete one.
    rest: Vec<u8>,
}

impl TextEnd {
    /// The end of a whole text.
    fn after(text: &str) -> Self {
        Self { characters: text.chars().count(), rest: Vec::new() }
    }

    /// Adds the bytes of a token. Its first `hidden` characters are not part of the text.
    fn push(&mut self, bytes: &[u8], hidden: usize) {
        self.rest.extend_from_slice(bytes);
        let mut new = 0;
        while !self.rest.is_empty() {
            let (whole, invalid) = match std::str::from_utf8(&self.rest) {
                Ok(text) => (text, Some(0)),
                Err(error) => {
                    let text = std::str::from_utf8(&self.rest[..error.valid_up_to()]);
                    (text.unwrap_or_default(), error.error_len())
                }
            };
            new += whole.chars().count();
            // Bytes that are no character appear as one.
            new += usize::from(invalid.is_some_and(|bytes| bytes > 0));
            let end = whole.len() + invalid.unwrap_or(0);
            self.rest.drain(..end);
            if invalid.is_none() {
                break;
            }
        }
        self.characters += new.saturating_sub(hidden);
    }
}

/// Writes the chunks of answers.
struct CompletionWriter {
    served: Arc<Served>,
    envelope: Envelope,
    choices: usize,
    request: CompletionRequest,
    texts: Vec<Text>,
    /// The end of the text so far, by the index of the choice.
    ends: Vec<TextEnd>,
}

impl CompletionWriter {
    fn index(&self, prompt: usize, choice: usize) -> usize {
        prompt * self.choices + choice
    }

    /// The prompt, once for each of its choices. It is empty without `echo`.
    fn echo(&mut self, prompt: usize, known: &[Option<TokenLogprobs>]) -> Vec<CompletionChoice> {
        if !self.request.echoes() {
            return Vec::new();
        }
        let choices = 0..self.choices;
        let echo = |choice| {
            let index = self.index(prompt, choice);
            let Text { text, tokens, added, lead } = &self.texts[prompt];
            let (text, added, lead) = (text.clone(), *added, *lead);
            let tokens = tokens.clone();
            let logprobs = (!known.is_empty()).then(|| {
                let mut all = CompletionLogprobs::default();
                for (place, (id, known)) in tokens.into_iter().zip(known).enumerate() {
                    let hidden = match place.cmp(&added) {
                        Ordering::Less => usize::MAX,
                        Ordering::Equal => lead,
                        Ordering::Greater => 0,
                    };
                    let bytes = self.served.token_bytes(id);
                    self.add(&mut all, index, id, known.as_ref());
                    if hidden < usize::MAX {
                        self.ends[index].push(&bytes, hidden);
                    }
                }
                all
            });
            self.ends[index] = TextEnd::after(&text);
            CompletionChoice { index, text, logprobs, finish_reason: None }
        };
        choices.map(echo).collect()
    }

    fn piece(&mut self, prompt: usize, token: Token) -> CompletionChoice {
        let index = self.index(prompt, token.choice);
        let logprobs = token.logprobs.map(|known| {
            let mut all = CompletionLogprobs::default();
            self.add(&mut all, index, token.id, Some(&known));
            self.ends[index].push(&self.served.text_bytes(token.id), 0);
            all
        });
        let finish_reason = token.finish.as_ref().map(finish_reason);
        CompletionChoice { index, text: token.text, logprobs, finish_reason }
    }

    fn nothing(&self, prompt: usize, choice: usize) -> CompletionChoice {
        let (index, text) = (self.index(prompt, choice), String::new());
        CompletionChoice { index, text, logprobs: None, finish_reason: Some("length") }
    }

    /// Adds a token at the end of the text so far.
    fn add(
        &self,
        all: &mut CompletionLogprobs,
        index: usize,
        id: u32,
        known: Option<&TokenLogprobs>,
    ) {
        let text = |id| token_text(&self.served.token_bytes(id));
        let own = text(id);
        all.text_offset.push(self.ends[index].characters);
        all.token_logprobs.push(known.map(|known| known.logprob));
        all.top_logprobs.push(known.map(|known| {
            let mut top = Map::new();
            for &(id, logprob) in known.top.iter().chain([&(known.id, known.logprob)]) {
                // Tokens can have the same text: the likeliest comes first.
                top.entry(text(id)).or_insert_with(|| logprob.into());
            }
            top
        }));
        all.tokens.push(own);
    }

    fn answer(&self, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> Completion {
        let Envelope { id, created, model } = self.envelope.clone();
        Completion { id, object: "text_completion", created, model, choices, usage }
    }
}

impl Chunks for CompletionWriter {
    type Chunk = Completion;

    fn begin(&mut self) -> Vec<Completion> {
        Vec::new()
    }

    fn prompt(&mut self, prompt: usize, known: Vec<Option<TokenLogprobs>>) -> Vec<Completion> {
        let echo = self.echo(prompt, &known);
        echo.into_iter().map(|choice| self.answer(vec![choice], None)).collect()
    }

    fn token(&mut self, prompt: usize, token: Token) -> Option<Completion> {
        let piece = self.piece(prompt, token);
        let is_new = !piece.text.is_empty() || piece.logprobs.is_some();
        (is_new || piece.finish_reason.is_some()).then(|| self.answer(vec![piece], None))
    }

    fn empty(&mut self, prompt: usize, choice: usize) -> Completion {
        self.answer(vec![self.nothing(prompt, choice)], None)
    }

    fn usage(&mut self, usage: Usage) -> Completion {
        self.answer(Vec::new(), Some(usage))
    }
}

#[cfg(test)]
mod tests {
    use super::TextEnd;

    #[test]
    fn the_end_of_a_text_counts_complete_characters() {
        let mut end = TextEnd::default();
        let ends: Vec<usize> = [
            &b" a"[..],
            b"\xc3",
            b"\xa9b",
            b"\xf0",
            b"\x9f",
            b"\xa6",
            b"\x80",
            b"\xff",
            b"\xe6\x97",
            b"c",
        ]
        .into_iter()
        .map(|bytes| {
            end.push(bytes, usize::from(bytes.starts_with(b" ")));
            end.characters
        })
        .collect();
        assert_eq!(ends, [1, 1, 3, 3, 3, 3, 4, 5, 5, 7]);
        assert_eq!(end, TextEnd::after("aéb🦀\u{fffd}\u{fffd}c"));
    }
}
