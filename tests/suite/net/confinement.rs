//! What the agent may do to its host, and what it tells who watches it.

use std::{
    fs,
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    inject::Injected,
    programs::{Directory, Running},
    require::Need,
    scenario::program,
    topology::Hook,
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};
use privatelink_user::tls::relay::wire;

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, server, target, with_web},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "agent_keeps_few_capabilities", needs: &[], run: Run::EachHook(capabilities) },
        Test {
            name: "agent_is_refused_all_but_its_own_files_and_calls",
            needs: &[Need::Landlock],
            run: Run::Once(agent_refused),
        },
        Test {
            name: "relay_is_refused_all_but_its_own_files_and_calls",
            needs: &[Need::Landlock],
            run: Run::Once(relay_refused),
        },
        Test { name: "systemd_takes_the_unit", needs: &[Need::Program("systemd-analyze")], run: Run::Once(unit) },
        Test { name: "service_manager_is_told", needs: &[], run: Run::Once(told) },
    ]
};

/// `CAP_NET_BIND_SERVICE`, `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_PERFMON`, `CAP_BPF` (linux/capability.h).
const KEPT: u64 = 1 << 10 | 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;

/// Every thread of the agent has the capabilities of [`KEPT`] and no way to more, and forwards.
fn capabilities(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let pid = scenario.agent.pid().context("no agent")?;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("its threads")?;
        let mut threads = 0;
        for task in tasks {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let field = |name: &str| {
                let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":"));
                value.map(str::trim).with_context(|| format!("no {name} in {status}"))
            };
            for set in ["CapEff", "CapPrm", "CapBnd"] {
                let found = u64::from_str_radix(field(set)?, 16)?;
                ensure!(found == KEPT, "{set} of thread {}: {found:x}", field("Name")?);
            }
            ensure!(field("NoNewPrivs")? == "1", "a program that it runs could gain privileges");
            threads += 1;
        }
        ensure!(threads > 1, "only {threads} threads");
        // A port that is attached later.
        scenario.cli.run("port detach consumer-a")?;
        scenario.cli.run(&format!("port attach consumer-a --vpc consumer-a --hook {}", hook.name()))?;
        let client = scenario.topology.host("client-a");
        eventually("the port works again", PATIENCE, || {
            let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
            stream::echo(&mut stream, b"hello").map(drop)
        })
    })
}

/// `EPERM` and `EACCES` as system calls return them.
const NOT_PERMITTED: i64 = -(libc::EPERM as i64);
const NO_ACCESS: i64 = -(libc::EACCES as i64);

/// What opening a file returns to a process; the file is closed again.
fn open(process: &mut Injected, file: &Path, flags: i32) -> Result<i64> {
    let path = process.text(file.to_str().context("a path that is no text")?)?;
    let opened = process.call(libc::SYS_openat, [libc::AT_FDCWD as u64, path, flags as u64, 0, 0, 0])?;
    if opened >= 0 {
        process.call(libc::SYS_close, [opened as u64, 0, 0, 0, 0, 0])?;
    }
    Ok(opened)
}

fn refused(process: &mut Injected, what: &str, number: i64, arguments: [u64; 6]) -> Result<()> {
    let returned = process.call(number, arguments)?;
    ensure!(returned == NOT_PERMITTED, "{what} returned {returned}");
    Ok(())
}

