//! Embeddings of texts.

use std::sync::Arc;

use trilobite_format::keys;
use trilobite_format::model::{Pooling, special_id};

use crate::error::{Error, Result};
use crate::forward::{Forward, MAX_BATCH, SessionOptions};
use crate::model::Model;
use crate::sequence::{Part, Sequence, Want};
use crate::weights::Layer;

/// Minimum Euclidean norm that a vector is divided by, as in PyTorch.
const MIN_NORM: f64 = 1e-12;

/// The vectors of a text: one, or without pooling one for each token. Their Euclidean norm is 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The vectors, one after the other.
    pub values: Vec<f32>,
    /// Length of a vector.
    pub width: usize,
}

impl Embedding {
    /// The vectors.
    pub fn vectors(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }
}

/// Computes embeddings. An embedding depends only on the model, the pooling and the tokens of its
/// text, to the last bit.
pub struct Embedder {
    forward: Forward,
    pooling: Pooling,
}

impl Embedder {
    /// Creates an embedder with the model's pooling, or another one.
    ///
    /// # Errors
    /// There is no pooling, `TRILOBITE_ISA` names an instruction set that cannot be used, or a thread
    /// cannot be started.
    pub fn new(
        model: Arc<Model>,
        options: SessionOptions,
        pooling: Option<Pooling>,
    ) -> Result<Self> {
        let pooling = pooling.or(model.config().pooling).ok_or(Error::NoPooling)?;
        Ok(Self { forward: Forward::new(model, options)?, pooling })
    }

    /// The pooling.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Embeds the first of some texts, given as tokens: as many as share a forward pass, at least one.
    /// Returns no embedding only if there is no text.
    ///
    /// # Errors
    /// A text has no tokens, more than the context holds, or an unknown one. Not enough memory for
    /// keys and values.
    pub fn embed_first(&mut self, texts: &[Vec<u32>]) -> Result<Vec<Embedding>> {
        let mut tokens = 0;
        let fits = |text: &&Vec<u32>| {
            tokens += text.len();
            tokens <= MAX_BATCH
        };
        let count = texts.iter().take_while(fits).count().max(1).min(texts.len());
        self.embed_batch(&texts[..count])
    }

    fn embed_batch(&mut self, texts: &[Vec<u32>]) -> Result<Vec<Embedding>> {
        if texts.iter().any(Vec::is_empty) {
            return Err(Error::EmptyPrompt);
        }
        let width = self.forward.model().config().hidden;
        let pooling = self.pooling;
        let mut sequences: Vec<Sequence> = texts.iter().map(|_| self.forward.sequence()).collect();
        let mut parts: Vec<Part<'_>> = sequences
            .iter_mut()
            .zip(texts)
            .map(|(sequence, tokens)| Part { sequence, tokens, want: Want::Nothing })
            .collect();
        let mut sums = vec![Vec::new(); texts.len()];
        self.forward.hidden_states(&mut parts, |text, index, state| {
            let sum: &mut Vec<f64> = &mut sums[text];
            let state = state.iter().map(|x| f64::from(*x));
            match pooling {
                Pooling::None => sum.extend(state),
                Pooling::Cls if index > 0 => {}
                Pooling::Last if index + 1 < texts[text].len() => {}
                Pooling::Mean if index > 0 => sum.iter_mut().zip(state).for_each(|(s, x)| *s += x),
                Pooling::Mean | Pooling::Cls | Pooling::Last => sum.extend(state),
            }
        })?;
        let embedding = |sum: Vec<f64>| Embedding {
            values: sum.chunks_exact(width).flat_map(normalized).collect(),
            width,
        };
        let embeddings: Vec<Embedding> = sums.into_iter().map(embedding).collect();
        let finite = |embedding: &Embedding| embedding.values.iter().all(|x| x.is_finite());
        match embeddings.iter().all(finite) {
            true => Ok(embeddings),
            false => Err(Error::EmbeddingNotFinite),
        }
    }
}

/// A vector divided by its Euclidean norm.
fn normalized(vector: &[f64]) -> impl Iterator<Item = f32> {
    let squares: f64 = vector.iter().map(|x| x * x).sum();
    // A NaN stays one: `max` would hide it.
    let norm = if squares.is_nan() { f64::NAN } else { squares.sqrt().max(MIN_NORM) };
    vector.iter().map(move |x| (x / norm) as f32)
}

impl Model {
    /// The tokens of a text to embed, after a prompt. BitNet's embedding models are trained on texts
    /// that end in their end-of-text token, which some of their tokenizers leave out.
    ///
    /// # Errors
    /// The model has no tokenizer, or it cannot encode the text.
    pub fn encode_to_embed(&self, prompt: &str, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        let mut ids = tokenizer.encode(&format!("{prompt}{text}"), true, false)?;
        let stated = self.metadata().bool(&keys::add_token("eos"))? == Some(true);
        let normed = self.weights().layers.iter().any(Layer::has_input_norms);
        if stated || normed && self.config().pooling.is_some() {
            let end = special_id(self.metadata(), "eos")?;
            if ids.last() != end.as_ref() {
                ids.extend(end);
            }
        }
        Ok(ids)
    }

    /// The prompt of this name, to put before texts to embed. Without a name it is the model's
    /// default, which is often none.
    ///
    /// # Errors
    /// There is no prompt of this name.
    pub fn prompt(&self, name: Option<&str>) -> Result<&str> {
        let metadata = self.metadata();
        let Some(name) =
            name.map_or_else(|| metadata.str(keys::DEFAULT_PROMPT), |name| Ok(Some(name)))?
        else {
            return Ok("");
        };
        match metadata.str(&format!("{}{name}", keys::PROMPTS))? {
            Some(prompt) => Ok(prompt),
            None => {
                let keys = metadata.iter().map(|(key, _)| key);
                let known: Vec<&str> =
                    keys.filter_map(|key| key.strip_prefix(keys::PROMPTS)).collect();
                Err(Error::NoPrompt { found: name.to_owned(), known: known.join(", ") })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_norm_one_or_show_what_is_not_finite() {
        let vector = |values: &[f64]| normalized(values).collect::<Vec<f32>>();
        assert_eq!(vector(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(vector(&[0.0, 0.0]), [0.0, 0.0]);
        for fault in [f64::NAN, f64::INFINITY] {
            assert!(vector(&[1.0, fault]).iter().any(|x| !x.is_finite()));
        }
    }
}
