//! Checks that logits have the same bits, however they are computed.

use std::sync::Arc;

use anyhow::Result;
use trilobite_kernels::{Isa, Kernels};
use trilobite_runtime::{Forward, Largest, Model, Part, SessionOptions, Want};

use super::{Outcome, Subject};

/// Number of tokens that the scalar kernels compute, which are slow.
const FEW: usize = 8;
/// The margin of a search in the way of min-p: that of min-p 0.05 at a temperature of 1.
const MARGIN: f32 = 3.0;

/// A way to compute outputs.
#[derive(Clone, Copy)]
pub(super) struct Way {
    kernels: &'static Kernels,
    pub(super) options: SessionOptions,
    /// Number of tokens of a pass.
    step: usize,
}

impl Way {
    /// All of some tokens at once, with the kernels that this machine uses.
    pub(super) fn at_once(tokens: &[u32], threads: usize) -> Result<Self> {
        let step = tokens.len();
        let options = SessionOptions { threads, context: step, ..SessionOptions::default() };
        Ok(Self { kernels: Kernels::detect()?, options, step })
    }
}

/// The logits after each token, or the hidden states of a model that gives embeddings only.
pub(super) fn outputs(model: &Arc<Model>, way: &Way, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
    let Way { kernels, options, step } = *way;
    let mut forward = Forward::new(Arc::clone(model), options)?.with_kernels(kernels);
    let (mut sequence, mut found) = (forward.sequence(), Vec::new());
    for tokens in tokens.chunks(step) {
        let want = if model.only_embeds() { Want::Nothing } else { Want::From(0) };
        let mut parts = [Part { sequence: &mut sequence, tokens, want }];
        match want {
            Want::Nothing => {
                forward.hidden_states(&mut parts, |_, _, state| found.push(state.to_vec()))?;
            }
            _ => forward.read(&mut parts, |_, _, logits| found.push(logits.values().to_vec()))?,
        }
    }
    Ok(found)
}

/// Where two outputs differ: the token, the index of the first value, and both values.
fn difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> Option<String> {
    a.iter().zip(b).enumerate().find_map(|(token, (a, b))| {
        let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
        let at = a.iter().zip(b).position(differs)?;
        Some(format!("after token {}, value {at} is {}, not {}", token + 1, b[at], a[at]))
    })
}

/// The kernels of this machine, all tokens at once.
pub(super) fn instruction_sets(subject: &Subject) -> Result<Outcome> {
    let (way, tokens) = (subject.way()?, &subject.tokens);
    let chosen = way.kernels.isa;
    let mut names = vec![chosen.name()];
    for kernels in Kernels::available().into_iter().rev().filter(|each| each.isa != chosen) {
        let name = kernels.isa.name();
        let count = if kernels.isa == Isa::Scalar { FEW.min(tokens.len()) } else { tokens.len() };
        let found = outputs(&subject.model, &Way { kernels, ..way }, &tokens[..count])?;
        if let Some(difference) = difference(&subject.outputs, &found) {
            let chosen = chosen.name();
            return Ok(Outcome::Failed(format!("{name} differs from {chosen}: {difference}")));
        }
        names.push(name);
    }
    let rejected: Vec<&str> = Kernels::rejected().into_iter().map(|isa| isa.name()).collect();
    if !rejected.is_empty() {
        let rejected = rejected.join(", ");
        return Ok(Outcome::Failed(format!(
            "{rejected}: kernels compute something else, not used"
        )));
    }
    Ok(Outcome::Passed(format!("the same bits for {} tokens: {}", tokens.len(), names.join(", "))))
}

/// Other numbers of threads, other divisions of the tokens among passes, every weight read.
pub(super) fn divisions(subject: &Subject) -> Result<Outcome> {
    let way = subject.way()?;
    let threads = [1, subject.threads + 1];
    let [one, more] =
        threads.map(|threads| Way { options: SessionOptions { threads, ..way.options }, ..way });
    let plain = Way { options: SessionOptions { plain: true, ..way.options }, ..way };
    let ways = [
        ("1 thread", one),
        ("more threads", more),
        ("parts of 7 tokens", Way { step: 7, ..way }),
        ("one token at a time", Way { step: 1, ..way }),
        ("--plain", plain),
        ("--plain, one token at a time", Way { step: 1, ..plain }),
    ];
    for (name, way) in ways {
        let found = outputs(&subject.model, &way, &subject.tokens)?;
        if let Some(difference) = difference(&subject.outputs, &found) {
            return Ok(Outcome::Failed(format!("{name}: {difference}")));
        }
    }
    Ok(Outcome::Passed(format!(
        "the same bits with {}, {} and {} threads, at once, in parts of 7, one by one, and --plain",
        threads[0], subject.threads, threads[1]
    )))
}

/// The search for the largest logits.
pub(super) fn largest(subject: &Subject) -> Result<Outcome> {
    if subject.model.weights().head_scan.is_none() {
        return Ok(Outcome::Skipped(
            "the file has no coarse copy of the head to search".to_owned(),
        ));
    }
    let tokens = &subject.tokens;
    let mut forward = Forward::new(Arc::clone(&subject.model), subject.way()?.options)?;
    let near = Largest { within: MARGIN, ..Largest::count(usize::MAX) };
    for (name, largest) in [
        ("the largest", Largest::count(1)),
        ("the 40 largest", Largest::count(40)),
        ("those near the largest", near),
    ] {
        let mut sequence = forward.sequence();
        let want = Want::Largest { from: 0, largest };
        let part = Part { sequence: &mut sequence, tokens, want };
        let mut fault = None;
        forward.read(&mut [part], |_, token, found| {
            let all = &subject.outputs[token];
            let mut sorted = all.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let counted = sorted[largest.count.min(all.len()) - 1];
            let least = counted.max(sorted[0] - largest.within);
            let values = found.values();
            let id = |index| found.id(index) as usize;
            let same = (0..values.len()).all(|i| values[i].to_bits() == all[id(i)].to_bits());
            let enough = values.iter().filter(|value| **value >= least).count();
            let wanted = all.iter().filter(|value| **value >= least).count();
            if !same || enough != wanted {
                fault.get_or_insert(format!("{name} after token {} are others", token + 1));
            }
        })?;
        if let Some(fault) = fault {
            return Ok(Outcome::Failed(fault));
        }
    }
    Ok(Outcome::Passed(
        "the largest, the 40 largest, and those near the largest are those of the whole head"
            .to_owned(),
    ))
}
