//! Tests of logits and greedy tokens, compared with the reference.
//!
//! The int8 codes of a ternary product are rounded, so a float sum in another order changes a code
//! by 1 now and then. The logits after it differ by about a percent. A position therefore agrees to
//! float precision, or differs by this noise. The limits distinguish noise from mistakes: SiLU
//! instead of squared ReLU, a wrong epsilon, truncated codes, codes per block and an inverted scale
//! all exceed them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::fixture::{Fixture, PROMPTS, for_each};
use crate::npy::Array;
use crate::trilobite;

/// Tolerance of the logits of dense models, in which only float rounding differs.
const DENSE: f64 = 5e-4;
/// Tolerance of logits where no code differs.
const EXACT: f64 = 1e-4;
/// Maximum RMS error divided by the standard deviation of the logits, for a prompt of about twenty
/// tokens.
const SHORT_RMS: f64 = 0.01;
/// Minimum fraction of positions of that prompt where no code differs.
const SHORT_EXACT: f64 = 0.6;
/// The maximum RMS error for longer prompts, where attention adds the noise of more positions.
const LONG_RMS: f64 = 0.035;
/// Minimum fraction of their positions with the same most likely token as the reference.
const LONG_ARGMAX: f64 = 0.94;
/// A greedy step is decided if its margin exceeds this multiple of the noise measured there ...
const DECIDED_SPREADS: f64 = 4.0;
/// ... and this fraction of the standard deviation of the logits.
const DECIDED_STD: f64 = 0.1;

#[test]
fn logits_agree_with_the_reference() {
    for_each(|fixture| {
        let folder = tempfile::tempdir()?;
        for source in fixture.sources()? {
            let converted = folder.path().join("converted.gguf");
            trilobite::convert(&source, &converted)?;
            for prompt in PROMPTS {
                let tokens = fixture.prompt(prompt)?;
                let file = trilobite::logits(&converted, &tokens, &[], &[])?;
                let found = Array::parse(&file)?;
                compare(fixture.is_ternary()?, prompt, &found, &fixture.logits(prompt)?)?;
                let direct = trilobite::logits(&source, &tokens, &[], &[])?;
                ensure!(direct == file, "{}: unlike its conversion: {prompt}", source.display());
            }
            std::fs::remove_file(&converted)?;
            if !fixture.is_ternary()? {
                continue;
            }
            trilobite::convert_to("t5_3", &source, &converted)?;
            for prompt in PROMPTS {
                let tokens = fixture.prompt(prompt)?;
                let file = trilobite::logits(&converted, &tokens, &[], &[])?;
                let direct = trilobite::logits(&source, &tokens, &[], &[])?;
                ensure!(direct == file, "{}: unlike its T5_3: {prompt}", source.display());
            }
            std::fs::remove_file(&converted)?;
        }
        Ok(())
    });
}

fn compare(ternary: bool, prompt: &str, found: &Array, reference: &Array) -> Result<()> {
    ensure!(found.cols == reference.cols, "{} columns, not {}", found.cols, reference.cols);
    ensure!(found.values.len() == reference.values.len(), "{prompt}: another number of rows");
    let errors: Vec<f64> = found
        .values
        .iter()
        .zip(&reference.values)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
        .collect();
    ensure!(errors.iter().all(|e| e.is_finite()), "{prompt}: not finite");
    let squares: f64 = errors.iter().map(|e| e * e).sum();
    let rms = (squares / errors.len() as f64).sqrt() / reference.std();
    let largest: Vec<f64> =
        errors.chunks(found.cols).map(|row| row.iter().copied().fold(0.0, f64::max)).collect();
    if !ternary {
        let most = largest.iter().copied().fold(0.0, f64::max);
        ensure!(most <= DENSE, "{prompt}: a logit is off by {most}");
        return Ok(());
    }
    let rows = largest.len() as f64;
    let exact = largest.iter().filter(|e| **e <= EXACT).count() as f64 / rows;
    let agreeing = found.rows().zip(reference.rows()).filter(|(a, b)| argmax(a) == argmax(b));
    let agreement = agreeing.count() as f64 / rows;
    let right = match prompt {
        "one" => exact == 1.0,
        "short" => rms <= SHORT_RMS && exact >= SHORT_EXACT,
        _ => rms <= LONG_RMS && agreement >= LONG_ARGMAX,
    };
    ensure!(
        right,
        "{prompt}: RMS error / std {rms:.5}, {:.0} % of positions exact, argmax agrees on {:.0} %",
        100.0 * exact,
        100.0 * agreement
    );
    Ok(())
}

fn argmax(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// The reference's greedy continuation of a prompt.
#[derive(Deserialize)]
struct Greedy {
    ids: Vec<u32>,
    top1_minus_top2: Vec<f64>,
    spread: Vec<f64>,
}

#[test]
fn greedy_tokens_agree_with_the_reference() {
    for_each(|fixture| {
        let greedy: BTreeMap<String, Greedy> = fixture.json("golden/greedy.json")?;
        let least = DECIDED_STD * fixture.logits("long")?.std();
        for (prompt, reference) in greedy {
            let found = generate(&fixture.source()?, fixture, &prompt, reference.ids.len())?;
            ensure!(found.len() == reference.ids.len(), "{prompt}: {} tokens", found.len());
            let decided = reference
                .top1_minus_top2
                .iter()
                .zip(&reference.spread)
                .take_while(|(margin, spread)| **margin >= least.max(DECIDED_SPREADS * **spread))
                .count();
            ensure!(
                found[..decided] == reference.ids[..decided],
                "{prompt}: {found:?}, not {:?} (first {decided})",
                reference.ids
            );
        }
        Ok(())
    });
}

fn generate(model: &Path, fixture: &Fixture, prompt: &str, n: usize) -> Result<Vec<u32>> {
    let tokens = trilobite::comma_separated(&fixture.prompt(prompt)?);
    let n = n.to_string();
    let args = ["run", "--tokens", &tokens, "-n", &n, "--temp", "0", "--ignore-eos", "--ids"];
    let ids = trilobite::stdout(trilobite::command(args).arg(model))?;
    Ok(ids.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}
