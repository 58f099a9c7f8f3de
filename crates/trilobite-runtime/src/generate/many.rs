//! Generation of several texts at once.

use std::ops::ControlFlow;

use super::{Continuation, Limits};
use crate::error::{Error, Result};
use crate::forward::Forward;
use crate::sampler::{Sampler, Sampling};
use crate::sequence::{Part, Sequence, Want};
use crate::session::Session;
use crate::tokenizer::Tokenizer;

/// A continuation in progress.
struct Running<'a> {
    /// The number of its prompt.
    prompt: usize,
    max_tokens: usize,
    sequence: Sequence,
    sampler: Sampler,
    continuation: Continuation<'a>,
    /// The tokens of the prompt and the continuation. The sequence lacks the last ones.
    text: Vec<u32>,
    /// Whether a token or text ended it.
    ended: bool,
}

impl Running<'_> {
    /// Whether it has as many tokens as it can have.
    fn is_full(&self, context: usize) -> bool {
        let count = self.continuation.ids().len();
        count >= self.max_tokens || count > 0 && self.sequence.len() >= context
    }
}

/// Generates a continuation of every prompt with the result of [`generate`](super::generate), at most
/// `width` at once: a step reads the weights once for all of them. The common beginning of a prompt
/// and the one before it is processed once.
///
/// `listen(prompt, text)` is called with the number of a prompt and its continuation, in the order
/// in which they end. The listener can stop the generation of all.
///
/// # Errors
/// As for `generate`, with the number of the prompt. An error of a step of several prompts has the
/// number of the first.
pub fn generate_many(
    session: &mut Session,
    tokenizer: Option<&Tokenizer>,
    sampling: Sampling,
    prompts: &[(Vec<u32>, Limits)],
    width: usize,
    mut listen: impl FnMut(usize, String) -> ControlFlow<()>,
) -> std::result::Result<(), (usize, Error)> {
    let mut waiting = prompts.iter().enumerate();
    let mut running: Vec<Running<'_>> = Vec::new();
    loop {
        while running.len() < width.max(1) {
            let Some((number, (prompt, limits))) = waiting.next() else { break };
            let fail = |error| (number, error);
            if prompt.is_empty() {
                return Err(fail(Error::EmptyPrompt));
            }
            // The last token is always processed: its logits predict the next one.
            session.rewind(prompt, prompt.len() - 1);
            let (forward, shared, _) = session.split();
            let mut one = Running {
                prompt: number,
                max_tokens: limits.max_tokens.unwrap_or(usize::MAX),
                sequence: shared.fork(),
                sampler: Sampler::new(sampling).map_err(fail)?,
                continuation: Continuation::new(tokenizer, limits.clone(), prompt),
                text: prompt.clone(),
                ended: false,
            };
            if one.max_tokens > 0 {
                step(forward, std::slice::from_mut(&mut one)).map_err(fail)?;
                *shared = one.sequence.fork();
            }
            running.push(one);
        }
        let Some(first) = running.first().map(|one| one.prompt) else { return Ok(()) };
        let context = session.context();
        for at in (0..running.len()).rev() {
            if running[at].ended || running[at].is_full(context) {
                let mut one = running.remove(at);
                one.continuation.finish().map_err(|error| (one.prompt, error))?;
                if listen(one.prompt, one.continuation.text().to_owned()).is_break() {
                    return Ok(());
                }
            }
        }
        let (forward, ..) = session.split();
        step(forward, &mut running).map_err(|error| (first, error))?;
    }
}

