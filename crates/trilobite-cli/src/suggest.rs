//! Names that are nearly right.

/// A name without case and punctuation, as people remember it.
fn fold(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The known name that an unknown one is most likely meant to be: the one with the fewest slips of
/// the keyboard, or the shortest that contains it. `None` if nothing is near.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = fold(name);
    let slips = |known: &str| {
        let known = fold(known);
        let slips = strsim::osa_distance(&name, &known);
        let extra = known.len().abs_diff(name.len());
        // One slip in four letters is still the same word.
        let near = slips <= known.len().max(name.len()).div_ceil(4);
        let part = name.len() >= 3 && known.contains(&name);
        (near || part).then_some((!near, slips, extra))
    };
    let ranked = known.into_iter().filter_map(|known| Some((slips(known)?, known)));
    ranked.min_by_key(|(slips, _)| *slips).map(|(_, known)| known)
}

/// The end of a message about an unknown name: a question if a known name is near, else all of them.
pub(crate) fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}
