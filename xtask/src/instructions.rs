//! `cargo xtask instructions`: counts the instructions of matrix products, which are the same in every
//! run where times are not, and compares them with `benches/instructions.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::repository;

/// A count may exceed the recorded one by this factor. Another version of the compiler schedules
/// a little differently.
const TOLERANCE: f64 = 1.05;

/// Instructions for 1,000 multiply-adds, by instruction set, layout of the weights, and tokens.
type Counts = BTreeMap<String, BTreeMap<String, BTreeMap<usize, f64>>>;

/// Counts the instructions of matrix products with valgrind, and compares them with
/// benches/instructions.json.
#[derive(Default, Parser)]
pub(crate) struct Args {
    /// Record the counts of this machine's instruction set instead of comparing them
    #[arg(long)]
    record: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let counts = count()?;
    let path = path();
    let mut recorded: Counts = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?,
        Err(error) if args.record && error.kind() == std::io::ErrorKind::NotFound => Counts::new(),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    if args.record {
        recorded.extend(counts);
        let text = serde_json::to_string_pretty(&recorded)? + "\n";
        return fs::write(&path, text).with_context(|| path.display().to_string());
    }
    let exceeded = compare(&counts, &recorded)?;
    ensure!(
        exceeded.is_empty(),
        "more instructions for 1,000 multiply-adds than recorded: {}",
        exceeded.join("; ")
    );
    Ok(())
}

/// Whether valgrind is installed.
pub(crate) fn available() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

fn path() -> PathBuf {
    repository::root().join("benches/instructions.json")
}

/// Prints all counts beside the recorded ones, and returns those that exceed them. An instruction
/// set without recorded counts has no limits.
fn compare(counts: &Counts, recorded: &Counts) -> Result<Vec<String>> {
    let mut exceeded = Vec::new();
    for (isa, layouts) in counts {
        let Some(recorded) = recorded.get(isa) else {
            println!("no counts of {isa} are recorded: see `cargo xtask instructions --record`");
            continue;
        };
        println!("instructions for 1,000 multiply-adds with {isa}, recorded in parentheses:");
        for (layout, counts) in layouts {
            for (tokens, &count) in counts {
                let limit = recorded.get(layout).and_then(|counts| counts.get(tokens));
                let Some(&limit) = limit else { bail!("no count of {layout} is recorded") };
                let line = format!("{layout}, tokens: {tokens}: {count:.1} ({limit:.1})");
                println!("  {line}");
                if count > limit * TOLERANCE {
                    exceeded.push(line);
                }
            }
        }
    }
    Ok(exceeded)
}

/// Runs the products of `trilobite-kernels` under valgrind.
fn count() -> Result<Counts> {
    let example = ["-p", "trilobite-kernels", "--example", "products"];
    let build = [&["build", "--release", "--locked"][..], &example].concat();
    repository::run(&mut repository::cargo(), &build)?;
    let folder = tempfile::tempdir().context("a folder for the counts")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let out = folder.path().join("out");
    let output = Command::new("valgrind")
        .current_dir(repository::root())
        .args(["--quiet", "--tool=callgrind", "--dump-before=products::start*"])
        .arg("--dump-before=products::end*")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(target.join("release/examples/products"))
        .output()
        .context("`valgrind` did not start")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {}: {error}", output.status);
    let text = String::from_utf8(output.stdout).context("the products are named in UTF-8")?;
    let mut lines = text.lines();
    let isa = lines.next().context("the products name no instruction set")?;
    let mut layouts = BTreeMap::<_, BTreeMap<_, _>>::new();
    for (i, line) in lines.enumerate() {
        let [layout, tokens, products] = line.split(',').collect::<Vec<_>>()[..] else {
            bail!("{line:?} names no product");
        };
        // The first part ends where the first count starts, and the second where it ends.
        let instructions = total(&out.with_extension((2 * i + 2).to_string()))?;
        let thousands = products.parse::<f64>()? / 1000.0;
        let count = (instructions / thousands * 10.0).round() / 10.0;
        layouts.entry(layout.to_owned()).or_default().insert(tokens.parse()?, count);
    }
    Ok(Counts::from([(isa.to_owned(), layouts)]))
}

/// The number of instructions in a part of callgrind's output.
fn total(part: &Path) -> Result<f64> {
    let text = fs::read_to_string(part).with_context(|| part.display().to_string())?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.with_context(|| format!("{}: no total", part.display()))?;
    total.trim().parse().with_context(|| format!("{}: {total:?}", part.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(isa: &str, count: f64) -> Counts {
        let tokens = BTreeMap::from([(1, count)]);
        Counts::from([(isa.to_owned(), BTreeMap::from([("i2_s".to_owned(), tokens)]))])
    }

    #[test]
    fn more_instructions_than_recorded_are_found() {
        let recorded = counts("avx2", 200.0);
        assert_eq!(compare(&counts("avx2", 209.0), &recorded).unwrap(), [] as [&str; 0]);
        let exceeded = compare(&counts("avx2", 211.0), &recorded).unwrap();
        assert_eq!(exceeded, ["i2_s, tokens: 1: 211.0 (200.0)"]);
        assert_eq!(compare(&counts("neon", 1.0), &recorded).unwrap(), [] as [&str; 0]);
    }

    /// The file has counts of every product with one token.
    #[test]
    fn the_recorded_counts_can_be_read() {
        let recorded: Counts = serde_json::from_slice(&fs::read(path()).unwrap()).unwrap();
        assert!(recorded["avx2"].values().all(|counts| counts.contains_key(&1)));
    }
}
