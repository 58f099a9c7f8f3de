//! Sizes from a GGUF file's metadata, and the metadata of the output.

use std::ops::RangeInclusive;

use trilobite_format::{Gguf, Metadata, Value};

use crate::hf::END_OF_TURN;
use crate::model::{Arch, BIASED, Config, Window, limits};
use crate::{Error, plan};

const ARCHITECTURE: &str = "general.architecture";

/// What microsoft/bitnet-b1.58-2B-4T's tokenizer_config.json has. The GGUF file that Microsoft
/// published has another one, with which the model does not stop.
const BITNET_TEMPLATE: &str = "{% for message in messages %}{{ message['role'] | capitalize + ': ' + \
                               message['content'] | trim + '<|eot_id|>' }}{% endfor %}\
                               {% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// Reads the sizes, under the name that the file's own architecture has.
pub(crate) fn config(file: &str, gguf: &Gguf) -> Result<Config, Error> {
    let keys = Keys { file, metadata: gguf.metadata(), prefix: prefix(file, gguf.metadata())? };
    let arch = Arch::from_name(keys.prefix).ok_or_else(|| {
        let names = Arch::ALL.map(Arch::name).join(", ");
        bad(file, keys.metadata, ARCHITECTURE, &format!("one of {names}"))
    })?;
    let hidden = keys.require("embedding_length", 1..=limits::WIDTH)?;
    let heads = keys.require("attention.head_count", 1..=limits::HEADS)?;
    let kv_heads = keys.size("attention.head_count_kv", 1..=limits::HEADS)?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of the {heads} heads");
        return Err(keys.bad("attention.head_count_kv", &expected));
    }
    let turned = keys.size("rope.dimension_count", 2..=limits::WIDTH)?;
    let head_dim = match keys.size("attention.key_length", 2..=limits::WIDTH)?.or(turned) {
        Some(head_dim) => head_dim,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(keys.bad("attention.key_length", "a value")),
    };
    if !head_dim.is_multiple_of(2) || heads * head_dim > limits::WIDTH {
        return Err(keys.bad("attention.key_length", "an even number within reason"));
    }
    for key in ["rope.dimension_count", "attention.value_length"] {
        if keys.size(key, 1..=limits::WIDTH)?.is_some_and(|n| n != head_dim) {
            return Err(keys.bad(key, &format!("the head length, {head_dim}")));
        }
    }
    let rows = gguf.tensor("token_embd.weight").and_then(|info| info.shape.first().copied());
    let vocab = match keys.size("vocab_size", 1..=limits::VOCAB)?.or(rows) {
        Some(vocab) if vocab <= limits::VOCAB => vocab,
        _ => return Err(keys.bad("vocab_size", "a value")),
    };
    let layers = keys.require("block_count", 1..=limits::LAYERS)?;
    let rope_theta = keys.positive("rope.freq_base", Some(10_000.0))?;
    let biased = |part: &&&str| gguf.tensor(&format!("blk.0.{part}.bias")).is_some();
    Ok(Config {
        arch,
        vocab,
        context: keys.require("context_length", 1..=limits::CONTEXT)?,
        hidden,
        ffn: keys.require("feed_forward_length", 1..=limits::WIDTH)?,
        layers,
        heads,
        kv_heads,
        head_dim,
        norm_eps: keys.positive("attention.layer_norm_rms_epsilon", None)?,
        rope_theta,
        rope_factor: keys.rope_factor()?,
        biases: match arch {
            Arch::Qwen2 => BIASED[..3].to_vec(),
            _ => BIASED.iter().filter(biased).copied().collect(),
        },
        window: keys.window(arch, layers, rope_theta)?,
        attention_scale: keys.optional_positive("attention.scale")?,
        softcap: keys.optional_positive("final_logit_softcapping")?,
    })
}

