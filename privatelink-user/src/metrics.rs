//! Metrics for Prometheus, in its text format: the names of CloudWatch in snake case, one table a namespace.
//!
//! `networkelb_` is `AWS/NetworkELB`, `privatelink_endpoints_` and `privatelink_services_` are
//! `AWS/PrivateLinkEndpoints` and `AWS/PrivateLinkServices`; `privatelink_` alone is what AWS does not tell. Sums that
//! CloudWatch makes of a period are counters here (`…_total`), from which any period follows.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{Router, extract::State as Shared, http::StatusCode, http::header, response::IntoResponse, routing::get};
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    model::{EndpointServiceId, LoadBalancerId, State},
    runtime::{ChecksDone, CounterKind, EndpointUsage, LoadBalancerUsage, Pool, Runtime, TargetGroupUsage, Usage},
    store::Store,
    tls::{certificate::Facts, relay::wire::Counts},
};

/// Prometheus' text format, as its scraper asks for it.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the metrics are read from.
pub struct Metrics {
    pub store: Arc<Store>,
    pub runtime: Arc<dyn Runtime>,
}

/// Why the metrics are not served.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be served on {address}: {source}")]
pub struct MetricsError {
    pub address: SocketAddr,
    pub source: std::io::Error,
}

/// Listens on `address`.
///
/// # Errors
///
/// [`MetricsError`] when the address is in use or not this host's.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, MetricsError> {
    TcpListener::bind(address).await.map_err(|source| MetricsError { address, source })
}

/// Answers `GET /metrics` until `stop`.
///
/// # Errors
///
/// What the listener says when it cannot go on.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new().route("/metrics", get(scrape)).with_state(metrics);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn scrape(Shared(metrics): Shared<Arc<Metrics>>) -> axum::response::Response {
    let state = metrics.store.state();
    let unavailable = |error: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
    match metrics.runtime.usage(&state).await {
        Ok(usage) => match exposition(&state, &usage) {
            Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => unavailable(error.to_string()),
        },
        Err(error) => unavailable(error.to_string()),
    }
}

/// A metric of the things `T`: its name without the namespace, what CloudWatch calls it or what it tells, and its
/// value.
struct Row<T> {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    value: fn(&T) -> u64,
}

enum Kind {
    /// Goes up and down.
    Gauge,
    /// Goes up and down; its value is in thousandths.
    Thousandths,
    /// Only grows, as long as its resource is there; its name ends in `_total`.
    Counter,
}

const fn gauge<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Row<T> {
    Row { name, help, kind: Kind::Gauge, value }
}

const fn thousandths<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Row<T> {
    Row { name, help, kind: Kind::Thousandths, value }
}

const fn counter<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Row<T> {
    Row { name, help, kind: Kind::Counter, value }
}

