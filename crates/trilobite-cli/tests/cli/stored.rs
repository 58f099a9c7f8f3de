//! Tests of listing, showing and removing pulled models.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::converted::enlarge;
use crate::fixture::Fixture;
use crate::hub::{Hub, MAIN, checkpoint, with_home};
use crate::pull::{fails, hash, pull};
use crate::server::{Answer, Server};
use crate::trilobite::{command, stdout};

/// Timeout for another process or thread of a test.
const TIMEOUT: Duration = Duration::from_secs(60);

fn json(home: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&stdout(&mut with_home(home, args)).unwrap()).unwrap()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut all = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        match path.is_dir() && !path.is_symlink() {
            true => all.extend(files(&path)),
            false => all.push(path.display().to_string()),
        }
    }
    all.sort();
    all
}

#[test]
fn what_was_pulled_is_listed_and_shown() {
    let hub = Hub::new("owner/Tiny", checkpoint(), checkpoint());
    let home = hub.home.path();
    let empty = with_home(home, &["list"]).output().unwrap();
    assert!(empty.status.success() && empty.stdout.is_empty(), "{empty:?}");
    assert!(String::from_utf8(empty.stderr).unwrap().contains("nothing has been pulled"));
    let quiet = with_home(home, &["list", "-q"]).output().unwrap();
    assert!(quiet.status.success() && quiet.stdout.is_empty() && quiet.stderr.is_empty());
    assert_eq!(json(home, &["list", "--json"]), serde_json::json!([]));
    stdout(&mut hub.pull("owner/Tiny")).unwrap();

    let list = stdout(&mut with_home(home, &["list"])).unwrap();
    let line = list.lines().find(|line| line.starts_with("owner/Tiny ")).unwrap();
    let bytes: u64 = checkpoint().values().map(|bytes| bytes.len() as u64).sum();
    assert!(line.contains(&MAIN[..12]) && line.contains("safetensors"), "{line}");
    let listed = &json(home, &["list", "--json"])[0];
    assert_eq!(listed["name"], "owner/Tiny");
    assert_eq!(listed["source"], "owner/Tiny");
    assert_eq!(listed["revision"], MAIN);
    assert_eq!(listed["format"], "safetensors");
    assert_eq!(listed["complete"], true);
    // The record itself takes some space.
    assert!((bytes..bytes + 4096).contains(&listed["bytes"].as_u64().unwrap()), "{listed}");

    let shown = json(home, &["show", "tiny", "--json"]);
    assert_eq!(shown["origin"], hub.hub.url);
    assert!(shown["date"].as_str().unwrap().ends_with('Z'), "{shown}");
    let files = shown["files"].as_array().unwrap();
    assert_eq!(files.len(), checkpoint().len());
    for file in files {
        let bytes = &checkpoint()[file["name"].as_str().unwrap()];
        assert_eq!(file["bytes"], bytes.len());
        assert_eq!(file["sha256"], hash(bytes));
        let large = file["name"] == "model.safetensors";
        assert_eq!(file["verified"], if large { "server".into() } else { Value::Null });
    }
    let text = stdout(&mut with_home(home, &["show", "TINY"])).unwrap();
    for expected in [MAIN, "owner/Tiny", "model.safetensors", "as the server says"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let said = fails(&mut with_home(home, &["show", "tinny"]));
    assert!(said.contains("\"tinny\" has not been pulled; did you mean Tiny?"), "{said}");
    let said = fails(&mut with_home(home, &["show", "bitnet-b1.58-2b-4t"]));
    assert!(said.contains("`trilobite pull bitnet-b1.58-2b-4t` fetches it"), "{said}");
}

#[test]
fn a_model_goes_with_what_was_converted_from_it() {
    let home = tempfile::tempdir().unwrap();
    let mirror = tempfile::tempdir().unwrap();
    enlarge(&Fixture::named("qwen2").folder, mirror.path());
    let server = Server::new(|_| Answer::status("404 Not Found"));
    let from = mirror.path().to_str().unwrap();
    for name in ["owner/large", "owner/other"] {
        stdout(&mut pull(&server, home.path(), &[name, "--from", from])).unwrap();
    }
    for model in ["large", "other", from] {
        let args = ["run", model, "--tokens", "1", "-n", "1", "-q", "--temp", "0"];
        stdout(&mut with_home(home.path(), &args)).unwrap();
    }
    let list = json(home.path(), &["list", "--json"]);
    let named = |name: &str| {
        let all = list.as_array().unwrap();
        all.iter().find(|model| model["name"] == name).cloned().unwrap()
    };
    let size = |model: &Value| -> u64 {
        let copies = model["converted"].as_array().unwrap().iter();
        model["bytes"].as_u64().unwrap() + copies.map(|c| c["bytes"].as_u64().unwrap()).sum::<u64>()
    };
    let (large, other) = (named("owner/large"), named("owner/other"));
    assert_eq!(large["converted"].as_array().unwrap().len(), 1, "{list}");
    let text = stdout(&mut with_home(home.path(), &["list"])).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("  converted ")).count(), 2, "{text}");
    // The conversion of a checkpoint outside of the cache.
    let elsewhere = list.as_array().unwrap().iter().find(|m| m["format"] == "converted").unwrap();
    let source = mirror.path().canonicalize().unwrap();
    assert_eq!(elsewhere["source"].as_str(), source.to_str());

    let kept = files(mirror.path());
    let printed = stdout(&mut with_home(home.path(), &["rm", "large"])).unwrap();
    assert!(printed.starts_with("owner/large: "), "{printed}");
    assert!(printed.contains(&format!("{:.1} MB freed", size(&large) as f64 / 1e6)), "{printed}");
    let list = json(home.path(), &["list", "--json"]);
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert!(list.as_array().unwrap().contains(&other), "{list}");
    let said = fails(&mut with_home(home.path(), &["run", "owner/large", "-p", "x"]));
    assert!(said.contains("`trilobite pull owner/large` fetches it"), "{said}");

    let name = elsewhere["name"].as_str().unwrap();
    stdout(&mut with_home(home.path(), &["rm", name, "owner/other"])).unwrap();
    assert_eq!(files(home.path()), Vec::<String>::new());
    assert_eq!(files(mirror.path()), kept);
}

