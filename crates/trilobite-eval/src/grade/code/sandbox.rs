//! A sandbox for untrusted Python. Its processes can read Python's own files, compute, write into a
//! small folder in memory and send replies, and nothing else.
//!
//! The engine starts its own binary as a launcher, with the argument that [`confinement`] parses.
//! The launcher confines itself and becomes Python ([`confine_and_run`]). A [`Session`] exchanges
//! lines with it. `SECURITY.md` describes what the sandbox protects against.

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod calls;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod confine;
mod session;

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub use confine::confine_and_run;
pub(super) use session::{Reply, Session};

use crate::error::{Error, Result};

/// The argument that starts the binary as a launcher.
const LAUNCH: &str = "__sandbox";
/// A script that prints Python's program, the folders of its modules, and those of its libraries.
/// Folders that `.pth` files add are left out.
const ABOUT: &str = r#"
import json, os, sys
if sys.version_info < (3, 8):
    sys.exit("it is older than Python 3.8")
prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
libraries = [os.path.join(prefix, name) for prefix in prefixes for name in ("lib", "lib64")]
own = lambda path: any(os.path.join(path, "").startswith(os.path.join(at, "")) for at in libraries)
packages = lambda path: os.path.basename(path) in ("site-packages", "dist-packages")
modules = [path for path in sys.path if os.path.isdir(path) and (own(path) or packages(path))]
program = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
print(json.dumps({"program": program, "modules": modules, "libraries": libraries}))
"#;

/// A layer of the sandbox, which a kernel or a container may not support.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxLayer {
    /// A user namespace: no rights outside of it.
    User,
    /// A mount namespace: no other files.
    Mount,
    /// A PID namespace: no access to other processes, and no process outlives the evaluation.
    Pid,
    /// An IPC namespace: no shared memory or queues of other processes.
    Ipc,
    /// A UTS namespace: a separate host name.
    Uts,
    /// A network namespace: no network.
    Network,
    /// Landlock: a second restriction of file access.
    Landlock,
}

impl SandboxLayer {
    /// All layers.
    pub const ALL: [SandboxLayer; 7] = [
        SandboxLayer::User,
        SandboxLayer::Mount,
        SandboxLayer::Pid,
        SandboxLayer::Ipc,
        SandboxLayer::Uts,
        SandboxLayer::Network,
        SandboxLayer::Landlock,
    ];
}

impl fmt::Display for SandboxLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SandboxLayer::User => "user",
            SandboxLayer::Mount => "mount",
            SandboxLayer::Pid => "pid",
            SandboxLayer::Ipc => "ipc",
            SandboxLayer::Uts => "uts",
            SandboxLayer::Network => "network",
            SandboxLayer::Landlock => "landlock",
        })
    }
}

impl FromStr for SandboxLayer {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let names = || SandboxLayer::ALL.map(|layer| layer.to_string()).join(", ");
        let found = SandboxLayer::ALL.into_iter().find(|layer| layer.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is no layer of the sandbox; there are {}", names()))
    }
}

/// A script that runs in the sandbox.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Script {
    /// Runs a solution.
    #[serde(rename = "harness.py")]
    Harness,
    /// Extracts code from answers and compares results.
    #[serde(rename = "judge.py")]
    Judge,
}

/// The task of a launcher.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Confinement {
    script: Script,
    python: Python,
    /// The folder that replaces the one in memory if there is no mount namespace.
    folder: Option<PathBuf>,
    allow_missing: Vec<SandboxLayer>,
    /// The process that starts the launcher. The launcher ends with it.
    parent: u32,
}

/// The task of this process if it is a launcher. The binary must then call [`confine_and_run`] and
/// nothing else.
pub fn confinement() -> Option<Confinement> {
    let mut args = std::env::args().skip(1);
    if args.next()? != LAUNCH {
        return None;
    }
    serde_json::from_str(&args.next()?).ok()
}

/// Other systems have no sandbox.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub fn confine_and_run(_: &Confinement) -> String {
    "sandbox: untrusted code is run on Linux on x86-64 and ARM64 alone".to_owned()
}

/// A Python interpreter.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Python {
    /// The program.
    program: PathBuf,
    /// The folders of its modules.
    modules: Vec<PathBuf>,
    /// Further folders from which it reads libraries.
    libraries: Vec<PathBuf>,
}

impl Python {
    /// Finds the user's `python3`. The name may be a script, which needs more than the sandbox
    /// allows.
    fn find() -> Result<Self> {
        let failed =
            |why: String| Error::Sandbox(format!("python3 is needed and cannot be used: {why}"));
        let output = Command::new("python3")
            .args(["-I", "-c", ABOUT])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let reason = said.lines().last().unwrap_or("it fails without a message");
            return Err(failed(reason.to_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
    }
}

/// Starts sandboxes.
pub(super) struct Sandbox {
    python: Python,
    allow_missing: Vec<SandboxLayer>,
}

impl Sandbox {
    /// Sets up the sandbox of this machine.
    ///
    /// # Errors
    /// There is no Python, or a layer that is not in `allow_missing` is missing.
    pub(super) fn new(allow_missing: &[SandboxLayer]) -> Result<Self> {
        let sandbox = Self { python: Python::find()?, allow_missing: allow_missing.to_vec() };
        sandbox.start(Script::Judge)?;
        Ok(sandbox)
    }

    /// Starts a script.
    pub(super) fn start(&self, script: Script) -> Result<Session> {
        let failed =
            |what: &str, error: &dyn fmt::Display| Error::Sandbox(format!("{what}: {error}"));
        let folder = match self.allow_missing.contains(&SandboxLayer::Mount) {
            true => Some(tempfile::tempdir().map_err(|error| failed("no folder", &error))?),
            false => None,
        };
        let confinement = Confinement {
            script,
            python: self.python.clone(),
            folder: folder.as_ref().map(|folder| folder.path().to_owned()),
            allow_missing: self.allow_missing.clone(),
            parent: std::process::id(),
        };
        let argument = serde_json::to_string(&confinement)
            .map_err(|error| failed("a path that is not text", &error))?;
        let binary =
            std::env::current_exe().map_err(|error| failed("no path of this program", &error))?;
        let mut command = Command::new(binary);
        command.arg(LAUNCH).arg(argument).current_dir("/").env_clear();
        Session::start(command, folder)
    }
}
