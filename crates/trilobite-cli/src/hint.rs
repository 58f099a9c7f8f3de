//! Hints for errors: the flags and commands that the libraries' messages do not mention.

use std::borrow::Cow;

use anyhow::Error;
use trilobite_convert::Error as Convert;
use trilobite_eval::Error as Eval;
use trilobite_format::{Error as Format, TensorType};
use trilobite_hub::Error as Hub;
use trilobite_runtime::Error as Runtime;

use crate::output;

/// The page where the hub creates access tokens.
const TOKENS: &str = "https://huggingface.co/settings/tokens";

type ErrorHint = Option<Cow<'static, str>>;

/// The remedy for an error, which is printed after its message.
pub(crate) fn of(error: &Error) -> ErrorHint {
    error.chain().find_map(|cause| {
        let hub = || cause.downcast_ref().and_then(of_hub);
        let format = || cause.downcast_ref().and_then(of_format);
        let convert = || cause.downcast_ref().and_then(of_convert);
        let runtime = || cause.downcast_ref().and_then(of_runtime);
        let eval = || cause.downcast_ref().and_then(of_eval);
        hub().or_else(format).or_else(convert).or_else(runtime).or_else(eval)
    })
}

fn of_hub(error: &Hub) -> ErrorHint {
    let hint = match error {
        // Transparent: the inner error is not in the chain of causes.
        Hub::Runtime(error) => return of_runtime(error),
        Hub::Convert(error) => return of_convert(error),
        Hub::Format(error) => return of_format(error),
        Hub::NotPulled { name } | Hub::OtherRevision { name, .. } => {
            format!("`trilobite pull {}` fetches it", output::word(name))
        }
        Hub::NoModel { near: Some(near), pulled: false, .. } => {
            format!("`trilobite pull {near}` fetches it")
        }
        Hub::NoModel { near: Some(_), .. } => return None,
        Hub::NoModel { repository: Some(repository), .. } => {
            format!("`trilobite pull {repository}` fetches it if the hub has it")
        }
        Hub::NoModel { .. } => "`trilobite pull` lists the models".to_owned(),
        Hub::UnknownModel { .. } => "OWNER/REPOSITORY names one on the hub".to_owned(),
        Hub::ChooseFile { repository, files } => {
            let first = files.first().map_or("FILE", |(name, _)| name);
            let first = format!("{repository}:{first}");
            format!("`trilobite pull {}` fetches the first", output::word(&first))
        }
        Hub::Gated { token: false, .. } | Hub::NoAccess { token: false, .. } => {
            format!("then set HF_TOKEN or --token to an access token of {TOKENS}")
        }
        Hub::NoAccess { token: true, .. } => {
            format!("the access token was shown; {TOKENS} says whether it is valid")
        }
        Hub::Rebuilt(_) => "--from DIR copies a folder that has them".to_owned(),
        _ => return None,
    };
    Some(hint.into())
}

fn of_format(error: &Format) -> ErrorHint {
    use TensorType::{Bf16, F16, F32};
    let hint = match error {
        Format::NotTernary { ty: F32 | F16 | Bf16, .. } => {
            "`trilobite convert --quantize absmean` packs master weights, and trits written as numbers"
        }
        _ => return None,
    };
    Some(hint.into())
}

fn of_convert(error: &Convert) -> ErrorHint {
    let hint = match error {
        Convert::Exists(_) => "--force overwrites it",
        Convert::OutputPath { why, .. } if *why == trilobite_convert::IS_SOURCE => {
            "-o names another file"
        }
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

fn of_runtime(error: &Runtime) -> ErrorHint {
    match error {
        // Transparent: the inner error is not in the chain of causes.
        Runtime::Format(error) => of_format(error),
        Runtime::NoTokenizer => Some("give token ids with --tokens".into()),
        Runtime::OnlyEmbeds => Some("`trilobite embed` gives them".into()),
        Runtime::NoPooling => Some("choose with --pooling mean or --pooling last".into()),
        _ => None,
    }
}

fn of_eval(error: &Eval) -> ErrorHint {
    let hint = match error {
        // Transparent: the inner error is not in the chain of causes.
        Eval::Model(error) => return of_runtime(error),
        Eval::Hash { .. } => "--any-data takes it as it is",
        Eval::OtherRun { .. } | Eval::NoSettings { .. } => "choose another --output or delete them",
        Eval::Busy { .. } => "choose another --output or wait",
        Eval::Untrusted { .. } => "--run-untrusted-code allows it",
        Eval::Incomplete { .. } => "--partial merges what there is",
        _ => return None,
    };
    Some(hint.into())
}
