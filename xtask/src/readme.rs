//! `cargo xtask readme`: writes the parts of README.md that are outputs of programs.
//!
//! Such a part is between two comments: `<!-- table PATH -->`, a report.json of `cargo xtask compare`,
//! or `<!-- output COMMAND -->`, a `trilobite` command; and `<!-- end -->`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde_json::Value;

use crate::repository;

/// Writes the tables and outputs in README.md again.
#[derive(Parser)]
pub(crate) struct Args {
    /// The binary to use [default: a release build of this checkout]
    #[arg(long, value_name = "FILE")]
    trilobite: Option<std::path::PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = crate::trilobite::binary(args.trilobite.as_deref())?;
    let path = repository::root().join("README.md");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let written = fill(&text, &|kind, of, _| match kind {
        "output" => output(&binary, of),
        _ => table(&repository::root(), of),
    })?;
    std::fs::write(&path, written).with_context(|| path.display().to_string())
}

/// Replaces the generated parts of a text. `part` gets the kind, the source and the old contents.
fn fill(text: &str, part: &dyn Fn(&str, &str, &str) -> Result<String>) -> Result<String> {
    const END: &str = "<!-- end -->\n";
    let mut filled = String::new();
    let mut rest = text;
    while let Some((kind, at)) = ["table", "output"]
        .into_iter()
        .filter_map(|kind| Some((kind, rest.find(&format!("<!-- {kind} "))?)))
        .min_by_key(|(_, at)| *at)
    {
        let (before, from) = rest.split_at(at);
        let line = from.find('\n').context("a generated part without an end")? + 1;
        let (head, body) = from.split_at(line);
        let of =
            head.strip_prefix(&format!("<!-- {kind} ")).and_then(|of| of.strip_suffix(" -->\n"));
        let of = of.with_context(|| format!("{head:?} does not begin a generated part"))?;
        let (old, after) = body.split_once(END).with_context(|| format!("{head:?} has no end"))?;
        filled += &format!("{before}{head}{}{END}", part(kind, of, old)?);
        rest = after;
    }
    Ok(filled + rest)
}

/// The output of a command, as a quotation.
fn output(binary: &Path, command: &str) -> Result<String> {
    let words = shlex::split(command).unwrap_or_default();
    let Some(("trilobite", arguments)) =
        words.split_first().map(|(first, rest)| (first.as_str(), rest))
    else {
        bail!("{command:?} is not a trilobite command");
    };
    let output = Command::new(binary).args(arguments).output()?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let lines = text.trim().lines().map(|line| format!("> {line}\n"));
    Ok(lines.collect::<Vec<_>>().join(">\n"))
}

