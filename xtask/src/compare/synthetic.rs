//! Models with random weights in the shapes of listed ones. They are made once and kept.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::args::Args;
use super::subject::{Kind, Subject, convert, converted};
use crate::models::{Model, Models, Shape, Weights};
use crate::synth;

/// Seed of all weights.
const SEED: u64 = 1;

/// Prepares the models that the arguments name, by default those of the technical report.
pub(super) fn prepare(binary: &Path, args: &Args) -> Result<Vec<Subject>> {
    let models = Models::load()?;
    let mut chosen = Vec::new();
    for name in &args.models {
        chosen.push(models.find(name)?);
    }
    if chosen.is_empty() {
        chosen.extend(models.published().map(|(model, _)| model));
    }
    let folder = args.output.join("models");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let missing: Vec<u64> = chosen
        .iter()
        .filter(|model| !converted(args, &file_name(model)).exists())
        .filter_map(|model| synth::bytes(shape(&models, model).ok()?, model.weights).ok())
        .collect();
    has_room(&folder, needed(&missing), free(&folder))?;
    Ok(chosen.iter().map(|model| subject(binary, args, &models, model)).collect())
}

fn subject(binary: &Path, args: &Args, models: &Models, model: &Model) -> Subject {
    let out = converted(args, &file_name(model));
    let made = match out.exists() {
        true => Ok(()),
        false => shape(models, model).and_then(|shape| make(binary, model, shape, &out)),
    };
    let kind = made.map(|()| Kind::Model(Some(out)));
    let note = Some(format!("Random weights in the shape of {}.", model.repository));
    Subject { note, ..Subject::new(&model.name, Some(&model.name), kind) }
}

/// The file name, which differs from that of the real model.
fn file_name(model: &Model) -> String {
    format!("{}-random", model.name)
}

fn shape<'a>(models: &'a Models, model: &Model) -> Result<&'a Shape> {
    if model.weights == Weights::Gguf {
        bail!("{} is a GGUF file: choose the checkpoint that it was made from", model.name);
    }
    models.shape(model)
}

/// Writes a checkpoint, converts it and removes it.
fn make(binary: &Path, model: &Model, shape: &Shape, out: &Path) -> Result<()> {
    eprintln!("{}: random weights", model.name);
    let parent = out.parent().context("a file has a folder")?;
    let checkpoint = tempfile::Builder::new().prefix("checkpoint-").tempdir_in(parent)?;
    if model.weights == Weights::Rows {
        synth::write_packed(shape, checkpoint.path(), SEED)?;
        return convert(binary, &checkpoint.path().join(synth::PACKED), out);
    }
    synth::write_checkpoint(shape, model.weights, checkpoint.path(), SEED)?;
    convert(binary, checkpoint.path(), out)
}

/// The disk space for converted files of these checkpoints, and for the largest checkpoint during
/// its conversion. A converted file is as large as its checkpoint and, with a coarse copy of the
/// head, up to a quarter larger.
fn needed(checkpoints: &[u64]) -> u64 {
    let files: u64 = checkpoints.iter().map(|bytes| bytes + bytes / 4).sum();
    files + checkpoints.iter().max().unwrap_or(&0)
}

fn has_room(folder: &Path, needed: u64, free: Option<u64>) -> Result<()> {
    let gb = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let (needs, folder) = (gb(needed), folder.display());
    if needed == 0 {
        return Ok(());
    }
    let Some(free) = free else {
        eprintln!("{folder}: random weights take up to {needs}; what is free is not known");
        return Ok(());
    };
    eprintln!("{folder}: random weights take up to {needs} of the {} that are free", gb(free));
    ensure!(
        needed <= free,
        "{folder}: random weights take up to {needs} and {} are free; name fewer models, or another \
         folder with -o",
        gb(free)
    );
    Ok(())
}

/// Free disk space, if the system reports it.
fn free(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(folder).ok()?;
        Some(disk.f_bavail * disk.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_space_is_that_of_the_files_and_of_one_checkpoint() {
        assert_eq!(needed(&[]), 0);
        assert_eq!(needed(&[100, 400, 200]), 700 + 175 + 400);
        let folder = Path::new("/f");
        assert!(has_room(folder, 5, Some(5)).is_ok() && has_room(folder, 5, None).is_ok());
        assert!(has_room(folder, 0, Some(0)).is_ok());
        let error = has_room(folder, 3_000_000_000, Some(2_500_000_000)).unwrap_err().to_string();
        assert!(error.contains("3.0 GB and 2.5 GB are free"), "{error}");
    }

    #[test]
    fn the_four_models_of_the_report_take_less_than_what_is_stated() {
        let models = Models::load().unwrap();
        let bytes = |(model, _): (&Model, _)| {
            synth::bytes(shape(&models, model).unwrap(), model.weights).unwrap()
        };
        let checkpoints: Vec<u64> = models.published().map(bytes).collect();
        assert_eq!(checkpoints.len(), 4);
        // 2B4T: 521 MB of codes, 657 MB of bfloat16 embedding, and 287 MB of a coarse copy of it.
        assert!(checkpoints[0] + 328_335_360 * 7 / 8 <= needed(&checkpoints[..1]) - checkpoints[0]);
    }
}
