//! `privatelink endpoint-service`.

use std::{collections::BTreeSet, net::Ipv4Addr};

use clap::{Args, Subcommand};

use super::{
    CliError, Session, connection,
    output::{fields, list, or_dash, table},
    value,
};
use crate::{
    control::{
        Reference,
        connections::DescribeConnections,
        endpoint_services::{
            CreateEndpointService, DeleteEndpointService, DescribeEndpointServices, ModifyEndpointService,
            ModifyServicePayer,
        },
        endpoints::ModifyEndpointPayer,
        permissions::{DescribePermissions, ModifyPermissions},
        private_dns::{DomainVerification, Place, VerifyDomain},
        publish::{AddressSpec, PublishTargets},
        view::{EndpointServiceView, PermissionView, PublishedView},
    },
    model::{
        BitRate, ConnectionRate, Connections, ConsumerLists, ConsumerPattern, Limit, LimitChange, PayerResponsibility,
        Principal, PrivateDns, PrivateDnsName, Protocol, Region, ResourceName, VerificationState,
    },
};

#[derive(Debug, Subcommand)]
pub enum EndpointServiceCommand {
    /// Publish load balancers, or addresses, and print the service name. Doing it again prints the same name.
    Create(CreateArgs),
    /// List the endpoint services.
    List,
    /// Show one endpoint service.
    Describe {
        /// Service name, id or alias.
        #[arg(value_parser = value::reference)]
        endpoint_service: Reference,
    },
    /// Change whether acceptance is required, the load balancers, and what each endpoint may use.
    Modify(ModifyArgs),
    /// Who may make endpoints to a service, besides the account that it belongs to.
    #[command(subcommand)]
    Permissions(PermissionsCommand),
    /// Say who pays: for new endpoints to a service, which cannot be given back, or for one endpoint that leads to it.
    /// Nobody counts money here; it is kept and shown.
    Payer {
        /// Service name, id or alias.
        #[arg(value_parser = value::reference)]
        endpoint_service: Reference,
        /// endpoint-owner or service-owner.
        #[arg(value_parser = value::parse::<PayerResponsibility>)]
        payer: PayerResponsibility,
        /// Only for this endpoint, by id.
        #[arg(long, value_parser = value::reference)]
        endpoint: Option<Reference>,
    },
    /// List the endpoints of all accounts that lead to a service; `privatelink connection` accepts and rejects them.
    Connections {
        /// Service name, id or alias.
        #[arg(value_parser = value::reference)]
        endpoint_service: Reference,
    },
    /// Ask DNS for the TXT record that shows that the private DNS name's domain is yours: at `_….DOMAIN` or at DOMAIN,
    /// which may be the name's own or a parent. `describe` shows the record. Fails, and says what was found, if it is
    /// not there.
    VerifyDomain {
        /// Service name, id or alias.
        #[arg(value_parser = value::reference)]
        endpoint_service: Reference,
    },
    /// Delete an endpoint service to which no endpoint is connected. What was made for its --target goes too.
    Delete {
        /// Service name, id or alias.
        #[arg(value_parser = value::reference)]
        endpoint_service: Reference,
        /// Reject the endpoints that are connected first.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// A load balancer; name or ARN. It serves one endpoint service. May be given several times: endpoints then have
    /// the listeners of all of them.
    #[arg(long, required_unless_present = "target", conflicts_with = "target", value_parser = value::reference)]
    load_balancer: Vec<Reference>,
    /// Instead of a load balancer, an address of --vpc, as IP:PORT, or IP with --port. Several share the connections;
    /// their health is checked. What is needed between is made with the service and goes with it.
    #[arg(long, value_name = "IP[:PORT]", requires = "vpc", value_parser = value::parse::<AddressSpec>)]
    target: Vec<AddressSpec>,
    /// The VPC of the targets; name or id.
    #[arg(long, requires = "target", value_parser = value::reference)]
    vpc: Option<Reference>,
    /// With --target, where endpoints listen [default: the first target's port].
    #[arg(long, value_name = "N", requires = "target", value_parser = value::port)]
    port: Option<u16>,
    /// With --target: TCP, UDP, or TCP_UDP for both.
    #[arg(long, requires = "target", default_value_t = Protocol::Tcp, value_parser = value::parse::<Protocol>)]
    protocol: Protocol,
    /// With --target, the only source address that the targets see [default: the first free one of the VPC].
    #[arg(long, value_name = "IP", requires = "target", value_parser = value::address)]
    node_address: Option<Ipv4Addr>,
    /// A short alias for the service name, for use on this host.
    #[arg(long, value_parser = value::parse::<ResourceName>)]
    name: Option<ResourceName>,
    /// Let endpoints wait until `privatelink connection accept`.
    #[arg(long)]
    acceptance_required: bool,
    /// Who may make endpoints: arn:aws:iam::ACCOUNT:root, …:user/NAME, …:role/NAME, or '*' for everybody.
    #[arg(long, value_name = "ARN", value_parser = value::parse::<Principal>)]
    principal: Vec<Principal>,
    /// A name of a domain of yours by which consumers may reach their endpoints, such as api.example.com or
    /// *.example.com, once `verify-domain` has found its TXT record.
    #[arg(long, value_name = "NAME", value_parser = value::parse::<PrivateDnsName>)]
    private_dns_name: Option<PrivateDnsName>,
    /// Accept endpoints of these consumers without asking: an account, or an endpoint's id, with * for any text and ?
    /// for one character. May be given several times.
    #[arg(long, value_name = "CONSUMER", value_parser = value::parse::<ConsumerPattern>)]
    accept: Vec<ConsumerPattern>,
    /// Reject theirs without asking, also where --accept names them.
    #[arg(long, value_name = "CONSUMER", value_parser = value::parse::<ConsumerPattern>)]
    reject: Vec<ConsumerPattern>,
    /// Another region in which endpoints may be made. May be given several times.
    #[arg(long, value_name = "REGION", value_parser = value::parse::<Region>)]
    supported_region: Vec<Region>,
}

#[derive(Debug, Args)]
pub struct ModifyArgs {
    /// Service name, id or alias.
    #[arg(value_parser = value::reference)]
    endpoint_service: Reference,
    /// Whether endpoints wait for acceptance; those that are there keep their state.
    #[arg(long, value_name = "BOOL")]
    acceptance_required: Option<bool>,
    /// Serve this load balancer as well; name or ARN.
    #[arg(long, value_name = "LOAD_BALANCER", value_parser = value::reference)]
    add_load_balancer: Vec<Reference>,
    /// Serve this load balancer no more; not while endpoints are connected.
    #[arg(long, value_name = "LOAD_BALANCER", value_parser = value::reference)]
    remove_load_balancer: Vec<Reference>,
    /// Another private DNS name, which has to be verified anew. Endpoints that answer for the old one go on.
    #[arg(long, value_name = "NAME", value_parser = value::parse::<PrivateDnsName>)]
    private_dns_name: Option<PrivateDnsName>,
    /// Have no private DNS name.
    #[arg(long, conflicts_with = "private_dns_name")]
    remove_private_dns_name: bool,
    /// Whether endpoints may have IPv4 addresses only, also where every load balancer of the service has IPv6 ones.
    #[arg(long, value_name = "BOOL")]
    ipv4_only: Option<bool>,
    /// Let endpoints be made in this region as well. May be given several times.
    #[arg(long, value_name = "REGION", value_parser = value::parse::<Region>)]
    add_supported_region: Vec<Region>,
    /// Let no more be made in this region, which is not the service's own. Those that are there stay.
    #[arg(long, value_name = "REGION", value_parser = value::parse::<Region>)]
    remove_supported_region: Vec<Region>,
    /// Open connections that each endpoint may have at once: a number, or none. Further ones are reset.
    /// `privatelink connection limit` sets another limit for one endpoint.
    #[arg(long, value_name = "N", value_parser = value::parse::<Limit<Connections>>)]
    limit_connections: Option<Limit<Connections>>,
    /// New connections a second through each endpoint: a number, or none. Further ones are dropped: the client tries
    /// again.
    #[arg(long, value_name = "N", value_parser = value::parse::<Limit<ConnectionRate>>)]
    limit_connections_per_second: Option<Limit<ConnectionRate>>,
    /// Bits a second through each endpoint, both directions together: a number, which may end in k, M, G or T, or none.
    /// Packets above are dropped.
    #[arg(long, value_name = "BITS", value_parser = value::parse::<Limit<BitRate>>)]
    limit_bits_per_second: Option<Limit<BitRate>>,
    /// Accept endpoints of these consumers without asking, instead of those that are listed; those that wait at once.
    /// An account, or an endpoint's id, with * for any text and ? for one character. May be given several times.
    #[arg(long, value_name = "CONSUMER", value_parser = value::parse::<ConsumerPattern>)]
    accept: Vec<ConsumerPattern>,
    /// Accept none without asking.
    #[arg(long, conflicts_with = "accept")]
    no_accept: bool,
    /// Reject theirs, instead of those that are listed, also where --accept names them.
    #[arg(long, value_name = "CONSUMER", value_parser = value::parse::<ConsumerPattern>)]
    reject: Vec<ConsumerPattern>,
    /// Reject none without asking.
    #[arg(long, conflicts_with = "reject")]
    no_reject: bool,
    /// Let the lists also change the answers that endpoints already have: traffic of those that are rejected ends at
    /// once.
    #[arg(long)]
    reconcile_connections: bool,
}

/// A list that is given, or emptied, or stays.
fn list_of(given: Vec<ConsumerPattern>, emptied: bool) -> Option<BTreeSet<ConsumerPattern>> {
    (emptied || !given.is_empty()).then(|| given.into_iter().collect())
}

#[derive(Debug, Subcommand)]
pub enum PermissionsCommand {
    /// Allow principals.
    Add(PrincipalArgs),
    /// Allow principals no more. Endpoints that they have made stay.
    Remove(PrincipalArgs),
    /// List the principals.
    List {
        /// Service name, id or alias.
        #[arg(value_parser = value::reference)]
        endpoint_service: Reference,
    },
}

#[derive(Debug, Args)]
pub struct PrincipalArgs {
    /// Service name, id or alias.
    #[arg(value_parser = value::reference)]
    endpoint_service: Reference,
    /// arn:aws:iam::ACCOUNT:root, …:user/NAME, …:role/NAME, or '*' for everybody. May be given several times.
    #[arg(long, value_name = "ARN", required = true, value_parser = value::parse::<Principal>)]
    principal: Vec<Principal>,
}

impl EndpointServiceCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(args) => {
                let CreateArgs {
                    load_balancer,
                    target,
                    vpc,
                    port,
                    protocol,
                    node_address,
                    name,
                    acceptance_required,
                    principal: principals,
                    private_dns_name,
                    accept,
                    reject,
                    supported_region,
                } = args;
                let supported_regions = supported_region.into_iter().collect();
                let consumers =
                    ConsumerLists { accept: accept.into_iter().collect(), reject: reject.into_iter().collect() };
                let service = if let Some(vpc) = vpc {
                    let request = PublishTargets {
                        name,
                        vpc,
                        targets: target,
                        protocol,
                        port,
                        node_address,
                        acceptance_required,
                        principals,
                        private_dns_name,
                        consumers,
                        supported_regions,
                    };
                    session.client.call(&request).await?
                } else {
                    let request = CreateEndpointService {
                        load_balancers: load_balancer,
                        name,
                        acceptance_required,
                        principals,
                        private_dns_name,
                        consumers,
                        ipv4_only: false,
                        supported_regions,
                    };
                    session.client.call(&request).await?
                };
                session.output.show(&service, |service| service.service_name.to_string())
            }
            Self::List => {
                let services = session.client.call(&DescribeEndpointServices { endpoint_services: None }).await?;
                session.output.show(&services, |services| rows(services))
            }
            Self::Describe { endpoint_service } => {
                let request = DescribeEndpointServices { endpoint_services: Some(vec![endpoint_service]) };
                let services = session.client.call(&request).await?;
                services.iter().try_for_each(|service| session.output.show(service, describe))
            }
            Self::Modify(args) => {
                let ModifyArgs {
                    endpoint_service,
                    acceptance_required,
                    add_load_balancer,
                    remove_load_balancer,
                    private_dns_name,
                    remove_private_dns_name,
                    ipv4_only,
                    add_supported_region,
                    remove_supported_region,
                    limit_connections,
                    limit_connections_per_second,
                    limit_bits_per_second,
                    accept,
                    no_accept,
                    reject,
                    no_reject,
                    reconcile_connections,
                } = args;
                let request = ModifyEndpointService {
                    endpoint_service,
                    acceptance_required,
                    add_load_balancers: add_load_balancer,
                    remove_load_balancers: remove_load_balancer,
                    private_dns_name,
                    remove_private_dns_name,
                    ipv4_only,
                    add_supported_regions: add_supported_region.into_iter().collect(),
                    remove_supported_regions: remove_supported_region.into_iter().collect(),
                    limits: LimitChange {
                        connections: limit_connections,
                        connections_per_second: limit_connections_per_second,
                        bits_per_second: limit_bits_per_second,
                    },
                    accept: list_of(accept, no_accept),
                    reject: list_of(reject, no_reject),
                    reconcile_connections,
                };
                let service = session.client.call(&request).await?;
                session.output.show(&service, describe)
            }
            Self::Permissions(command) => command.run(session).await,
            Self::Payer { endpoint_service, payer, endpoint: Some(endpoint) } => {
                let done = format!("{payer} pays for endpoint {}", endpoint.as_str());
                let request = ModifyEndpointPayer { endpoint_service: Some(endpoint_service), endpoint, payer };
                session.client.call(&request).await?;
                session.output.done(&done)
            }
            Self::Payer { endpoint_service, payer, endpoint: None } => {
                let service = session.client.call(&ModifyServicePayer { endpoint_service, payer }).await?;
                session.output.show(&service, describe)
            }
            Self::Connections { endpoint_service } => {
                let connections = session.client.call(&DescribeConnections { endpoint_service }).await?;
                session.output.show(&connections, |connections| connection::rows(connections))
            }
            Self::VerifyDomain { endpoint_service } => {
                let outcome = session.client.call(&VerifyDomain { endpoint_service: endpoint_service.clone() }).await?;
                session.output.show(&outcome, verification)?;
                if outcome.found {
                    return Ok(());
                }
                let kept = match outcome.state {
                    VerificationState::Verified => {
                        "the record was not found; it stays verified until DNS says that there is none"
                    }
                    VerificationState::PendingVerification | VerificationState::Failed => "is not verified",
                };
                Err(CliError::Input {
                    message: format!("the private DNS name '{}': {kept}", outcome.name),
                    hint: format!(
                        "publish TXT \"{}\" at {}",
                        outcome.record_value,
                        outcome.places.iter().map(|place| place.name.as_str()).collect::<Vec<_>>().join(" or ")
                    ),
                })
            }
            Self::Delete { endpoint_service, force } => {
                let request = DeleteEndpointService { endpoint_service: endpoint_service.clone(), force };
                session.client.call(&request).await?;
                session.output.done(&format!("deleted endpoint service {}", endpoint_service.as_str()))
            }
        }
    }
}