#[test]
fn nothing_outside_of_the_cache_is_removed() {
    let hub = Hub::new("owner/r", checkpoint(), checkpoint());
    let home = hub.home.path();
    stdout(&mut hub.pull("owner/r")).unwrap();
    let own = home.join("mine");
    fs::create_dir_all(own.join("dir")).unwrap();
    fs::write(own.join("dir/file"), "mine").unwrap();
    let before = files(home);
    let absolute = own.to_str().unwrap();
    for name in [
        "mine",
        "mine/dir",
        "./mine",
        "../x",
        absolute,
        "",
        ".",
        "/",
        "models",
        "models/owner--r",
        "owner/r:x.gguf",
        "owner/r/../r",
        "owner",
    ] {
        fails(&mut with_home(home, &["rm", name]));
        assert_eq!(files(home), before, "{name}");
    }
    let said = fails(&mut with_home(home, &["rm", "owner/r@v1"]));
    assert!(said.contains(&format!("at revision {MAIN}, not v1")), "{said}");
    let usage = command(["rm"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    // Links and records cannot lead out of the cache.
    #[cfg(unix)]
    {
        let folder = home.join("models/owner--r");
        std::os::unix::fs::symlink(&own, folder.join("link")).unwrap();
        std::os::unix::fs::symlink(&own, home.join("models/owner--linked")).unwrap();
        let record = folder.join("pulled.json");
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, text.replace("config.json\"", "../../mine/dir/file\"")).unwrap();
        stdout(&mut with_home(home, &["rm", "owner/r", "owner/linked"])).unwrap();
        assert_eq!(files(home), [own.join("dir/file").display().to_string()]);
    }
}

#[test]
fn a_model_that_is_being_pulled_stays() {
    let (reached, at) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    let server = Server::new(move |request| {
        let name = request.path.rsplit('/').next().unwrap();
        if request.path.starts_with("/api/") {
            let siblings: Vec<_> =
                checkpoint().keys().map(|name| serde_json::json!({"rfilename": name})).collect();
            let answer = serde_json::json!({"sha": MAIN, "siblings": siblings});
            return Answer::file(answer.to_string().as_bytes());
        }
        if name == "tokenizer.json" {
            reached.send(()).unwrap();
            wait.recv_timeout(TIMEOUT).unwrap();
        }
        Answer::file(&checkpoint()[name])
    });
    let home = tempfile::tempdir().unwrap();
    let mut pulling = pull(&server, home.path(), &["owner/r", "--quiet"]);
    let mut pulling = pulling.stdout(Stdio::null()).spawn().unwrap();
    at.recv_timeout(TIMEOUT).unwrap();
    let before = files(home.path());
    let busy = "another process is pulling or removing owner/r";
    let said = fails(&mut with_home(home.path(), &["rm", "owner/r"]));
    assert!(said.contains(busy), "{said}");
    let said = fails(&mut pull(&server, home.path(), &["owner/r"]));
    assert!(said.contains(busy), "{said}");
    assert_eq!(files(home.path()), before);
    let list = stdout(&mut with_home(home.path(), &["list"])).unwrap();
    assert!(list.contains("incomplete"), "{list}");
    go_on.send(()).unwrap();
    assert!(pulling.wait().unwrap().success());
    stdout(&mut with_home(home.path(), &["inspect", "r"])).unwrap();
    stdout(&mut with_home(home.path(), &["rm", "r"])).unwrap();
    assert_eq!(files(home.path()), Vec::<String>::new());
}

#[test]
fn what_was_broken_off_or_damaged_can_be_removed() {
    let hub = Hub::new("owner/r", checkpoint(), checkpoint());
    let home = hub.home.path();
    let folder = home.join("models/owner--r");
    for (name, bytes) in [("config.json.partial", "{"), ("pulled.json", "{\"repo")] {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
        let listed = &json(home, &["list", "--json"])[0];
        assert_eq!((&listed["name"], &listed["complete"]), (&"owner/r".into(), &false.into()));
        let said = fails(&mut with_home(home, &["inspect", "r"]));
        assert!(said.contains("`trilobite pull owner/r` fetches it"), "{said}");
        stdout(&mut with_home(home, &["show", "r"])).unwrap();
        stdout(&mut with_home(home, &["rm", "r"])).unwrap();
        assert!(!folder.exists());
    }
}
