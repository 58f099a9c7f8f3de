//! What helps against an error: the flags and commands that the libraries' messages do not know.

use std::borrow::Cow;

use anyhow::Error;
use trilobite_convert::Error as Convert;
use trilobite_eval::Error as Eval;
use trilobite_format::{Error as Format, TensorType};
use trilobite_runtime::Error as Runtime;

type Hint = Option<Cow<'static, str>>;

/// What to do about an error, to be said after its message.
pub(crate) fn of(error: &Error) -> Hint {
    error.chain().find_map(|cause| {
        let format = || cause.downcast_ref().and_then(of_format);
        let convert = || cause.downcast_ref().and_then(of_convert);
        let runtime = || cause.downcast_ref().and_then(of_runtime);
        let eval = || cause.downcast_ref().and_then(of_eval);
        format().or_else(convert).or_else(runtime).or_else(eval)
    })
}

fn of_format(error: &Format) -> Hint {
    use TensorType::{Bf16, F16, F32};
    let hint = match error {
        Format::NotTernary { ty: F32 | F16 | Bf16, .. } => {
            "`trilobite convert --quantize absmean` packs master weights, and trits written as numbers"
        }
        _ => return None,
    };
    Some(hint.into())
}

fn of_convert(error: &Convert) -> Hint {
    let hint = match error {
        Convert::Exists(_) => "--force overwrites it",
        Convert::Dense { .. } => {
            "if it holds master weights, or ternary weights written out as dense numbers, convert \
             with `--quantize absmean`"
        }
        Convert::TypeOfTernary(ty) => {
            let hint = format!("--type {ty} is for dense models, and --layout for this one");
            return Some(hint.into());
        }
        Convert::LayoutOfDense(layout) => {
            let hint = format!(
                "--layout {layout} is for ternary models, and --type for this one (--quantize \
                 absmean makes it ternary and destroys what was not)"
            );
            return Some(hint.into());
        }
        _ => return None,
    };
    Some(hint.into())
}

fn of_runtime(error: &Runtime) -> Hint {
    match error {
        // Transparent: not a cause of its own.
        Runtime::Format(error) => of_format(error),
        Runtime::NoTokenizer => Some("give token ids with --tokens".into()),
        _ => None,
    }
}

fn of_eval(error: &Eval) -> Hint {
    let hint = match error {
        // Transparent too.
        Eval::Model(error) => return of_runtime(error),
        Eval::Hash { .. } => "--any-data takes it as it is",
        Eval::OtherRun { .. } => "choose another --output or delete them",
        Eval::Busy { .. } => "choose another --output or wait",
        Eval::Untrusted { .. } => "--run-untrusted-code allows it",
        Eval::Incomplete { .. } => "--partial merges what there is",
        _ => return None,
    };
    Some(hint.into())
}
