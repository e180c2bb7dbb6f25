//! System calls, by seccomp (seccomp(2)): a process makes those of its table, and all others end in `EPERM`.
//!
//! The tables say what a program of this kind does. What is in none of them changes a host or looks into other
//! processes: mounts, namespaces, kernel modules, clocks, tracing, keys, io_uring, memory of others.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::ConfineError;

/// A system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    constant: &'static str,
    number: i64,
}

impl Call {
    /// As strace(1) and systemd.exec(5) have it.
    pub fn name(&self) -> &'static str {
        self.constant.trim_start_matches("SYS_")
    }
}

macro_rules! calls {
    ($($(#[$doc:meta])* $table:ident: $($name:ident)+;)+) => {
        $($(#[$doc])* const $table: &[Call] = &[$(Call { constant: stringify!($name), number: libc::$name }),+];)+
    };
}

calls! {
    /// Memory and threads.
    THREADS: SYS_brk SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_membarrier SYS_clone SYS_clone3 SYS_futex
        SYS_set_robust_list SYS_get_robust_list SYS_set_tid_address SYS_rseq SYS_sched_yield SYS_sched_getaffinity SYS_gettid
        SYS_exit SYS_exit_group SYS_arch_prctl SYS_getcpu;
    /// Time, and signals.
    TIME: SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday SYS_time SYS_timerfd_create
        SYS_timerfd_settime SYS_timerfd_gettime SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending
        SYS_rt_sigtimedwait SYS_rt_sigsuspend SYS_sigaltstack SYS_kill SYS_tgkill SYS_tkill SYS_pause SYS_restart_syscall
        SYS_signalfd4;
    /// Files that are open.
    OPEN_FILES: SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2
        SYS_close SYS_close_range SYS_lseek SYS_fstat SYS_fstatfs SYS_fcntl SYS_dup SYS_dup2 SYS_dup3 SYS_pipe SYS_pipe2 SYS_ioctl
        SYS_flock SYS_ftruncate SYS_fallocate SYS_fsync SYS_fdatasync SYS_fadvise64 SYS_sendfile SYS_splice SYS_copy_file_range;
    /// Files by their paths.
    PATHS: SYS_open SYS_openat SYS_openat2 SYS_creat SYS_stat SYS_lstat SYS_newfstatat SYS_statx SYS_statfs SYS_access SYS_faccessat
        SYS_faccessat2 SYS_readlink SYS_readlinkat SYS_getdents64 SYS_getcwd SYS_chdir SYS_fchdir SYS_rename SYS_renameat
        SYS_renameat2 SYS_link SYS_linkat SYS_symlink SYS_symlinkat SYS_unlink SYS_unlinkat SYS_mkdir SYS_mkdirat SYS_rmdir
        SYS_chmod SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_umask SYS_truncate SYS_utimensat;
    /// Sockets, and waiting for what comes.
    SOCKETS: SYS_socket SYS_socketpair SYS_bind SYS_connect SYS_listen SYS_accept SYS_accept4 SYS_getsockname SYS_getpeername
        SYS_getsockopt SYS_setsockopt SYS_shutdown SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg
        SYS_poll SYS_ppoll SYS_select SYS_pselect6 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_wait SYS_epoll_pwait
        SYS_epoll_pwait2 SYS_eventfd2;
    /// What a process is, and may have; and giving more of it up.
    PROCESS: SYS_getpid SYS_getppid SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid SYS_getgroups
        SYS_getpgrp SYS_getpgid SYS_getsid SYS_setsid SYS_setpgid SYS_uname SYS_getrandom SYS_getrlimit SYS_setrlimit SYS_prlimit64
        SYS_getrusage SYS_sysinfo SYS_times SYS_capget SYS_capset SYS_prctl SYS_seccomp SYS_landlock_create_ruleset
        SYS_landlock_add_rule SYS_landlock_restrict_self;
    /// Other programs: the relay, and those of notifications with what shells and interpreters do.
    PROGRAMS: SYS_execve SYS_vfork SYS_fork SYS_wait4 SYS_waitid SYS_pidfd_open SYS_pidfd_send_signal SYS_epoll_create SYS_eventfd
        SYS_getdents SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_mknod SYS_mknodat SYS_alarm
        SYS_setitimer SYS_getitimer SYS_getpriority SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch SYS_sync SYS_syncfs
        SYS_mincore SYS_msync SYS_sched_getparam SYS_sched_getscheduler SYS_tee SYS_chown SYS_fchown SYS_lchown
        SYS_fchownat;
    /// Programs and tables of the datapath.
    BPF: SYS_bpf;
}

macro_rules! families {
    ($($name:ident)+) => { &[$((stringify!($name), libc::$name)),+] };
}

/// Who makes system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The agent, and the programs that it runs.
    Agent,
    Relay,
}

impl Caller {
    fn tables(self) -> &'static [&'static [Call]] {
        match self {
            Self::Agent => &[THREADS, TIME, OPEN_FILES, PATHS, SOCKETS, PROCESS, PROGRAMS, BPF],
            Self::Relay => &[THREADS, TIME, OPEN_FILES, PATHS, SOCKETS, PROCESS],
        }
    }

    /// The kinds of sockets that it makes, with their names.
    pub fn families(self) -> &'static [(&'static str, i32)] {
        match self {
            Self::Agent => families![AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET],
            Self::Relay => families![AF_UNIX AF_INET AF_INET6],
        }
    }

    /// What it may call, some with some arguments only.
    pub fn calls(self) -> impl Iterator<Item = &'static Call> {
        self.tables().iter().copied().flatten()
    }
}

