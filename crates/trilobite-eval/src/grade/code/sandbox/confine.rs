//! The launcher, which confines itself and becomes Python.
//!
//! It takes three processes. The launcher enters its namespaces and a root folder that contains
//! only Python's files. Its child is the first process of the PID namespace: when it ends, the
//! kernel kills all others there. The grandchild limits its resources, installs the filter of
//! system calls and becomes Python. Each process is killed when its parent ends, so that nothing
//! outlives the evaluation.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, chdir, chown, fork, getegid, geteuid, getpid, getppid, pipe2,
    pivot_root, setgroups, sethostname, setresgid, setresuid, setsid,
};

use super::{Confinement, Python, SandboxLayer, Script, calls};

/// Folders of the system that programs need: libraries and package locations.
const SYSTEM: [&str; 8] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/nix/store",
    "/gnu/store",
];

/// Maximum size of the address space in bytes.
const ADDRESS_SPACE: u64 = 4 << 30;
/// Maximum CPU time in seconds, which exceeds all limits of wall-clock time.
const CPU_SECONDS: u64 = 900;
/// Maximum size of a file in bytes.
const FILE_BYTES: u64 = 16 << 20;
/// Maximum number of open files.
const FILES: u64 = 64;
/// Maximum number of processes and threads.
const THREADS: u64 = 64;
/// Mount options of the folder in memory.
const FOLDER_OPTIONS: &str = "size=64m,nr_inodes=1024,mode=1777";
/// The path of that folder.
const FOLDER: &str = "/tmp";
/// The folder on which the new root is mounted at first. Every system has it, and the launcher
/// needs nothing in it.
const NEW_ROOT: &str = "/dev";
/// The user id and the group id in the sandbox.
const INNER_ID: u32 = 1000;
/// The id to which root is mapped outside: a user that owns nothing.
const NOBODY: u32 = 65534;

type Fault = Box<dyn std::error::Error>;

/// Confines this process and becomes Python running its script. Returns only on failure, with the
/// message for standard error. The caller must not have started threads.
pub fn confine_and_run(confinement: &Confinement) -> String {
    match launch(confinement) {
        Ok(never) => match never {},
        Err(fault) => format!("sandbox: {fault}"),
    }
}

fn launch(confinement: &Confinement) -> Result<Infallible, Fault> {
    let evaluation = Pid::from_raw(confinement.parent.try_into()?);
    end_with(evaluation)?;
    setsid()?;
    close_files()?;

    let mut missing = Vec::new();
    let mut given = |layer: SandboxLayer, result: Result<(), Fault>| {
        let given = result.is_ok();
        missing.extend(result.err().map(|fault| (layer, fault)));
        given
    };
    let readable = readable(&confinement.python);
    let root = geteuid().is_root();
    if let (Some(folder), true) = (&confinement.folder, root) {
        // If that user is unknown, the user stays the same, or the sandbox fails.
        let _ = chown(folder, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY)));
    }
    let user = given(SandboxLayer::User, user_namespace());
    for (layer, flag) in [
        (SandboxLayer::Pid, CloneFlags::CLONE_NEWPID),
        (SandboxLayer::Ipc, CloneFlags::CLONE_NEWIPC),
        (SandboxLayer::Network, CloneFlags::CLONE_NEWNET),
    ] {
        given(layer, unshare(flag).map_err(Fault::from));
    }
    let name = || Ok(sethostname("sandbox")?);
    given(
        SandboxLayer::Uts,
        unshare(CloneFlags::CLONE_NEWUTS).map_err(Fault::from).and_then(|()| name()),
    );
    let mounted = given(SandboxLayer::Mount, own_root(&readable, user));
    let folder = match &confinement.folder {
        Some(folder) if !mounted => folder.as_path(),
        _ => Path::new(FOLDER),
    };
    if user {
        become_user(INNER_ID)?;
    } else if root {
        let nobody = setgroups(&[]).map_err(Fault::from).and_then(|()| become_user(NOBODY));
        nobody.map_err(|fault| format!("root cannot become another user: {fault}"))?;
    }
    given(SandboxLayer::Landlock, landlock(&readable, folder));
    refuse(&missing, &confinement.allow_missing)?;
    chdir(folder)?;
    // A change of the user has reset this.
    end_with(evaluation)?;
    prctl::set_dumpable(false)?;

    let (alive, held) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    // SAFETY: this process has no other thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(alive);
            wait_for(child)
        }
        ForkResult::Child => {
            drop(held);
            first_process(alive, confinement)
        }
    }
}