/// The table of a report: memory, speed and mean score, of the measured and the published models.
/// If all measured models have published figures, both share a cell.
fn table(root: &Path, path: &str) -> Result<String> {
    let text = std::fs::read(root.join(path)).with_context(|| path.to_owned())?;
    let report: Value = serde_json::from_slice(&text).with_context(|| path.to_owned())?;
    let list = |name: &str| report[name].as_array().map_or(&[][..], Vec::as_slice);
    let (rows, published) = (list("rows"), list("published"));
    let of_row = |row: &Value| published.iter().find(|model| model["name"] == row["listed"]);
    let shared = rows.iter().all(|row| of_row(row).is_some());
    let columns = if shared { &[] } else { published };

    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let names =
        rows.iter().map(name).chain(columns.iter().map(|model| format!("*{}*", name(model))));
    let names: Vec<String> = names.collect();
    let mut lines = vec![format!("| | {} |", names.join(" | "))];
    lines.push(format!("|---|{}", "---|".repeat(names.len())));
    let mut line = |label: &str,
                    of: &dyn Fn(&Value) -> Option<String>,
                    of_published: &dyn Fn(&Value) -> Option<String>| {
        let italic = |model: &Value| of_published(model).map(|text| format!("*{text}*"));
        let both = |row| {
            let published = of_row(row).filter(|_| shared).and_then(italic);
            let parts: Vec<String> = of(row).into_iter().chain(published).collect();
            parts.join(", ")
        };
        let cells = rows.iter().map(both);
        let cells = cells.chain(columns.iter().map(|model| italic(model).unwrap_or_default()));
        lines.push(format!("| {label} | {} |", cells.collect::<Vec<_>>().join(" | ")));
    };
    line(
        "weights without the embedding, MB",
        &|row| Some(short(row["non_embedding_bytes"]["value"].as_f64()? / 1e6)),
        &|model| Some(format!("{:.0}", model["non_embedding_gb"].as_f64()? * 1e3)),
    );
    let speed = |row: &Value, kind: &str| {
        let speeds = row["speeds"].as_object()?;
        speeds.iter().find(|(test, _)| test.starts_with(kind))?.1["value"]["median"].as_f64()
    };
    line("decoded token, ms", &|row| Some(short(1e3 / speed(row, "tg")?)), &|model| {
        Some(format!("{}", model["cpu_decoding_ms"].as_f64()?))
    });
    let prefill = list("rows").iter().find_map(|row| {
        let test = row["speeds"].as_object()?.keys().find(|test| test.starts_with("pp"))?;
        test.strip_prefix("pp")?.split('-').next().map(str::to_owned)
    });
    if let Some(tokens) = prefill {
        let label = format!("prefill of {tokens}, tokens/s");
        line(&label, &|row| Some(short(speed(row, "pp")?)), &|_| None);
    }
    // Tasks with a score in every row that has any.
    let score = |row: &Value, key: &str| row["scores"][key]["value"]["value"].as_f64();
    let keys = list("tasks").iter().filter_map(|task| task["key"].as_str());
    let keys: Vec<&str> =
        keys.filter(|key| rows.iter().any(|row| score(row, key).is_some())).collect();
    let scored = |row: &&Value| keys.iter().any(|key| score(row, key).is_some());
    let common = |key: &&str| rows.iter().filter(scored).all(|row| score(row, key).is_some());
    let common: Vec<&str> = keys.iter().copied().filter(common).collect();
    let mean = |of: &dyn Fn(&str) -> Option<f64>| {
        let scores: Option<Vec<f64>> = common.iter().map(|key| of(key)).collect();
        Some(format!("{:.1}", scores?.iter().sum::<f64>() / common.len() as f64))
    };
    if !common.is_empty() {
        line(
            &format!("mean of {} tasks, %", common.len()),
            &|row| mean(&|key| score(row, key)),
            &|model| mean(&|key| model["scores"][key].as_f64()),
        );
    }
    Ok(lines.join("\n") + "\n")
}

/// A number with about three digits.
fn short(value: f64) -> String {
    match value {
        0.0..1.0 => format!("{value:.2}"),
        1.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outputs of the binary are compared by its own tests.
    #[test]
    fn the_tables_in_the_readme_are_those_of_the_reports() {
        let root = repository::root();
        let text = std::fs::read_to_string(root.join("README.md")).unwrap();
        let filled = fill(&text, &|kind, of, old| match kind {
            "table" => table(&root, of),
            _ => Ok(old.to_owned()),
        });
        assert_eq!(filled.unwrap(), text);
    }

    #[test]
    fn generated_parts_are_replaced() {
        let text =
            "a\n<!-- output trilobite -->\nold\n<!-- end -->\nb\n<!-- table t -->\n<!-- end -->\n";
        let part = |kind: &str, of: &str, old: &str| Ok(format!("{kind} {of} {}\n", old.len()));
        let filled = fill(text, &part).unwrap();
        assert!(filled.contains("-->\noutput trilobite 4\n<!-- end -->\nb\n"), "{filled}");
        assert!(filled.ends_with("-->\ntable t 0\n<!-- end -->\n"), "{filled}");
        assert!(fill("<!-- table t -->\n", &part).is_err());
    }
}
