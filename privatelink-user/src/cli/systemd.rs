//! systemd: the unit that runs the agent, and what the agent tells its service manager.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::{Cli, CliError, Command, DEFAULT_SOCKET};
use crate::{
    confine::{calls::Caller, capabilities, files},
    model::{AccountId, Region},
    runtime::Runtime,
};

#[derive(Debug, Args)]
pub struct UnitArgs {
    /// Arguments of `privatelink agent`, such as --metrics 127.0.0.1:9420. The unit lets the agent write where they
    /// say.
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl UnitArgs {
    /// Prints the unit of an agent that listens on `socket` for requests of `account` in `region`.
    pub fn run(self, socket: &Path, account: Option<&AccountId>, region: Option<&Region>) -> Result<(), CliError> {
        let program = std::env::current_exe().map_err(CliError::Runtime)?;
        let account = account.into_iter().flat_map(|account| ["--account".to_owned(), account.to_string()]);
        let region = region.into_iter().flat_map(|region| ["--region".to_owned(), region.to_string()]);
        let elsewhere =
            (socket != Path::new(DEFAULT_SOCKET)).then(|| ["--socket".to_owned(), socket.display().to_string()]);
        let arguments = elsewhere.into_iter().flatten().chain(account).chain(region).chain(self.arguments).collect();
        print!("{}", unit(&program, arguments)?);
        Ok(())
    }
}

/// Directories of which systemd makes one of the agent's own when it starts it, with the settings that ask for it.
const MADE: [(&str, &str); 2] = [("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run")];
/// What `ProtectHome=` hides.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
/// What `PrivateTmp=` replaces.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// The unit file. The manager restarts an agent that dies or does not answer; the kernel forwards meanwhile.
///
/// # Errors
///
/// [`CliError::Input`] for arguments that the agent would refuse, or that do not make it run.
fn unit(program: &Path, arguments: Vec<String>) -> Result<String, CliError> {
    let Cli { global, command } =
        Cli::of_arguments(["privatelink", "agent"].map(str::to_owned).into_iter().chain(arguments.clone()))
            .map_err(|error| CliError::usage(&error))?;
    let Command::Agent(agent) = command else {
        return Err(CliError::Input {
            message: "that runs no agent".to_owned(),
            hint: "see `privatelink agent --help`".to_owned(),
        });
    };
    if agent.removes() {
        return Err(CliError::Input {
            message: "--remove takes the agent out of the kernel, and a unit is to run it".to_owned(),
            hint: "leave it out here; run `privatelink agent --remove` by hand".to_owned(),
        });
    }
    // Where systemd starts it.
    let absolute = |path: &Path| Path::new("/").join(path);
    let (grants, _) = agent.grants(&global.socket);
    let named = agent.named().chain([program]).map(absolute).chain(grants.iter().map(|grant| absolute(&grant.path)));
    let named: Vec<PathBuf> = named.filter(|path| path != Path::new("/")).collect();
    let any_below = |roots: &[&str]| named.iter().any(|path| roots.iter().any(|root| path.starts_with(root)));

    let mut made = Vec::new();
    let mut writable: BTreeSet<PathBuf> =
        grants.iter().filter(|grant| grant.right.writes()).map(|grant| absolute(&grant.path)).collect();
    let mut own = vec![(absolute(agent.state_dir()), "0700"), (absolute(&files::directory(&global.socket)), "0755")];
    for (setting, root) in MADE {
        own.retain(|(directory, mode)| {
            let Ok(below) = directory.strip_prefix(root) else { return true };
            if below.as_os_str().is_empty() {
                return true;
            }
            writable.remove(directory);
            made.push(format!("{setting}={}\n{setting}Mode={mode}\n", quoted(&below.display().to_string())));
            false
        });
    }
    // What is elsewhere is made by somebody who may.
    for (directory, mode) in own {
        let directory = argument(&directory.display().to_string());
        made.push(format!("ExecStartPre=+mkdir -p -m {mode} {directory}\n"));
    }

    let mut line = vec![argument(&program.display().to_string()), "agent".to_owned()];
    line.extend(arguments.iter().map(|word| argument(word)));
    let kept: Vec<String> = capabilities::KEPT.iter().map(|(capability, _)| capability.to_string()).collect();
    let families: Vec<&str> = Caller::Agent.families().iter().map(|(name, _)| *name).collect();
    let calls: Vec<&str> = Caller::Agent.calls().map(|call| call.name()).collect();
    let writable: Vec<String> = writable.iter().map(|path| quoted(&path.display().to_string())).collect();
    Ok(format!(
        "\
[Unit]
Description=privatelink: endpoints of services in other networks
Wants=network-pre.target
After=network-pre.target

[Service]
Type=notify
ExecStart={line}
Restart=always
RestartSec=1
WatchdogSec=60
KillMode=process
{made}\
# Not needed by the agent beyond these; CAP_SETPCAP only to give up the rest of what the set holds.
CapabilityBoundingSet={capabilities} CAP_SETPCAP
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={writable}
ProtectHome={homes}
PrivateTmp={temporary}
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies={families}
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter={calls}
SystemCallErrorNumber=EPERM
LimitMEMLOCK=infinity
UMask=0077

[Install]
WantedBy=multi-user.target
",
        line = line.join(" "),
        made = made.concat(),
        capabilities = kept.join(" "),
        writable = writable.join(" "),
        homes = if any_below(&HOMES) { "read-only" } else { "yes" },
        temporary = if any_below(&TEMPORARY) { "no" } else { "yes" },
        families = families.join(" "),
        calls = calls.join(" "),
    ))
}

/// A word as settings take it (systemd.syntax(7), "Quoting"; systemd.unit(5), "Specifiers").
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.,:=@+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    let escaped: String = word
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            '%' => "%%".to_owned(),
            other => other.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

/// A word of a command, where variables are replaced too (systemd.service(5), "Command lines").
fn argument(word: &str) -> String {
    quoted(word).replace('$', "$$")
}

/// Tells the service manager, if there is one, that requests are answered.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The same: that the agent is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told how the agent is");
    }
}

