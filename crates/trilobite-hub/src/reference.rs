//! Names of models: `OWNER/REPOSITORY[@REVISION][:FILE]` and short names.

use std::fmt;

/// The prefix of a repository's address, which is accepted before its name.
const PAGE: &str = "https://huggingface.co/";

/// A repository of the hub, or a file in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `OWNER/REPOSITORY`.
    pub repository: String,
    /// A branch, tag or commit. The default is the main branch.
    pub revision: Option<String>,
    /// The only file to fetch, a GGUF file. Any part of a model in several parts fetches all parts.
    pub file: Option<String>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, ":{file}")?;
        }
        Ok(())
    }
}

/// The parts of a name: `NAME[@REVISION][:FILE]`, where NAME is `OWNER/REPOSITORY` or a short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spelling<'a> {
    pub(crate) name: &'a str,
    pub(crate) revision: Option<&'a str>,
    pub(crate) file: Option<&'a str>,
}

impl<'a> Spelling<'a> {
    /// Parses a name. Returns `None` for a path, and for a text that is not a name.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix(PAGE).unwrap_or(text);
        let (left, file) = cut(text, ':');
        let (name, revision) = cut(left, '@');
        let name = name.strip_suffix('/').unwrap_or(name);
        let plain = |piece: &str| {
            piece.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                && piece.chars().all(|c| c.is_alphanumeric() || "-_. ".contains(c))
        };
        let pieces: Vec<_> = name.split('/').collect();
        let right = pieces.len() <= 2
            && pieces.iter().all(|piece| plain(piece))
            && revision.is_none_or(is_revision)
            && file.is_none_or(is_inside);
        right.then_some(Spelling { name, revision, file })
    }

    /// The reference, if the name has an owner.
    pub(crate) fn reference(self) -> Option<Reference> {
        let (owner, repository) = self.name.split_once('/')?;
        // The hub's rules for names. The cache joins owner and repository by two dashes.
        let allowed = |piece: &str| {
            piece.is_ascii() && !["--", "..", " "].iter().any(|no| piece.contains(no))
        };
        (allowed(owner) && allowed(repository)).then(|| Reference {
            repository: self.name.to_owned(),
            revision: self.revision.map(str::to_owned),
            file: self.file.map(str::to_owned),
        })
    }
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(left, right)| (left, Some(right)))
}

fn is_revision(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"\\?#%:".contains(c))
}

/// Whether the path of a file in a repository stays inside a folder.
pub(crate) fn is_inside(name: &str) -> bool {
    let plain = |piece: &str| {
        !["", ".", ".."].contains(&piece)
            && piece.chars().all(|c| !c.is_control() && !"\\:".contains(c))
    };
    name.split('/').all(plain)
}

/// A name without case and punctuation.
pub(crate) fn fold(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether two names are equal up to case and punctuation. Owner and repository are compared apart.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    match (a.split_once('/'), b.split_once('/')) {
        (Some(a), Some(b)) => fold(a.0) == fold(b.0) && fold(a.1) == fold(b.1),
        (None, None) => fold(a) == fold(b) && !fold(a).is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_revision_and_a_file_or_none() {
        let spelled = |name, revision, file| Some(Spelling { name, revision, file });
        for (text, expected) in [
            ("bitnet-b1.58-2b-4t", spelled("bitnet-b1.58-2b-4t", None, None)),
            ("BitNet b1.58", spelled("BitNet b1.58", None, None)),
            ("o/r", spelled("o/r", None, None)),
            ("https://huggingface.co/o/r", spelled("o/r", None, None)),
            ("o/r/", spelled("o/r", None, None)),
            ("o/r@v1.0", spelled("o/r", Some("v1.0"), None)),
            ("o/r@refs/pr/1:a/b.gguf", spelled("o/r", Some("refs/pr/1"), Some("a/b.gguf"))),
            ("o/r:b@2.gguf", spelled("o/r", None, Some("b@2.gguf"))),
            ("o/r@", None),
            ("o/r:", None),
            ("o/r:../x.gguf", None),
            ("o/r:/etc/passwd", None),
            ("o/r:a\\b", None),
            ("o/r@a b", None),
            ("a/b/c", None),
            ("./r", None),
            ("../r", None),
            ("/r", None),
            ("~/r", None),
            ("..", None),
            ("", None),
            ("c:\\models", None),
        ] {
            assert_eq!(Spelling::of(text), expected, "{text}");
        }
        let reference = |text: &str| Spelling::of(text)?.reference();
        for text in ["o/r", "o/r@main", "o/r:a.gguf", "o/r@refs/pr/1:a/b.gguf"] {
            assert_eq!(reference(text).unwrap().to_string(), text);
        }
        for text in ["r", "o/r--s", "o/r..s", "o/r s", "ö/r"] {
            assert_eq!(reference(text), None, "{text}");
        }
    }

    #[test]
    fn case_and_punctuation_do_not_count() {
        assert!(is_same("bitnet-b1.58-2b-4t", "BitNet_b158_2B4T"));
        assert!(is_same("Owner/Repo-1", "owner/repo_1"));
        assert!(!is_same("owner/repo", "own/errepo"));
        assert!(!is_same("owner/repo", "repo") && !is_same("-", "."));
    }
}