/// The files and folders that Python needs. None contains another.
fn readable(python: &Python) -> Vec<&Path> {
    let own = python.libraries.iter().chain(&python.modules).chain([&python.program]);
    let mut all: Vec<&Path> =
        SYSTEM.iter().map(Path::new).chain(own.map(PathBuf::as_path)).collect();
    all.retain(|path| path.exists());
    all.sort();
    all.dedup_by(|path, before| path.starts_with(before));
    all
}

/// Returns an error for missing layers, unless all of them are allowed to be missing.
fn refuse(missing: &[(SandboxLayer, Fault)], allowed: &[SandboxLayer]) -> Result<(), Fault> {
    let refused: Vec<_> = missing.iter().filter(|(layer, _)| !allowed.contains(layer)).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let reasons: Vec<_> =
        refused.iter().map(|(layer, fault)| format!("{layer} ({fault})")).collect();
    let names: Vec<_> = missing.iter().map(|(layer, _)| layer.to_string()).collect();
    Err(format!(
        "this system does not give these layers: {}; --sandbox-allow-missing {} runs the code \
         without them",
        reasons.join(", "),
        names.join(",")
    )
    .into())
}

/// Makes the kernel kill this process when its parent ends.
fn end_with(parent: Pid) -> Result<(), Fault> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() == parent { Ok(()) } else { Err("the evaluation has ended".into()) }
}

/// Closes all inherited files except the standard streams.
fn close_files() -> Result<(), Fault> {
    // SAFETY: nothing in this process owns a file yet.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    Ok(Errno::result(closed).map(drop)?)
}

/// Opens a path as the source of a mount.
fn source(path: &Path) -> Result<(&Path, File), Fault> {
    let file = File::options().read(true).custom_flags(libc::O_PATH).open(path);
    Ok((path, file.map_err(|error| format!("{}: {error}", path.display()))?))
}

/// Enters a user namespace with a single user.
fn user_namespace() -> Result<(), Fault> {
    let (user, group) = (geteuid(), getegid());
    // Only a process outside of the namespace can map root to another user.
    let helper =
        if user.is_root() && setgroups(&[]).is_ok() { Some(Helper::start()?) } else { None };
    unshare(CloneFlags::CLONE_NEWUSER)?;
    if helper.is_some_and(Helper::map) {
        return Ok(());
    }
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("{INNER_ID} {group} 1"))?;
    Ok(fs::write("/proc/self/uid_map", format!("{INNER_ID} {user} 1"))?)
}

/// A process that writes the user mapping of its parent's namespace.
struct Helper {
    process: Pid,
    begin: File,
}

impl Helper {
    fn start() -> Result<Self, Fault> {
        let (wait, begin) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: this process has no other thread.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Self { process: child, begin: begin.into() }),
            ForkResult::Child => {
                drop(begin);
                let mapped = File::from(wait).read_exact(&mut [0]).and_then(|()| {
                    let folder = PathBuf::from(format!("/proc/{}", getppid()));
                    let map = format!("{INNER_ID} {NOBODY} 1");
                    fs::write(folder.join("gid_map"), &map)?;
                    fs::write(folder.join("uid_map"), &map)
                });
                std::process::exit(mapped.is_err().into());
            }
        }
    }

    /// Writes the mapping and returns whether that succeeded.
    fn map(mut self) -> bool {
        let begun = self.begin.write_all(&[0]).is_ok();
        begun && matches!(waitpid(self.process, None), Ok(WaitStatus::Exited(_, 0)))
    }
}

fn become_user(id: u32) -> Result<(), Fault> {
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    setresgid(group, group, group)?;
    Ok(setresuid(user, user, user)?)
}

