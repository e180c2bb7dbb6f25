//! What the API asks of the running agent.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use privatelink_ebpf::abi::{
    Proto, VpcIndex,
    addr::IPV6,
    counters,
    explain::Trace,
    flow::{FlowKey, FlowState, Meta, Slot, WAYS},
    pool,
    stats::ListenerStats,
};
use tokio::sync::watch;

use super::{
    Shared, desired, explain,
    index::TargetKey,
    plan::{CheckKey, HopKey, Plan},
    ports,
    usage::{self, Active},
};
use crate::{
    control::{Installed, Limits},
    dataplane::{Counts, Hook, peers::Peers, stats::Wanted},
    health::state::{Checked, Failure},
    model::{Hook as WantedHook, InterfaceName, ListenerId, State, Target, TargetGroup, TargetGroupId},
    net::{
        links::{LinkError, LinkService},
        neighbor::Neighbor,
        synthetic,
    },
    runtime::{
        Answer, AttachRefusal, Counter, CounterKind, EndpointTraffic, Explanation, FlowFilter, FlowRecord,
        InterfaceFacts, ListenerTraffic, NextHop, Pool, PortStatus, Question, Runtime, RuntimeError, Stats,
        TargetHealth, TargetHealthReport, TargetTraffic, Usage,
    },
};

/// [`Runtime`] over what the agent's loops share.
pub struct Answers {
    shared: Arc<Shared>,
}

impl Answers {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn plan(&self) -> Arc<Plan> {
        self.shared.plan.borrow().clone()
    }

    fn report(&self, state: &State, plan: &Plan, group: &TargetGroup, target: &Target) -> TargetHealthReport {
        let key = CheckKey { group: group.id.clone(), target: target.address };
        let checked = self.shared.health().get(&key).copied();
        let health = if target.draining_since.is_some() {
            TargetHealth::DeregistrationInProgress
        } else if state.is_stopped(target) {
            TargetHealth::InvalidState
        } else if desired::owned(state, &group.vpc, target.address.ip) {
            TargetHealth::IpUnusable
        } else if !state.listeners.values().any(|listener| listener.forward.weights.contains_key(&group.id)) {
            match state.requests_lead_to(&group.id).next() {
                Some(_) => TargetHealth::NotServed,
                None => TargetHealth::NotInUse,
            }
        } else if plan.checks.contains_key(&key) {
            health(checked, group, self.shared.now())
        } else {
            TargetHealth::RegistrationInProgress
        };
        TargetHealthReport {
            address: target.address,
            instance: target.instance.clone(),
            health_check_port: group.health_check.port.resolve(target.address.port),
            health,
            next_hop: self.next_hop(state, plan, group, target.address.ip),
        }
    }

    fn next_hop(&self, state: &State, plan: &Plan, group: &TargetGroup, ip: IpAddr) -> NextHop {
        let Some(vpc) = state.vpcs.get(&group.vpc) else { return NextHop::NoPort };
        let Some(index) = desired::vpc_index(vpc) else { return NextHop::NoPort };
        if !plan.ports.values().any(|of| *of == index) {
            return NextHop::NoPort;
        }
        let Some(asked) = vpc.next_hop(ip) else { return NextHop::NoGateway };
        let found = self.shared.neighbors().get(&HopKey { vpc: index, ip: asked });
        match found {
            None => NextHop::Resolving { asked },
            Some((Neighbor::Unresolved | Neighbor::Probing { .. }, _)) => NextHop::Resolving { asked },
            Some((Neighbor::Failed { .. }, _)) => NextHop::Unresolvable { asked },
            Some((Neighbor::Reachable { mac, .. } | Neighbor::Stale { mac, .. }, ifindex)) => {
                let interface = self.shared.links().get(&ifindex).and_then(|link| link.name.parse().ok());
                match interface {
                    Some(interface) => NextHop::Resolved {
                        address: asked,
                        mac: privatelink_ebpf::abi::addr::Mac(mac).to_string(),
                        interface,
                    },
                    None => NextHop::Resolving { asked },
                }
            }
        }
    }

