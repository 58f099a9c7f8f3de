//! Tests of `run` with a constraint on the answer.

use anyhow::Result;
use serde_json::Value;

use crate::fixture::Fixture;
use crate::trilobite::{command, convert, stdout};

#[test]
fn answers_have_the_form_that_is_demanded() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (model, file) = (folder.path().join("model.gguf"), folder.path().join("form"));
    convert(&Fixture::named("llama_bitnet_online").folder, &model)?;
    let run = |args: &[&str]| {
        let mut command = command(["run", "-p", "Hi", "-n", "300", "-q"]);
        command.args(args).arg(&model);
        command
    };
    let path = file.to_str().unwrap();
    let schema = r#"{"type": "array", "items": {"enum": ["ä", 1]}, "minItems": 2, "maxItems": 3}"#;
    std::fs::write(&file, schema)?;
    for seed in ["1", "2", "3", "4"] {
        for temperature in ["0", "1.5"] {
            let flags = ["--json-schema", path, "--temp", temperature, "--seed", seed];
            let list: Vec<Value> = serde_json::from_str(&stdout(&mut run(&flags))?)?;
            assert!(
                (2..=3).contains(&list.len()) && list.iter().all(|item| item == "ä" || *item == 1)
            );
        }
    }
    assert_eq!(
        stdout(&mut run(&["--regex", "-?(ab){4}", "--ignore-eos"]))?.replace('-', ""),
        "abababab\n"
    );
    std::fs::write(&file, "start: \"x\" Y\nY: /y{3}/\n")?;
    assert_eq!(stdout(&mut run(&["--grammar", path]))?, "xyyy\n");
    // Errors are reported before anything is generated.
    let failure = |args: &[&str]| {
        let output = run(args).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(failure(&["--json-schema", path]).contains("form is no JSON"));
    std::fs::write(&file, r#"{"type": "array", "uniqueItems": true}"#)?;
    let said = failure(&["--json-schema", path]);
    assert!(
        said.contains("the JSON schema cannot be followed") && said.contains("uniqueItems"),
        "{said}"
    );
    assert!(
        failure(&["--regex", "a("]).contains("--regex: the regular expression cannot be followed")
    );
    assert!(failure(&["--regex", "a", "--grammar", path]).contains("cannot be used with"));
    Ok(())
}
