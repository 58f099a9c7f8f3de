//! Tests of activations that are rounded to int8.

use std::path::Path;

use trilobite_kernels::Kernels;

use crate::fixture::Fixture;
use crate::npy::Array;
use crate::trilobite::{command, logits};

/// Limit of the RMS error that rounding every input of a product to int8 causes, divided by the
/// standard deviation of the logits. PyTorch gives 0.04 with a step for each token, and 0.03 with a
/// step for 32 columns.
const INT8: f64 = 0.07;

#[test]
fn int8_activations_are_close_and_have_the_same_bits_everywhere() {
    for name in ["bonsai", "maple_gguf"] {
        let fixture = Fixture::named(name);
        let source = fixture.source().unwrap();
        let reference = fixture.logits("long").unwrap();
        let tokens = fixture.prompt("long").unwrap();
        let int8 = |args: &[&str], isa: &str| {
            let args = [&["--activations", "int8"][..], args].concat();
            logits(&source, &tokens, &args, &[("TRILOBITE_ISA", isa)]).unwrap()
        };
        let found = int8(&["-t", "1"], "scalar");
        let rms = distance(&Array::parse(&found).unwrap(), &reference);
        assert!((1e-3..INT8).contains(&rms), "{name}: {rms}");
        for isa in Kernels::available() {
            assert!(int8(&["-t", "2"], isa.isa.name()) == found, "{name}: {isa:?}");
        }
        assert!(int8(&["--batch", "7"], "scalar") == found, "{name}: batches of 7");
    }
}

/// The RMS difference of logits, divided by the standard deviation of the second.
fn distance(found: &Array, reference: &Array) -> f64 {
    let squares = found.values.iter().zip(&reference.values);
    let squares: f64 = squares.map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (squares / found.values.len() as f64).sqrt() / reference.std()
}

#[test]
fn int8_activations_of_weights_in_blocks_are_close_and_have_the_same_bits_everywhere() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tinystories-dense.gguf");
    let tokens = (5..45).collect::<Vec<_>>();
    let run = |args: &[&str], isa: &str| {
        logits(&source, &tokens, args, &[("TRILOBITE_ISA", isa)]).unwrap()
    };
    let exact = Array::parse(&run(&[], "scalar")).unwrap();
    let int8 = ["--activations", "int8"];
    let found = run(&int8, "scalar");
    let rms = distance(&Array::parse(&found).unwrap(), &exact);
    assert!((1e-3..INT8).contains(&rms), "{rms}");
    for isa in Kernels::available() {
        // One token at a time takes other kernels.
        for batch in ["1", "40"] {
            let args = [&int8[..], &["-t", "2", "--batch", batch]].concat();
            assert!(run(&args, isa.isa.name()) == found, "{isa:?}, batches of {batch}");
        }
    }
}

#[test]
fn int8_activations_are_refused_where_they_change_nothing() {
    for name in ["qwen3", "bitnet_offline"] {
        let source = Fixture::named(name).source().unwrap();
        let args = ["logits", "--activations", "int8", "--tokens", "1", "-o", "never.npy"];
        let output = command(args).arg(source).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains("activations can be int8 with weights in blocks"), "{said}");
    }
}