    fn flows(&self, filter: &FlowFilter) -> Result<Vec<FlowRecord>, RuntimeError> {
        let plan = self.plan();
        let endpoints: BTreeMap<u16, _> = plan.endpoints.iter().map(|(id, index)| (*index, id)).collect();
        let mut forward: Vec<Slot> = Vec::new();
        let mut last_reply: BTreeMap<FlowId, u32> = BTreeMap::new();
        let mut dataplane = self.shared.dataplane();
        dataplane
            .each_flow(&mut |slot| {
                if Meta::unpack(slot.meta).forward() {
                    forward.push(*slot);
                } else {
                    last_reply.insert(FlowId::of_reverse(slot), slot.last_seen);
                }
            })
            .map_err(tables)?;
        let now = dataplane.tick().map_err(tables)?;
        let clock = dataplane.clock();
        let known = dataplane.read().map_err(tables)?.targets;
        let peers = |slot: &Slot| Peers::of(slot, known.get(&slot.target)?, |key| dataplane.client6(key));
        let forward: Vec<(Slot, Peers)> = forward.into_iter().filter_map(|slot| Some((slot, peers(&slot)?))).collect();
        drop(dataplane);
        let mut records: Vec<FlowRecord> = forward
            .iter()
            .filter_map(|(slot, peers)| {
                let key = FlowKey::from_words(slot.key);
                let state = Meta::unpack(slot.meta).state;
                let reply = last_reply.get(&FlowId::of_forward(slot)).copied();
                let silent = now.wrapping_sub(slot.last_seen);
                let silent = reply.map_or(silent, |reply| silent.min(now.wrapping_sub(reply)));
                // A packet of this very moment may carry the next tick.
                let silent = if silent > u32::MAX / 2 { 0 } else { silent };
                if key.vpc == VpcIndex::HOST {
                    return None;
                }
                let record = FlowRecord {
                    protocol: Proto::from_number(key.proto).name().to_owned(),
                    vpc: plan.vpcs.get(&key.vpc).cloned(),
                    client: SocketAddr::new(peers.client, key.src_port.get()),
                    frontend: SocketAddr::new(peers.service, key.dst_port.get()),
                    endpoint: endpoints.get(&slot.endpoint).map(|id| (*id).clone()),
                    node: SocketAddr::new(peers.node, slot.new_src_port.get()),
                    target: SocketAddr::new(peers.target, slot.new_dst_port.get()),
                    state: state.name().to_owned(),
                    idle_seconds: u64::from(clock.seconds(silent)),
                };
                admits(filter, &record).then_some(record)
            })
            .collect();
        records.sort_by(|a, b| (&a.vpc, a.client, a.frontend).cmp(&(&b.vpc, b.client, b.frontend)));
        Ok(records)
    }

    fn stats(&self) -> Result<Stats, RuntimeError> {
        self.read().map(|(stats, _, _)| stats)
    }

    fn usage(&self, state: &State) -> Result<Usage, RuntimeError> {
        let (stats, counts, active) = self.read()?;
        let plan = self.plan();
        let health = self.shared.health().clone();
        let (half_open, capacity) = {
            let dataplane = self.shared.dataplane();
            (dataplane.half_open().map_err(tables)?, dataplane.capacity())
        };
        let tls = usage::tls(state, self.shared.relay().status());
        let rates = self.shared.rates();
        let load_balancers = usage::load_balancers(state, &plan, &counts, &active, &health, &tls, &rates);
        Ok(Usage {
            stats,
            load_balancers,
            target_groups: usage::target_groups(state, &health),
            endpoints: usage::endpoints(&plan, &counts, &active),
            tls,
            checks: self.shared.checks().values().cloned().collect(),
            half_open,
            flow_entries: active.entries,
            flow_capacity: u64::from(capacity.buckets) * WAYS as u64,
        })
    }

