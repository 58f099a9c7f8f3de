//! `cargo xtask synth`: writes a full-size checkpoint of a listed model with random weights, to
//! measure speed and memory without the real weights.

mod config;
mod packed;
mod random;
mod tensors;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::models::{Models, Shape, Weights};
use tensors::Tensor;

/// Writes a random checkpoint of a listed model, in the Hugging Face layout and at its full size. A
/// mixture of experts is written as the packed file that its checkpoint would become.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of a model in models/models.toml, or of a shape there with `weights`
    name: String,
    /// Folder to write
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write this many layers instead of the model's own number
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let models = Models::load()?;
    let (weights, shape) = match models.unlisted(&args.name) {
        Some(unlisted) => unlisted,
        None => {
            let model = models.find(&args.name)?;
            (model.weights, models.shape(model)?)
        }
    };
    if weights == Weights::Gguf {
        bail!("{} is a GGUF file: synth the checkpoint that it was made from", args.name);
    }
    let mut shape = shape.clone();
    if let Some(layers) = args.layers {
        shape.num_hidden_layers = layers;
    }
    let packed = weights == Weights::Rows;
    let name = if packed { PACKED } else { "model.safetensors" };
    let file = args.out.join(name);
    if file.exists() {
        bail!("{} exists already", file.display());
    }
    if packed {
        write_packed(&shape, &args.out, args.seed)?;
    } else {
        write_checkpoint(&shape, weights, &args.out, args.seed)?;
    }
    println!(
        "{}: {} with random weights, {:.2} GB in {:.1} s",
        file.display(),
        args.name,
        bytes(&shape, weights)? as f64 / 1e9,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The name of a packed file.
pub(crate) const PACKED: &str = "model.gguf";

/// Writes a packed file to a folder.
pub(crate) fn write_packed(shape: &Shape, folder: &Path, seed: u64) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    write(&folder.join(PACKED), |out| packed::write(out, shape, seed))
}

/// Bytes of all tensors of a checkpoint, or of the packed file in its place.
pub(crate) fn bytes(shape: &Shape, weights: Weights) -> Result<u64> {
    if weights == Weights::Rows {
        return packed::bytes(shape);
    }
    let tensors = tensors::tensors(&config::config(shape, weights), weights)?;
    Ok(tensors.iter().map(|tensor| tensor.bytes() as u64).sum())
}

/// Writes the files of a checkpoint to a folder, the weights last.
pub(crate) fn write_checkpoint(
    shape: &Shape,
    weights: Weights,
    folder: &Path,
    seed: u64,
) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let config = config::config(shape, weights);
    let tensors = tensors::tensors(&config, weights)?;
    for (name, value) in [
        ("config.json", config),
        ("generation_config.json", config::generation_config(shape)),
        ("tokenizer_config.json", config::tokenizer_config(shape)?),
        ("tokenizer.json", tokenizer::tokenizer(shape)?),
    ]
    .into_iter()
    .chain(config::embedding_files(shape))
    {
        std::fs::create_dir_all(folder.join(name).parent().unwrap_or(folder))?;
        write(&folder.join(name), |out| Ok(serde_json::to_writer_pretty(out, &value)?))?;
    }
    write(&folder.join("model.safetensors"), |out| write_safetensors(out, &tensors, seed))
}

/// Writes a file beside its final name and renames it, so that an interrupted run leaves none.
fn write(path: &Path, body: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let parent = path.parent().context("a file has a folder")?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(parent).with_context(|| parent.display().to_string())?;
    let mut out = BufWriter::with_capacity(1 << 20, temporary.reopen()?);
    body(&mut out).and_then(|()| Ok(out.flush()?)).with_context(|| path.display().to_string())?;
    temporary.persist(path).with_context(|| path.display().to_string())?;
    Ok(())
}

/// Writes the safetensors format: the length of the header, the header (JSON, padded to 8 bytes),
/// the data.
fn write_safetensors(out: &mut impl Write, tensors: &[Tensor], seed: u64) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.bytes();
        let entry: Value = json!({
            "dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": [offset, end],
        });
        header.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (index, tensor) in tensors.iter().enumerate() {
        random::write(out, tensor, seed, index as u64)
            .with_context(|| format!("tensor {}", tensor.name))?;
    }
    Ok(())
}
