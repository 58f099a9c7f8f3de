//! A sandbox for untrusted Python: processes that can read Python's own files, compute, write into
//! a small folder in memory and answer their starter, and nothing else.
//!
//! The engine's own binary is started again as a launcher ([`confinement`] is its argument), which
//! confines itself and then becomes Python ([`confine_and_run`]). A [`Session`] talks to it in lines.
//! `SECURITY.md` says what this is good against.

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

/// The argument that makes the binary a launcher.
const LAUNCH: &str = "__sandbox";
/// What Python prints about itself: its program, the folders of its modules, and those that it reads
/// libraries from. What `.pth` files add from elsewhere is left out.
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

/// A layer of the sandbox that a kernel or a container may not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxLayer {
    /// A user namespace: no rights over anything outside.
    User,
    /// A mount namespace: no other files.
    Mount,
    /// A PID namespace: no other processes, and none that outlives the evaluation.
    Pid,
    /// An IPC namespace: no shared memory or queues of others.
    Ipc,
    /// A UTS namespace: a host name of its own.
    Uts,
    /// A network namespace: no network.
    Network,
    /// Landlock: files are refused a second time.
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
    /// Reads answers and compares results.
    #[serde(rename = "judge.py")]
    Judge,
}

/// What a launcher is started for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Confinement {
    script: Script,
    python: Python,
    /// The folder that takes the place of the one in memory where there is no mount namespace.
    folder: Option<PathBuf>,
    allow_missing: Vec<SandboxLayer>,
    /// The process that starts it, with which it ends.
    parent: u32,
}

/// What this process was started for, if it is a launcher: the binary must then call
/// [`confine_and_run`] and nothing else.
pub fn confinement() -> Option<Confinement> {
    let mut args = std::env::args().skip(1);
    if args.next()? != LAUNCH {
        return None;
    }
    serde_json::from_str(&args.next()?).ok()
}

/// There is no sandbox for other systems.
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
    /// Further folders that it reads.
    libraries: Vec<PathBuf>,
}

impl Python {
    /// The `python3` of this user; that name may be a script, which needs more than the sandbox has.
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
    /// The sandbox of this machine.
    ///
    /// # Errors
    /// There is no Python, or a layer is missing that is not in `allow_missing`.
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