    /// Everything that is counted, once.
    fn read(&self) -> Result<(Stats, Counts, Active), RuntimeError> {
        let plan = self.plan();
        let wanted = Wanted {
            endpoints: plan.endpoints.values().copied().collect(),
            listeners: plan.listeners.values().copied().collect(),
            targets: plan.targets.values().copied().collect(),
        };
        let dataplane = self.shared.dataplane();
        let counts = dataplane.counts(&wanted).map_err(tables)?;
        let mut held: BTreeMap<u32, u32> = BTreeMap::new();
        let mut active = Active::default();
        dataplane
            .each_flow(&mut |slot| {
                active.add(slot);
                let meta = Meta::unpack(slot.meta);
                if !meta.forward() && meta.state == FlowState::TimeWait {
                    *held.entry(slot.target).or_default() += 1;
                }
            })
            .map_err(tables)?;
        let pools = plan
            .targets
            .iter()
            .filter_map(|(key, index)| {
                let found = dataplane.pool(*index)?;
                let held = held.get(index).copied().unwrap_or(0).min(found.used());
                Some(Pool {
                    protocol: key.proto.name().to_owned(),
                    vpc: plan.vpcs.get(&key.vpc).cloned(),
                    node: key.node,
                    target: SocketAddr::new(key.ip, key.port),
                    used: found.used() - held,
                    held,
                    capacity: pool::CAPACITY,
                    exhausted: found.exhausted,
                })
            })
            .collect();
        drop(dataplane);
        let counters = counts
            .counters
            .iter()
            .map(|(counter, count)| Counter {
                name: counter.name().to_owned(),
                help: counter.help().trim().to_owned(),
                kind: kind(counter.kind()),
                count: *count,
            })
            .collect();
        let endpoints = plan
            .endpoints
            .iter()
            .filter_map(|(id, index)| {
                let privatelink_ebpf::abi::stats::EndpointStats {
                    packets_in,
                    bytes_in,
                    packets_out,
                    bytes_out,
                    new_flows,
                    refused,
                    resets_in,
                    resets_out,
                    denied,
                    limited_connections,
                    limited_new_connections,
                    limited_packets,
                } = *counts.endpoints.get(index)?;
                Some(EndpointTraffic {
                    endpoint: id.clone(),
                    new_flows,
                    refused,
                    denied,
                    limited_connections,
                    limited_new_connections,
                    limited_packets,
                    packets_in,
                    bytes_in,
                    packets_out,
                    bytes_out,
                    resets_in,
                    resets_out,
                })
            })
            .collect();
        let mut by_listener: BTreeMap<&ListenerId, ListenerTraffic> = BTreeMap::new();
        for ((id, _), index) in &plan.listeners {
            let Some(found) = counts.listeners.get(index) else { continue };
            let ListenerStats {
                new_flows,
                refused,
                unhealthy_routing,
                resets_sent,
                denied_inbound,
                denied_outbound,
                _pad: _,
            } = *found;
            let none = || ListenerTraffic {
                listener: id.clone(),
                new_flows: 0,
                refused: 0,
                denied_inbound: 0,
                denied_outbound: 0,
                unhealthy_routing: 0,
                resets_sent: 0,
            };
            let traffic = by_listener.entry(id).or_insert_with(none);
            traffic.new_flows += new_flows;
            traffic.refused += refused;
            traffic.denied_inbound += denied_inbound;
            traffic.denied_outbound += denied_outbound;
            traffic.unhealthy_routing += unhealthy_routing;
            traffic.resets_sent += resets_sent;
        }
        let listeners = by_listener.into_values().collect();
        let targets = plan
            .registrations
            .iter()
            .map(|(check, keys)| target_traffic(check, keys, &plan, &counts.targets))
            .collect();
        Ok((Stats { counters, endpoints, listeners, targets, pools }, counts, active))
    }
}

