//! systemd: the unit that runs the agent, and what the agent tells its service manager.

use std::{sync::Arc, time::Duration};

use clap::Args;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::{CliError, DEFAULT_STATE_DIR};
use crate::{
    confine::{calls::Caller, capabilities},
    runtime::Runtime,
};

#[derive(Debug, Args)]
pub struct UnitArgs {
    /// Arguments of `privatelink agent`, such as --metrics 127.0.0.1:9420.
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl UnitArgs {
    pub fn run(self) -> Result<(), CliError> {
        let program = std::env::current_exe().map_err(CliError::Runtime)?;
        print!("{}", unit(&program.display().to_string(), &self.arguments));
        Ok(())
    }
}

/// The unit file. The manager restarts an agent that dies or does not answer; the kernel forwards meanwhile.
fn unit(program: &str, arguments: &[String]) -> String {
    let mut command = vec![quoted(program), "agent".to_owned()];
    command.extend(arguments.iter().map(|argument| quoted(argument)));
    let kept: Vec<String> = capabilities::KEPT.iter().map(|(capability, _)| capability.to_string()).collect();
    let families: Vec<&str> = Caller::Agent.families().iter().map(|(name, _)| *name).collect();
    let calls: Vec<&str> = Caller::Agent.calls().map(|call| call.name()).collect();
    format!(
        "\
[Unit]
Description=privatelink: endpoints of services in other networks
Wants=network-pre.target
After=network-pre.target

[Service]
Type=notify
ExecStart={command}
Restart=always
RestartSec=1
WatchdogSec=60
KillMode=process
StateDirectory={state}
StateDirectoryMode=0700
# Not needed by the agent beyond these; CAP_SETPCAP only to give up the rest of what the set holds.
CapabilityBoundingSet={capabilities} CAP_SETPCAP
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/run /sys/fs/bpf /proc/sys/net
ProtectHome=yes
PrivateTmp=yes
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
        command = command.join(" "),
        state = DEFAULT_STATE_DIR.trim_start_matches("/var/lib/"),
        capabilities = kept.join(" "),
        families = families.join(" "),
        calls = calls.join(" "),
    )
}

/// An argument as `ExecStart=` takes it (systemd.service(5), "Command lines").
fn quoted(argument: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.,:=@+".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(plain) {
        return argument.to_owned();
    }
    let escaped: String = argument
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            '%' => "%%".to_owned(),
            '$' => "$$".to_owned(),
            other => other.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
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

/// Answers the service manager's watchdog for as long as the agent's loop reads the kernel's tables when it is asked to.
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

    #[test]
    fn arguments_are_quoted_where_systemd_would_take_them_apart() {
        let unit = unit("/opt/private link/bin", &["--log".into(), "a\"b %i $HOME".into(), String::new()]);
        assert!(
            unit.contains("\nExecStart=\"/opt/private link/bin\" agent --log \"a\\\"b %%i $$HOME\" \"\"\n"),
            "{unit}"
        );
    }

    #[test]
    fn the_unit_leaves_the_agent_what_it_keeps() {
        let unit = unit("/usr/bin/privatelink", &[]);
        let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("the line");
        let names: Vec<&str> = line.split(' ').collect();
        assert_eq!(names.len(), capabilities::KEPT.len() + 1);
        for (capability, _) in capabilities::KEPT {
            assert!(names.contains(&capability.to_string().as_str()), "{capability}");
        }
    }
}