/// `AWS/NetworkELB` by load balancer and availability zone.
const LOAD_BALANCER: &[Row<LoadBalancerUsage>] = &[
    gauge("active_flow_count", "ActiveFlowCount: open flows", |lb| lb.tcp.active_flows + lb.udp.active_flows),
    gauge("active_flow_count_tcp", "ActiveFlowCount_TCP: open TCP flows", |lb| lb.tcp.active_flows),
    gauge("active_flow_count_udp", "ActiveFlowCount_UDP: open UDP flows", |lb| lb.udp.active_flows),
    counter("new_flow_count_total", "NewFlowCount: flows opened", |lb| lb.tcp.new_flows + lb.udp.new_flows),
    counter("new_flow_count_tcp_total", "NewFlowCount_TCP: TCP flows opened", |lb| lb.tcp.new_flows),
    counter("new_flow_count_udp_total", "NewFlowCount_UDP: UDP flows opened", |lb| lb.udp.new_flows),
    counter("processed_bytes_total", "ProcessedBytes: IP bytes both ways, health checks included", |lb| {
        lb.tcp.bytes + lb.udp.bytes
    }),
    counter("processed_bytes_tcp_total", "ProcessedBytes_TCP: of TCP", |lb| lb.tcp.bytes),
    counter("processed_bytes_udp_total", "ProcessedBytes_UDP: of UDP", |lb| lb.udp.bytes),
    counter("processed_packets_total", "ProcessedPackets: both ways, health checks included", |lb| {
        lb.tcp.packets + lb.udp.packets
    }),
    counter("rejected_flow_count_total", "RejectedFlowCount: connections refused, whatever the reason", |lb| {
        lb.rejected
    }),
    counter(
        "port_allocation_error_count_total",
        "PortAllocationErrorCount: connections refused because no source port was free",
        |lb| lb.port_allocation_errors,
    ),
    counter("tcp_client_reset_count_total", "TCP_Client_Reset_Count: RST from clients, health checks included", |lb| {
        lb.client_resets
    }),
    counter("tcp_target_reset_count_total", "TCP_Target_Reset_Count: RST from targets, health checks included", |lb| {
        lb.target_resets
    }),
    counter("tcp_elb_reset_count_total", "TCP_ELB_Reset_Count: RST that the load balancer itself sent", |lb| {
        lb.elb_resets
    }),
    counter(
        "unhealthy_routing_flow_count_total",
        "UnhealthyRoutingFlowCount: flows led to unhealthy targets because too few were healthy",
        |lb| lb.unhealthy_routing,
    ),
    counter(
        "security_group_blocked_flow_count_inbound_total",
        "SecurityGroupBlockedFlowCount_Inbound: connections that inbound rules refused",
        |lb| lb.denied_inbound,
    ),
    counter(
        "security_group_blocked_flow_count_outbound_total",
        "SecurityGroupBlockedFlowCount_Outbound: connections that outbound rules refused",
        |lb| lb.denied_outbound,
    ),
    gauge("peak_bytes_per_second", "PeakBytesPerSecond: the fastest ten seconds of the last minute", |lb| {
        lb.peak_bytes_per_second
    }),
    gauge("peak_packets_per_second", "PeakPacketsPerSecond: the fastest ten seconds of the last minute", |lb| {
        lb.peak_packets_per_second
    }),
    thousandths("consumed_lcus", "ConsumedLCUs: load balancer capacity units, as AWS counts them", |lb| {
        lb.tcp.capacity_thousandths + lb.udp.capacity_thousandths + lb.tls.capacity_thousandths
    }),
    thousandths("consumed_lcus_tcp", "ConsumedLCUs_TCP: of TCP", |lb| lb.tcp.capacity_thousandths),
    thousandths("consumed_lcus_udp", "ConsumedLCUs_UDP: of UDP", |lb| lb.udp.capacity_thousandths),
    thousandths("consumed_lcus_tls", "ConsumedLCUs_TLS: of TLS", |lb| lb.tls.capacity_thousandths),
    gauge(
        "zonal_health_status",
        "ZonalHealthStatus: 1 if enough targets of each group are healthy, by the thresholds of DNS failover",
        |lb| u64::from(lb.zone_healthy),
    ),
];

/// The same of TLS listeners, since the present relay began.
const TLS: &[Row<Counts>] = &[
    gauge("active_flow_count_tls", "ActiveFlowCount_TLS: open connections", |tls| tls.active),
    counter("new_flow_count_tls_total", "NewFlowCount_TLS: connections opened", |tls| tls.accepted),
    counter("processed_bytes_tls_total", "ProcessedBytes_TLS: what clients and targets sent, decrypted", |tls| {
        tls.received + tls.sent
    }),
    counter(
        "client_tls_negotiation_error_count_total",
        "ClientTLSNegotiationErrorCount: handshakes with clients that failed, or took too long",
        |tls| tls.client_failed,
    ),
    counter(
        "target_tls_negotiation_error_count_total",
        "TargetTLSNegotiationErrorCount: connections to targets, or handshakes with them, that failed",
        |tls| tls.target_failed,
    ),
    counter(
        "target_certificate_error_count_total",
        "not of AWS: those of them whose certificate is not of a trusted authority, or for another name",
        |tls| tls.target_distrusted,
    ),
    counter("rejected_flow_count_tls_total", "connections beyond the limit of an endpoint", |tls| tls.rejected),
];

/// Certificates: when they end.
const CERTIFICATE: &[Row<Facts>] =
    &[gauge("certificate_expiry_timestamp_seconds", "when the certificate ends, in seconds since 1970", |facts| {
        u64::try_from(facts.not_after.as_second()).unwrap_or(0)
    })];

/// `AWS/NetworkELB` by target group and load balancer.
const TARGET_GROUP: &[Row<TargetGroupUsage>] = &[
    gauge("healthy_host_count", "HealthyHostCount: targets whose checks pass", |group| group.healthy),
    gauge("unhealthy_host_count", "UnHealthyHostCount: targets whose checks fail", |group| group.unhealthy),
];

/// `AWS/PrivateLinkEndpoints` by endpoint.
const ENDPOINT: &[Row<EndpointUsage>] = &[
    gauge("active_connections", "ActiveConnections: open flows", |endpoint| endpoint.active_connections),
    counter("bytes_processed_total", "BytesProcessed: IP bytes both ways", |endpoint| endpoint.bytes),
    counter("new_connections_total", "NewConnections: flows opened", |endpoint| endpoint.new_connections),
    counter("packets_dropped_total", "PacketsDropped: connections refused, a packet each", |endpoint| endpoint.dropped),
    counter(
        "limited_connections_total",
        "not of AWS: connections refused because the endpoint had as many as its provider allows",
        |endpoint| endpoint.limited_connections,
    ),
    counter(
        "limited_new_connections_total",
        "not of AWS: connections refused because the endpoint opened more in a second than its provider allows",
        |endpoint| endpoint.limited_new_connections,
    ),
    counter(
        "limited_packets_total",
        "not of AWS: packets dropped because the endpoint had more bits in a second than its provider allows",
        |endpoint| endpoint.limited_packets,
    ),
    counter("rst_packets_received_total", "RstPacketsReceived: RST from the service", |endpoint| endpoint.resets),
];

