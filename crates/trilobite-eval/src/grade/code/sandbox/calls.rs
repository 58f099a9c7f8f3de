//! The system calls allowed in the sandbox.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// The calls that Python needs to start, compute, read its modules and write into its folder.
const ALLOWED: &[i64] = &[
    // Open files.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fadvise64,
    libc::SYS_getdents64,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // Paths.
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_truncate,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_umask,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    // Time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_times,
    // The process and its threads. `execve` starts this Python and lifts no restriction.
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getrusage,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    // Its own signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
];

/// Older variants of these calls.
#[cfg(target_arch = "x86_64")]
const ALLOWED_X86_64: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_time,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
];

/// Installs the filter. Calls that are not allowed fail with a permission error.
pub(super) fn forbid_others() -> Result<(), Box<dyn std::error::Error>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    // `clone` may create threads only.
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let thread = libc::CLONE_THREAD as u64;
    let flags = SeccompCmpOp::MaskedEq(thread | namespaces as u64);
    rules.insert(libc::SYS_clone, vec![when(0, SeccompCmpArgLen::Qword, flags, thread)?]);
    // The filter cannot inspect the arguments of `clone3`, which are in memory. The C library falls
    // back to `clone`.
    rules.insert(libc::SYS_clone3, Vec::new());
    // Signals to the process itself, as sent by `abort`.
    rules.insert(libc::SYS_tgkill, equal(0, &[std::process::id().into()])?);
    // Limits of the process itself, which can only be lowered.
    rules.insert(libc::SYS_prlimit64, equal(0, &[0])?);
    let names = [libc::PR_SET_NAME, libc::PR_GET_NAME];
    rules.insert(libc::SYS_prctl, equal(0, &names.map(|option| option as u64))?);
    let commands = [
        libc::F_DUPFD,
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
    ];
    rules.insert(libc::SYS_fcntl, equal(1, &commands.map(|command| command as u64))?);
    // Requests that Python makes when it opens a file.
    let [tcgets, tiocgwinsz, fionclex, fioclex] = [0x5401, 0x5413, 0x5450, 0x5451];
    rules.insert(libc::SYS_ioctl, equal(1, &[tcgets, tiocgwinsz, fionclex, fioclex])?);
    #[cfg(target_arch = "x86_64")]
    {
        rules.extend(ALLOWED_X86_64.iter().map(|&call| (call, Vec::new())));
        // The register for thread-local storage.
        const ARCH_SET_FS: u64 = 0x1002;
        rules.insert(libc::SYS_arch_prctl, equal(0, &[ARCH_SET_FS])?);
    }
    let missing = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let refuse = |errno: i32| SeccompAction::Errno(errno as u32);
    install(missing, SeccompAction::Allow, refuse(libc::ENOSYS))?;
    install(rules, refuse(libc::EPERM), SeccompAction::Allow)
}

/// Rules that require an argument to be one of these values. The kernel compares its lower half.
fn equal(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let rule = |&value: &u64| when(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    values.iter().map(rule).collect()
}

fn when(
    argument: u8,
    length: SeccompCmpArgLen,
    operation: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, length, operation, value)?])
}

/// Installs a filter with the action `listed` for the calls in `rules`, and `other` for all others.
fn install(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    other: SeccompAction,
    listed: SeccompAction,
) -> Result<(), Box<dyn std::error::Error>> {
    let filter = SeccompFilter::new(rules, other, listed, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}
