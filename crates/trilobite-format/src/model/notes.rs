//! What a user should know of a model that is not as trained models are.

/// Names that are told; of the others, only how many there are.
const TOLD: usize = 7;

/// That projections are nothing but zeros, if any are.
pub fn zeros_note(zeros: &[&str]) -> Option<String> {
    let names = list(zeros)?;
    Some(format!(
        "nothing but zeros in {names}: training does not end like that, the weights may be damaged"
    ))
}

/// That some of the projections of a ternary model are dense, if any are; each is given by its name and
/// whether it is dense.
pub fn mixture_note<'a>(projections: impl IntoIterator<Item = (&'a str, bool)>) -> Option<String> {
    let (dense, ternary): (Vec<_>, Vec<_>) = projections.into_iter().partition(|(_, dense)| *dense);
    let dense: Vec<&str> = dense.into_iter().map(|(name, _)| name).collect();
    let names = list(&dense).filter(|_| !ternary.is_empty())?;
    let all = dense.len() + ternary.len();
    Some(format!(
        "{} of {all} projections are dense, and their activations are not quantised: {names}",
        dense.len()
    ))
}

/// The projections of some tensors, whose names may say more than that.
fn list(tensors: &[&str]) -> Option<String> {
    let told = tensors.get(..TOLD).unwrap_or(tensors);
    let projection = |tensor: &&str| {
        let name = tensor.strip_suffix(".weight").unwrap_or(tensor);
        // With columns for rows.
        name.strip_suffix("_t").unwrap_or(name).to_owned()
    };
    let names = told.iter().map(projection).collect::<Vec<_>>().join(", ");
    match tensors.len() - told.len() {
        _ if tensors.is_empty() => None,
        0 => Some(names),
        others => Some(format!("{names} and {others} more")),
    }
}
