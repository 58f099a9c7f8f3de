//! `trilobite inspect`: what a model file holds.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use trilobite_format::TensorInfo;
use trilobite_kernels::Kernels;
use trilobite_runtime::{Error, Model, end_ids};

use crate::args::{Global, Inspect};
use crate::{model, output};

pub(crate) fn run(args: &Inspect, global: &Global) -> Result<ExitCode> {
    let model = model::read(&args.model)?;
    if args.json {
        output::print_json(&json(&model)?)?;
    } else {
        output::print(&text(&model, &model::name(&args.model), global.verbose)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Weights of all tensors.
fn parameters(model: &Model) -> u64 {
    // The coarse copy of the head repeats weights.
    let scan = |tensor: &&TensorInfo| tensor.name.starts_with("output_scan.");
    model.gguf().tensors().iter().filter(|t| !scan(t)).map(TensorInfo::count).sum()
}

fn file_bytes(model: &Model) -> u64 {
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
        "model": metadata.str("tokenizer.ggml.model")?,
        "pre": metadata.str("tokenizer.ggml.pre")?,
        "tokens": tokenizer.max_id().map(|id| u64::from(id) + 1),
        "bos_token_id": metadata.u32("tokenizer.ggml.bos_token_id")?,
        "end_token_ids": ends,
        "adds": tokenizer.encode("", true, false)?,
        "chat_template": metadata.str("tokenizer.chat_template")?,
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
    Ok(json!({
        "architecture": model.config().architecture,
        "parameters": parameters(model),
        "file_bytes": file_bytes(model),
        "sha256": hash(model.files()),
        "non_embedding_bytes": model.weights().non_embedding_bytes(),
        "bits_per_weight": bits_per_weight(model),
        "tensors": tensors.collect::<Vec<_>>(),
        "tokenizer": tokenizer(model)?,
        "notes": model.notes(),
        "isa": Kernels::detect()?.isa.name(),
    }))
}

fn text(model: &Model, name: &str, verbose: bool) -> Result<String> {
    let c = model.config();
    let mut out = format!("{name}\n");
    let mut line = |key: &str, value: String| {
        out += &format!("  {key:17} {value}\n");
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
    line("context", format!("{} tokens", c.context));
    line(
        "vocabulary",
        format!("{} (head {})", c.vocab, if model.weights().tied { "tied" } else { "untied" }),
    );
    line("file", output::bytes(file_bytes(model)));
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
    for tensor in model.gguf().tensors() {
        let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
        let bits = 8.0 * tensor.range.len() as f64 / tensor.count() as f64;
        let bytes = output::bytes(tensor.range.len() as u64);
        let (name, ty, shape) = (&tensor.name, tensor.ty.name(), shape.join(" x "));
        out += &format!("  {name:28} {ty:5} {shape:>15} {bytes:>10} {bits:7.3} bits");
        if verbose {
            out += &format!("  {}", hash([model.tensor(tensor)]));
        }
        out.push('\n');
    }
    Ok(out)
}