impl Answers {
    fn explain(&self, state: &State, question: &Question) -> Result<Explanation, RuntimeError> {
        let plan = self.plan();
        let links = self.shared.links();
        let statuses = self.shared.ports().clone();
        let port = explain::entry(state, question, &statuses, &links);
        let mut dataplane = self.shared.dataplane();
        let seen = match &port {
            Some(port) => {
                let frame = synthetic::frame(question, port.mac);
                let trace = dataplane.explain(port.ifindex, &frame).map_err(tables)?;
                let pool = trace.has(Trace::TARGET).then(|| dataplane.pool(trace.target)).flatten();
                Some(explain::Seen { trace, used: pool.map(|pool| pool.used()) })
            }
            None => None,
        };
        drop(dataplane);
        let health = |group: &TargetGroup| {
            group.targets.values().map(|target| self.report(state, &plan, group, target)).collect::<Vec<_>>()
        };
        let interface = |ifindex: u32| links.get(&ifindex).map(|link| link.name.clone());
        let facts = explain::Facts {
            state,
            plan: &plan,
            statuses: &statuses,
            port: port.as_ref(),
            seen,
            health: &health,
            interface: &interface,
        };
        Ok(explain::explain(question, &facts))
    }
}

/// What the tables have room for. Index 0 stands for nothing in each of them.
pub fn limits(shared: &Shared) -> Limits {
    let capacity = shared.dataplane().capacity();
    Limits {
        targets: capacity.targets.saturating_sub(1),
        listeners: desired::first_check_listener(capacity).saturating_sub(1),
        endpoints: capacity.endpoints.saturating_sub(1),
    }
}

/// What both entries of a flow agree on: the target's view of it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct FlowId {
    proto: u8,
    node: (u32, u16),
    target: (u32, u16),
    index: u32,
}

impl FlowId {
    fn of_forward(slot: &Slot) -> Self {
        Self {
            proto: FlowKey::from_words(slot.key).proto & !IPV6,
            node: (slot.new_src.word(), slot.new_src_port.word()),
            target: (slot.new_dst.word(), slot.new_dst_port.word()),
            index: slot.target,
        }
    }

    fn of_reverse(slot: &Slot) -> Self {
        let key = FlowKey::from_words(slot.key);
        Self {
            proto: key.proto & !IPV6,
            node: (key.dst.word(), key.dst_port.word()),
            target: (key.src.word(), key.src_port.word()),
            index: slot.target,
        }
    }
}

fn tables(error: crate::dataplane::DataplaneError) -> RuntimeError {
    RuntimeError::Tables(error.to_string())
}

fn admits(filter: &FlowFilter, record: &FlowRecord) -> bool {
    let FlowFilter { vpc, endpoint } = filter;
    vpc.as_ref().is_none_or(|vpc| record.vpc.as_ref() == Some(vpc))
        && endpoint.as_ref().is_none_or(|endpoint| record.endpoint.as_ref() == Some(endpoint))
}

fn kind(kind: counters::CounterKind) -> CounterKind {
    match kind {
        counters::CounterKind::Activity => CounterKind::Activity,
        counters::CounterKind::Drop => CounterKind::Drop,
        counters::CounterKind::Symptom => CounterKind::Symptom,
    }
}

/// At `now`, in milliseconds on the agent's clock.
fn health(checked: Option<Checked>, group: &TargetGroup, now: u64) -> TargetHealth {
    match checked {
        None | Some(Checked::Initial { .. }) => TargetHealth::InitialHealthChecking,
        Some(Checked::Healthy { .. }) => TargetHealth::Healthy,
        Some(Checked::Unhealthy { passed: _, last: _, since }) if drains_unhealthy(group, since, now) => {
            TargetHealth::UnhealthyDraining
        }
        Some(Checked::Unhealthy { passed: _, last, since: _ }) => match last {
            Failure::Timeout => TargetHealth::Timeout,
            Failure::Refused | Failure::Malformed => TargetHealth::FailedHealthChecks,
            Failure::Distrusted => TargetHealth::CertificateDistrusted,
            Failure::StatusCode(code) => TargetHealth::ResponseCodeMismatch(code),
            Failure::Internal => TargetHealth::InternalError,
        },
    }
}