/// What neither process may call, whoever it is: each of these succeeds, or finds fault with its arguments, where
/// nobody forbids it.
fn refuses_calls(process: &mut Injected) -> Result<()> {
    refused(process, "unshare(0)", libc::SYS_unshare, [0; 6])?;
    refused(process, "personality", libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0])?;
    refused(process, "io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0])?;
    refused(process, "keyctl", libc::SYS_keyctl, [0, -3_i64 as u64, 0, 0, 0, 0])?;
    refused(process, "memfd_create", libc::SYS_memfd_create, [0; 6])?;
    // A file that runs as its owner, or that others read; and a file that there is not.
    for mode in [0o4700, 0o644] {
        refused(process, "fchmod", libc::SYS_fchmod, [u64::MAX, mode, 0, 0, 0, 0])?;
    }
    let private = process.call(libc::SYS_fchmod, [u64::MAX, 0o600, 0, 0, 0, 0])?;
    ensure!(private == -i64::from(libc::EBADF), "fchmod of no file returned {private}");
    let limits = [std::process::id().into(), libc::RLIMIT_CPU.into(), 0, 0, 0, 0];
    refused(process, "limits of another process", libc::SYS_prlimit64, limits)?;
    refused(
        process,
        "socket(AF_ALG)",
        libc::SYS_socket,
        [libc::AF_ALG as u64, libc::SOCK_SEQPACKET as u64, 0, 0, 0, 0],
    )?;
    let (run, write) = (libc::PROT_READ | libc::PROT_EXEC, libc::PROT_READ | libc::PROT_WRITE);
    let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let map = |protection: i32| [0, 4_096, protection as u64, private, u64::MAX, 0];
    refused(process, "memory that is written and run", libc::SYS_mmap, map(run | write))?;
    let mapped = process.call(libc::SYS_mmap, map(write))?;
    ensure!(mapped > 0, "memory that is written: {mapped}");
    refused(process, "running it", libc::SYS_mprotect, [mapped as u64, 4_096, run as u64, 0, 0, 0])?;
    process.call(libc::SYS_munmap, [mapped as u64, 4_096, 0, 0, 0, 0])?;
    let clone3 = process.call(libc::SYS_clone3, [0; 6])?;
    ensure!(clone3 == -i64::from(libc::ENOSYS), "clone3 returned {clone3}");
    let own = process.call(libc::SYS_getpid, [0; 6])?;
    ensure!(own == i64::from(process.pid()), "its own number is {own}");
    // Whose user is the same, hence no matter of capabilities.
    let kill = [std::process::id().into(), 0, 0, 0, 0, 0];
    refused(process, "a signal to another process", libc::SYS_kill, kill)
}

/// The agent's process itself is made to try: files outside, settings of the host, forbidden calls. It forwards before
/// and after.
fn agent_refused() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let dir = Directory::new("outside")?;
        let outside = dir.path().join("file");
        fs::write(&outside, "not the agent's").context("a file")?;
        let pid = scenario.agent.pid().context("no agent")?;
        {
            let process = &mut Injected::stop(pid)?;
            let state = open(process, &scenario.agent.state_dir().join("state.redb"), libc::O_RDWR)?;
            ensure!(state >= 0, "its own state: {state}");
            for (file, flags) in [
                (outside.as_path(), libc::O_RDONLY),
                (outside.as_path(), libc::O_WRONLY),
                (Path::new("/etc/passwd"), libc::O_RDONLY),
                (Path::new("/proc/sys/kernel/core_pattern"), libc::O_WRONLY),
                (Path::new("/dev/zero"), libc::O_RDONLY),
            ] {
                let opened = open(process, file, flags)?;
                ensure!(opened == NO_ACCESS, "opening {} returned {opened}", file.display());
            }
            let shell = process.text("/bin/sh")?;
            let run = process.call(libc::SYS_execve, [shell, 0, 0, 0, 0, 0])?;
            ensure!(run == NO_ACCESS, "a shell: {run}");
            refuses_calls(process)?;
        }
        let client = scenario.topology.host("client-a");
        let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut stream, b"hello")?;
        scenario.cli.run("vpc create another --cidr 10.9.0.0/16").map(drop)
    })
}

