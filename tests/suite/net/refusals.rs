//! Bad input: every refusal names the value, the rule and the way out, and changes nothing.

use std::{
    fs::{self, File},
    io::Write as _,
    process::{Output, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use privatelink_tests::{
    cleanup::{Leftover, Undo},
    cli::Cli,
    programs::Directory,
    scenario::{ENDPOINT, NODE, Scenario, Service, program},
    topology::{CIDR, Hook},
};
use serde_json::Value;

use crate::{Run, Test, common::plans};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "refusals_of_the_command_line", needs: &[], run: Run::Once(command_line) },
        Test { name: "refusals_of_declared_files", needs: &[], run: Run::Once(declared_files) },
        Test { name: "interface_name_of_15_bytes", needs: &[], run: Run::Once(long_name) },
        Test { name: "agent_refuses_to_start", needs: &[], run: Run::Once(agent_start) },
        Test { name: "full_disk_changes_nothing", needs: &[], run: Run::Once(full_disk) },
    ]
};

/// The agent refused.
const REFUSED: i32 = 1;
/// The command line or a file is wrong.
const WRONG: i32 = 2;
/// The agent failed, or could not start.
const FAILED: i32 = 4;

/// A command line, its exit status, and what its error must say: value, rule and way out.
type Row = (&'static str, i32, &'static [&'static str]);

const ROWS: &[Row] = &[
    ("vpc create x --cidr 10.0.0.1/16", WRONG, &["10.0.0.1/16", "host bits", "10.0.0.0/16"]),
    ("vpc create x --cidr 10.0.0.0/33", WRONG, &["10.0.0.0/33"]),
    ("vpc create x --cidr lan", WRONG, &["lan", "slash", "10.0.0.0/16"]),
    ("vpc create --cidr 10.0.0.0/16 -- -x", WRONG, &["-x"]),
    ("vpc create a_b --cidr 10.0.0.0/16", WRONG, &["a_b"]),
    ("vpc create a-name-that-is-longer-than-the-32-bytes --cidr 10.0.0.0/16", WRONG, &["32"]),
    ("vpc create consumer-a --cidr 10.1.0.0/16", REFUSED, &["consumer-a", "different settings"]),
    ("vpc create x --cidr 10.0.0.0/16 --gateway 10.9.0.1", REFUSED, &["10.9.0.1", "10.0.0.0/16"]),
    ("vpc describe nowhere", REFUSED, &["nowhere", "does not exist"]),
    ("vpc delete provider", REFUSED, &["dependencies"]),
    ("port attach nosuch0 --vpc consumer-a", REFUSED, &["nosuch0", "does not exist", "ip link"]),
    ("port attach eth0 --vpc consumer-a", REFUSED, &["eth0", "namespace"]),
    ("port attach lo --vpc consumer-a", REFUSED, &["lo", "loopback"]),
    ("port attach tun0 --vpc consumer-a", REFUSED, &["tun0", "Ethernet"]),
    ("port attach bridge0 --vpc consumer-a --hook xdp", REFUSED, &["bridge0", "XDP", "--hook auto"]),
    ("port attach consumer-a --vpc consumer-a --hook fast", WRONG, &["fast", "auto, tc, xdp"]),
    ("port attach consumer-a --vpc consumer-b", REFUSED, &["consumer-a", "in use"]),
    ("port attach consumer-a --vpc nowhere", REFUSED, &["nowhere"]),
    ("port attach sixteen-bytes-16 --vpc consumer-a", WRONG, &["sixteen-bytes-16", "15"]),
    ("port detach nosuch0", REFUSED, &["nosuch0"]),
    ("target-group create x --vpc provider --protocol SCTP --port 80", WRONG, &["SCTP", "TCP"]),
    ("target-group create x --vpc provider --protocol TCP --port 0", WRONG, &["0", "1-65535"]),
    ("target-group create x --vpc provider --protocol TCP --port 65536", WRONG, &["65536", "65535"]),
    ("target-group create x --vpc nowhere --protocol TCP --port 80", REFUSED, &["nowhere"]),
    (
        "target-group create x --vpc provider --protocol TCP --port 80 --health-check-interval 4",
        REFUSED,
        &["4", "5-300"],
    ),
    (
        "target-group create x --vpc provider --protocol TCP --port 80 --health-check-timeout 1",
        REFUSED,
        &["1", "2-120"],
    ),
    (
        "target-group create x --vpc provider --protocol TCP --port 80 --health-check-interval 5 --health-check-timeout 6",
        REFUSED,
        &["6", "interval"],
    ),
    ("target-group create x --vpc provider --protocol TCP --port 80 --healthy-threshold 1", REFUSED, &["1", "2-10"]),
    (
        "target-group create x --vpc provider --protocol TCP --port 80 --unhealthy-threshold 11",
        REFUSED,
        &["11", "2-10"],
    ),
    (
        "target-group create x --vpc provider --protocol TCP --port 80 --health-check-protocol ICMP",
        WRONG,
        &["ICMP", "TCP, HTTP"],
    ),
    (
        "target-group create x --vpc provider --protocol TCP --port 80 --health-check-protocol HTTP --matcher 600",
        WRONG,
        &["600", "200-599"],
    ),
    (
        "target-group create x --vpc provider --protocol TCP --port 80 --health-check-protocol HTTP --health-check-path x",
        WRONG,
        &["x", "/health"],
    ),
    ("target-group create web --vpc provider --protocol TCP --port 81", REFUSED, &["web", "different settings"]),
    ("target-group modify web --attribute speed=9", REFUSED, &["speed", "deregistration_delay.timeout_seconds"]),
    (
        "target-group modify web --attribute deregistration_delay.timeout_seconds=3601",
        REFUSED,
        &["3601", "0-3600", "300"],
    ),
    ("target-group delete web", REFUSED, &["in use"]),
    ("target register web 10.0.1", WRONG, &["10.0.1", "10.0.1.10:8080"]),
    ("target register web 10.0.1.10:0", WRONG, &["10.0.1.10:0", "1-65535"]),
    ("target register web 10.0.0.5", REFUSED, &["10.0.0.5", "load balancer"]),
    ("target register web 8.8.8.8", REFUSED, &["8.8.8.8", "private"]),
    ("target register nosuch 10.0.1.10", REFUSED, &["nosuch"]),
    ("endpoint-service modify web --limit-connections 0", WRONG, &["0", "1-1000000000", "none"]),
    ("endpoint-service modify web --limit-connections default", WRONG, &["default", "1-1000000000"]),
    ("endpoint-service modify web --limit-connections-per-second 2M", WRONG, &["2M", "1-1000000"]),
    ("endpoint-service modify web --limit-bits-per-second 999", WRONG, &["999", "100M"]),
    (
        "connection limit web vpce-0123456789abcdef0 --connections 5",
        REFUSED,
        &["vpce-0123456789abcdef0", "does not exist"],
    ),
    ("connection limit nowhere vpce-0123456789abcdef0 --connections 5", REFUSED, &["nowhere"]),
    ("load-balancer create x --vpc provider --address 10.1.0.5", REFUSED, &["10.1.0.5", "10.0.0.0/16"]),
    ("load-balancer create x --vpc provider --address 10.0.0.5", REFUSED, &["10.0.0.5", "in use"]),
    ("load-balancer create x --vpc provider --address 10.0.255.255", REFUSED, &["10.0.255.255", "reserved"]),
    ("load-balancer create x --vpc provider --address 10.0.0.9 --address 10.0.0.9", REFUSED, &["10.0.0.9", "twice"]),
    ("load-balancer delete web", REFUSED, &["associated"]),
    ("listener create web --protocol TCP --port 80 --target-group other", REFUSED, &["already exists"]),
    ("listener create web --protocol TCP --port 81 --target-group nosuch", REFUSED, &["nosuch"]),
    ("listener create nosuch --protocol TCP --port 81 --target-group web", REFUSED, &["nosuch"]),
    ("listener create web --protocol TCP --port 81 --target-group elsewhere", REFUSED, &["VPC"]),
    ("listener modify web:80 --attribute tcp.idle_timeout.seconds=59", REFUSED, &["59", "60-6000", "350"]),
    ("listener delete web:99", REFUSED, &["web:99"]),
    ("endpoint-service create --load-balancer web --name again", REFUSED, &["already associated"]),
    ("endpoint-service create --load-balancer nosuch", REFUSED, &["nosuch"]),
    ("endpoint-service delete web", REFUSED, &["active"]),
    ("endpoint create --service-name nosuch --vpc consumer-b", REFUSED, &["nosuch"]),
    ("endpoint create --service-name web --vpc nowhere", REFUSED, &["nowhere"]),
    ("endpoint create --service-name web --vpc provider --address 10.0.0.5", REFUSED, &["10.0.0.5", "in use"]),
    (
        "endpoint create --service-name web --vpc consumer-b --address 192.168.0.1",
        REFUSED,
        &["192.168.0.1", "10.0.0.0/16"],
    ),
    ("endpoint create --service-name web --vpc consumer-b --address 10.0.0.0", REFUSED, &["10.0.0.0", "reserved"]),
    ("endpoint delete vpce-0123456789abcdef0", REFUSED, &["vpce-0123456789abcdef0", "does not exist"]),
    ("flow list --vpc nowhere", REFUSED, &["nowhere"]),
    ("apply -f /nonexistent/file.toml", WRONG, &["/nonexistent/file.toml"]),
    ("vpc", WRONG, &["Usage"]),
    ("endpoints list", WRONG, &["endpoints"]),
];

/// Two consumers, a provider with the service `web`, and resources for the conflicts above.
fn with_resources(test: impl FnOnce(&mut Scenario) -> Result<()>) -> Result<()> {
    Scenario::run(&program()?, Hook::Tc, plans(1), |scenario| {
        let target = scenario.topology.host("server-1").address();
        let service = scenario.publish(&Service::new("web", "provider", vec![target]))?;
        scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
        scenario.cli.run("target-group create other --vpc provider --protocol TCP --port 81")?;
        scenario.cli.run("target-group create elsewhere --vpc consumer-a --protocol TCP --port 81")?;
        test(scenario)
    })
}

/// Every resource, without what changes by itself.
fn resources(cli: &Cli) -> Result<Vec<Value>> {
    ["vpc", "port", "target-group", "load-balancer", "listener", "endpoint-service", "endpoint"]
        .iter()
        .map(|noun| cli.run(&format!("{noun} list")))
        .collect()
}

/// Checks one refusal.
fn check(cli: &Cli, words: &[&str], status: i32, needles: &[&str]) -> Result<()> {
    let Output { status: ended, stdout, stderr } = cli.raw(words)?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(ended.code() == Some(status), "{ended} instead of {status}: {said}{}", String::from_utf8_lossy(&stdout));
    if status == REFUSED {
        let error: Value = serde_json::from_str(&said).with_context(|| format!("no JSON: {said}"))?;
        for member in ["code", "message", "hint"] {
            let text = error[member].as_str().unwrap_or_default();
            ensure!(!text.is_empty(), "the error has no {member}: {said}");
        }
    }
    for needle in needles {
        ensure!(said.contains(needle), "the error does not say “{needle}”: {said}");
    }
    Ok(())
}

/// Collects failures, so that one run tells all of them.
fn all(results: impl Iterator<Item = (String, Result<()>)>) -> Result<()> {
    let failed: Vec<String> =
        results.filter_map(|(what, result)| Some(format!("`{what}`: {:#}", result.err()?))).collect();
    ensure!(failed.is_empty(), "{} refusals are not as they should be:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

fn command_line() -> Result<()> {
    with_resources(|scenario| {
        let lb = &scenario.topology.lb;
        lb.ip(&["link", "add", "bridge0", "type", "bridge"])?;
        lb.ip(&["tuntap", "add", "dev", "tun0", "mode", "tun"])?;
        let before = resources(&scenario.cli)?;
        all(ROWS.iter().map(|(line, status, needles)| {
            let words: Vec<&str> = line.split_whitespace().collect();
            ((*line).to_owned(), check(&scenario.cli, &words, *status, needles))
        }))?;
        ensure!(resources(&scenario.cli)? == before, "a refused command changed something");
        let status =
            Cli::new(scenario.cli.program(), lb, std::path::Path::new("/nonexistent/socket")).raw(&["vpc", "list"])?;
        ensure!(status.status.code() == Some(3), "without an agent: {}", status.status);
        Ok(())
    })
}

fn declared_files() -> Result<()> {
    const FILES: &[(&str, i32, &[&str])] = &[
        ("[[vpc]]\nname = \"x\"\n", WRONG, &["cidr"]),
        ("[[vpc]]\nname = \"x\"\ncidr = \"10.0.0.0/16\"\ncolour = \"red\"\n", WRONG, &["colour"]),
        ("[[vpc]]\nname = \"x\"\ncidr = \"10.0.0.1/16\"\n", WRONG, &["10.0.0.1/16", "10.0.0.0/16"]),
        ("[[vpcs]]\nname = \"x\"\n", WRONG, &["vpcs"]),
        ("[[vpc]\n", WRONG, &["line 1"]),
        ("[[port]]\ninterface = \"a-name-of-16-byt\"\nvpc = \"provider\"\n", WRONG, &["a-name-of-16-byt", "15"]),
        ("[[port]]\ninterface = \"nosuch0\"\nvpc = \"provider\"\n", REFUSED, &["nosuch0"]),
        ("[[port]]\ninterface = \"provider\"\nvpc = \"provider\"\nhook = \"fast\"\n", WRONG, &["fast", "auto"]),
        ("[[target-group]]\nname = \"y\"\nvpc = \"provider\"\nport = \"http\"\n", WRONG, &["port"]),
        ("[[target-group]]\nname = \"y\"\nvpc = \"provider\"\nport = 0\n", WRONG, &["0", "1-65535"]),
        (
            "[[target-group]]\nname = \"y\"\nvpc = \"provider\"\nport = 1\nhealth-check = { interval = 1 }\n",
            REFUSED,
            &["1", "5-300"],
        ),
        (
            "[[target-group]]\nname = \"y\"\nvpc = \"provider\"\nport = 1\ntargets = [\"ten\"]\n",
            REFUSED,
            &["ten", "IP:PORT"],
        ),
        (
            "[[target-group]]\nname = \"y\"\nvpc = \"provider\"\nport = 1\nattributes = { \"speed\" = 9 }\n",
            REFUSED,
            &["speed"],
        ),
        ("[[load-balancer]]\nname = \"y\"\nvpc = \"provider\"\naddresses = [\"10.9.0.1\"]\n", REFUSED, &["10.9.0.1"]),
        (
            "[[load-balancer]]\nname = \"y\"\nvpc = \"provider\"\naddresses = [\"10.0.0.9\"]\n\
             [[load-balancer.listener]]\nport = 80\ntarget-group = \"nosuch\"\n",
            REFUSED,
            &["nosuch"],
        ),
        ("[[endpoint]]\nservice-name = \"nosuch\"\nvpc = \"consumer-b\"\n", REFUSED, &["nosuch"]),
        ("[[endpoint]]\nservice-name = \"web\"\nvpc = \"consumer-b\"\naddress = \"1.2.3\"\n", WRONG, &["1.2.3"]),
        (
            "[[vpc]]\nname = \"z\"\ncidr = \"10.0.0.0/16\"\n[[vpc]]\nname = \"z\"\ncidr = \"10.0.0.0/16\"\n",
            REFUSED,
            &["z", "twice"],
        ),
        // The first resource alone would be accepted: the file is refused whole.
        (
            "[[vpc]]\nname = \"fine\"\ncidr = \"10.0.0.0/16\"\n[[port]]\ninterface = \"lo\"\nvpc = \"fine\"\n",
            REFUSED,
            &["lo", "loopback"],
        ),
    ];
    with_resources(|scenario| {
        let dir = Directory::new("toml")?;
        let path = dir.path().join("file.toml");
        let before = resources(&scenario.cli)?;
        all(FILES.iter().map(|(text, status, needles)| {
            let check = || {
                fs::write(&path, text).context("the file")?;
                let name = path.to_str().context("the file's name")?;
                check(&scenario.cli, &["apply", "-f", name], *status, needles)
            };
            ((*text).to_owned(), check())
        }))?;
        ensure!(resources(&scenario.cli)? == before, "a refused file changed something");
        Ok(())
    })
}

/// The longest name that the kernel allows, and the agent's own names beside it.
fn long_name() -> Result<()> {
    with_resources(|scenario| {
        let name = "fifteen-bytes15";
        scenario.topology.lb.ip(&["link", "add", name, "type", "veth", "peer", "name", "fifteen-bytes16"])?;
        scenario.cli.run(&format!("port attach {name} --vpc consumer-b"))?;
        let ports = scenario.cli.run("port list")?.to_string();
        ensure!(ports.contains(name), "{ports}");
        scenario.cli.run(&format!("port detach {name}"))?;
        Ok(())
    })
}

/// A second agent on the same state directory, a corrupt state file, no capabilities.
fn agent_start() -> Result<()> {
    with_resources(|scenario| {
        let dir = Directory::new("start")?;
        let start = |state: &std::path::Path, unprivileged: bool| {
            let mut command = scenario.topology.lb.command(scenario.cli.program());
            command.arg("--socket").arg(dir.path().join("socket")).args(["-o", "json", "agent", "--state-dir"]);
            command.arg(state).arg("--bpffs").arg(dir.path().join("bpf")).stdin(Stdio::null());
            if unprivileged {
                use std::os::unix::process::CommandExt as _;
                // SAFETY: between fork and exec the closure makes system calls only.
                unsafe { command.pre_exec(drop_capabilities) };
            }
            // It has to end by itself.
            let mut child =
                command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("starting an agent")?;
            let ended =
                privatelink_tests::eventually::eventually("the agent ends", std::time::Duration::from_secs(10), || {
                    child.try_wait()?.context("it still runs")
                });
            if ended.is_err() {
                child.kill()?;
            }
            let Output { status, stderr, .. } = child.wait_with_output()?;
            ended?;
            Ok::<_, anyhow::Error>((status, String::from_utf8_lossy(&stderr).into_owned()))
        };
        let expect = |what: &str, (status, said): (std::process::ExitStatus, String), needles: &[&str]| {
            ensure!(status.code() == Some(FAILED), "{what}: {status}: {said}");
            for needle in needles {
                ensure!(said.contains(needle), "{what}: the error does not say “{needle}”: {said}");
            }
            Ok(())
        };
        let state = scenario.agent.state_dir();
        let name = state.to_str().context("the directory's name")?;
        let pid = scenario.agent.pid().context("the agent runs")?.to_string();
        expect("a second agent", start(&state, false)?, &[name, "used by another agent", &pid, "--state-dir"])?;

        let broken = dir.path().join("broken");
        fs::create_dir(&broken).context("a directory")?;
        for entry in fs::read_dir(&state).context("the state directory")?.flatten() {
            let mut content = fs::read(entry.path()).unwrap_or_default();
            if content.len() > 4096 {
                content.iter_mut().for_each(|byte| *byte ^= 0x5a);
                fs::write(broken.join(entry.file_name()), content).context("a corrupt file")?;
            }
        }
        expect("a corrupt state file", start(&broken, false)?, &["corrupt", "move it away", "privatelink apply"])?;

        fs::create_dir(dir.path().join("fresh")).context("a directory")?;
        expect("no capabilities", start(&dir.path().join("fresh"), true)?, &["CAP_"])?;
        ensure!(!dir.path().join("bpf").exists(), "an agent that did not start left a BPF file system");
        scenario.cli.run("vpc list").context("the first agent still answers")?;
        Ok(())
    })
}

/// Takes every capability that BPF and network settings need out of what an exec can give.
fn drop_capabilities() -> std::io::Result<()> {
    // linux/capability.h
    const NET_ADMIN: libc::c_ulong = 12;
    const SYS_ADMIN: libc::c_ulong = 21;
    const BPF: libc::c_ulong = 39;
    for capability in [NET_ADMIN, SYS_ADMIN, BPF] {
        // SAFETY: the call takes integers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A command that cannot be stored is refused as a whole, and works once there is room again.
fn full_disk() -> Result<()> {
    let dir = Directory::new("disk")?;
    let disk = dir.path().join("small");
    fs::create_dir(&disk).context("a directory")?;
    mount(Some("small"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=8m")).context("a small file system")?;
    let _mounted = Undo::register(Leftover::Mount(disk.clone()));
    let topology = privatelink_tests::topology::Topology::build(Hook::Tc, plans(1), None)?;
    let agent = privatelink_tests::daemon::Agent::start_with_state(&program()?, &topology.lb, disk.join("state"))?;
    let scenario = Scenario::configure(topology, agent)?;
    let mut filler = File::create(disk.join("filler")).context("a file")?;
    let full = loop {
        match filler.write_all(&[0; 4096]) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    ensure!(full.kind() == std::io::ErrorKind::StorageFull, "filling the disk ended with {full}");
    // The store may have room inside its file for a while; a few hundred resources fill that.
    let mut refused = None;
    for number in 0..4000 {
        let words = format!("vpc create x{number} --cidr {CIDR}");
        let output = scenario.cli.raw(&words.split_whitespace().collect::<Vec<_>>())?;
        if !output.status.success() {
            refused = Some((number, output));
            break;
        }
    }
    let Some((number, output)) = refused else { bail!("4000 resources fit into a full disk") };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(FAILED), "{}: {said}", output.status);
    ensure!(said.contains("no space is left") && said.contains("free some space"), "{said}");
    let vpcs = scenario.cli.run("vpc list")?.to_string();
    ensure!(!vpcs.contains(&format!("\"x{number}\"")), "the refused VPC is there");
    drop(filler);
    fs::remove_file(disk.join("filler")).context("making room")?;
    scenario.cli.run(&format!("vpc create x{number} --cidr {CIDR}")).context("with room again")?;
    Ok(())
}

/// The rows above write these addresses out.
const _: () = {
    assert!(matches!(ENDPOINT.octets(), [10, 0, 0, 50]));
    assert!(matches!(NODE.octets(), [10, 0, 0, 5]));
};
