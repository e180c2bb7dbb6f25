//! `privatelink explain`.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

use super::{
    CliError, Session,
    output::{or_dash, table},
    value,
};
use crate::{
    api::ExplainPacket,
    control::Reference,
    model::InvalidValue,
    runtime::{Explanation, Finding, PacketProtocol},
};

const AFTER_HELP: &str = "\
The kernel's own program judges a packet that is never sent: no flow is opened, no source port taken, no counter raised. The \
packet is the first of a connection; without a port in --from, a client's usual one is used, and another try may be led to \
another target.

Example:
  privatelink explain --vpc consumer --from 10.0.1.10 --to 10.0.0.50:80

Exit status 0: the packet reaches a target; 1: it does not.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ExplainArgs {
    /// The VPC that the packet is sent in; name or id.
    #[arg(long, value_parser = value::reference)]
    vpc: Reference,
    /// The port of the VPC that it comes in on; its interface [default: the first one].
    #[arg(long, value_name = "DEV", value_parser = value::reference)]
    port: Option<Reference>,
    /// Who sends it.
    #[arg(long, value_name = "IP[:PORT]", value_parser = source)]
    from: Source,
    /// Whom it is for.
    #[arg(long, value_name = "IP:PORT", value_parser = destination)]
    to: SocketAddr,
    /// What it is: tcp (a SYN), udp (a datagram), icmp (an echo request; the port of --to does not matter).
    #[arg(long, default_value_t, value_parser = value::parse::<PacketProtocol>)]
    proto: PacketProtocol,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    ip: IpAddr,
    port: Option<u16>,
}

fn source(argument: &str) -> Result<Source, String> {
    // An IPv6 address has colons of its own: with a port it is in brackets.
    if let Ok(ip) = argument.parse::<IpAddr>() {
        return Ok(Source { ip, port: None });
    }
    if let Ok(SocketAddr::V6(at)) = argument.parse() {
        return Ok(Source { ip: (*at.ip()).into(), port: Some(value::port(&at.port().to_string())?) });
    }
    match argument.split_once(':') {
        Some((ip, port)) => Ok(Source { ip: value::address(ip)?.into(), port: Some(value::port(port)?) }),
        None => Ok(Source { ip: value::ip_address(argument)?, port: None }),
    }
}

fn destination(argument: &str) -> Result<SocketAddr, String> {
    if let Ok(SocketAddr::V6(at)) = argument.parse() {
        return Ok(SocketAddr::new((*at.ip()).into(), value::port(&at.port().to_string())?));
    }
    let Some((ip, port)) = argument.split_once(':').filter(|_| argument.parse::<IpAddr>().is_err()) else {
        let error = InvalidValue::new(
            "Destination",
            argument,
            "must be an IP address, a colon and a port",
            "use a destination like 10.0.0.50:80 or [fd00::50]:80",
        );
        return Err(format!("{error}; {}", error.hint));
    };
    Ok(SocketAddr::new(value::address(ip)?.into(), value::port(port)?))
}

impl ExplainArgs {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        let Self { vpc, port, from: Source { ip, port: from_port }, to, proto } = self;
        let request = ExplainPacket { vpc, port, from: ip, from_port, to, protocol: proto };
        let explanation = session.client.call(&request).await?;
        session.output.show(&explanation, text)?;
        if explanation.reachable { Ok(()) } else { Err(CliError::NotReachable) }
    }
}

fn text(explanation: &Explanation) -> String {
    let Explanation { reachable, verdict, decided_by, reason, way_out, findings } = explanation;
    let rows = findings
        .iter()
        .map(|Finding { object, name, text }| [object.to_string(), or_dash(name.as_ref()), text.clone()]);
    let mut lines = vec![table(["MEETS", "NAME", "WHICH"], rows), String::new()];
    let head = if *reachable { "reachable" } else { "not reachable" };
    lines.push(format!("{head}: {verdict}"));
    let counter = reason.as_ref().map_or_else(String::new, |name| format!(" (counter {name})"));
    lines.push(format!("decided by: {decided_by}{counter}"));
    if let Some(way_out) = way_out {
        lines.push(format!("way out: {way_out}"));
    }
    lines.join("\n")
}