/// The metadata of the output: that of the source, with what Trilobite needs filled in.
pub(crate) fn translate(
    file: &str,
    source: &Metadata,
    config: &Config,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<Metadata, Error> {
    let old = format!("{}.", prefix(file, source)?);
    let new = format!("{}.", config.arch.name());
    let mut metadata = Metadata::new();
    for (key, value) in source.iter() {
        let key = match key.strip_prefix(&old) {
            Some(rest) => format!("{new}{rest}"),
            None => key.to_owned(),
        };
        metadata.insert(key, value.clone());
    }
    let error = |source| Error::Gguf { file: file.to_owned(), source };
    let name = source.str("general.name").map_err(error)?.unwrap_or(name);
    plan::general(&mut metadata, config.arch, name, None);
    config.describe(&mut metadata);
    tokenizer(file, config.vocab, &mut metadata, notes)?;
    Ok(metadata)
}

/// Fills in what foreign files leave out or have wrong about the tokenizer.
fn tokenizer(
    file: &str,
    vocab: u64,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let error = |source| Error::Gguf { file: file.to_owned(), source };
    let tokens = metadata.strings("tokenizer.ggml.tokens").map_err(error)?.unwrap_or_default();
    if tokens.len() as u64 > vocab {
        let expected = format!("at most {vocab} tokens, the rows of the embedding");
        return Err(bad(file, metadata, "tokenizer.ggml.tokens", &expected));
    }
    let id_of = |text: &str| tokens.iter().position(|token| token == text).map(|id| id as u32);
    let text_of = |id: u32| tokens.get(id as usize).cloned();
    let end_of_turn = id_of(END_OF_TURN);
    let mut ids = [None; 3];
    for (id, key) in ids.iter_mut().zip(["bos_token_id", "eos_token_id", "eot_token_id"]) {
        let key = format!("tokenizer.ggml.{key}");
        *id = metadata.u32(&key).map_err(error)?;
        if id.is_some_and(|id| u64::from(id) >= vocab) {
            return Err(bad(file, metadata, &key, &format!("an id below {vocab}")));
        }
    }
    let [bos, eos, eot] = ids;
    let (bos_text, eos_text) = (bos.and_then(text_of), eos.and_then(text_of));

    let mut ends: Vec<u32> = Vec::new();
    for id in [eos, eot, end_of_turn].into_iter().flatten() {
        if !ends.contains(&id) {
            ends.push(id);
        }
    }
    let model = metadata.str("tokenizer.ggml.model").map_err(error)?;
    let pre = metadata.get("tokenizer.ggml.pre");
    if model == Some("gpt2") && pre.is_none() && end_of_turn.is_some() {
        metadata.insert("tokenizer.ggml.pre", "llama-bpe");
        notes.push("tokenizer.ggml.pre was missing and is taken to be llama-bpe".to_owned());
    }
    let template = metadata.str("tokenizer.chat_template").map_err(error)?;
    if template.is_some_and(|template| template.contains("BITNETAssistant")) {
        metadata.insert("tokenizer.chat_template", BITNET_TEMPLATE);
        notes.push("the chat template was an outdated one and was replaced".to_owned());
    }
    let mut fill = |key: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|_| metadata.get(key).is_none()) {
            metadata.insert(key, value);
        }
    };
    fill("trilobite.eos_token_ids", (!ends.is_empty()).then(|| ends.into()));
    fill("trilobite.bos_token", bos_text.map(Value::from));
    fill("trilobite.eos_token", eos_text.map(Value::from));
    Ok(())
}

fn prefix<'a>(file: &str, metadata: &'a Metadata) -> Result<&'a str, Error> {
    let error = |source| Error::Gguf { file: file.to_owned(), source };
    let arch = metadata.str(ARCHITECTURE).map_err(error)?;
    arch.ok_or_else(|| bad(file, metadata, ARCHITECTURE, "a name"))
}

