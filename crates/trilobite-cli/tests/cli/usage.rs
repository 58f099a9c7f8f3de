//! Tests of arguments that make no sense: exit status 2, and one line that says why.

use crate::failures::failed;
use crate::trilobite::command;

#[test]
fn wrong_usage_has_its_own_exit_status() {
    for args in [
        &["frobnicate"][..],
        &["convert"],
        &["run", "--temp", "warm"],
        &["logits", "--tokens", "1,x", "-o", "x.npy"],
        &["tokenize", "-p", "a", "--decode", "1"],
        &["tokenize"],
        &["pull", "--data", "nope"],
        &["eval", "--tasks", "piqa,arc_easy", "--answers", "answers.jsonl"],
        &["run", "--tokens", "1", "--chat"],
        &["perplexity", "--file", "/nowhere", "--ctx", "64", "--stride", "65"],
    ] {
        let output = command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn an_error_in_arguments_is_one_line() {
    for (args, expected) in [
        (&["rum"][..], "unrecognized subcommand 'rum'; a similar subcommand exists: 'run'"),
        (
            &["run", "--tmp", "1"],
            "unexpected argument '--tmp' found; a similar argument exists: '--temp'",
        ),
        (
            &["run", "--activations", "exat"],
            "invalid value 'exat' for '--activations <HOW>' [possible values: exact, int8]; a similar \
             value exists: 'exact'",
        ),
        (
            &["logits"],
            "the following required arguments were not provided: --tokens <IDS> --output <FILE.npy>",
        ),
        (
            &["run", "-p", "-3", "-n", "-12"],
            "invalid value '-12' for '-n': expected a number that is not negative",
        ),
        (
            &["tokenize", "--decode", "-1,2"],
            "invalid value '-1,2' for '--decode': expected a number that is not negative",
        ),
        (
            &["run", "-p", "-1", "--5"],
            "unexpected argument '--5' found; to pass '--5' as a value, use '-- --5'",
        ),
    ] {
        let output = command(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((said, output.status.code()), (format!("error: {expected}\n"), Some(2)));
    }
}

#[test]
fn values_that_no_model_allows_are_wrong_usage() {
    let negative = "expected 0 or more";
    for (args, expected) in [
        (&["run", "--temp", "-1"][..], negative),
        (&["run", "--temp", "nan"], negative),
        (&["run", "--temp", "inf"], negative),
        (&["run", "--min-p", "2"], "expected 0 to 1"),
        (&["run", "--top-p", "1.5"], "expected 0 to 1"),
        (&["run", "--top-p", "-0.5"], "expected 0 to 1"),
        (&["run", "--repeat-penalty", "0"], "expected more than 0"),
        (&["run", "--loop-penalty", "-1"], negative),
        (&["run", "--batch", "0"], "expected a whole number of at least 1"),
        (&["run", "--ctx", "0"], "expected a whole number of at least 1"),
        (&["score", "--ctx", "0"], "expected a whole number of at least 1"),
        (&["embed", "--ctx", "0"], "expected a whole number of at least 1"),
        (&["serve", "--ctx", "0"], "expected a whole number of at least 1"),
        (&["eval", "--tasks", "piqa", "--ctx", "0"], "expected a whole number of at least 1"),
        (&["eval", "--tasks", "hellaswagg"], "did you mean hellaswag?"),
        (&["perplexity", "--ctx", "1"], "expected a whole number of at least 2"),
        (&["perplexity", "--stride", "0"], "expected a whole number of at least 1"),
        (&["bench", "--runs", "0"], "expected a whole number of at least 1"),
    ] {
        let output = command(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {said}");
        let [.., flag, value] = args else { unreachable!() };
        let place = format!("error: invalid value '{value}' for '{flag} <");
        let line = said.lines().next().unwrap();
        assert!(line.starts_with(&place) && line.ends_with(expected), "{args:?}: {said}");
    }
    // Values that conflict with the model are not.
    let output = command(["run", "-p", "a", "--ctx", "100000"]).output().unwrap();
    failed(&output, &["--ctx is 100000, but the model was made for at most 512 tokens"]);
}

#[test]
fn every_command_takes_a_number_of_threads() {
    for name in [
        "run",
        "convert",
        "inspect",
        "logits",
        "tokenize",
        "score",
        "perplexity",
        "embed",
        "bench",
        "eval",
        "serve",
        "pull",
        "list",
        "show",
        "rm",
    ] {
        let output = command([name, "-t", "0"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = "error: invalid value '0' for '--threads <THREADS>': 0 is not in 1..=1024";
        assert!(said.starts_with(expected), "{name}: {said}");
    }
}
