//! `trilobite inspect`: shows the contents of a model file.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use trilobite_convert::Layouts;
use trilobite_format::model::{HeadScanPart, special_id};
use trilobite_format::{Array, TensorInfo, Value as MetadataValue, keys};
use trilobite_hub::{Cache, Tuned, layouts};
use trilobite_kernels::Kernels;
use trilobite_runtime::{Error, Model, Window, end_ids};

use super::bench::spread::noun;
use crate::args::{Global, Inspect};
use crate::{machine, model, output};

/// Maximum number of elements shown of an array.
const MAX_ELEMENTS: usize = 16;
/// Maximum number of characters shown of a text.
const MAX_CHARACTERS: usize = 72;
/// Maximum length of a text in JSON output in bytes. A tokenizer is longer.
const MAX_JSON_BYTES: usize = 65_536;

pub(crate) fn run(args: &Inspect, global: &Global) -> Result<ExitCode> {
    args.threads.limit_conversion()?;
    let model = model::read(&args.model, args.threads.threads, global)?;
    let rule = LayoutRule::of(&model, args.model.model.as_deref())?;
    if args.json {
        let mut value = json(&model)?;
        value["layout"] = rule.as_ref().map_or(Value::Null, LayoutRule::json);
        output::print_json(&value)?;
    } else {
        let mut text = format!("{}\n", output::line(&model::name(&args.model)));
        text += &summary(&model, rule.as_ref())?;
        if args.tensors {
            text += &tensors(&model, global.verbose);
        }
        text += &metadata(&model)?;
        output::print_text(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The layout that a conversion of a model has, and the record of the fastest one.
struct LayoutRule {
    layouts: Layouts,
    tuned: Option<Tuned>,
}

impl LayoutRule {
    /// The rule for an opened model; `None` if it has no ternary weights, or cannot be converted.
    fn of(model: &Model, path: Option<&Path>) -> Result<Option<Self>> {
        if !model.gguf().tensors().iter().any(|tensor| tensor.ty.is_ternary()) {
            return Ok(None);
        }
        let found = layouts(&Cache::from_env(), path, &machine::processor()?);
        Ok(found.ok().flatten().map(|(layouts, tuned)| LayoutRule { layouts, tuned }))
    }

    fn json(&self) -> Value {
        let LayoutRule { layouts, tuned } = self;
        json!({
            "auto": layouts.auto.name(),
            "reason": layouts.reason(),
            "possible": layouts.possible.iter().map(|layout| layout.name()).collect::<Vec<_>>(),
            "tuned": tuned,
        })
    }

    /// The name and the value of a line of the summary.
    fn line(&self) -> (&'static str, String) {
        let Layouts { auto, bytes, .. } = self.layouts;
        let Some(tuned) = &self.tuned else {
            let (why, bytes) = (self.layouts.reason(), output::bytes(bytes));
            return ("auto layout", format!("{auto}: {why} ({bytes} at two bits a weight)"));
        };
        let speeds = tuned.speeds.iter();
        let speeds = speeds.map(|s| format!("{} {:.1}", s.layout, s.tokens_per_s.median));
        let (speeds, threads) = (speeds.collect::<Vec<_>>().join(", "), tuned.threads);
        let text = format!(
            "{}, measured with {threads} {} at {}: {speeds} tokens/s",
            tuned.layout,
            noun(threads),
            tuned.date,
        );
        ("tuned layout", text)
    }
}

/// Number of weights of all tensors.
pub(crate) fn parameters(model: &Model) -> u64 {
    // The coarse copy of the head repeats weights.
    let scan = |tensor: &&TensorInfo| HeadScanPart::of(&tensor.name).is_some();
    model.gguf().tensors().iter().filter(|t| !scan(t)).map(TensorInfo::count).sum()
}

/// Number of weights that a token is multiplied with. The embedding counts if it is also the head.
fn active_parameters(model: &Model) -> u64 {
    let weights = model.weights();
    let embedding = weights.embedding.rows * weights.embedding.cols;
    let looked_up = if weights.tied { 0 } else { embedding as u64 };
    parameters(model) - looked_up - model.unused_experts().0
}

/// Size of all files in bytes.
pub(crate) fn file_bytes(model: &Model) -> u64 {
    model.files().map(|file| file.len() as u64).sum()
}

fn bits_per_weight(model: &Model) -> f64 {
    let bytes: usize = model.gguf().tensors().iter().map(|tensor| tensor.range.len()).sum();
    8.0 * bytes as f64 / parameters(model) as f64
}

fn hash<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    pieces.into_iter().for_each(|piece| hash.update(piece));
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn tokenizer(model: &Model) -> Result<Value> {
    let tokenizer = match model.tokenizer() {
        Ok(tokenizer) => tokenizer,
        Err(Error::NoTokenizer) => return Ok(Value::Null),
        Err(error) => return Ok(json!({"error": error.to_string()})),
    };
    let metadata = model.metadata();
    let ends = end_ids(metadata, Some(tokenizer))?;
    Ok(json!({
        "model": metadata.str(keys::TOKENIZER)?,
        "pre": metadata.str(keys::WORDS)?,
        "tokens": tokenizer.max_id().map(|id| u64::from(id) + 1),
        "bos_token_id": special_id(metadata, "bos")?,
        "end_token_ids": ends,
        "adds": tokenizer.encode("", true, false)?,
        "chat_template": metadata.str(keys::CHAT_TEMPLATE)?,
        "assumption": tokenizer.assumption(),
    }))
}

fn json(model: &Model) -> Result<Value> {
    let tensors = model.gguf().tensors().iter().map(|tensor| {
        json!({
            "name": tensor.name,
            "type": tensor.ty.name(),
            "shape": tensor.shape,
            "bytes": tensor.range.len(),
            "sha256": hash([model.tensor(tensor)]),
        })
    });
    let metadata =
        model.metadata().iter().map(|(key, value)| (key.to_owned(), metadata_json(value)));
    Ok(json!({
        "architecture": model.config().architecture,
        "parameters": parameters(model),
        "active_parameters": active_parameters(model),
        "experts": model.config().experts.as_ref().map(|experts| json!({
            "count": experts.count,
            "used": experts.used,
            "clamp": experts.clamp,
        })),
        "window": model.config().window.as_ref().map(|window| json!({
            "tokens": window.tokens,
            "layers": window.layers,
        })),
        "file_bytes": file_bytes(model),
        "sha256": hash(model.files()),
        "non_embedding_bytes": model.weights().non_embedding_bytes(),
        "bits_per_weight": bits_per_weight(model),
        "tensors": tensors.collect::<Vec<_>>(),
        "tokenizer": tokenizer(model)?,
        "metadata": metadata.collect::<Map<_, _>>(),
        "notes": model.notes(),
        "isa": Kernels::detect()?.isa.name(),
    }))
}

/// The rest of each metadata key that begins with a prefix, as a list.
fn keys_after(model: &Model, prefix: &str) -> String {
    let keys = model.metadata().iter().filter_map(|(key, _)| key.strip_prefix(prefix));
    keys.collect::<Vec<_>>().join(", ")
}

/// The most important properties of the model.
fn summary(model: &Model, rule: Option<&LayoutRule>) -> Result<String> {
    let c = model.config();
    let mut out = String::new();
    let mut line = |key: &str, value: String| {
        out += &format!("  {key:17} {}\n", output::line(&value));
    };
    line("architecture", c.architecture.clone());
    line("parameters", parameters(model).to_string());
    line(
        "shape",
        format!(
            "{} layers, hidden {}, feed-forward {}, {} heads of {} ({} for keys and values)",
            c.layers, c.hidden, c.intermediate, c.heads, c.head_dim, c.kv_heads
        ),
    );
    if let Some(experts) = &c.experts {
        let (count, used) = (experts.count, experts.used);
        line("experts", format!("{count} in each layer, {used} for each token"));
        line("active parameters", active_parameters(model).to_string());
    }
    line("context", format!("{} tokens", c.context));
    if let Some(window) = &c.window {
        line("window", self::window(window, c.rotates_in_windows_only));
    }
    line(
        "vocabulary",
        format!(
            "{} ({})",
            c.vocab,
            match (model.only_embeds(), model.weights().tied) {
                (true, _) => "no head",
                (false, true) => "head tied",
                (false, false) => "head untied",
            }
        ),
    );
    if let Some(pooling) = c.pooling {
        let prompts = keys_after(model, keys::PROMPTS);
        let prompts =
            if prompts.is_empty() { String::new() } else { format!("; prompts {prompts}") };
        line("embedding", format!("{}{prompts}", pooling.summary()));
    }
    line("file", output::bytes(file_bytes(model)));
    line("tensors", types(model));
    if let Some((key, value)) = rule.map(LayoutRule::line) {
        line(key, value);
    }
    line("without embedding", output::bytes(model.weights().non_embedding_bytes() as u64));
    line("bits per weight", format!("{:.3}", bits_per_weight(model)));
    match tokenizer(model)? {
        Value::Null => line("tokenizer", "none".into()),
        tokenizer if tokenizer["error"].is_string() => {
            line("tokenizer", format!("not usable: {}", tokenizer["error"]));
        }
        tokenizer => {
            line("tokenizer", format!("{} tokens", tokenizer["tokens"]));
            line("ends at", tokenizer["end_token_ids"].to_string());
            let template = tokenizer["chat_template"].is_string();
            line("chat template", if template { "yes" } else { "none" }.into());
            if let Some(assumption) = tokenizer["assumption"].as_str() {
                line("assumed", assumption.into());
            }
        }
    }
    for note in model.notes() {
        line("note", note.clone());
    }
    line("instruction set", Kernels::detect()?.isa.name().into());
    line("sha256", hash(model.files()));
    Ok(out)
}

/// The window, in words. Some architectures count it without the current token, and have RoPE in its
/// layers only.
fn window(window: &Window, precedes: bool) -> String {
    let (tokens, all) = (window.tokens, window.layers.len());
    let layers = window.layers.iter().filter(|slides| **slides).count();
    match precedes {
        false => format!("{tokens} tokens, the current one included, in {layers} of {all} layers"),
        true => format!(
            "the current token and {} before it, as in the reference, in {layers} of {all} layers; \
             the others have no RoPE",
            tokens.saturating_sub(1)
        ),
    }
}

/// The number of tensors of each type.
fn types(model: &Model) -> String {
    let mut counts = BTreeMap::new();
    for tensor in model.gguf().tensors() {
        *counts.entry(tensor.ty.name()).or_insert(0) += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(ty, count)| format!("{count} {ty}")).collect();
    format!("{} ({})", model.gguf().tensors().len(), counts.join(", "))
}

/// A line for each tensor, with its hash if `verbose`.
fn tensors(model: &Model, verbose: bool) -> String {
    let mut out = "tensors\n".to_owned();
    for tensor in model.gguf().tensors() {
        let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
        let bits = 8.0 * tensor.range.len() as f64 / tensor.count() as f64;
        let bytes = output::bytes(tensor.range.len() as u64);
        let name = output::shown(&tensor.name);
        let (ty, shape) = (tensor.ty.name(), shape.join(" x "));
        out += &format!("  {name:28} {ty:5} {shape:>15} {bytes:>10} {bits:7.3} bits");
        if verbose {
            out += &format!("  {}", hash([model.tensor(tensor)]));
        }
        out.push('\n');
    }
    out
}

/// A line for each metadata entry, and the whole chat template.
fn metadata(model: &Model) -> Result<String> {
    let mut out = "metadata\n".to_owned();
    for (key, value) in model.metadata().iter() {
        let value = match value {
            MetadataValue::String(text) => short(text),
            MetadataValue::Array(array) if array.len() > MAX_ELEMENTS => value.describe(),
            value => metadata_json(value).to_string(),
        };
        out += &format!("  {:38} {}\n", output::shown(key), output::shown(&value));
    }
    if let Some(template) = model.metadata().str(keys::CHAT_TEMPLATE)? {
        out += "chat template\n";
        for line in template.lines() {
            out += &format!("  {}\n", output::shown(line));
        }
    }
    Ok(out)
}

/// A text, or its beginning and length.
fn short(text: &str) -> String {
    let mut chars = text.char_indices();
    match chars.nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{:?}... ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

/// A metadata value. A long one is replaced by its type and length.
fn metadata_json(value: &MetadataValue) -> Value {
    match value {
        MetadataValue::String(text) if text.len() > MAX_JSON_BYTES => {
            json!(format!("string of {} bytes", text.len()))
        }
        MetadataValue::String(text) => json!(text),
        MetadataValue::Bool(value) => json!(value),
        // The shortest digits that identify the f32. As an f64 it would have more.
        MetadataValue::F32(value) => json!(value.to_string().parse::<f64>().ok()),
        MetadataValue::F64(value) => json!(value),
        MetadataValue::Array(array) if array.len() > MAX_ELEMENTS => json!(value.describe()),
        MetadataValue::Array(Array::String(texts)) => json!(texts),
        MetadataValue::Array(Array::Bool(values)) => json!(values),
        MetadataValue::Array(Array::F32(values)) => {
            values.iter().map(|value| metadata_json(&MetadataValue::F32(*value))).collect()
        }
        MetadataValue::Array(Array::F64(values)) => json!(values),
        MetadataValue::Array(array) => {
            array.integers().into_iter().flatten().map(integer).collect()
        }
        value => value.as_integer().map_or(Value::Null, integer),
    }
}

/// Integers of metadata have at most 64 bits.
fn integer(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_| json!(value as u64), |value| json!(value))
}
