//! Tests of pulling repositories from a server that behaves like the hub.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::Fixture;
use crate::pull::{FILE, MODEL, content, fails, hash, pull};
use crate::server::{Answer, Request, Server};
use crate::trilobite::{command, stdout};

pub(crate) const MAIN: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const TAGGED: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// Files by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A hub with one repository, whose large files are on another server.
pub(crate) struct Hub {
    pub(crate) hub: Server,
    storage: Server,
    pub(crate) home: TempDir,
}

impl Hub {
    /// A public repository with a branch `main` and a tag `v1`.
    pub(crate) fn new(repository: &'static str, main: Files, tagged: Files) -> Hub {
        let contents: BTreeMap<_, _> =
            main.values().chain(tagged.values()).map(|b| (hash(b), b.clone())).collect();
        let storage =
            Server::new(move |request| Answer::range(request, &contents[&request.path[1..65]]));
        let url = storage.url.clone();
        let hub = Server::new(move |request| {
            if !request.path.contains(repository) {
                // The hub does not reveal which repositories are private.
                return error("401 Unauthorized", "RepoNotFound");
            }
            let (commit, files) = match revision(request) {
                Some("main" | MAIN) => (MAIN, &main),
                Some("v1" | TAGGED) => (TAGGED, &tagged),
                _ => return error("404 Not Found", "RevisionNotFound"),
            };
            if request.path.starts_with("/api/resolve-cache/") {
                let name = request.path.rsplit('/').next().unwrap();
                return Answer::file(&files[name]).header("ETag", "\"git\"");
            }
            if request.path.starts_with("/api/models/") {
                return Answer::file(list(commit, files).to_string().as_bytes());
            }
            let name = request.path.split_once("/resolve/").unwrap().1.split_once('/').unwrap().1;
            let Some(bytes) = files.get(name) else {
                return error("404 Not Found", "EntryNotFound");
            };
            let to = match is_large(name) {
                true => format!("{url}/{}?X-Amz-Signature=1&sig=2", hash(bytes)),
                false => format!("/api/resolve-cache/models/{repository}/{commit}/{name}"),
            };
            let tag = if is_large(name) { hash(bytes) } else { "e".repeat(40) };
            Answer::with("302 Found", b"Found. Redirecting")
                .header("Location", &to)
                .header("X-Repo-Commit", commit)
                .header("X-Linked-Etag", &format!("\"{tag}\""))
                .header("X-Linked-Size", &bytes.len().to_string())
                .header("X-Xet-Hash", &"d".repeat(64))
                .header("Link", &format!("<{url}/auth>; rel=\"xet-auth\""))
        });
        Hub { hub, storage, home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn pull(&self, name: &str) -> std::process::Command {
        pull(&self.hub, self.home.path(), &[name])
    }

    /// A command with the hub's cache, in an empty folder.
    pub(crate) fn with_home(&self, args: &[&str]) -> std::process::Command {
        with_home(self.home.path(), args)
    }

    /// The files requested since the request with this number.
    fn asked(&self, since: usize) -> Vec<String> {
        self.hub.requests()[since..].iter().map(|request| request.path.clone()).collect()
    }
}

pub(crate) fn with_home(home: &Path, args: &[&str]) -> std::process::Command {
    let mut command = command(args);
    command.env("TRILOBITE_HOME", home).current_dir(home);
    command
}

fn is_large(name: &str) -> bool {
    [".safetensors", ".gguf", ".bin"].iter().any(|ending| name.ends_with(ending))
}

/// The revision in a request to the hub.
pub(crate) fn revision(request: &Request) -> Option<&str> {
    let path = request.path.split('?').next()?;
    let after = |mark: &str| Some(path.split_once(mark)?.1.split('/').next().unwrap());
    let cached = path.strip_prefix("/api/resolve-cache/models/");
    cached.and_then(|rest| rest.split('/').nth(2)).or(after("/revision/")).or(after("/resolve/"))
}

fn error(status: &str, code: &str) -> Answer {
    Answer::with(status, b"{\"error\":\"no\"}").header("X-Error-Code", code)
}

/// The hub's description of a repository.
fn list(commit: &str, files: &Files) -> Value {
    let siblings = files.iter().map(|(name, bytes)| match is_large(name) {
        true => json!({
            "rfilename": name, "size": bytes.len(), "blobId": "b",
            "lfs": {"sha256": hash(bytes), "size": bytes.len(), "pointerSize": 134},
        }),
        false => json!({"rfilename": name, "size": bytes.len(), "blobId": "b"}),
    });
    json!({"id": "x", "private": false, "sha": commit, "siblings": siblings.collect::<Vec<_>>()})
}

/// The files of a small checkpoint.
pub(crate) fn checkpoint() -> Files {
    let folder = Fixture::named("qwen2").folder;
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// These files and further ones.
fn with(mut files: Files, more: &[(&str, &[u8])]) -> Files {
    files.extend(more.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())));
    files
}

pub(crate) fn only(files: &[(&str, &[u8])]) -> Files {
    with(Files::new(), files)
}

/// The files of a stored model, without its record.
fn stored(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "pulled.json");
    names.sort();
    names
}