/// Enters a mount namespace whose root contains these files, read-only, and an empty folder.
fn own_root(readable: &[&Path], user_namespace: bool) -> Result<(), Fault> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // Opened before the user changes, since another user may not have access.
    let null = Path::new("/dev/null");
    let sources: Vec<(&Path, File)> =
        readable.iter().copied().chain([null]).map(source).collect::<Result<_, _>>()?;
    if user_namespace {
        become_user(INNER_ID)?;
    }
    let root = Path::new(NEW_ROOT);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some("size=1m,mode=755"))?;
    for (path, file) in &sources {
        let target = root.join(path.strip_prefix("/")?);
        if file.metadata()?.is_dir() {
            fs::create_dir_all(&target)?;
        } else {
            fs::create_dir_all(target.parent().unwrap_or(root))?;
            File::create(&target)?;
        }
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        mount(Some(source.as_str()), &target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
        let devices = if *path == null { 0 } else { libc::MOUNT_ATTR_NODEV };
        let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | devices;
        protect(&target, attributes, libc::AT_RECURSIVE)?;
    }
    let folder = root.join(FOLDER.trim_start_matches('/'));
    fs::create_dir(&folder)?;
    let flags = flags | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), &folder, Some("tmpfs"), flags, Some(FOLDER_OPTIONS))?;
    chdir(root)?;
    // For a moment the old root is mounted on top of the new one.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    protect(Path::new("/"), libc::MOUNT_ATTR_RDONLY, 0)
}

/// Adds attributes to a mount. With `AT_RECURSIVE`, adds them to all mounts below it.
fn protect(path: &Path, attributes: u64, flags: libc::c_int) -> Result<(), Fault> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes =
        libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path and the attributes outlive the call, and the size is that of the attributes.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    Ok(Errno::result(done).map(drop)?)
}

/// Restricts this process and its children to reading these files and using a folder.
fn landlock(readable: &[&Path], folder: &Path) -> Result<(), Fault> {
    let abi = ABI::V7;
    let reading = AccessFs::from_read(abi);
    let writing = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeDir
        | AccessFs::MakeReg
        | AccessFs::RemoveDir
        | AccessFs::RemoveFile
        | AccessFs::Refer;
    let null = AccessFs::ReadFile | AccessFs::WriteFile;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(readable, reading))?
        .add_rules(path_beneath_rules([folder], writing))?
        .add_rules(path_beneath_rules(["/dev/null"], null))?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel has none".into()),
        _ => Ok(()),
    }
}

/// Waits for a process, reaping others meanwhile, and ends with the same status.
fn wait_for(process: Pid) -> Result<Infallible, Fault> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(ended, code)) if ended == process => std::process::exit(code),
            Ok(WaitStatus::Signaled(ended, ..)) if ended == process => std::process::exit(1),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs the first process of the PID namespace. `alive` is closed when the launcher ends.
fn first_process(alive: OwnedFd, confinement: &Confinement) -> Result<Infallible, Fault> {
    // The parent is in another namespace, so it has no process id here.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::read(&alive, &mut [0]) != Err(Errno::EAGAIN) {
        return Err("the evaluation has ended".into());
    }
    drop(alive);
    let first = getpid();
    // SAFETY: this process has no other thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => wait_for(child),
        ForkResult::Child => {
            end_with(first)?;
            limit().map_err(|fault| format!("limits: {fault}"))?;
            calls::forbid_others().map_err(|fault| format!("seccomp: {fault}"))?;
            Err(become_python(confinement).into())
        }
    }
}

/// Limits the resources of this process.
fn limit() -> Result<(), Fault> {
    for (resource, wanted) in [
        (Resource::RLIMIT_AS, ADDRESS_SPACE),
        (Resource::RLIMIT_CPU, CPU_SECONDS),
        (Resource::RLIMIT_FSIZE, FILE_BYTES),
        (Resource::RLIMIT_NOFILE, FILES),
        (Resource::RLIMIT_NPROC, THREADS),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_MEMLOCK, 0),
    ] {
        let (_, most) = getrlimit(resource)?;
        let value = wanted.min(most);
        setrlimit(resource, value, value)?;
    }
    // Python raises the stack limit to this, as evalplus does. Threads must not get as much.
    let (usual, most) = getrlimit(Resource::RLIMIT_STACK)?;
    let most = most.min(ADDRESS_SPACE);
    Ok(setrlimit(Resource::RLIMIT_STACK, usual.min(most), most)?)
}

/// Becomes Python. Returns a message if that fails.
fn become_python(confinement: &Confinement) -> String {
    let Python { program, modules, .. } = &confinement.python;
    let script = match confinement.script {
        Script::Harness => include_str!("../harness.py"),
        Script::Judge => include_str!("../judge.py"),
    };
    // Isolated mode, with the given site packages only, without bytecode files and warnings.
    let error = Command::new(program)
        .args(["-I", "-S", "-B", "-Wignore", "-Xutf8", "-c", script])
        .args(modules)
        .env_clear()
        // Thread pools would only take time.
        .envs([("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1")])
        .exec();
    format!("{} does not start: {error}", program.display())
}
