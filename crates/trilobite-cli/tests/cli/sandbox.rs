//! Tests of the sandbox: the code in an answer can compute, and nothing else.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::code::{eval, sandbox_is_whole, verdicts};
use crate::eval::items;
use crate::trilobite::command;

/// Functions that report a result as the name of an exception.
const TELL: &str = "import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)

def call(*args):
    args = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    failed = libc.syscall(*args) == -1
    return errno.errorcode[ctypes.get_errno()] if failed else 'done'

def attempt(function, *args):
    try:
        return function(*args)
    except OSError as error:
        return errno.errorcode[error.errno]

def tell(what):
    raise type(str(what), (Exception,), {})
    return what

def double(x):
";

/// The results that answers report.
fn told(answers: &[&str]) -> Vec<String> {
    let answers: Vec<_> =
        answers.iter().map(|code| format!("{TELL}    {code}\n    return 2 * x\n")).collect();
    let found = verdicts("HumanEval/900", &answers.iter().map(String::as_str).collect::<Vec<_>>());
    let told = |line: &Value| {
        assert_eq!(line["correct_base"], false, "{line}");
        line["extracted"].as_str().unwrap().trim_start_matches("test 0: ").to_owned()
    };
    found.iter().map(told).collect()
}

/// System calls that reach beyond the process. One of them is new in Linux 6.6: calls that are not
/// allowed are forbidden, even if this crate does not know them.
const FORBIDDEN: &[i64] = &[
    // Processes.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setaffinity,
    libc::SYS_personality,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // Users and rights.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_prctl,
    libc::SYS_seccomp,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Networks, and other communication.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    libc::SYS_inotify_init1,
    libc::SYS_fanotify_init,
    // Files.
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mknodat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    452, // fchmodat2
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    463, // setxattrat
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_openat2,
    libc::SYS_memfd_create,
    libc::SYS_quotactl,
    libc::SYS_sync,
    libc::SYS_flock,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_setup,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_adjtimex,
    libc::SYS_mlockall,
    libc::SYS_mbind,
    libc::SYS_move_pages,
    libc::SYS_remap_file_pages,
    // An unknown call, and one of the table of 32-bit calls that 64-bit programs can reach on
    // x86-64.
    4000,
    0x4000_0027,
];

#[test]
fn system_calls_are_forbidden() {
    if !sandbox_is_whole() {
        return;
    }
    let each = format!(
        "tell([n for n in {FORBIDDEN:?} if call(n, 0, 0, 0, 0, 0, 0) not in ('EPERM', 'ENOSYS')])"
    );
    // Forbidden arguments of allowed calls.
    let some = format!(
        "f = os.open('f', os.O_CREAT | os.O_RDWR)\n    tell(sorted({{{}}}))",
        [
            // Processes and namespaces.
            format!("call({}, 17, 0, 0, 0, 0)", libc::SYS_clone),
            format!("call({}, 0x10010000, 0, 0, 0, 0)", libc::SYS_clone),
            format!("call({}, 1, 1, 9)", libc::SYS_tgkill),
            format!("call({}, 1, 7, 0, 0)", libc::SYS_prlimit64),
            // PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAP_AMBIENT
            format!(
                "call({0}, 1, 0), call({0}, 4, 1), call({0}, 22, 0), call({0}, 47, 2, 1, 0, 0)",
                libc::SYS_prctl
            ),
            // TIOCSTI, TIOCLINUX, TIOCSCTTY, FS_IOC_SETFLAGS, and the first with more bits.
            format!(
                "call({0}, f, 0x5412, b'x'), call({0}, f, 0x541c, b'x'), call({0}, f, 0x540e, 1)",
                libc::SYS_ioctl
            ),
            format!(
                "call({0}, f, 0x40086602, b'xxxx'), call({0}, f, 0x100005412, b'x')",
                libc::SYS_ioctl
            ),
            // F_SETOWN, F_SETSIG, F_NOTIFY, F_SETLEASE, F_ADD_SEALS
            format!(
                "call({0}, f, 8, 1), call({0}, f, 10, 9), call({0}, f, 1026, 1)",
                libc::SYS_fcntl
            ),
            format!("call({0}, f, 1024, 1), call({0}, f, 1033, 1)", libc::SYS_fcntl),
        ]
        .join(", ")
    );
    assert_eq!(told(&[&each, &some]), ["[]", "['EPERM']"]);
}