/// Whether a target of `group` that is unhealthy since `since` has its draining interval still.
fn drains_unhealthy(group: &TargetGroup, since: u64, now: u64) -> bool {
    let interval = u64::from(group.attributes.unhealthy_draining_interval) * 1_000;
    !group.attributes.unhealthy_connection_termination && now.saturating_sub(since) < interval
}

fn target_traffic(
    check: &CheckKey,
    keys: &[TargetKey],
    plan: &Plan,
    counts: &BTreeMap<u32, privatelink_ebpf::abi::stats::TargetStats>,
) -> TargetTraffic {
    let found = keys.iter().filter_map(|key| counts.get(plan.targets.get(key)?).copied());
    let privatelink_ebpf::abi::stats::TargetStats {
        packets_in,
        bytes_in,
        packets_out,
        bytes_out,
        new_flows,
        port_allocation_errors,
        client_resets,
        target_resets,
        resets_sent,
        established,
        refused,
        unanswered,
    } = crate::dataplane::stats::sum(found);
    TargetTraffic {
        target_group: check.group.clone(),
        target: check.target,
        new_flows,
        packets_in,
        bytes_in,
        packets_out,
        bytes_out,
        port_allocation_errors,
        client_resets,
        target_resets,
        resets_sent,
        established,
        refused,
        unanswered,
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Runtime for Answers {
    fn inspect_interface<'a>(
        &'a self,
        interface: &'a InterfaceName,
        hook: WantedHook,
        _shared: bool,
    ) -> Answer<'a, Result<InterfaceFacts, AttachRefusal>> {
        Box::pin(async move {
            // The reconciler's view may be older than an interface that was just made.
            let unreadable =
                |error: LinkError| AttachRefusal::Unreadable { interface: interface.clone(), why: error.to_string() };
            let links = LinkService::connect().map_err(unreadable)?.links().await.map_err(unreadable)?;
            let (attached, capacity) = {
                let dataplane = self.shared.dataplane();
                (dataplane.attached(), dataplane.capacity())
            };
            let clsact = attached.values().any(|hook| matches!(hook, Hook::Clsact | Hook::XdpClsact));
            ports::inspect(&links, &self.shared.host_pair, &attached, capacity, clsact, interface, hook.into())
        })
    }

    fn limits(&self) -> Limits {
        limits(&self.shared)
    }

    fn installed(&self) -> Option<watch::Receiver<Arc<Installed>>> {
        Some(self.shared.installed.subscribe())
    }

    fn target_health<'a>(
        &'a self,
        state: &'a State,
        target_group: &'a TargetGroupId,
    ) -> Answer<'a, Vec<TargetHealthReport>> {
        let plan = self.plan();
        let reports = state.target_groups.get(target_group).map_or_else(Vec::new, |group| {
            group.targets.values().map(|target| self.report(state, &plan, group, target)).collect()
        });
        ready(reports)
    }

    fn ports(&self) -> Answer<'_, Vec<PortStatus>> {
        let statuses = self.shared.ports().values().cloned().collect();
        ready(statuses)
    }

    fn flows<'a>(&'a self, filter: &'a FlowFilter) -> Answer<'a, Result<Vec<FlowRecord>, RuntimeError>> {
        ready(tokio::task::block_in_place(|| self.flows(filter)))
    }

    fn usage<'a>(&'a self, state: &'a State) -> Answer<'a, Result<Usage, RuntimeError>> {
        ready(tokio::task::block_in_place(|| self.usage(state)))
    }

    fn stats(&self) -> Answer<'_, Result<Stats, RuntimeError>> {
        ready(tokio::task::block_in_place(|| self.stats()))
    }

    fn explain<'a>(
        &'a self,
        state: &'a State,
        question: &'a Question,
    ) -> Answer<'a, Result<Explanation, RuntimeError>> {
        ready(tokio::task::block_in_place(|| self.explain(state, question)))
    }
}