fn bad(file: &str, metadata: &Metadata, key: &str, expected: &str) -> Error {
    let found = match metadata.get(key) {
        None => "missing".to_owned(),
        Some(Value::String(text)) => format!("{text:?}"),
        Some(value) => value.as_integer().map_or_else(|| value.describe(), |n| n.to_string()),
    };
    let (file, key, expected) = (file.to_owned(), key.to_owned(), expected.to_owned());
    Error::Value { file, key, expected, found }
}

/// The keys of one architecture.
struct Keys<'a> {
    file: &'a str,
    metadata: &'a Metadata,
    prefix: &'a str,
}

impl<'a> Keys<'a> {
    fn error(&self) -> impl Fn(trilobite_format::Error) -> Error {
        |source| Error::Gguf { file: self.file.to_owned(), source }
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn bad(&self, key: &str, expected: &str) -> Error {
        bad(self.file, self.metadata, &self.key(key), expected)
    }

    fn size(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Error> {
        match self.metadata.u64(&self.key(key)).map_err(self.error())? {
            Some(n) if !range.contains(&n) => {
                Err(self.bad(key, &format!("from {} to {}", range.start(), range.end())))
            }
            size => Ok(size),
        }
    }

    fn require(&self, key: &str, range: RangeInclusive<u64>) -> Result<u64, Error> {
        self.size(key, range)?.ok_or_else(|| self.bad(key, "a value"))
    }

    fn positive(&self, key: &str, default: Option<f32>) -> Result<f32, Error> {
        let found = self.metadata.f32(&self.key(key)).map_err(self.error())?.or(default);
        found.filter(|n| n.is_finite() && *n > 0.0).ok_or_else(|| self.bad(key, "positive"))
    }

    fn optional_positive(&self, key: &str) -> Result<Option<f32>, Error> {
        match self.metadata.f32(&self.key(key)).map_err(self.error())? {
            None => Ok(None),
            Some(_) => self.positive(key, None).map(Some),
        }
    }

    /// What RoPE frequencies are divided by, where they are all divided by the same.
    fn rope_factor(&self) -> Result<f32, Error> {
        match self.string("rope.scaling.type")? {
            Some("none") => return Ok(1.0),
            None | Some("linear") => {}
            Some(_) => return Err(self.bad("rope.scaling.type", "\"none\" or \"linear\"")),
        }
        match self.optional_positive("rope.scaling.factor")? {
            Some(factor) => Ok(factor),
            // Old files have this key.
            None => Ok(self.optional_positive("rope.scale_linear")?.unwrap_or(1.0)),
        }
    }

    /// Sliding windows, with llama.cpp's defaults for Gemma 3; in other architectures a window
    /// without a pattern has no effect.
    fn window(&self, arch: Arch, layers: u64, rope_theta: f32) -> Result<Option<Window>, Error> {
        const PATTERN: &str = "attention.sliding_window_pattern";
        let Some(tokens) = self.size("attention.sliding_window", 1..=limits::CONTEXT)? else {
            return Ok(None);
        };
        let gemma = arch == Arch::Gemma3;
        let listed = if let Some(Value::Array(_)) = self.metadata.get(&self.key(PATTERN)) {
            self.metadata
                .bools(&self.key(PATTERN))
                .map_err(self.error())?
                .unwrap_or_default()
                .to_vec()
        } else {
            let period = self.size(PATTERN, 1..=limits::LAYERS)?;
            let period = period.unwrap_or(if gemma { 6 } else { 1 });
            (1..=layers).map(|layer| !layer.is_multiple_of(period)).collect()
        };
        if listed.len() as u64 != layers {
            return Err(self.bad(PATTERN, &format!("an entry for each of {layers} layers")));
        }
        let base = if gemma { 10_000.0 } else { rope_theta };
        let rope_theta = self.positive("rope.freq_base_swa", Some(base))?;
        Ok(listed.contains(&true).then_some(Window { tokens, layers: listed, rope_theta }))
    }

    fn string(&self, key: &str) -> Result<Option<&'a str>, Error> {
        self.metadata.str(&self.key(key)).map_err(self.error())
    }
}
