//! Compares every layer with plain loops in f64.

use std::sync::Arc;

use anyhow::Result;
use trilobite_runtime::{Forward, Kind, Matrix, Reference};

use super::{Outcome, Subject};

/// Maximum number of tokens to compare. Their products are computed slowly.
const TOKENS: usize = 12;
/// Limit of the error where activations are multiplied as floats, as a part of what is added. f32
/// sums in another order differ by about 1e-6.
const FLOATS: f64 = 1e-4;
/// The limit for weights in blocks of more than two bits, whose activations are rounded to 16 bits
/// with a step for every 256: about 1e-4, and more if a few of the 256 are large.
const BLOCKS: f64 = 2e-3;
/// The limit for ternary weights. Products are exact, but an activation halfway between two int8
/// codes may get the other one. Without rounding, models differ by 1.6e-2 and more.
const CODES: f64 = 4e-3;
/// The part of the residual stream that rounding it to f32 may change.
const ROUNDING: f64 = 1.0 / (1u32 << 22) as f64;

/// The limit for what some matrices add.
fn limit(matrices: &[&Matrix]) -> f64 {
    let of = |matrix: &&Matrix| match matrix.kind {
        Kind::Ternary { .. } => CODES,
        Kind::Dense(ty) if ty.has_blocks() && !ty.is_low_bit() => BLOCKS,
        Kind::Dense(_) => FLOATS,
    };
    matrices.iter().map(of).fold(FLOATS, f64::max)
}

/// The largest error so far, relative to its limit.
#[derive(Debug, Default, PartialEq)]
struct Worst {
    place: String,
    error: f64,
    limit: f64,
}

impl Worst {
    /// Compares what was added to `before`, all `[T][width]`. An error is the root of the mean square
    /// over the tokens.
    fn compare(
        &mut self,
        place: String,
        width: usize,
        limit: f64,
        (before, found, expected): (Option<&[f32]>, &[f32], &[f64]),
    ) {
        let rms = |squares: f64| (squares / width as f64).sqrt();
        let (mut error, mut rounding) = (0.0, 0.0);
        let rows = found.chunks_exact(width).zip(expected.chunks_exact(width));
        for (t, (found, expected)) in rows.enumerate() {
            let (mut missed, mut added, mut size) = (0.0, 0.0, 0.0);
            for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                let before = before.map_or(0.0, |all| f64::from(all[t * width + i]));
                missed += (f64::from(*found) - expected).powi(2);
                added += (expected - before).powi(2);
                size += expected.powi(2);
            }
            // Keeps the quotients defined where nothing is added.
            let added = rms(added).max(f64::MIN_POSITIVE);
            error += (rms(missed) / added).powi(2);
            rounding += (ROUNDING * rms(size) / added).powi(2);
        }
        let tokens = (found.len() / width) as f64;
        let (error, limit) = ((error / tokens).sqrt(), limit + (rounding / tokens).sqrt());
        // A NaN is worse than any error.
        let worse = error.is_nan() || error / limit > self.error / self.limit;
        if self.place.is_empty() || worse {
            *self = Self { place, error, limit };
        }
    }
}

/// Compares the embedding, both halves of every layer, and the head.
pub(super) fn layers(subject: &Subject) -> Result<Outcome> {
    let model = &subject.model;
    let (config, weights) = (model.config(), model.weights());
    let tokens = &subject.tokens;
    let count = TOKENS.min(tokens.len());
    let reference = Reference::new(model, tokens.len(), subject.threads)?;
    let mut forward = Forward::new(Arc::clone(model), subject.way()?.options)?;
    let (hidden, vocab) = (config.hidden, config.vocab);
    // All tokens run, and the first ones are compared: they depend on no later token.
    let trace = forward.trace(tokens)?;
    let stream = |index: usize| &trace[index][..count * hidden];

    let mut worst = Worst::default();
    let expected = reference.embedding(&tokens[..count]);
    let limit_of_table = limit(&[&weights.embedding]);
    worst.compare("the embedding".to_owned(), hidden, limit_of_table, (None, stream(0), &expected));
    for (index, layer) in weights.layers.iter().enumerate() {
        let (before, between, after) =
            (stream(2 * index), stream(2 * index + 1), stream(2 * index + 2));
        let expected = reference.attention(index, before);
        let limits = limit(&[&layer.q, &layer.k, &layer.v, &layer.o]);
        let place = format!("the attention of layer {index}");
        worst.compare(place, hidden, limits, (Some(before), between, &expected));
        let expected = reference.feed_forward(index, between);
        let limits = limit(&[&layer.gate, &layer.up, &layer.down]);
        let place = format!("the feed-forward network of layer {index}");
        worst.compare(place, hidden, limits, (Some(between), after, &expected));
    }
    let last = stream(2 * weights.layers.len());
    let found = subject.outputs[..count].concat();
    if model.only_embeds() {
        let expected = reference.normed(last);
        worst.compare("the last norm".to_owned(), hidden, FLOATS, (None, &found, &expected));
    } else {
        let (expected, limits) = (reference.logits(last), limit(&[&weights.head]));
        worst.compare("the head".to_owned(), vocab, limits, (None, &found, &expected));
    }

    let Worst { place, error, limit } = worst;
    let layers = weights.layers.len();
    let detail = format!("{place} has an error of {error:.1e} of what it adds (limit {limit:.1e})");
    Ok(match error <= limit {
        true => Outcome::Passed(format!(
            "{layers} layers and {count} tokens against loops in f64: at most, {detail}"
        )),
        false => Outcome::Failed(detail),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worst of two places, of which the second has one value that is off by this.
    fn worst(off: f32) -> Worst {
        let before = [1.0f32, 2.0, 3.0, 4.0];
        let expected = [2.0, 4.0, 4.0, 6.0];
        let mut worst = Worst::default();
        for (place, off) in [("first", 0.0), ("second", off)] {
            let found = [2.0, 4.0 + off, 4.0, 6.0];
            worst.compare(place.to_owned(), 2, 1e-3, (Some(&before), &found, &expected));
        }
        worst
    }

    #[test]
    fn an_error_counts_as_a_part_of_what_is_added() {
        assert_eq!(worst(0.0).place, "first");
        let small = worst(1e-3);
        assert_eq!(small.place, "second");
        // 0.001 of one token, which adds (1, 2), and nothing of the other.
        let expected = 1e-3 / 5f64.sqrt() / 2f64.sqrt();
        assert!((small.error / expected - 1.0).abs() < 1e-3, "{small:?}");
        assert!(small.error <= small.limit);
        let large = worst(1e-2);
        assert!(large.error > large.limit);
        for fault in [f32::NAN, f32::INFINITY] {
            let worst = worst(fault);
            let fails = worst.error.is_nan() || worst.error > worst.limit;
            assert!(worst.place == "second" && fails, "{worst:?}");
        }
    }
}
