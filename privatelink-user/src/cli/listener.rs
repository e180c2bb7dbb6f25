//! `privatelink listener`.

use clap::{ArgAction, Args, Subcommand};

use super::{
    CliError, Session,
    output::{list, table},
    value,
};
use crate::{
    control::{
        Reference,
        listener_tls::{AddListenerCertificates, RemoveListenerCertificates},
        listeners::{CreateListener, DeleteListener, DescribeListeners, ModifyListener, TargetGroupWeight},
        view::{ListenerView, TlsView},
    },
    model::{AttributeMap as _, ListenerAttributes, ListenerPorts, Protocol},
    tls::{alpn::AlpnPolicy, policy::ListenerPolicy},
};

#[derive(Debug, Subcommand)]
pub enum ListenerCommand {
    /// Make a listener. Doing it again with the same settings changes nothing.
    Create(CreateArgs),
    /// List the listeners.
    List {
        /// Only those of this load balancer; name or ARN.
        #[arg(value_parser = value::reference)]
        load_balancer: Option<Reference>,
    },
    /// Lead a listener to other target groups, change their weights, what it shows to TLS clients, or its attributes;
    /// open flows stay.
    Modify(ModifyArgs),
    /// Add certificates that a TLS listener shows by server name.
    AddCertificate(CertificateArgs),
    /// Take certificates away that a TLS listener shows by server name.
    RemoveCertificate(CertificateArgs),
    /// Delete a listener.
    Delete {
        /// ARN, or LOAD-BALANCER:PORT.
        #[arg(value_parser = value::reference)]
        listener: Reference,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The load balancer; name or ARN.
    #[arg(value_parser = value::reference)]
    load_balancer: Reference,
    /// TCP, UDP, TCP_UDP for both on one port, or TLS, which ends here and goes on in clear or by TLS, as the target
    /// group says.
    #[arg(long, value_parser = value::parse::<Protocol>)]
    protocol: Protocol,
    /// The port on which endpoints and node addresses answer, several as FIRST-LAST, or `all`. Of several, targets get
    /// the port that the client has asked for, and the port with which they are registered is for health checks only.
    #[arg(long, value_name = "N|FIRST-LAST|all", value_parser = value::parse::<ListenerPorts>)]
    port: ListenerPorts,
    /// Where connections go; name or ARN. Several share them by weight: --target-group a=70 --target-group b=30, each
    /// weight 0 to 999.
    #[arg(long = "target-group", value_name = "GROUP[=WEIGHT]", required = true, value_parser = value::parse::<TargetGroupWeight>)]
    target_groups: Vec<TargetGroupWeight>,
    /// Whether later connections of a client stay in the target group of its earlier ones.
    #[arg(long, value_name = "on|off", default_value = "off", action = ArgAction::Set, value_parser = value::on_or_off)]
    stickiness: bool,
    /// Of a TLS listener: the certificate, by ARN or a name that it alone is for. Further ones are shown by server
    /// name, the first to everybody else.
    #[arg(long = "certificate", value_name = "CERTIFICATE", value_parser = value::reference)]
    certificates: Vec<Reference>,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    attributes: AttributeArgs,
}

#[derive(Debug, Args)]
pub struct ModifyArgs {
    /// ARN, or LOAD-BALANCER:PORT.
    #[arg(value_parser = value::reference)]
    listener: Reference,
    /// Where new connections go; name or ARN, or several with weights. Open flows stay, but those to a group of weight
    /// 0 end shortly after.
    #[arg(long = "target-group", value_name = "GROUP[=WEIGHT]", value_parser = value::parse::<TargetGroupWeight>)]
    #[arg(required_unless_present_any = ["attributes", "stickiness", "certificate", "ssl_policy", "alpn_policy"])]
    target_groups: Vec<TargetGroupWeight>,
    /// Whether later connections of a client stay in the target group of its earlier ones.
    #[arg(long, value_name = "on|off", value_parser = value::on_or_off)]
    stickiness: Option<bool>,
    /// Of a TLS listener: another default certificate, by ARN or a name that it alone is for.
    #[arg(long, value_name = "CERTIFICATE", value_parser = value::reference)]
    certificate: Option<Reference>,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    attributes: AttributeArgs,
}

#[derive(Debug, Args)]
struct TlsArgs {
    /// Of a TLS listener: the versions and cipher suites that it offers, by AWS's names
    /// [default: ELBSecurityPolicy-TLS13-1-2-2021-06].
    #[arg(long, value_name = "POLICY", value_parser = value::parse::<ListenerPolicy>)]
    #[arg(long_help = format!("Of a TLS listener: the versions and cipher suites that it offers [default: {}]. The policies:\n{}", ListenerPolicy::default(), ListenerPolicy::all().map(|policy| policy.to_string()).collect::<Vec<_>>().join("\n")))]
    ssl_policy: Option<ListenerPolicy>,
    /// Of a TLS listener: None, HTTP1Only, HTTP2Only, HTTP2Optional or HTTP2Preferred [default: None].
    #[arg(long, value_name = "POLICY", value_parser = value::parse::<AlpnPolicy>)]
    alpn_policy: Option<AlpnPolicy>,
}

#[derive(Debug, Args)]
pub struct CertificateArgs {
    /// ARN, or LOAD-BALANCER:PORT.
    #[arg(value_parser = value::reference)]
    listener: Reference,
    /// By ARN, or by a name that it alone is for.
    #[arg(required = true, value_name = "CERTIFICATE", value_parser = value::reference)]
    certificates: Vec<Reference>,
}

#[derive(Debug, Args)]
struct AttributeArgs {
    /// Set an attribute; may be given several times.
    #[arg(id = "attributes", long = "attribute", value_name = "KEY=VALUE", value_parser = value::attribute)]
    #[arg(long_help = format!("Set an attribute; may be given several times. The keys:\n{}", ListenerAttributes::help()))]
    attributes: Vec<(String, String)>,
}

impl ListenerCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(CreateArgs {
                load_balancer,
                protocol,
                port,
                target_groups,
                stickiness,
                certificates,
                tls: TlsArgs { ssl_policy, alpn_policy },
                attributes,
            }) => {
                let mut certificates = certificates.into_iter();
                let attributes = attributes.attributes.into_iter().collect();
                let request = CreateListener {
                    load_balancer,
                    protocol,
                    port,
                    target_group: None,
                    target_groups,
                    stickiness,
                    certificate: certificates.next(),
                    more_certificates: certificates.collect(),
                    ssl_policy,
                    alpn_policy,
                    attributes,
                };
                let listener = session.client.call(&request).await?;
                session.output.show(&listener, |listener| rows([listener]))
            }
            Self::List { load_balancer } => {
                let listeners = session.client.call(&DescribeListeners { load_balancer }).await?;
                session.output.show(&listeners, |listeners| rows(listeners))
            }
            Self::Modify(ModifyArgs {
                listener,
                target_groups,
                stickiness,
                certificate,
                tls: TlsArgs { ssl_policy, alpn_policy },
                attributes,
            }) => {
                let attributes = attributes.attributes.into_iter().collect();
                let request = ModifyListener {
                    listener,
                    port: None,
                    protocol: None,
                    target_group: None,
                    target_groups,
                    stickiness,
                    certificate,
                    more_certificates: None,
                    ssl_policy,
                    alpn_policy,
                    attributes,
                };
                let listener = session.client.call(&request).await?;
                session.output.show(&listener, |listener| rows([listener]))
            }
            Self::AddCertificate(CertificateArgs { listener, certificates }) => {
                let listener = session.client.call(&AddListenerCertificates { listener, certificates }).await?;
                session.output.show(&listener, |listener| rows([listener]))
            }
            Self::RemoveCertificate(CertificateArgs { listener, certificates }) => {
                let listener = session.client.call(&RemoveListenerCertificates { listener, certificates }).await?;
                session.output.show(&listener, |listener| rows([listener]))
            }
            Self::Delete { listener } => {
                session.client.call(&DeleteListener { listener: listener.clone() }).await?;
                session.output.done(&format!("deleted listener {}", listener.as_str()))
            }
        }
    }
}

fn rows<'a>(listeners: impl IntoIterator<Item = &'a ListenerView>) -> String {
    table(
        ["LISTENER", "PROTOCOL", "TARGET GROUP", "TLS", "ATTRIBUTES", "ARN"],
        listeners.into_iter().map(|listener| {
            [
                listener.name.clone(),
                listener.protocol.to_string(),
                listener.target_group_name.clone(),
                listener.tls.as_ref().map_or_else(String::new, tls),
                list(listener.attributes.iter().map(|(key, value)| format!("{key}={value}"))),
                listener.id.to_string(),
            ]
        }),
    )
}

/// The policies, and how many certificates.
fn tls(tls: &TlsView) -> String {
    let TlsView { certificate: _, more_certificates, ssl_policy, alpn_policy } = tls;
    let certificates = match more_certificates.len() {
        0 => "1 certificate".to_owned(),
        more => format!("{} certificates", more + 1),
    };
    format!("{ssl_policy}, ALPN {alpn_policy}, {certificates}")
}