impl PermissionsCommand {
    async fn run(self, session: &mut Session) -> Result<(), CliError> {
        let permissions = match self {
            Self::Add(PrincipalArgs { endpoint_service, principal: add }) => {
                session.client.call(&ModifyPermissions { endpoint_service, add, remove: Vec::new() }).await?
            }
            Self::Remove(PrincipalArgs { endpoint_service, principal: remove }) => {
                session.client.call(&ModifyPermissions { endpoint_service, add: Vec::new(), remove }).await?
            }
            Self::List { endpoint_service } => session.client.call(&DescribePermissions { endpoint_service }).await?,
        };
        session.output.show(&permissions, |permissions| permission_rows(permissions))
    }
}

fn permission_rows(permissions: &[PermissionView]) -> String {
    table(
        ["PRINCIPAL", "TYPE", "ID"],
        permissions.iter().map(|permission| {
            [permission.principal.to_string(), permission.principal_type.clone(), permission.id.clone()]
        }),
    )
}

fn rows(services: &[EndpointServiceView]) -> String {
    table(
        ["NAME", "SERVICE NAME", "LEADS TO", "ENDPOINTS"],
        services.iter().map(|service| {
            [
                or_dash(service.alias.as_ref()),
                service.service_name.to_string(),
                service.published.as_ref().map_or_else(|| list(&service.load_balancer_names), published),
                service.connections.len().to_string(),
            ]
        }),
    )
}