/// The endpoints of a service behind one of its load balancers, taken together.
#[derive(Default)]
struct ServiceUsage {
    endpoints: u64,
    sum: Option<EndpointUsage>,
}

impl ServiceUsage {
    fn of(&self, value: fn(&EndpointUsage) -> u64) -> u64 {
        self.sum.as_ref().map_or(0, value)
    }
}

/// `AWS/PrivateLinkServices` by service.
const SERVICE: &[Row<ServiceUsage>] = &[
    gauge("active_connections", "ActiveConnections: open flows of all endpoints", |service| {
        service.of(|sum| sum.active_connections)
    }),
    counter("bytes_processed_total", "BytesProcessed: IP bytes both ways", |service| service.of(|sum| sum.bytes)),
    gauge("endpoints_count", "EndpointsCount: endpoints that forward", |service| service.endpoints),
    counter("new_connections_total", "NewConnections: flows opened", |service| service.of(|sum| sum.new_connections)),
    counter("rst_packets_sent_total", "RstPacketsSent: RST to endpoints", |service| service.of(|sum| sum.resets)),
];

/// The health checks of a target group.
const CHECKS: &[Row<ChecksDone>] = &[
    counter("health_checks_passed_total", "health checks that passed since the agent began", |done| done.passed),
    counter("health_checks_failed_total", "health checks that failed since the agent began", |done| done.failed),
    counter(
        "health_checks_without_room_total",
        "health checks that found the flow table full, and count for nothing, since the agent began",
        |done| done.without_room,
    ),
    counter("passive_suspicions_total", "times that failing connections brought a check forward", |done| {
        done.suspicions
    }),
];

/// The source ports towards a target: how far a pool is from its end, before it comes.
const POOL: &[Row<Pool>] = &[
    gauge("port_pool_used", "source ports of open flows from a node address to a target", |pool| pool.used.into()),
    gauge("port_pool_held", "source ports held back after the target closed first", |pool| pool.held.into()),
    gauge("port_pool_capacity", "source ports that there are", |pool| pool.capacity.into()),
    counter("port_pool_exhausted_total", "connections refused because no port was free", |pool| pool.exhausted),
];

struct Exposition(Registry);

impl Exposition {
    /// Adds the table `rows` for each thing with its labels' values. Things without any row's value leave no family
    /// behind.
    fn table<T>(
        &self,
        namespace: &str,
        rows: &[Row<T>],
        labels: &[&str],
        things: &[(Vec<String>, T)],
    ) -> Result<(), prometheus::Error> {
        for Row { name, help, kind, value } in rows {
            let values = things.iter().map(|(labels, thing)| (labels.as_slice(), value(thing)));
            self.family(Opts::new(format!("{namespace}{name}"), *help), kind, labels, values)?;
        }
        Ok(())
    }

    fn family<'a>(
        &self,
        opts: Opts,
        kind: &Kind,
        labels: &[&str],
        values: impl Iterator<Item = (&'a [String], u64)>,
    ) -> Result<(), prometheus::Error> {
        match kind {
            Kind::Gauge => {
                let family = IntGaugeVec::new(opts, labels)?;
                for (labels, value) in values {
                    family.get_metric_with_label_values(labels)?.set(i64::try_from(value).unwrap_or(i64::MAX));
                }
                self.0.register(Box::new(family))
            }
            Kind::Thousandths => {
                let family = GaugeVec::new(opts, labels)?;
                for (labels, value) in values {
                    family.get_metric_with_label_values(labels)?.set(value as f64 / 1_000.0);
                }
                self.0.register(Box::new(family))
            }
            Kind::Counter => {
                let family = IntCounterVec::new(opts, labels)?;
                for (labels, value) in values {
                    family.get_metric_with_label_values(labels)?.inc_by(value);
                }
                self.0.register(Box::new(family))
            }
        }
    }
}

/// The one zone that an agent is: the first of the load balancer's region.
fn zone(load_balancer: &LoadBalancerId) -> String {
    let region = load_balancer.as_str().split(':').nth(3).unwrap_or_default();
    format!("{region}a")
}

