//! Tests of `pull --lock`: later fetches must agree with the first one.

use std::path::Path;

use serde_json::Value;

use crate::hub::{Files, Hub, MAIN, TAGGED, only, revision};
use crate::pull::{FILE, MODEL, content, fails, hash};
use crate::trilobite::stdout;

const REPOSITORY: &str = "microsoft/bitnet-b1.58-2B-4T-gguf";

/// A GGUF file other than `content`, of the same length.
fn other_content() -> Vec<u8> {
    let mut bytes = content();
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

fn hub(main: &[u8], tagged: &[u8]) -> Hub {
    let files = |bytes: &[u8]| -> Files { only(&[(FILE, bytes)]) };
    Hub::new(REPOSITORY, files(main), files(tagged))
}

/// The command `pull NAME --lock LOCK` with a hub.
fn locked(hub: &Hub, name: &str, lock: &Path) -> std::process::Command {
    let mut command = hub.pull(name);
    command.arg("--lock").arg(lock);
    command
}

#[test]
fn the_first_pull_writes_the_lock_and_later_ones_keep_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("models.lock");
    let first = hub(&content(), b"");
    stdout(&mut locked(&first, MODEL, &lock)).unwrap();
    let text = std::fs::read_to_string(&lock).unwrap();
    let entry = format!(
        "[[model]]\nname = \"{MODEL}\"\nrepository = \"{REPOSITORY}\"\ncommit = \"{MAIN}\"\n\n\
         [model.files.\"{FILE}\"]\nsha256 = \"{}\"\nbytes = {}\n",
        hash(&content()),
        content().len()
    );
    assert!(text.ends_with(&entry), "{text}");

    // Another machine requests that commit, wherever the branch is, and the lock file does not
    // change.
    let second = hub(&content(), b"");
    stdout(&mut locked(&second, MODEL, &lock)).unwrap();
    assert!(second.hub.requests().iter().all(|request| revision(request) == Some(MAIN)));
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), text);
    let record = second.home.path().join("models").join(MODEL).join("pulled.json");
    let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    assert_eq!(record["files"][FILE]["verified"], "pinned");

    // A second model is added, in the order of the names.
    let own = Hub::new("a/b", only(&[("m.gguf", &content())]), Files::new());
    stdout(&mut locked(&own, "a/b", &lock)).unwrap();
    let both = std::fs::read_to_string(&lock).unwrap();
    let names: Vec<_> = both.lines().filter(|line| line.starts_with("name = ")).collect();
    assert_eq!(names, ["name = \"a/b\"", &format!("name = \"{MODEL}\"")]);
    assert!(both.ends_with(&entry));
}

#[test]
fn what_contradicts_the_lock_is_an_error_with_both_values() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("models.lock");
    stdout(&mut locked(&hub(&content(), b""), MODEL, &lock)).unwrap();
    let text = std::fs::read_to_string(&lock).unwrap();
    let shown = lock.display().to_string();

    // Other bytes at the same commit: nothing is stored.
    let changed = hub(&other_content(), &content());
    let said = fails(&mut locked(&changed, MODEL, &lock));
    let expected = format!("SHA-256 is {}, expected {}", hash(&other_content()), hash(&content()));
    assert!(said.contains(&expected) && said.contains(&format!("{shown} pins {FILE}")), "{said}");
    assert!(!changed.home.path().join("models").join(MODEL).join(FILE).exists());
    // Without a lock file the server's version is accepted.
    stdout(&mut changed.pull(MODEL)).unwrap();
    // A model that was pulled before must agree, too.
    let said = fails(&mut locked(&changed, MODEL, &lock));
    let (other, own) = (hash(&other_content()), hash(&content()));
    let expected = format!("the SHA-256 of {FILE} is {other}, but {shown} has {own}");
    assert!(said.contains(&expected), "{said}");

    // Another commit, even with the same bytes.
    let said = fails(&mut locked(&changed, &format!("{MODEL}@v1"), &lock));
    let expected = format!("the commit is {TAGGED}, but {shown} has {MAIN}");
    assert!(said.contains(&expected), "{said}");

    let right = hub(&content(), b"");
    let size = format!("bytes = {}", content().len());
    for (from, to, expected) in [
        (
            REPOSITORY,
            "some/fork",
            format!("the repository is {REPOSITORY}, but {shown} has some/fork"),
        ),
        (
            &size,
            "bytes = 7",
            format!("the size of {FILE} is {}, but {shown} has 7", content().len()),
        ),
        ("[[model]]", "[[models]]", format!("{shown}: ")),
    ] {
        std::fs::write(&lock, text.replace(from, to)).unwrap();
        let said = fails(&mut locked(&right, MODEL, &lock));
        assert!(said.contains(&expected), "{said}");
        assert_eq!(std::fs::read_to_string(&lock).unwrap(), text.replace(from, to));
    }
}

#[test]
fn a_mirror_pins_hashes_and_the_hub_adds_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("models.lock");
    let mirror = folder.path().join(MODEL);
    std::fs::create_dir(&mirror).unwrap();
    std::fs::write(mirror.join(FILE), content()).unwrap();
    let from = |hub: &Hub| {
        let mut command = locked(hub, MODEL, &lock);
        command.arg("--from").arg(folder.path());
        command
    };
    stdout(&mut from(&hub(b"", b""))).unwrap();
    let text = std::fs::read_to_string(&lock).unwrap();
    assert!(!text.contains("commit = ") && text.contains(&hash(&content())), "{text}");

    stdout(&mut locked(&hub(&content(), b""), MODEL, &lock)).unwrap();
    let text = std::fs::read_to_string(&lock).unwrap();
    assert!(text.contains(&format!("commit = \"{MAIN}\"")), "{text}");

    std::fs::write(mirror.join(FILE), other_content()).unwrap();
    let said = fails(&mut from(&hub(b"", b"")));
    assert!(said.contains(&hash(&other_content())) && said.contains(&hash(&content())), "{said}");
}
