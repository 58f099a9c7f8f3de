//! Suggestions for misspelled names.

use crate::reference::fold;

/// The known name that is most similar to an unknown one: the one with the fewest typing errors, or
/// the shortest that contains it. `None` if no name is similar.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = fold(name);
    let slips = |known: &str| {
        let known = fold(known);
        let slips = strsim::osa_distance(&name, &known);
        let extra = known.len().abs_diff(name.len());
        // At most one error per four letters.
        let near = slips <= known.len().max(name.len()).div_ceil(4);
        let part = name.len() >= 3 && known.contains(&name);
        (near || part).then_some((!near, slips, extra))
    };
    let ranked = known.into_iter().filter_map(|known| Some((slips(known)?, known)));
    ranked.min_by_key(|(slips, _)| *slips).map(|(_, known)| known)
}

/// The end of a message about an unknown name: a question if a name is similar, else all names.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_names_are_not() {
        let known = ["bitnet-b1.58-2b-4t", "bitnet-b1.58-2b-4t-gguf", "llama-3.2-1b", "arc_easy"];
        for (name, expected) in [
            ("bitnet-b1.58-2b-4tt", Some("bitnet-b1.58-2b-4t")),
            ("bitnet_b158_2b_4t.gguf", Some("bitnet-b1.58-2b-4t-gguf")),
            ("BitNet", Some("bitnet-b1.58-2b-4t")),
            ("lama-3.2-1b", Some("llama-3.2-1b")),
            ("ARC-Esay", Some("arc_easy")),
            ("arc", Some("arc_easy")),
            ("llama-4", None),
            ("mistral-7b", None),
            ("b", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(hint("x", ["one", "two"]), "there are one, two");
    }
}