/// The same of the relay, which has no capability, and may not even read the state of the agent whose directory it
/// shares.
fn relay_refused() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let state = scenario.agent.state_dir();
        let dir = Directory::new("relay")?;
        let mut command = Command::new(scenario.cli.program());
        // In nobody's namespace: it serves nothing.
        command.args(["relay", "--state-dir"]).arg(dir.path()).args(["--access-log"]).arg(state.join("log/access"));
        let mut relay = Running::start(&mut command)?;
        let pid = relay.child().id();
        let status = eventually("the relay listens", PATIENCE, || {
            UnixStream::connect(wire::socket(dir.path())).context("its socket")?;
            fs::read_to_string(format!("/proc/{pid}/status")).context("its status")
        })?;
        for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
            ensure!(status.contains(&format!("{set}:\t0000000000000000\n")), "{set} of {status}");
        }
        let secret = dir.path().join("state.redb");
        fs::write(&secret, "the agent's").context("a file")?;
        let process = &mut Injected::stop(pid)?;
        for (file, flags) in [
            (secret.as_path(), libc::O_RDONLY),
            (Path::new("/etc/passwd"), libc::O_RDONLY),
            (Path::new("/proc/sys/kernel/core_pattern"), libc::O_WRONLY),
        ] {
            let opened = open(process, file, flags)?;
            ensure!(opened == NO_ACCESS, "opening {} returned {opened}", file.display());
        }
        let made = open(process, &dir.path().join("new"), libc::O_WRONLY | libc::O_CREAT)?;
        ensure!(made == NO_ACCESS, "making a file returned {made}");
        let path = process.text(secret.to_str().context("a path that is no text")?)?;
        let removed = process.call(libc::SYS_unlink, [path, 0, 0, 0, 0, 0])?;
        ensure!(removed == NO_ACCESS && secret.exists(), "removing the agent's file returned {removed}");
        refuses_calls(process)?;
        refused(process, "bpf", libc::SYS_bpf, [0; 6])?;
        refused(process, "execve", libc::SYS_execve, [0; 6])?;
        refused(
            process,
            "socket(AF_NETLINK)",
            libc::SYS_socket,
            [libc::AF_NETLINK as u64, libc::SOCK_RAW as u64, 0, 0, 0, 0],
        )?;
        let socket = process.call(libc::SYS_socket, [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0])?;
        ensure!(socket >= 0, "a socket of its own kind: {socket}");
        Ok(())
    })
}

/// systemd understands every setting of the unit, whatever the agent's arguments need quoted, and complains of none.
fn unit() -> Result<()> {
    let dir = Directory::new("unit")?;
    let file = dir.path().join("privatelink.service");
    let named = ["--state-dir", "/srv/100 % \"ours\"", "--access-log", "/var/log/$HOME/access log"];
    for arguments in [&[][..], &named] {
        let printed = Command::new(program()?).arg("systemd-unit").args(arguments).output().context("the unit")?;
        ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        fs::write(&file, &printed.stdout).context("the unit's file")?;
        let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output();
        let Output { status, stdout, stderr } = verified.context("systemd-analyze")?;
        let said = [stdout, stderr].concat();
        ensure!(status.success() && said.is_empty(), "{status}: {}", String::from_utf8_lossy(&said));
    }
    Ok(())
}

/// `READY=1` when requests are answered, `WATCHDOG=1` again and again, `STOPPING=1` at the end (sd_notify(3)).
fn told() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        let dir = Directory::new("notify")?;
        let path = dir.path().join("socket");
        let manager = UnixDatagram::bind(&path).context("the manager's socket")?;
        manager.set_read_timeout(Some(Duration::from_secs(10)))?;
        let next = || {
            let mut message = [0; 256];
            let length = manager.recv(&mut message).context("no message of the agent")?;
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(&message[..length]).trim().to_owned())
        };
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
        scenario.agent.set_environment("NOTIFY_SOCKET", &path);
        scenario.agent.set_environment("WATCHDOG_USEC", "600000");
        scenario.agent.start_again()?;
        let first = next()?;
        ensure!(first == "READY=1", "first '{first}'");
        for _ in 0..3 {
            let alive = next()?;
            ensure!(alive == "WATCHDOG=1", "then '{alive}'");
        }
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
        while next().context("before STOPPING=1")? != "STOPPING=1" {}
        Ok(())
    })
}
