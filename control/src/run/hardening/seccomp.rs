//! Which system calls there are for the process, and for its shards.
//!
//! Lists of what is allowed. Everything else answers ENOSYS, as a kernel does that does not know the call: libraries
//! then take the older way that they have for old kernels. The kernel keeps a bitmap of calls that are always allowed, so
//! the length of a list costs nothing.
//!
//! The list of the process is published for container runtimes as `deploy/seccomp/ringway.json`, which a test holds
//! against it. It lets rings be made, because a process that hands over starts its successor, which makes its own.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

/// A system call: the name of its number, and its number here.
type Call = (&'static str, c_long);

macro_rules! calls {
    ($($number:ident)*) => { &[$((stringify!($number), libc::$number)),*] };
}

/// What a shard does once its ring is made: sockets, memory, time, and entering a namespace. It starts no
/// program, opens no file, makes no ring and looks into no other process.
const SHARD: &[Call] = calls! {
    SYS_read SYS_write SYS_readv SYS_writev SYS_close SYS_ioctl SYS_dup SYS_dup3 SYS_fstat
    SYS_pipe2 SYS_splice SYS_tee
    SYS_socket SYS_socketpair SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_getsockname
    SYS_getpeername SYS_getsockopt SYS_setsockopt SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg
    SYS_sendmmsg SYS_recvmmsg SYS_shutdown SYS_setns
    SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_eventfd2 SYS_io_uring_enter
    SYS_timerfd_settime
    SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_brk SYS_get_mempolicy SYS_mbind
    SYS_futex SYS_futex_waitv SYS_membarrier SYS_set_robust_list SYS_rseq SYS_sched_yield
    SYS_sched_getaffinity SYS_getcpu SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep
    SYS_gettimeofday SYS_getrandom SYS_getrusage SYS_prlimit64 SYS_getpid SYS_gettid SYS_prctl
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack SYS_restart_syscall
    SYS_exit SYS_exit_group
};

/// What a shard may do with some arguments only, and the process with any.
const SHARD_IN_PART: &[Call] = calls! { SYS_fcntl SYS_tgkill };

/// What of `fcntl` a shard needs: copies, flags, the size of pipes. Not: who gets a descriptor's signals, locks, leases,
/// seals.
const FCNTL_COMMANDS: [libc::c_int; 7] = [
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETPIPE_SZ,
    libc::F_SETPIPE_SZ,
];

/// Older calls that only some architectures have.
#[cfg(target_arch = "x86_64")]
const SHARD_OLDER: &[Call] = calls! { SYS_poll SYS_epoll_wait };
#[cfg(not(target_arch = "x86_64"))]
const SHARD_OLDER: &[Call] = &[];

/// What the control thread, its workers and the tools they start (nft, iptables-restore, a successor) do besides.
/// What is missing on purpose: looking into and tracing other processes, mounting, new namespaces, kernel modules, BPF,
/// performance events, keys, clocks, device nodes, another root directory.
const PROCESS: &[Call] = calls! {
    SYS_openat SYS_openat2 SYS_close_range SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_preadv2
    SYS_pwritev2 SYS_lseek SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs SYS_faccessat SYS_faccessat2
    SYS_readlinkat SYS_getdents64 SYS_getcwd SYS_chdir SYS_fchdir SYS_renameat SYS_renameat2 SYS_unlinkat
    SYS_mkdirat SYS_linkat SYS_symlinkat SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_fchown SYS_fchownat
    SYS_umask SYS_ftruncate SYS_truncate SYS_fallocate SYS_fsync SYS_fdatasync SYS_sync_file_range SYS_flock
    SYS_utimensat SYS_fadvise64 SYS_copy_file_range SYS_sendfile SYS_vmsplice SYS_memfd_create
    SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch
    SYS_pselect6 SYS_epoll_create1 SYS_timerfd_create SYS_timerfd_gettime SYS_signalfd4
    SYS_io_uring_setup SYS_io_uring_register
    SYS_mincore SYS_msync SYS_mlock SYS_mlock2 SYS_munlock SYS_set_mempolicy SYS_pkey_alloc SYS_pkey_free
    SYS_pkey_mprotect
    SYS_clone SYS_clone3 SYS_execve SYS_execveat SYS_wait4 SYS_waitid SYS_kill SYS_tkill SYS_pidfd_open
    SYS_pidfd_send_signal SYS_getppid SYS_getpgid SYS_setpgid SYS_getsid SYS_setsid SYS_getuid SYS_geteuid
    SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid SYS_getgroups SYS_setuid SYS_setgid SYS_setresuid
    SYS_setresgid SYS_setgroups SYS_capget SYS_capset SYS_seccomp SYS_set_tid_address SYS_get_robust_list
    SYS_sched_setaffinity SYS_sched_getparam SYS_sched_getscheduler SYS_sched_getattr SYS_sched_setattr
    SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_getpriority SYS_setpriority
    SYS_getrlimit SYS_setrlimit SYS_times SYS_sysinfo SYS_uname
    SYS_rt_sigpending SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_sigqueueinfo SYS_getitimer SYS_setitimer
    SYS_timer_create SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete
};

#[cfg(target_arch = "x86_64")]
const PROCESS_OLDER: &[Call] = calls! {
    SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_readlink SYS_getdents SYS_rename SYS_unlink SYS_mkdir
    SYS_rmdir SYS_link SYS_symlink SYS_chmod SYS_chown SYS_lchown SYS_dup2 SYS_pipe SYS_inotify_init
    SYS_select SYS_epoll_create SYS_eventfd SYS_signalfd SYS_fork SYS_vfork SYS_getpgrp SYS_pause SYS_alarm
    SYS_time SYS_arch_prctl
};
#[cfg(not(target_arch = "x86_64"))]
const PROCESS_OLDER: &[Call] = &[];

/// Everything the process may call.
pub(super) fn process_calls() -> Vec<Call> {
    [PROCESS, PROCESS_OLDER, SHARD, SHARD_OLDER, SHARD_IN_PART].concat()
}

/// Everything a shard may call once its ring is made.
fn shard_calls() -> Vec<Call> {
    [SHARD, SHARD_OLDER].concat()
}

/// Allows this thread, a shard of the process `process`, what a shard may call.
pub(super) fn restrict_shard(process: u32) -> Result<(), String> {
    let mut rules = any_arguments(&shard_calls());
    rules.extend(in_part(process).map_err(|error| error.to_string())?);
    apply(rules)
}

/// The calls of [`SHARD_IN_PART`], with what is allowed of them: of signals, that a thread of this process aborts it.
fn in_part(process: u32) -> Result<Rules, BackendError> {
    let is = |argument, value: u64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    };
    let fcntl = FCNTL_COMMANDS.map(|command| SeccompRule::new(vec![is(1, command as u64)?]));
    let abort = vec![is(0, process.into())?, is(2, libc::SIGABRT as u64)?];
    Ok(Rules::from([
        (libc::SYS_fcntl, fcntl.into_iter().collect::<Result<_, _>>()?),
        (libc::SYS_tgkill, vec![SeccompRule::new(abort)?]),
    ]))
}