#[test]
fn a_repository_is_pulled_and_its_name_is_a_model() {
    let others: [(&str, &[u8]); 5] = [
        (".gitattributes", b"*"),
        ("README.md", b"# x"),
        ("pytorch_model.bin", b"x"),
        ("onnx/model.onnx", b"x"),
        ("original/model.safetensors", b"x"),
    ];
    let hub = Hub::new("owner/Tiny-Qwen_2.5", with(checkpoint(), &others), Files::new());
    let mut command = hub.pull("owner/Tiny-Qwen_2.5");
    let printed = stdout(command.env("HF_TOKEN", "hf_secret")).unwrap();
    let folder = Path::new(printed.trim());
    assert_eq!(stored(folder), checkpoint().into_keys().collect::<Vec<_>>());
    for (name, bytes) in checkpoint() {
        assert!(std::fs::read(folder.join(&name)).unwrap() == bytes, "{name}");
    }
    // The token is sent to the hub only, and all files come from the commit that it names.
    let requests = hub.hub.requests();
    assert!(requests.iter().all(|r| r.headers["authorization"] == "Bearer hf_secret"));
    assert_eq!(requests[0].path, "/api/models/owner/Tiny-Qwen_2.5/revision/main?blobs=true");
    assert!(requests[1..].iter().all(|request| revision(request) == Some(MAIN)), "{requests:?}");
    assert_eq!(hub.storage.requests().len(), 1);
    assert!(!format!("{:?}", hub.storage.requests()).contains("secret"));

    let run = |name: &str| {
        let args = ["run", name, "--tokens", "1,2,3", "-n", "4", "--temp", "0", "--ids", "-q"];
        stdout(&mut hub.with_home(&args)).unwrap()
    };
    let expected = run(folder.to_str().unwrap());
    for name in [
        "owner/Tiny-Qwen_2.5",
        "OWNER/tinyqwen25",
        "Tiny-Qwen_2.5",
        "tiny qwen 2.5",
        "owner/Tiny-Qwen_2.5@main",
        &format!("tiny-qwen-2.5@{MAIN}"),
        &format!("tiny-qwen-2.5@{}", &MAIN[..7]),
    ] {
        assert_eq!(run(name), expected, "{name}");
    }
    stdout(&mut hub.with_home(&["tokenize", "tinyqwen2.5", "-p", "x"])).unwrap();
    let said = fails(&mut hub.with_home(&["inspect", "tiny-qwen-2.5@v1"]));
    assert!(said.contains(&format!("at revision {MAIN}, not v1")), "{said}");
    assert!(said.contains("`trilobite pull owner/Tiny-Qwen_2.5@v1` fetches it"), "{said}");

    // A second pull requests only the list, also with another spelling of the name.
    for name in ["owner/Tiny-Qwen_2.5", "tiny-qwen-2.5"] {
        let before = hub.hub.requests().len();
        assert_eq!(stdout(&mut hub.pull(name)).unwrap(), printed);
        assert_eq!(hub.asked(before).len(), 1, "{name}: {:?}", hub.asked(before));
    }
}