/// The sandbox has Python's files and its own processes only, and no terminal, capabilities or
/// environment.
#[test]
fn nothing_else_is_there() {
    if !sandbox_is_whole() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "whole").unwrap();
    let (path, home) = (victim.to_str().unwrap(), env!("CARGO_MANIFEST_DIR"));
    let open = |path: &str| format!("tell(attempt(os.open, {path:?}, os.O_RDONLY))");
    let write = |path: &str| format!("tell(attempt(os.open, {path}, os.O_RDWR))");
    let attempts = [
        (open(path), "ENOENT"),
        (open(home), "ENOENT"),
        (open("/proc/self/environ"), "ENOENT"),
        (open("/proc/1/environ"), "ENOENT"),
        (open("/sys/kernel"), "ENOENT"),
        (open("/dev/tty"), "ENOENT"),
        (open("/dev/shm"), "ENOENT"),
        (open("/etc/passwd"), "ENOENT"),
        (open("/etc/hostname"), "ENOENT"),
        (write("os.__file__"), "EACCES"),
        (write("sys.executable"), "EACCES"),
        ("tell(attempt(os.mkdir, '/x'))".into(), "EACCES|EROFS"),
        ("tell(attempt(os.mkdir, '/dev/x'))".into(), "EACCES|EROFS"),
        ("tell(attempt(os.execv, '/bin/sh', ['sh']))".into(), "ENOENT"),
        ("tell((os.getpid(), os.getppid(), os.getsid(0)))".into(), "(2, 1, 0)"),
        ("tell(0 in (os.getuid(), os.geteuid(), os.getgid(), os.getegid()))".into(), "False"),
        ("tell(os.uname().nodename)".into(), "sandbox"),
        (
            "tell(sorted(set(os.environ) - {'LC_CTYPE'}))".into(),
            "['OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS']",
        ),
        // The descriptors are its input and output, and those of the standard streams.
        (
            "tell([fd for fd in range(64) if attempt(os.fstat, fd) != 'EBADF'])".into(),
            "[0, 1, 2, 3, 4]",
        ),
    ];
    let codes: Vec<&str> = attempts.iter().map(|(code, _)| code.as_str()).collect();
    for (told, (code, expected)) in told(&codes).iter().zip(&attempts) {
        assert!(expected.split('|').any(|expected| expected == told), "{code}: {told}");
    }
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "whole");
}

#[test]
fn what_code_takes_is_limited() {
    if !sandbox_is_whole() {
        return;
    }
    let attempts = [
        ("bytearray(5 << 30)", "MemoryError"),
        ("os.ftruncate(os.open('f', os.O_CREAT | os.O_RDWR), 1 << 30)", "OSError"),
        // The folder in memory is limited in bytes and in files.
        (
            "size = 0\n    try:\n        for i in range(100):\n            fd = os.open(str(i), os.O_CREAT | os.O_RDWR)\n            for _ in range(15):\n                size += os.write(fd, bytes(1 << 20))\n            os.close(fd)\n    except OSError as error:\n        tell((size >> 20, errno.errorcode[error.errno]))",
            "(64, 'ENOSPC')",
        ),
        (
            "try:\n        for i in range(9999):\n            os.close(os.open(str(i), os.O_CREAT))\n    except OSError as error:\n        tell((i < 1024, errno.errorcode[error.errno]))",
            "(True, 'ENOSPC')",
        ),
        ("tell(attempt(lambda: [os.dup(0) for _ in range(99)]))", "EMFILE"),
        (
            "sys.modules.pop('resource')\n    import resource\n    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
            "ValueError",
        ),
        ("os._exit(0)", "no answer"),
        ("ctypes.string_at(0)", "no answer"),
        ("os.abort()", "no answer"),
        ("while True: pass", "out of time"),
        ("import time; time.sleep(1000)", "out of time"),
        ("import signal; signal.raise_signal(signal.SIGSTOP)", "out of time"),
        (
            "try:\n        while True: os.write(2, bytes(1 << 16))\n    finally:\n        return 1",
            "out of time",
        ),
    ];
    let codes = attempts.map(|(code, _)| code);
    for (told, (code, expected)) in told(&codes).iter().zip(attempts) {
        assert_eq!(told, expected, "{code}");
    }
}