/// The whole text of one scrape.
///
/// # Errors
///
/// [`prometheus::Error`] for a name that Prometheus does not allow.
pub fn exposition(state: &State, usage: &Usage) -> Result<String, prometheus::Error> {
    let Usage { stats, load_balancers, target_groups, endpoints, tls, checks, half_open, flow_entries, flow_capacity } =
        usage;
    let to = Exposition(Registry::new());
    let dimension = |id: &LoadBalancerId| vec![id.dimension().to_owned(), zone(id)];

    let things: Vec<_> = load_balancers.iter().map(|lb| (dimension(&lb.load_balancer), lb.clone())).collect();
    to.table("networkelb_", LOAD_BALANCER, &["load_balancer", "availability_zone"], &things)?;

    let things: Vec<_> = tls.iter().map(|(lb, counts)| (dimension(lb), *counts)).collect();
    to.table("networkelb_", TLS, &["load_balancer", "availability_zone"], &things)?;
    let certificates = state.certificates.values().filter_map(|certificate| {
        let facts = Facts::of_pem(certificate.certificate.as_bytes()).ok()?;
        let name = facts.names.first().cloned().unwrap_or_default();
        Some((vec![certificate.id.to_string(), name], facts))
    });
    to.table("privatelink_", CERTIFICATE, &["certificate", "domain_name"], &certificates.collect::<Vec<_>>())?;

    let groups: Vec<_> = target_groups
        .iter()
        .map(|group| {
            let mut labels = dimension(&group.load_balancer);
            labels.push(group.target_group.dimension());
            (labels, group.clone())
        })
        .collect();
    to.table("networkelb_", TARGET_GROUP, &["load_balancer", "availability_zone", "target_group"], &groups)?;

    let mut services: BTreeMap<&EndpointServiceId, ServiceUsage> =
        state.endpoint_services.keys().map(|id| (id, ServiceUsage::default())).collect();
    let mut things = Vec::new();
    for used in endpoints {
        let Some(endpoint) = state.endpoints.get(&used.endpoint) else { continue };
        let labels = vec![
            "Interface".to_owned(),
            endpoint.service_name().to_string(),
            endpoint.id.to_string(),
            endpoint.vpc.to_string(),
        ];
        things.push((labels, used.clone()));
        if let Some(service) = services.get_mut(&endpoint.service) {
            service.endpoints += 1;
            service.sum = Some(match service.sum.take() {
                None => used.clone(),
                Some(sum) => sum.plus(used),
            });
        }
    }
    to.table(
        "privatelink_endpoints_",
        ENDPOINT,
        &["endpoint_type", "service_name", "vpc_endpoint_id", "vpc_id"],
        &things,
    )?;
    let things: Vec<_> = services.into_iter().map(|(id, usage)| (vec![id.to_string()], usage)).collect();
    to.table("privatelink_services_", SERVICE, &["service_id"], &things)?;

    let groups: Vec<_> = checks.iter().map(|done| (vec![done.target_group.dimension()], done.clone())).collect();
    to.table("privatelink_", CHECKS, &["target_group"], &groups)?;

    let vpc = |pool: &Pool| pool.vpc.as_ref().map(ToString::to_string).unwrap_or_default();
    let pools: Vec<_> = stats
        .pools
        .iter()
        .map(|pool| {
            let protocol = pool.protocol.to_string();
            (vec![vpc(pool), pool.node.to_string(), pool.target.to_string(), protocol], pool.clone())
        })
        .collect();
    to.table("privatelink_", POOL, &["vpc_id", "node", "target", "protocol"], &pools)?;

    for (kind, name, label, help) in [
        (CounterKind::Activity, "activity_total", "what", "work done by the datapath"),
        (CounterKind::Drop, "dropped_packets_total", "reason", "packets refused by the datapath, by reason"),
        (CounterKind::Symptom, "symptoms_total", "what", "what an operator should look at"),
    ] {
        let counters = stats.counters.iter().filter(|counter| counter.kind == kind);
        let values: Vec<_> = counters.map(|counter| ([counter.name.clone()], counter.count)).collect();
        let values = values.iter().map(|(labels, count)| (labels.as_slice(), *count));
        to.family(Opts::new(format!("privatelink_{name}"), help), &Kind::Counter, &[label], values)?;
    }
    for (name, help, value) in [
        ("half_open_flows", "flows whose handshake is not finished", half_open),
        ("flow_table_entries", "entries in use, two a flow", flow_entries),
        ("flow_table_capacity", "entries that there is room for", flow_capacity),
    ] {
        let values = std::iter::once(([].as_slice(), *value));
        to.family(Opts::new(format!("privatelink_{name}"), help), &Kind::Gauge, &[], values)?;
    }
    TextEncoder::new().encode_to_string(&to.0.gather())
}