#[test]
fn a_revision_is_a_branch_a_tag_or_a_commit() {
    let mut tagged = checkpoint();
    tagged.remove("generation_config.json");
    tagged.insert("tokenizer_config.json".into(), b"{\"tagged\": true}".to_vec());
    let hub = Hub::new("owner/r", checkpoint(), tagged.clone());
    let folder = hub.home.path().join("models/owner--r");
    let record = || -> Value {
        serde_json::from_slice(&std::fs::read(folder.join("pulled.json")).unwrap()).unwrap()
    };
    stdout(&mut hub.pull("owner/r")).unwrap();
    assert_eq!(stored(&folder), checkpoint().into_keys().collect::<Vec<_>>());
    assert_eq!((&record()["revision"], &record()["asked"]), (&json!(MAIN), &json!("main")));
    let large = hub.storage.requests().len();
    stdout(&mut hub.pull("owner/r@v1")).unwrap();
    // Files that the other revision lacks are removed, and common files are not fetched again.
    assert_eq!(stored(&folder), tagged.keys().cloned().collect::<Vec<_>>());
    let config = std::fs::read(folder.join("tokenizer_config.json")).unwrap();
    assert_eq!(config, tagged["tokenizer_config.json"]);
    assert_eq!((&record()["revision"], &record()["asked"]), (&json!(TAGGED), &json!("v1")));
    assert_eq!(hub.storage.requests().len(), large);
    stdout(&mut hub.with_home(&["inspect", "owner/r@v1"])).unwrap();

    // The files of a commit never change, so the hub is not asked.
    let before = hub.hub.requests().len();
    stdout(&mut hub.pull(&format!("owner/r@{TAGGED}"))).unwrap();
    assert_eq!(hub.hub.requests().len(), before);
    stdout(&mut hub.pull("owner/r")).unwrap();
    assert_eq!(record()["revision"], MAIN);

    for (name, expected) in [
        ("owner/r@v2", "owner/r has no revision v2"),
        ("owner/s", "owner/s does not exist, or is private, or is gated"),
        ("owner/r@", "\"owner/r@\" is not the name of a model"),
        ("owner/r@../x", "owner/r has no revision ../x"),
        ("a/b/c", "\"a/b/c\" is not the name of a model"),
    ] {
        let said = fails(&mut hub.pull(name));
        assert!(said.contains(expected), "{name}: {said}");
    }
    assert_eq!(record()["complete"], true);
}

#[test]
fn records_of_earlier_versions_are_read() {
    let hub =
        Hub::new("microsoft/bitnet-b1.58-2B-4T-gguf", only(&[(FILE, &content())]), Files::new());
    stdout(&mut hub.pull(MODEL)).unwrap();
    let path = hub.home.path().join("models").join(MODEL).join("pulled.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for new in ["asked", "origin", "date"] {
        record.as_object_mut().unwrap().remove(new).unwrap();
    }
    std::fs::write(&path, record.to_string()).unwrap();
    let before = hub.hub.requests().len();
    stdout(&mut hub.pull(MODEL)).unwrap();
    assert_eq!(hub.asked(before), Vec::<String>::new());
    let said = fails(&mut hub.with_home(&["inspect", MODEL]));
    assert!(!said.contains("pull"), "{said}");
}

#[test]
fn an_index_names_the_shards() {
    let single = checkpoint().remove("model.safetensors").unwrap();
    let mut files = checkpoint();
    files.remove("model.safetensors");
    let shard = "model-00001-of-00001.safetensors";
    let index = json!({"weight_map": {"model.norm.weight": shard}}).to_string();
    let files = with(
        files,
        &[
            ("model.safetensors.index.json", index.as_bytes()),
            (shard, &single),
            ("consolidated.safetensors", &single),
        ],
    );
    let mut without = files.clone();
    without.remove(shard);
    let hub = Hub::new("owner/sharded", files, without);
    let folder = stdout(&mut hub.pull("owner/sharded")).unwrap();
    let names = stored(Path::new(folder.trim()));
    assert!(names.contains(&shard.to_owned()), "{names:?}");
    assert!(!names.contains(&"consolidated.safetensors".to_owned()), "{names:?}");
    let said = fails(&mut hub.pull("owner/sharded@v1"));
    let expected =
        format!("owner/sharded has no {shard}, which model.safetensors.index.json names");
    assert!(said.contains(&expected), "{said}");
    let said = fails(&mut hub.with_home(&["inspect", "sharded"]));
    assert!(said.contains("it has not been pulled"), "{said}");
}