/// Answers the service manager's watchdog for as long as the agent's loop reads the kernel's tables when it is asked
/// to.
pub async fn watchdog(runtime: Arc<dyn Runtime>, shutdown: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut every = tokio::time::interval((limit / 3).max(Duration::from_millis(10)));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = every.tick() => {}
        }
        match tokio::time::timeout(limit / 3, runtime.stats()).await {
            Ok(Ok(_)) => tell(&[NotifyState::Watchdog]),
            Ok(Err(error)) => tracing::warn!(%error, "the watchdog is not answered"),
            Err(_) => tracing::warn!("the watchdog is not answered: the agent's loop does not answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> String {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        unit(Path::new("/usr/bin/privatelink"), arguments).expect("a unit")
    }

    fn setting<'a>(unit: &'a str, name: &str) -> Option<&'a str> {
        unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    #[test]
    fn arguments_are_quoted_where_systemd_would_take_them_apart() {
        let unit =
            unit(Path::new("/opt/private link/bin"), vec!["--log".into(), "a\"b %i $HOME".into()]).expect("a unit");
        assert!(unit.contains("\nExecStart=\"/opt/private link/bin\" agent --log \"a\\\"b %%i $$HOME\"\n"), "{unit}");
        assert_eq!(quoted(""), "\"\"");
    }

    #[test]
    fn the_unit_leaves_the_agent_what_it_keeps() {
        let unit = of(&[]);
        let names: Vec<&str> = setting(&unit, "CapabilityBoundingSet").expect("the line").split(' ').collect();
        assert_eq!(names.len(), capabilities::KEPT.len() + 1);
        for (capability, _) in capabilities::KEPT {
            assert!(names.contains(&capability.to_string().as_str()), "{capability}");
        }
    }

    #[test]
    fn by_itself_the_agent_has_directories_of_its_own() {
        let unit = of(&[]);
        assert_eq!(setting(&unit, "StateDirectory"), Some("privatelink"));
        assert_eq!(setting(&unit, "RuntimeDirectory"), Some("privatelink"));
        assert_eq!(setting(&unit, "ReadWritePaths"), Some("/proc/sys/net/ipv6/conf /sys/fs/bpf"));
        assert_eq!((setting(&unit, "ProtectHome"), setting(&unit, "PrivateTmp")), (Some("yes"), Some("yes")));
        assert_eq!(setting(&unit, "ExecStartPre"), None);
    }

    #[test]
    fn the_unit_lets_the_agent_write_what_its_arguments_name() {
        let unit = of(&[
            "--state-dir=/srv/private link",
            "--access-log",
            "/var/log/privatelink/access.log",
            "--notify",
            "file:/tmp/events",
            "--socket",
            "/run/agents/one/socket",
            "--api=127.0.0.1:8080",
            "--credentials",
            "/home/operator/keys.toml",
        ]);
        assert_eq!(setting(&unit, "StateDirectory"), None);
        assert_eq!(setting(&unit, "RuntimeDirectory"), Some("agents/one"));
        assert_eq!(setting(&unit, "ExecStartPre"), Some("+mkdir -p -m 0700 \"/srv/private link\""));
        let writable = "/proc/sys/net/ipv6/conf \"/srv/private link\" /sys/fs/bpf /tmp /var/log/privatelink";
        assert_eq!(setting(&unit, "ReadWritePaths"), Some(writable));
        assert_eq!((setting(&unit, "ProtectHome"), setting(&unit, "PrivateTmp")), (Some("read-only"), Some("no")));
    }

    #[test]
    fn no_unit_is_made_of_what_the_agent_would_refuse() {
        for (arguments, rule) in [
            (&["--statedir", "/srv"][..], "unexpected argument '--statedir'"),
            (&["--metrics", "nowhere"], "'nowhere'"),
            (&["--remove"], "--remove takes the agent out of the kernel"),
        ] {
            let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            let refused = unit(Path::new("/usr/bin/privatelink"), arguments).expect_err("refused").to_string();
            assert!(refused.contains(rule), "{refused}");
        }
    }
}
