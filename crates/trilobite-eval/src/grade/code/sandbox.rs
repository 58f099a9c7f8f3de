//! A sandbox for untrusted Python: a process of its own that can read, compute, and write into a
//! temporary folder, and nothing else.
//!
//! The engine's own binary is started again as a launcher ([`confinement`] are its arguments). It
//! limits itself and then becomes Python ([`confine_and_run`]):
//!
//! - resource limits: address space, CPU time, file size, open files, no core dumps;
//! - Landlock: writing only beneath the temporary folder; no signals or abstract sockets beyond it;
//! - seccomp: no sockets, no new processes (threads only), no signals, no tracing, no changes of
//!   modes, owners, limits, namespaces or mounts, no io_uring, no System V memory;
//! - a wall-clock limit, after which the parent kills it.
//!
//! Where the kernel has no Landlock or seccomp, nothing is run.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The argument that makes the binary a launcher.
const LAUNCH: &str = "__confined_python";
/// Most memory that the code may map.
#[cfg(target_os = "linux")]
const ADDRESS_SPACE: u64 = 4 << 30;
/// Most CPU time.
#[cfg(target_os = "linux")]
const CPU_SECONDS: u64 = 120;
/// Largest file.
#[cfg(target_os = "linux")]
const FILE_BYTES: u64 = 16 << 20;
/// Most open files.
#[cfg(target_os = "linux")]
const FILES: u64 = 64;
/// Time after which the process is killed: that of the reference solution and the tests.
const WALL_CLOCK: Duration = Duration::from_secs(150);
/// Most of its output that is read.
const OUTPUT_BYTES: u64 = 1 << 16;

/// What a launcher is started for.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// The Python interpreter.
    python: PathBuf,
    /// The folder with the harness, the only one that can be written to.
    folder: PathBuf,
}

/// What this process was started for, if it is a launcher: the binary must then call
/// [`confine_and_run`] and nothing else.
pub fn confinement() -> Option<Confinement> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != LAUNCH {
        return None;
    }
    Some(Confinement { python: args.next()?.into(), folder: args.next()?.into() })
}

/// The interpreter itself: `python3` may be a script that chooses one, which needs more than the
/// sandbox allows.
pub(crate) fn python() -> Result<PathBuf> {
    let failed =
        |why: String| Error::Sandbox(format!("python3 is needed and cannot be run: {why}"));
    let output = Command::new("python3")
        .args(["-I", "-c", "import sys; print(sys.executable)"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// Runs a script with a problem on its standard input and gives what it said after the token.
pub(crate) fn run(python: &Path, script: &str, mut problem: Map<String, Value>) -> Result<String> {
    let failed =
        |what: &str, error: &dyn std::fmt::Display| Error::Sandbox(format!("{what}: {error}"));
    let folder = tempfile::tempdir().map_err(|error| failed("no temporary folder", &error))?;
    let path = folder.path().join("harness.py");
    std::fs::write(&path, script).map_err(Error::io(&path))?;
    let token = crate::data::sha256(folder.path().as_os_str().as_encoded_bytes());
    problem.insert("token".to_owned(), token.as_str().into());

    let binary =
        std::env::current_exe().map_err(|error| failed("no path of this program", &error))?;
    let mut child = Command::new(binary)
        .arg(LAUNCH)
        .arg(python)
        .arg(folder.path())
        .current_dir(folder.path())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed("the sandbox does not start", &error))?;
    // Pipes are served by threads, so that neither side waits for the other.
    let stdin = child.stdin.take();
    let input = Value::Object(problem).to_string();
    let writer = std::thread::spawn(move || {
        // A launcher that fails reads nothing; its message says why.
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(input.as_bytes());
        }
    });
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.by_ref().take(OUTPUT_BYTES).read_to_end(&mut text);
                let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let stdout = reader(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = reader(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| failed("the sandbox is lost", &error))? {
            Some(status) => break Some(status),
            None if start.elapsed() > WALL_CLOCK => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
    let _ = writer.join();
    if let Some(message) = stderr.strip_prefix("sandbox: ") {
        return Err(Error::Sandbox(message.trim().to_owned()));
    }
    let verdict = stdout.lines().find_map(|line| line.strip_prefix(&format!("{token} ")));
    Ok(match (verdict, status) {
        (Some(verdict), _) => verdict.to_owned(),
        (None, None) => "ff out of time".to_owned(),
        (None, Some(status)) => format!("ff no verdict: {status}"),
    })
}

/// Confines this process to a folder and becomes Python running its harness. Returns only if that
/// fails, with the message for standard error.
#[cfg(target_os = "linux")]
pub fn confine_and_run(confinement: &Confinement) -> String {
    use std::os::unix::process::CommandExt;
    let Confinement { python, folder } = confinement;
    if let Err(error) = confine(folder) {
        return format!("sandbox: {error}");
    }
    let error = Command::new(python).args(["-I", "-B"]).arg(folder.join("harness.py")).exec();
    format!("sandbox: {} does not start: {error}", python.display())
}

/// There is no sandbox for other systems.
#[cfg(not(target_os = "linux"))]
pub fn confine_and_run(_: &Confinement) -> String {
    "sandbox: untrusted code is only run on Linux".to_owned()
}

#[cfg(target_os = "linux")]
fn confine(folder: &Path) -> std::result::Result<(), Box<dyn std::error::Error>> {
    use landlock::{
        ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
        RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    };
    use rlimit::Resource;

    for (resource, limit) in [
        (Resource::AS, ADDRESS_SPACE),
        (Resource::CPU, CPU_SECONDS),
        (Resource::FSIZE, FILE_BYTES),
        (Resource::NOFILE, FILES),
        (Resource::CORE, 0),
    ] {
        resource.set(limit, limit)?;
    }

    // Signals stay inside from ABI 6 on; seccomp forbids them in any case.
    let abi = ABI::V6;
    let writing = AccessFs::from_write(ABI::V3);
    let null: BitFlags<AccessFs> = AccessFs::WriteFile.into();
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(writing)?
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new(folder)?, writing))?
        .add_rule(PathBeneath::new(PathFd::new("/dev/null")?, null))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err("this kernel has no Landlock".into());
    }
    forbid_system_calls()
}