/// Processes the new tokens of all continuations and adds the next token to each.
fn step(forward: &mut Forward, running: &mut [Running<'_>]) -> Result<()> {
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for Running { sequence, sampler, continuation, text, ended, .. } in running {
        let tokens = text[sequence.len()..].to_vec();
        let want = Want::new(tokens.len() - 1, sampler.needs_after(continuation.ids(), &[]));
        inputs.push((sequence, tokens, want));
        outputs.push((sampler, continuation, text, ended));
    }
    let parts = inputs.iter_mut().map(|(sequence, tokens, want)| Part {
        sequence,
        tokens: &*tokens,
        want: *want,
    });
    let mut parts: Vec<Part<'_>> = parts.collect();
    let mut failure = None;
    forward.read(&mut parts, |part, _, logits| {
        let (sampler, continuation, text, ended) = &mut outputs[part];
        let mut take = || -> Result<()> {
            let id = sampler.sample(logits, text)?;
            text.push(id);
            let (_, finish) = continuation.push(id)?;
            **ended = finish.is_some() || sampler.is_complete();
            Ok(())
        };
        if let Err(error) = take() {
            failure.get_or_insert(error);
        }
    })?;
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use trilobite_convert::{Checkpoint, HeadScan, Options, convert, ignore_progress};

    use super::*;
    use crate::forward::SessionOptions;
    use crate::generate::generate;
    use crate::model::Model;

    #[test]
    fn texts_are_those_that_are_generated_alone() {
        for name in ["bitnet_online", "gemma3", "maple"] {
            let folder =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden").join(name);
            let mut file = Vec::new();
            let checkpoint = Checkpoint::open(folder).unwrap();
            let options = Options { head_scan: HeadScan::Always, ..Options::default() };
            convert(&checkpoint, &options, &mut file, &mut ignore_progress).unwrap();
            let model = Arc::new(Model::from_bytes(file).unwrap());
            let tokenizer = model.tokenizer().unwrap();
            let options = SessionOptions { threads: 2, context: 80, ..SessionOptions::default() };
            let session = || Session::new(Arc::clone(&model), options).unwrap();

            let text = "The old house at the end of the street had a green door and ";
            let prompt = |number: usize| {
                let words = format!("{text}{} windows", number * number);
                let ids = tokenizer.encode(&words, number.is_multiple_of(3), false).unwrap();
                let max_tokens = [None, Some(0), Some(1), Some(7), Some(20)][number % 5];
                let stop = if number.is_multiple_of(4) { vec!["e".to_owned()] } else { Vec::new() };
                (ids, Limits { max_tokens, stop, end_ids: vec![5] })
            };
            let prompts: Vec<_> = (0..11).map(prompt).collect();
            for (temperature, min_p) in [(0.0, 0.0), (0.9, 0.0), (0.4, 0.2)] {
                let sampling = Sampling { temperature, min_p, seed: 3, ..Sampling::default() };
                let alone = |(prompt, limits): &(Vec<u32>, Limits)| {
                    let mut sampler = Sampler::new(sampling).unwrap();
                    let go_on = |_: u32, _: &str| ControlFlow::Continue(());
                    // Every logit is computed.
                    let options = SessionOptions { plain: true, ..options };
                    let mut session = Session::new(Arc::clone(&model), options).unwrap();
                    generate(&mut session, Some(tokenizer), &mut sampler, prompt, limits, go_on)
                        .unwrap()
                        .text
                };
                let expected: Vec<String> = prompts.iter().map(alone).collect();
                for width in [1, 3, 20] {
                    let mut found = vec![None; prompts.len()];
                    let take = |number: usize, text| {
                        assert!(found[number].replace(text).is_none());
                        ControlFlow::Continue(())
                    };
                    generate_many(&mut session(), Some(tokenizer), sampling, &prompts, width, take)
                        .unwrap();
                    let found: Vec<String> = found.into_iter().map(Option::unwrap).collect();
                    assert_eq!(found, expected, "{name}, temperature {temperature}, width {width}");
                }
            }
            let long = (vec![7; 81], Limits::default());
            let failed = generate_many(
                &mut session(),
                Some(tokenizer),
                Sampling::default(),
                &[prompts[3].clone(), long],
                4,
                |_, _| ControlFlow::Continue(()),
            );
            assert_eq!(failed.unwrap_err().0, 1);
        }
    }
}
