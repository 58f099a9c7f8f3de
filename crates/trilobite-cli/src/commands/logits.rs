//! `trilobite logits`: writes the logits after every token to a NumPy file.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use trilobite_runtime::{Error, MAX_BATCH, argmax};

use super::npy;
use crate::args::{Global, Logits};
use crate::{model, output};

pub(crate) fn run(args: &Logits, global: &Global) -> Result<ExitCode> {
    let model = model::load(&args.model, args.compute.threads, global)?;
    model::refuse_target(&args.model, &args.output)?;
    let vocab = model.config().vocab;
    let (count, most) = (args.tokens.len(), model.config().context);
    ensure!(count <= most, "--tokens are {count}, but the model was made for at most {most}");
    let mut session = model::session(&model, &args.compute, Some(count))?;
    model::check_ids(&args.tokens, vocab).context("--tokens")?;
    output::write_result(&args.output, |out| {
        out.write_all(&npy::header(count, vocab))?;
        // Errors and signals are noticed between two batches.
        for batch in args.tokens.chunks(MAX_BATCH) {
            let mut written: Result<()> = Ok(());
            session.each_logits(batch, |_, logits| {
                let sound = argmax(logits).is_some() && !logits.iter().any(|logit| logit.is_nan());
                if !sound {
                    written = Err(Error::NotFinite.into());
                } else if written.is_ok() {
                    let bytes = logits.iter().flat_map(|logit| logit.to_le_bytes());
                    written = out.write_all(&bytes.collect::<Vec<_>>()).map_err(Into::into);
                }
            })?;
            written?;
        }
        Ok(())
    })?;
    if !global.quiet {
        output::say(&format!("{}: f32 [{count}, {vocab}]", args.output.display()));
    }
    Ok(ExitCode::SUCCESS)
}