fn published(published: &PublishedView) -> String {
    let PublishedView { vpc_name, protocol: _, port: _, targets, node_addresses: _ } = published;
    format!("{} in {vpc_name}", list(targets))
}

fn private_dns_text(private: &PrivateDns) -> String {
    let PrivateDns { name, state, record_name, record_value } = private;
    let domain = name.wildcard().unwrap_or(name.as_str());
    format!("{name} ({state}; TXT \"{record_value}\" at {record_name}.{domain})")
}

fn verification(outcome: &DomainVerification) -> String {
    let DomainVerification { endpoint_service: _, name, state, record_value, found: _, places } = outcome;
    let found = |place: &Place| match &place.error {
        Some(error) => error.clone(),
        None if place.found.is_empty() => "no TXT record".to_owned(),
        None => place.found.iter().map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(", "),
    };
    let asked = table(["ASKED FOR TXT", "FOUND"], places.iter().map(|place| [place.name.clone(), found(place)]));
    format!("{name} is {state}; the record wanted is \"{record_value}\"\n{asked}")
}

fn describe(service: &EndpointServiceView) -> String {
    let EndpointServiceView {
        id,
        owner,
        service_name,
        alias,
        load_balancers: _,
        load_balancer_names,
        zones,
        supported_regions,
        ipv4_only,
        acceptance_required,
        principals,
        consumers: ConsumerLists { accept, reject },
        published: own,
        private_dns,
        limits,
        payer,
        connections,
        state,
        created_at,
    } = service;
    let leads_to = match own {
        None => ("Load balancers", list(load_balancer_names)),
        Some(own) => {
            let PublishedView { vpc_name: _, protocol, port, targets: _, node_addresses } = own;
            ("Publishes", format!("{} at {protocol} port {port}, as {}", published(own), list(node_addresses)))
        }
    };
    let connected = connections.iter().map(|connection| format!("{} ({})", connection.endpoint, connection.state));
    fields([
        ("Service name", service_name.to_string()),
        ("New endpoints paid by", payer.to_string()),
        ("ID", id.to_string()),
        ("Account", owner.account.to_string()),
        ("Alias", or_dash(alias.as_ref())),
        leads_to,
        ("Zones", list(zones)),
        ("Other regions", list(supported_regions)),
        ("IPv4 only", ipv4_only.to_string()),
        ("Acceptance required", acceptance_required.to_string()),
        ("Allowed principals", list(principals)),
        ("Accepted", list(accept)),
        ("Rejected", list(reject)),
        ("Private DNS name", private_dns.as_ref().map_or_else(|| "-".to_owned(), private_dns_text)),
        ("Limits of an endpoint", limits.to_string()),
        ("Endpoints", list(connected)),
        ("State", state.to_string()),
        ("Created", created_at.to_string()),
    ])
}
