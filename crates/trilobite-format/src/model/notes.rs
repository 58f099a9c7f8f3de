//! Messages to the user about unusual models.

/// Maximum number of names in a message.
const MAX_NAMES: usize = 7;

/// The message that some projections hold zeros only. `None` if there are none.
pub fn zeros_note(zeros: &[&str]) -> Option<String> {
    let names = list(zeros)?;
    Some(format!(
        "nothing but zeros in {names}: training does not end like that, the weights may be damaged"
    ))
}

/// The message that some projections of a ternary model are dense. `None` if none are, or all. Each
/// projection is given by its name and whether it is dense.
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

/// The names of the projections in words: without suffixes, and at most [`MAX_NAMES`] of them.
fn list(tensors: &[&str]) -> Option<String> {
    let told = tensors.get(..MAX_NAMES).unwrap_or(tensors);
    let projection = |tensor: &&str| {
        let name = tensor.strip_suffix(".weight").unwrap_or(tensor);
        // The suffix of a transposed matrix.
        name.strip_suffix("_t").unwrap_or(name).to_owned()
    };
    let names = told.iter().map(projection).collect::<Vec<_>>().join(", ");
    match tensors.len() - told.len() {
        _ if tensors.is_empty() => None,
        0 => Some(names),
        others => Some(format!("{names} and {others} more")),
    }
}