/// What is allowed, by number: any arguments, or those of one of the rules.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn any_arguments(calls: &[Call]) -> Rules {
    calls.iter().map(|(_, number)| (*number, Vec::new())).collect()
}

/// Stands for the filter that allows these calls.
pub(super) fn fingerprint(calls: &[Call]) -> u64 {
    let mut numbers: Vec<i64> = calls.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    // FNV-1a: the same in every build, for a successor may be of another one.
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// Whether this process has a filter at all.
pub(super) fn is_in_force() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
}

/// Allows this thread, and those it will make, these calls only.
pub(super) fn restrict(calls: &[Call]) -> Result<(), String> {
    apply(any_arguments(calls))
}

fn apply(rules: Rules) -> Result<(), String> {
    let architecture = std::env::consts::ARCH.try_into();
    let architecture = architecture.map_err(|_| "no filter for this architecture".to_owned())?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::ENOSYS as u32),
        SeccompAction::Allow,
        architecture,
    );
    let program: BpfProgram =
        filter.and_then(TryInto::try_into).map_err(|error| error.to_string())?;
    apply_filter(&program).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn no_call_is_listed_twice() {
        let calls = process_calls();
        let different: BTreeSet<_> = calls.iter().collect();
        assert_eq!(different.len(), calls.len());
    }

    #[test]
    fn a_shard_cannot_leave_its_work() {
        let out_of_place = [
            "SYS_execve",
            "SYS_clone",
            "SYS_openat",
            "SYS_io_uring_setup",
            "SYS_io_uring_register",
            "SYS_kill",
            "SYS_unlinkat",
            "SYS_memfd_create",
            "SYS_tgkill",
            "SYS_fcntl",
        ];
        let calls = shard_calls();
        for name in out_of_place {
            assert!(calls.iter().all(|(call, _)| *call != name), "{name}");
        }
    }

    /// On a thread of its own, which is a shard from then on.
    #[test]
    fn of_some_calls_a_shard_has_what_it_needs_and_no_more() {
        let file = tempfile::tempfile().unwrap();
        let tried = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())?;
            restrict_shard(std::process::id())?;
            let copied = rustix::io::fcntl_dupfd_cloexec(&file, 0).is_ok();
            let flags = rustix::io::fcntl_getfd(&file).is_ok();
            let sealed = rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::SEAL);
            let locked = rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockShared);
            Ok::<_, String>((copied, flags, sealed.err(), locked.err()))
        });
        let missing = Some(rustix::io::Errno::NOSYS);
        assert_eq!(tried.join().unwrap(), Ok((true, true, missing, missing)));
    }

    #[test]
    fn a_shard_signals_nobody_else() {
        let rules = in_part(77).unwrap();
        let is = |argument, value| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
                .unwrap()
        };
        let abort = SeccompRule::new(vec![is(0, 77), is(2, libc::SIGABRT as u64)]).unwrap();
        assert_eq!(rules[&libc::SYS_tgkill], [abort]);
    }

    #[test]
    fn nobody_traces_mounts_or_loads_modules() {
        let never = [
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_keyctl,
            libc::SYS_mknodat,
            libc::SYS_userfaultfd,
            libc::SYS_open_by_handle_at,
            libc::SYS_clock_settime,
            libc::SYS_reboot,
            libc::SYS_pidfd_getfd,
        ];
        for (name, number) in process_calls() {
            assert!(!never.contains(&number), "{name}");
        }
    }

    /// The profile in `deploy/` is this list, in the form container runtimes read. Written anew with
    /// `UPDATE_PROFILE=1`.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_published_profile_is_the_list() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/seccomp/ringway.json");
        let mut names: Vec<_> =
            process_calls().iter().map(|(name, _)| &name["SYS_".len()..]).collect();
        names.sort_unstable();
        let profile = serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": libc::ENOSYS,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
        });
        let text = serde_json::to_string_pretty(&profile).unwrap() + "\n";
        if std::env::var_os("UPDATE_PROFILE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
