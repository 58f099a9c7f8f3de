//! What to do about an error, where there is something.

use trilobite_format::TensorType;
use trilobite_hub::Error;

/// Where the hub makes access tokens.
const TOKENS: &str = "https://huggingface.co/settings/tokens";

/// The end of the message about an error.
pub(crate) fn advice(error: &anyhow::Error) -> Option<String> {
    let hub = error.downcast_ref::<Error>();
    hub.and_then(of_hub).or_else(|| of_format(error, hub).map(str::to_owned))
}

fn of_hub(error: &Error) -> Option<String> {
    Some(match error {
        Error::NotPulled { name } | Error::OtherRevision { name, .. } => {
            format!("`trilobite pull {name}` fetches it")
        }
        Error::NoModel { near: Some(near), pulled: false, .. } => {
            format!("`trilobite pull {near}` fetches it")
        }
        Error::NoModel { near: Some(_), .. } => return None,
        Error::NoModel { repository: Some(repository), .. } => {
            format!("`trilobite pull {repository}` fetches it if the hub has it")
        }
        Error::NoModel { .. } => "`trilobite pull` lists the models".to_owned(),
        Error::UnknownModel { .. } => "OWNER/REPOSITORY names one on the hub".to_owned(),
        Error::ChooseFile { repository, files } => {
            let first = files.first().map_or("FILE", |(name, _)| name);
            format!("`trilobite pull {repository}:{first}` fetches the first")
        }
        Error::Gated { token: false, .. } | Error::NoAccess { token: false, .. } => {
            format!("then set HF_TOKEN or --token to an access token of {TOKENS}")
        }
        Error::NoAccess { token: true, .. } => {
            format!("the access token was shown; {TOKENS} says whether it is valid")
        }
        Error::Rebuilt(_) => "--from DIR copies a folder that has them".to_owned(),
        _ => return None,
    })
}

/// What makes a model run that is refused.
fn of_format(error: &anyhow::Error, hub: Option<&Error>) -> Option<&'static str> {
    let convert = error.downcast_ref().or(match hub {
        Some(Error::Convert(error)) => Some(error),
        _ => None,
    });
    let format = match (hub, convert) {
        (Some(Error::Runtime(trilobite_runtime::Error::Format(format))), _) => format,
        (_, Some(trilobite_convert::Error::Gguf { source, .. })) => source,
        _ => return None,
    };
    match format {
        trilobite_format::Error::NotTernary {
            ty: TensorType::F32 | TensorType::F16 | TensorType::Bf16,
            ..
        } => Some(
            "`trilobite convert --quantize absmean` packs master weights, and trits written as \
             numbers",
        ),
        _ => None,
    }
}