/// What makes a namespace (clone(2)).
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// All of a file's mode (inode(7)) but what its owner may do.
const NOT_PRIVATE: i32 = 0o7077;

/// `argument` of a call has, of the bits of `mask`, those of `value`.
fn bits(argument: u8, mask: i32, value: i32) -> Result<SeccompRule, BackendError> {
    rule(argument, SeccompCmpOp::MaskedEq(mask as u32 as u64), value)
}

fn rule(argument: u8, operator: SeccompCmpOp, value: i32) -> Result<SeccompRule, BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value as u32 as u64)?;
    SeccompRule::new(vec![condition])
}

/// The rules of which one must hold for `call`; without any it is always allowed.
fn conditions(caller: Caller, call: &Call) -> Result<Vec<SeccompRule>, BackendError> {
    match call.number {
        libc::SYS_socket => caller.families().iter().map(|(_, family)| rule(0, SeccompCmpOp::Eq, *family)).collect(),
        libc::SYS_socketpair => Ok(vec![rule(0, SeccompCmpOp::Eq, libc::AF_UNIX)?]),
        libc::SYS_clone => Ok(vec![bits(0, NAMESPACES, 0)?]),
        // Memory is written or run, never both.
        libc::SYS_mmap => [0, libc::PROT_WRITE, libc::PROT_EXEC]
            .into_iter()
            .map(|allowed| bits(2, libc::PROT_WRITE | libc::PROT_EXEC, allowed))
            .collect(),
        libc::SYS_mprotect => Ok(vec![bits(2, libc::PROT_EXEC, 0)?]),
        // What is made belongs to its owner alone, and is run by nobody in another's name: Landlock knows no modes, and
        // who is the superuser without a capability owns his files still.
        libc::SYS_chmod | libc::SYS_fchmod => Ok(vec![bits(1, NOT_PRIVATE, 0)?]),
        libc::SYS_fchmodat | libc::SYS_fchmodat2 => Ok(vec![bits(2, NOT_PRIVATE, 0)?]),
        // One's own limits: those of another process of the same user could end it.
        libc::SYS_prlimit64 => Ok(vec![rule(0, SeccompCmpOp::Eq, 0)?]),
        // Typing into the terminal that one was started from (ioctl_tty(2)).
        libc::SYS_ioctl => Ok(vec![rule(1, SeccompCmpOp::Ne, libc::TIOCSTI as i32)?]),
        _ => Ok(Vec::new()),
    }
}

/// The two filters of `caller`, of which both must let a call through.
fn filters(caller: Caller) -> Result<[BpfProgram; 2], BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = |rules, otherwise, matched| -> Result<BpfProgram, BackendError> {
        SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()
    };
    // Its flags are in memory, where no filter looks; libraries that find it missing take clone(2).
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let missing = filter(clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?;
    let rules = caller.calls().map(|call| Ok((call.number, conditions(caller, call)?)));
    let rules = rules.collect::<Result<BTreeMap<_, _>, BackendError>>()?;
    Ok([missing, filter(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?])
}

/// Refuses all system calls but those of `caller` to this thread, the threads that it starts and the programs that they
/// run, for good.
///
/// # Errors
///
/// [`ConfineError`] if the kernel has no filters of system calls.
pub fn restrict(caller: Caller) -> Result<(), ConfineError> {
    for filter in filters(caller)? {
        seccompiler::apply_filter(&filter)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_table_has_what_changes_a_host() {
        let forbidden = [
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "setns",
            "unshare",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "kexec_load",
            "init_module",
            "finit_module",
            "delete_module",
            "reboot",
            "swapon",
            "settimeofday",
            "clock_settime",
            "adjtimex",
            "sethostname",
            "keyctl",
            "add_key",
            "userfaultfd",
            "io_uring_setup",
            "perf_event_open",
            "iopl",
            "personality",
            "open_by_handle_at",
            "setuid",
            "setgid",
            "memfd_create",
        ];
        for caller in [Caller::Agent, Caller::Relay] {
            let names: BTreeSet<&str> = caller.calls().map(Call::name).collect();
            assert_eq!(names.len(), caller.calls().count(), "{caller:?} has a call twice");
            for name in forbidden {
                assert!(!names.contains(name), "{caller:?}: {name}");
            }
            assert!(filters(caller).is_ok_and(|[missing, allowed]| !missing.is_empty() && !allowed.is_empty()));
        }
        let relay: BTreeSet<&str> = Caller::Relay.calls().map(Call::name).collect();
        for name in ["bpf", "execve", "fork", "vfork"] {
            assert!(!relay.contains(name), "{name}");
        }
    }
}
