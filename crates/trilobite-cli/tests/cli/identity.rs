//! The same bits, however the work is divided.

use anyhow::ensure;

use crate::fixture::for_each;
use crate::trilobite;

#[test]
fn logits_do_not_depend_on_threads_batches_or_instructions() {
    for_each(|fixture| {
        let folder = tempfile::tempdir()?;
        let model = folder.path().join("model.gguf");
        trilobite::convert(&fixture.folder, &model)?;
        let tokens = fixture.prompt("mid")?;
        let whole = trilobite::logits(&model, &tokens, &["-t", "1"], &[])?;
        for args in [
            &[][..],
            &["-t", "2"],
            &["-t", "3"],
            &["--batch", "1"],
            &["--batch", "7"],
            &["--batch", "7", "-t", "3"],
        ] {
            for environment in [&[][..], &[("TRILOBITE_ISA", "scalar")]] {
                let found = trilobite::logits(&model, &tokens, args, environment)?;
                ensure!(found == whole, "differs with {args:?} {environment:?}");
            }
        }
        Ok(())
    });
}