#[test]
fn a_gguf_file_is_pulled_by_its_name() {
    let gguf = std::fs::read(Fixture::named("bitnet_gguf").folder.join("model-i2_s.gguf")).unwrap();
    let files = only(&[
        ("README.md", b"#"),
        ("m-i2_s.gguf", &gguf),
        ("big/m-q8-00001-of-00002.gguf", &content()),
        ("big/m-q8-00002-of-00002.gguf", &content()),
    ]);
    let hub = Hub::new("owner/m-GGUF", files, only(&[("README.md", b"#"), ("only.gguf", &gguf)]));
    let said = fails(&mut hub.pull("owner/m-GGUF"));
    let size = format!("{:.1} MB", 2.0 * content().len() as f64 / 1e6);
    let list = format!("big/m-q8-00001-of-00002.gguf ({size}), m-i2_s.gguf (");
    assert!(said.contains(&list) && said.contains("`trilobite pull owner/m-GGUF:big/"), "{said}");
    let said = fails(&mut hub.pull("owner/m-GGUF:m-i2s.gguf"));
    assert!(said.contains("has no file \"m-i2s.gguf\"; did you mean m-i2_s.gguf?"), "{said}");
    let said = fails(&mut hub.pull("owner/m-GGUF:../m.gguf"));
    assert!(said.contains("is not the name of a model"), "{said}");

    let printed = stdout(&mut hub.pull("owner/m-GGUF:m-i2_s.gguf")).unwrap();
    assert!(std::fs::read(printed.trim()).unwrap() == gguf);
    let tokens = ["--tokens", "1,2,3", "-n", "4", "--temp", "0", "--ids", "-q"];
    let run = |name: &str| stdout(hub.with_home(&["run", name]).args(tokens)).unwrap();
    let expected = run(printed.trim());
    for name in ["owner/m-GGUF:m-i2_s.gguf", "owner/m-gguf", "m-gguf", "M-I2S", "m-i2_s.gguf"] {
        assert_eq!(run(name), expected, "{name}");
    }
    // Any part of a model fetches all parts.
    let printed = stdout(&mut hub.pull("owner/m-GGUF:big/m-q8-00002-of-00002.gguf")).unwrap();
    let first = Path::new(printed.trim());
    assert!(first.ends_with("big/m-q8-00001-of-00002.gguf"), "{printed}");
    assert!(first.with_file_name("m-q8-00002-of-00002.gguf").exists());
    let said = fails(&mut hub.with_home(&["inspect", "m-gguf"]));
    assert!(said.contains("can mean owner/m-GGUF:big/"), "{said}");
    assert!(said.contains(" or owner/m-GGUF:m-i2_s.gguf"), "{said}");
    // A single GGUF file need not be named.
    let printed = stdout(&mut hub.pull("owner/m-GGUF@v1")).unwrap();
    assert!(printed.trim().ends_with("only.gguf"), "{printed}");
}

#[test]
fn refusals_are_explained() {
    // The list of a gated repository is public, its files are not.
    let gated = |status: &'static str, code: Option<&'static str>| {
        Server::new(move |request| match request.headers.get("authorization").map(String::as_str) {
            _ if request.path.starts_with("/api/") => {
                Answer::file(list(MAIN, &checkpoint()).to_string().as_bytes())
            }
            Some("Bearer hf_right") => {
                let name = request.path.rsplit('/').next().unwrap();
                Answer::range(request, &checkpoint()[name])
            }
            _ => match code {
                Some(code) => error(status, code),
                None => Answer::status(status),
            },
        })
    };
    for (status, code, expected) in [
        ("401 Unauthorized", Some("GatedRepo"), "owner/r is gated: log in and accept its terms on"),
        ("401 Unauthorized", None, "is gated and its terms have to be accepted on"),
        ("403 Forbidden", None, "is gated and its terms have to be accepted on"),
    ] {
        let server = gated(status, code);
        let home = tempfile::tempdir().unwrap();
        let said = fails(&mut pull(&server, home.path(), &["owner/r"]));
        let page = format!("{}/owner/r", server.url);
        assert!(said.contains(&format!("{expected} {page}")), "{said}");
        assert!(said.contains("set HF_TOKEN or --token"), "{said}");
        // With a token, the message says what is missing.
        let mut known = pull(&server, home.path(), &["owner/r"]);
        let said = fails(known.env("HF_TOKEN", "hf_wrong"));
        assert!(!said.contains("set HF_TOKEN") && said.contains(&page), "{said}");
        assert!(!said.contains("hf_wrong"), "{said}");
        stdout(&mut pull(&server, home.path(), &["owner/r", "--token", "hf_right"])).unwrap();
        // The token that the hub's own client stores.
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_right\n").unwrap();
        stdout(&mut pull(&server, home.path(), &["owner/r"])).unwrap();
    }
    // A refusal by a server that the hub redirects to says nothing about the repository.
    let storage = Server::new(|_| Answer::status("403 Forbidden"));
    let to = format!("{}/blob", storage.url);
    let server = Server::new(move |request| match request.path.starts_with("/api/") {
        true => Answer::file(list(MAIN, &checkpoint()).to_string().as_bytes()),
        false => Answer::status("302 Found").header("Location", &to),
    });
    let home = tempfile::tempdir().unwrap();
    let said = fails(&mut pull(&server, home.path(), &["owner/r"]));
    assert!(said.contains("403 Forbidden") && !said.contains("gated"), "{said}");
}