/// Installs the seccomp filter: what it names fails with an error, the rest is allowed.
#[cfg(target_os = "linux")]
fn forbid_system_calls() -> std::result::Result<(), Box<dyn std::error::Error>> {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };

    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> = [
        // Networks, and other processes.
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_io_uring_setup,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_send_signal,
        libc::SYS_pidfd_getfd,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        // What Landlock leaves open: modes, owners, attributes, times.
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_utimensat,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_fsetxattr,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        libc::SYS_fremovexattr,
        // The system itself.
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_adjtimex,
        libc::SYS_clock_adjtime,
        libc::SYS_setpriority,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
        libc::SYS_shmget,
        libc::SYS_msgget,
        libc::SYS_semget,
        libc::SYS_mknodat,
        libc::SYS_open_by_handle_at,
        libc::SYS_userfaultfd,
    ]
    .map(|call| (call, Vec::new()))
    .into();
    #[cfg(target_arch = "x86_64")]
    for call in [
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_utime,
        libc::SYS_utimes,
        libc::SYS_futimesat,
        libc::SYS_mknod,
        libc::SYS_iopl,
        libc::SYS_ioperm,
    ] {
        rules.insert(call, Vec::new());
    }
    let when = |argument, operation, value| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operation, value)?;
        SeccompRule::new(vec![condition])
    };
    // A clone that is no thread, and limits that are set rather than read.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::MaskedEq(thread), 0)?]);
    rules.insert(libc::SYS_prlimit64, vec![when(2, SeccompCmpOp::Ne, 0)?]);
    let filter = |rules, errno: i32| -> std::result::Result<BpfProgram, seccompiler::Error> {
        let action = SeccompAction::Errno(errno as u32);
        let arch = std::env::consts::ARCH.try_into()?;
        Ok(SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?.try_into()?)
    };
    // The arguments of clone3 lie in memory: without it the C library falls back to clone.
    let clone3 = [(libc::SYS_clone3, Vec::new())].into();
    seccompiler::apply_filter(&filter(clone3, libc::ENOSYS)?)?;
    seccompiler::apply_filter(&filter(rules, libc::EPERM)?)?;
    Ok(())
}