/// The evaluator is killed and cannot clean up: its sandbox ends with it.
#[test]
fn nothing_outlives_the_evaluation() {
    if !sandbox_is_whole() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let code = "import signal, time\n\ndef double(x):\n    for number in (1, 2, 15):\n        signal.signal(number, signal.SIG_IGN)\n    time.sleep(1000)\n    return 2 * x\n";
    // The time limit of a test is short, that of the reference is long.
    let data = folder.path().join("humaneval_plus");
    std::fs::create_dir(&data).unwrap();
    let problem = json!({
        "task_id": "HumanEval/900", "prompt": "", "entry_point": "double",
        "canonical_solution": code, "base_input": [[1]], "plus_input": [], "atol": 0,
    });
    std::fs::write(data.join("HumanEvalPlus.jsonl"), problem.to_string()).unwrap();
    let answers = folder.path().join("answers.jsonl");
    std::fs::write(&answers, json!({"id": "HumanEval/900", "output": code}).to_string()).unwrap();
    let mut command = command(["eval", "--any-data", "--tasks", "humaneval_plus", "--data"]);
    command.arg(folder.path()).arg("--run-untrusted-code").arg("--answers").arg(&answers);
    command.arg("-o").arg(folder.path().join("out")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut evaluation = command.spawn().unwrap();

    let wait_until = |what: &str, done: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let root = evaluation.id();
    let harnesses =
        || descendants(root).into_iter().filter(|&id| is_python(id)).collect::<Vec<_>>();
    // The judge, and the harness.
    wait_until("no harness starts", &|| harnesses().len() == 2);
    // Its code is running now, or is about to.
    std::thread::sleep(Duration::from_millis(300));
    let all = descendants(root);
    assert!(all.len() >= 6, "a launcher, a first process and Python for each: {all:?}");
    evaluation.kill().unwrap();
    evaluation.wait().unwrap();
    wait_until("a process outlives the evaluation", &|| all.iter().all(|&id| parent(id).is_none()));
}

/// The parent of a running process.
fn parent(id: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ');
    (fields.next()? != "Z").then_some(())?;
    fields.next()?.parse().ok()
}

/// All descendants of a process.
fn descendants(root: u32) -> Vec<u32> {
    let ids = std::fs::read_dir("/proc").unwrap();
    let ids = ids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let ancestors = |id: u32| std::iter::successors(Some(id), |&id| parent(id)).skip(1);
    ids.filter(|&id| ancestors(id).any(|ancestor| ancestor == root)).collect()
}

fn is_python(id: u32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    name.starts_with("python")
}

/// If a layer is missing, the command names it and runs nothing, unless the layer is allowed to be
/// missing.
#[test]
fn missing_layers_are_refused() {
    if !sandbox_is_whole() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |forbidden: &str, allowed: &str| {
        let mut eval =
            eval(folder.path(), &[json!({"id": "HumanEval/900", "output": "    return 2 * x\n"})]);
        if !allowed.is_empty() {
            eval.arg("--sandbox-allow-missing").arg(allowed);
        }
        let script = format!(
            "for name in {forbidden}; do echo 0 > /proc/sys/user/max_${{name}}_namespaces || exit 77; done; exec \"$@\""
        );
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", &script, "sh"]);
        command.arg(eval.get_program()).args(eval.get_args()).output()
    };
    match run("", "") {
        Ok(output) if output.status.success() => {}
        found => return println!("skipped: unshare cannot make a user namespace: {found:?}"),
    }
    std::fs::remove_dir_all(folder.path().join("out")).unwrap();
    let output = run("pid net", "pid").unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("does not give these layers: network ("), "{said}");
    assert!(said.contains("--sandbox-allow-missing pid,network"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!folder.path().join("out").exists());

    for (forbidden, allowed) in [("pid net", "pid,network"), ("mnt", "mount")] {
        let output = run(forbidden, allowed).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(items(&folder.path().join("out"), "humaneval_plus").contains("\"correct\":true"));
    }
}