#[test]
fn a_mirror_may_know_less_than_the_hub() {
    // A server without queries, branches, sizes, commits and headers.
    let server = Server::new(|request| {
        if request.path == "/api/models/owner/r" {
            let siblings: Vec<_> =
                checkpoint().keys().map(|name| json!({"rfilename": name})).collect();
            return Answer::file(json!({"siblings": siblings}).to_string().as_bytes());
        }
        match request.path.strip_prefix("/owner/r/resolve/main/") {
            Some(name) => Answer::file(&checkpoint()[name]),
            None => Answer::status("404 Not Found"),
        }
    });
    let home = tempfile::tempdir().unwrap();
    stdout(&mut pull(&server, home.path(), &["owner/r"])).unwrap();
    stdout(&mut with_home(home.path(), &["inspect", "r"])).unwrap();
    let said = fails(&mut pull(&server, home.path(), &["owner/r@v1"]));
    assert!(said.contains("owner/r has no revision v1"), "{said}");
    let said = fails(&mut pull(&server, home.path(), &["owner/s"]));
    assert!(said.contains("there is no repository owner/s"), "{said}");

    // A local mirror.
    let mirror = tempfile::tempdir().unwrap();
    let folder = mirror.path().join("owner/copy");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in with(checkpoint(), &[("pytorch_model.bin", b"x")]) {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let args = ["owner/copy", "--from", mirror.path().to_str().unwrap()];
    let printed = stdout(&mut pull(&server, home.path(), &args)).unwrap();
    assert_eq!(stored(Path::new(printed.trim())), checkpoint().into_keys().collect::<Vec<_>>());
    stdout(&mut with_home(home.path(), &["inspect", "copy"])).unwrap();
}

#[test]
fn what_the_list_says_is_compared() {
    for what in ["sha256", "size"] {
        let server = Server::new(move |request| {
            let files = checkpoint();
            if !request.path.starts_with("/api/") {
                return Answer::file(&files[request.path.rsplit('/').next().unwrap()]);
            }
            let mut list = list(MAIN, &files);
            for file in list["siblings"].as_array_mut().unwrap() {
                if file["rfilename"] == "model.safetensors" {
                    file["lfs"][what] = match what {
                        "size" => json!(1000),
                        _ => json!("a".repeat(64)),
                    };
                }
            }
            Answer::file(list.to_string().as_bytes())
        });
        let home = tempfile::tempdir().unwrap();
        let said = fails(&mut pull(&server, home.path(), &["owner/r"]));
        let expected = match what {
            "size" => "bytes of a file of 1000",
            _ => "expected aaaa",
        };
        assert!(said.contains(expected) && said.contains("it was removed"), "{said}");
        assert!(!home.path().join("models/owner--r/model.safetensors").exists());
        let said = fails(&mut with_home(home.path(), &["inspect", "owner/r"]));
        assert!(said.contains("it has not been pulled"), "{said}");
    }
}

#[test]
fn a_name_that_several_models_have_is_not_guessed() {
    let hub = Hub::new("one/Same-Name", checkpoint(), Files::new());
    let two = Hub::new("two/same_name", checkpoint(), Files::new());
    stdout(&mut hub.pull("one/Same-Name")).unwrap();
    stdout(&mut pull(&two.hub, hub.home.path(), &["two/same_name"])).unwrap();
    for args in [&["inspect", "same-name"][..], &["show", "same-name"], &["rm", "samename"]] {
        let said = fails(&mut hub.with_home(args));
        assert!(said.contains("can mean one/Same-Name or two/same_name"), "{said}");
    }
    let said = fails(&mut hub.pull("same name"));
    assert!(said.contains("can mean one/Same-Name or two/same_name"), "{said}");
    for name in ["one/same-name", "Two/Same-Name", "Same-Name", "same_name"] {
        stdout(&mut hub.with_home(&["inspect", name])).unwrap();
    }
    for (name, expected) in [
        ("same-nome", "did you mean Same-Name?"),
        ("one/some-name", "did you mean one/Same-Name?"),
        ("another/model", "`trilobite pull another/model` fetches it if the hub has it"),
    ] {
        let said = fails(&mut hub.with_home(&["inspect", name]));
        assert!(said.contains(expected), "{said}");
    }
}
