//! What helps against an error: the flags and commands that the libraries' messages do not know.

use anyhow::Error;
use trilobite_convert::Error as Convert;
use trilobite_eval::Error as Eval;
use trilobite_format::{Error as Format, TensorType};
use trilobite_runtime::Error as Runtime;

/// What to do about an error, to be said after its message.
pub(crate) fn of(error: &Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let format = cause.downcast_ref().and_then(of_format);
        let convert = || cause.downcast_ref().and_then(of_convert);
        let runtime = || cause.downcast_ref().and_then(of_runtime);
        let eval = || cause.downcast_ref().and_then(of_eval);
        format.or_else(convert).or_else(runtime).or_else(eval)
    })
}

fn of_format(error: &Format) -> Option<&'static str> {
    match error {
        Format::NotTernary { ty: TensorType::F32 | TensorType::F16 | TensorType::Bf16, .. } => {
            Some(
                "`trilobite convert --quantize absmean` packs master weights, and trits written as \
             numbers",
            )
        }
        _ => None,
    }
}

fn of_convert(error: &Convert) -> Option<&'static str> {
    match error {
        Convert::Exists(_) => Some("--force overwrites it"),
        Convert::Dense { .. } => Some(
            "if it holds master weights, or ternary weights written out as dense numbers, convert \
             with `--quantize absmean`",
        ),
        Convert::TypeOfTernary(_) => Some("--layout says how it is stored, and not --type"),
        Convert::LayoutOfDense(_) => Some(
            "--type says how it is stored, and not --layout (--quantize absmean makes it ternary \
             and destroys what was not)",
        ),
        _ => None,
    }
}

fn of_runtime(error: &Runtime) -> Option<&'static str> {
    match error {
        // Transparent: not a cause of its own.
        Runtime::Format(error) => of_format(error),
        Runtime::NoTokenizer => Some("give token ids with --tokens"),
        _ => None,
    }
}

fn of_eval(error: &Eval) -> Option<&'static str> {
    match error {
        Eval::Model(error) => of_runtime(error),
        Eval::Hash { .. } => Some("--any-data takes it as it is"),
        Eval::OtherRun { .. } => Some("choose another --output or delete them"),
        Eval::Busy { .. } => Some("choose another --output or wait"),
        Eval::Untrusted { .. } => Some("--run-untrusted-code allows it"),
        Eval::Incomplete { .. } => Some("--partial merges what there is"),
        _ => None,
    }
}
