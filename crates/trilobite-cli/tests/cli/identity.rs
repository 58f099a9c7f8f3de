//! Tests that logits have the same bits for any division of the work and any layout of the weights.

use std::path::Path;

use anyhow::ensure;
use trilobite_kernels::Kernels;

use crate::fixture::for_each;
use crate::trilobite;

#[test]
fn logits_do_not_depend_on_layouts_threads_batches_or_instructions() {
    for_each(|fixture| {
        let folder = tempfile::tempdir()?;
        let model = folder.path().join("model.gguf");
        trilobite::convert(&fixture.source()?, &model)?;
        let mut models = vec![model];
        if fixture.is_ternary()? {
            for layout in ["i2_s", "t5_3", "sparse"] {
                let other = folder.path().join(layout).with_extension("gguf");
                // Not every layout supports every model.
                if trilobite::convert_to(layout, &models[0], &other).is_ok() {
                    models.push(other);
                }
            }
            ensure!(models.len() > 1, "no other layout");
        }
        let tokens = fixture.prompt("mid")?;
        let whole = trilobite::logits(&models[0], &tokens, &["-t", "1"], &[])?;
        let check = |model: &Path, args: &[&str], environment: &[(&str, &str)]| {
            let found = trilobite::logits(model, &tokens, args, environment)?;
            ensure!(found == whole, "{} differs with {args:?} {environment:?}", model.display());
            Ok(())
        };
        for model in &models {
            for args in [
                &[][..],
                &["-t", "2"],
                &["-t", "3"],
                &["-t", "4"],
                &["-t", "5", "--batch", "1"],
                &["-t", "6"],
                &["-t", "7", "--batch", "5"],
                &["--batch", "1"],
                &["--batch", "7"],
                &["--batch", "7", "-t", "3"],
                &["--batch", "4", "-t", "7"],
                &["--plain"],
                &["--plain", "--batch", "5", "-t", "3"],
            ] {
                check(model, args, &[])?;
            }
            // The kernels' own tests compare every shape; here each one takes part in a whole model.
            for kernels in Kernels::available() {
                let environment = [("TRILOBITE_ISA", kernels.isa.name())];
                for args in [
                    &["-t", "5", "--batch", "1"][..],
                    &["--batch", "7", "-t", "3"],
                    &["--plain", "--batch", "5", "-t", "3"],
                ] {
                    check(model, args, &environment)?;
                }
            }
        }
        Ok(())
    });
}

#[test]
fn tokens_do_not_depend_on_the_coarse_head() {
    for_each(|fixture| {
        let folder = tempfile::tempdir()?;
        let tokens = trilobite::comma_separated(&fixture.prompt("short")?);
        let run = |scan: &str, args: &[&str], environment: &[(&str, &str)]| {
            let model = folder.path().join(scan).with_extension("gguf");
            if !model.exists() {
                let mut convert = trilobite::command(["convert", "--head-scan", scan, "-o"]);
                trilobite::stdout(convert.arg(&model).arg(fixture.source()?))?;
            }
            let fixed =
                ["run", "--tokens", &tokens, "-n", "48", "--ignore-eos", "--ids", "--seed=3"];
            let mut command = trilobite::command(fixed.iter().chain(args));
            trilobite::stdout(command.envs(environment.iter().copied()).arg(&model))
        };
        for args in [
            &["--temp=0"][..],
            &["--temp=0", "-t", "3"],
            &["--temp=1", "--top-k=5"],
            &["--temp=1", "--top-k=5", "--top-p=0.8", "--min-p=0.05", "-t", "1"],
            &["--temp=1"],
            &["--temp=0", "--repeat-penalty=1.3"],
        ] {
            let whole = run("none", args, &[])?;
            for environment in [&[][..], &[("TRILOBITE_ISA", "scalar")]] {
                let found = run("always", args, environment)?;
                ensure!(found == whole, "differs with {args:?} {environment:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn logits_of_rounded_caches_do_not_depend_on_threads_batches_or_instructions() {
    for_each(|fixture| {
        let folder = tempfile::tempdir()?;
        let model = folder.path().join("model.gguf");
        trilobite::convert(&fixture.source()?, &model)?;
        let tokens = fixture.prompt("mid")?;
        let exact = trilobite::logits(&model, &tokens, &[], &[])?;
        for kv in ["f16", "q8"] {
            let whole = trilobite::logits(&model, &tokens, &["--kv", kv, "-t", "1"], &[])?;
            ensure!(whole != exact, "{kv} rounds nothing");
            for kernels in Kernels::available() {
                let environment = [("TRILOBITE_ISA", kernels.isa.name())];
                let args = ["--kv", kv, "-t", "3", "--batch", "7"];
                let found = trilobite::logits(&model, &tokens, &args, &environment)?;
                ensure!(found == whole, "{kv} differs with {environment:?}");
            }
        }
        Ok(())
    });
}
